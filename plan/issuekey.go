package plan

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
)

// issuedKey is the key that a certificate outside the entries is about.
type issuedKey struct {
	public crypto.PublicKey
	vetted *ca.Vetted // what else its request says; nil: there is none
	uri    string     // for the record; "": elsewhere
	made   bool
	undo   func() // takes away what was made
}

// issuedKey finds or makes the key. names are the good certificates of the name,
// newest first.
func (p *PKI) issuedKey(i *Issuance, r IssueRequest, names []store.Record) (*issuedKey, error) {
	k := &issuedKey{undo: func() {}}
	switch {
	case r.Public != nil:
		k.public = r.Public
		return k, nil
	case r.Request != nil:
		if i.Request == nil {
			return nil, fmt.Errorf("%s.request: missing in the plan: no request may use the profile", i.key)
		}
		if i.AllowList != "" {
			return nil, fmt.Errorf("%s.request.allow_list: who is on it may have a certificate by tmpki device sign only", i.key)
		}
		parsed, err := ca.ParseUnprovenRequest(*r.Request)
		if err != nil {
			return nil, &ca.RejectedError{Reason: err.Error()}
		}
		if k.vetted, err = i.Request.Vet(i.Profile, i.Subject, parsed); err != nil {
			return nil, err
		}
		known, err := p.CompromisedKeys(i)
		if err != nil {
			return nil, err
		}
		if known.Contains(k.vetted.Key) {
			return nil, &ca.RejectedError{Reason: "publicKey: is on a list of compromised keys: others have its private key"}
		}
		k.public = k.vetted.Key
		return k, nil
	}
	// 1. Where is it?
	uri, err := p.issuedPlace(i, r, names)
	if err != nil {
		return nil, err
	}
	k.uri = uri.String()
	path := uri.FilePath(p.Dir)
	if _, err := os.Stat(filepath.Dir(path)); path != "" && err == nil {
		if err := p.CheckReserved(path); err != nil {
			return nil, err
		}
	}
	// 2. Is it there?
	e := &Entry{Name: r.Name, Kind: EndEntity, KeyType: i.KeyType, Key: uri, Passphrase: i.Passphrase, NoPassphrase: i.NoPassphrase, Custody: Online}
	signer, err := keys.Open(p.Dir, uri, func() (*keys.Passphrase, error) { return p.ring.passphrase(e, false) })
	if err == nil {
		k.public = keys.AsType(signer, i.KeyType).Public()
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, keys.ErrNoToken) {
		return nil, fmt.Errorf("key of %s: %w", r.Name, err)
	}
	if i.KeyType == (spki.KeyType{}) {
		return nil, fmt.Errorf("there is no key at %s, and %s.key in the plan does not say which type to make", uri, i.key)
	}
	// 3. Make it.
	k.made = true
	if uri.Scheme == keys.SchemePKCS11 {
		made := false
		if signer, made, err = keys.GenerateInToken(uri, keys.TokenUse{Type: i.KeyType}); err != nil {
			return nil, fmt.Errorf("key of %s: %w", r.Name, err)
		}
		if made {
			k.undo = func() { keys.InToken(signer).Destroy() } // what stays, the next try finds
		}
		k.public = signer.Public()
		return k, nil
	}
	if signer, err = keys.Generate(i.KeyType); err != nil {
		return nil, err
	}
	pem, err := p.ring.add(e, signer)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := durable.CreateFile(path, pem, 0o600); err != nil {
		return nil, fmt.Errorf("key of %s: %w", r.Name, err)
	}
	k.public, k.undo = signer.Public(), func() { os.Remove(path) }
	return k, nil
}

// maxGenerations bounds the keys that one name can have had at its place.
const maxGenerations = 1000

// issuedPlace returns where the key of a name is, or is to be made. It stays where
// it is; a name that gets another key gets another place, NAME-gN, as no key is
// ever replaced.
func (p *PKI) issuedPlace(i *Issuance, r IssueRequest, names []store.Record) (keys.URI, error) {
	switch {
	case r.Key != nil:
		return *r.Key, nil
	case !r.Replace && len(names) > 0 && names[0].KeyURI != "":
		return keys.ParseURI(names[0].KeyURI)
	case !r.Replace:
		return i.Key(r.Name)
	}
	for n := 1; n <= maxGenerations; n++ {
		name := r.Name
		if n > 1 {
			name = fmt.Sprintf("%s-g%d", r.Name, n)
		}
		uri, err := i.Key(name)
		if err != nil {
			return uri, err
		}
		taken := false
		if path := uri.FilePath(p.Dir); path != "" {
			_, err := os.Lstat(path)
			taken = err == nil
		} else {
			taken = keys.Look(uri)[0].Key != nil
		}
		if !taken {
			return uri, nil
		}
	}
	return keys.URI{}, fmt.Errorf("%s has had %d keys: take another name", r.Name, maxGenerations)
}
