package backup

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"

	"tmpki/internal/durable"
	"tmpki/keys"
)

// maxKeys limits a file of recipients or identities, in octets.
const maxKeys = 1 << 20

// Recipients reads recipients (age1…) as they are written and from files, one a
// line.
func Recipients(names, files []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, name := range names {
		list, err := age.ParseRecipients(bytes.NewReader([]byte(name)))
		if err != nil {
			return nil, fmt.Errorf("recipient %.100q is none of age's: %w", name, err)
		}
		out = append(out, list...)
	}
	for _, file := range files {
		data, _, err := durable.ReadFile(file, maxKeys)
		if err != nil {
			return nil, fmt.Errorf("recipients: %w", err)
		}
		list, err := age.ParseRecipients(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("recipients in %s: %w", file, err)
		}
		out = append(out, list...)
	}
	return out, nil
}

// Identities reads files of age-keygen, which hold secret keys.
func Identities(files []string) ([]age.Identity, error) {
	var out []age.Identity
	for _, file := range files {
		data, info, err := durable.ReadFile(file, maxKeys)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		if mode := info.Mode().Perm(); mode&0o004 != 0 {
			return nil, fmt.Errorf("identity: %s: everybody may read it (mode %#o); close it with: chmod o= FILE", file, mode)
		}
		list, err := age.ParseIdentities(bytes.NewReader(data))
		if err != nil {
			// The error may quote a line, and that a secret key.
			return nil, fmt.Errorf("identity: %s is no file of age-keygen, or one with a passphrase: age -d opens that", file)
		}
		out = append(out, list...)
	}
	return out, nil
}

// WithPassphrase returns the recipient whom a passphrase makes. It must be the only
// one of a backup.
func WithPassphrase(p *keys.Passphrase) (age.Recipient, error) {
	secret, err := p.Secret()
	if err != nil {
		return nil, err
	}
	return age.NewScryptRecipient(string(secret))
}

// ByPassphrase returns the identity that opens what WithPassphrase closed.
func ByPassphrase(p *keys.Passphrase) (age.Identity, error) {
	secret, err := p.Secret()
	if err != nil {
		return nil, err
	}
	return age.NewScryptIdentity(string(secret))
}

// NeedsPassphrase reports whether the file is closed by a passphrase, and not for
// recipients. It reads the head only, and fails on what is no age file.
func NeedsPassphrase(f *os.File) (bool, error) {
	head, err := age.ExtractHeader(f)
	if err != nil {
		return false, fmt.Errorf("%s is no backup: %w", f.Name(), err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return false, err
	}
	var noMatch *age.NoIdentityMatchError
	_, err = age.DecryptHeader(head, probe{})
	if errors.As(err, &noMatch) {
		return false, nil
	}
	return errors.Is(err, errScrypt), nil
}

// probe looks at the stanzas of a file and opens none.
type probe struct{}

var errScrypt = errors.New("a passphrase")

func (probe) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == "scrypt" {
			return nil, errScrypt
		}
	}
	return nil, age.ErrIncorrectIdentity
}
