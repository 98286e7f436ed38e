package plan

import (
	"crypto"
	"fmt"
	"path/filepath"
	"sync"

	"tmpki/keys"
	"tmpki/spki"
)

// keyring opens the keys of a PKI directory, each once, and reads each
// passphrase once. It is safe for concurrent use.
type keyring struct {
	dir    string
	places map[string]keys.URI // by entry name, of keys that are not yet where they belong

	mu          sync.Mutex
	signers     map[string]crypto.Signer
	passphrases map[keys.Source]*keys.Passphrase
}

func newKeyring(dir string) *keyring {
	return &keyring{dir: dir, signers: map[string]crypto.Signer{}, passphrases: map[keys.Source]*keys.Passphrase{}}
}

// passphrase returns the passphrase of an entry's key, nil for a plain one. For
// a new key a prompt asks twice.
func (k *keyring) passphrase(e *Entry, isNew bool) (*keys.Passphrase, error) {
	if e.NoPassphrase || e.inToken() { // a token has a PIN: see package keys
		return nil, nil
	}
	if p, ok := k.passphrases[e.Passphrase]; ok {
		return p, nil
	}
	source := e.Passphrase
	if source.File != "" && !filepath.IsAbs(source.File) {
		source.File = filepath.Join(k.dir, source.File) // like a key's
	}
	read := source.Read
	if isNew {
		read = source.ReadNew
	}
	p, err := read(e.Name)
	if err != nil {
		return nil, fmt.Errorf("passphrase of %s: %w", e.Name, err)
	}
	k.passphrases[e.Passphrase] = p
	return p, nil
}

// signer returns the key of an entry, which must be of the planned type.
func (k *keyring) signer(e *Entry) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e = e.KeyOwner()
	if s := k.signers[e.Name]; s != nil {
		return s, nil
	}
	place := e.Key
	if moved, ok := k.places[e.Name]; ok {
		place = moved
	}
	s, err := keys.Open(k.dir, place, func() (*keys.Passphrase, error) { return k.passphrase(e, false) })
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", e.Name, err)
	}
	s = keys.AsType(s, e.KeyType)
	if t, err := spki.KeyTypeOf(s.Public()); err != nil || t != e.KeyType {
		return nil, fmt.Errorf("key of %s at %s is of type %v, but the plan wants %v", e.Name, e.Key, t, e.KeyType)
	}
	k.signers[e.Name] = s
	return s, nil
}

// put puts a new key on the ring.
func (k *keyring) put(e *Entry, s crypto.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signers[e.Name] = s
}

// add puts a new key on the ring and returns the PEM file that will hold it.
func (k *keyring) add(e *Entry, s crypto.Signer) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.passphrase(e, true)
	if err != nil {
		return nil, err
	}
	pem, err := keys.MarshalPEM(s, p)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", e.Name, err)
	}
	k.signers[e.Name] = s
	return pem, nil
}
