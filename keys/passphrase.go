package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// MaxPassphrase bounds a passphrase, in octets.
const MaxPassphrase = 1024

// Passphrase holds the secret that encrypts private keys. However it is
// printed, logged or encoded, it shows only "[passphrase]". It is safe for
// concurrent use; make one with NewPassphrase.
//
// It remembers the keys that it derived: opening many files that share salt and
// parameters costs one derivation, which takes a good part of a second.
//
// BUG: the secret and the derived keys stay in memory until the process ends;
// Go moves and copies memory, so wiping would promise more than it keeps.
type Passphrase struct {
	// A function keeps the secret from reflection: reached through an unexported
	// field of another struct, fmt calls no method of ours, prints fields, and
	// for a verb that does not fit a pointer even follows it.
	state func() *passphraseState
}

type passphraseState struct {
	secret []byte

	// salt is the salt of every key that is written under this passphrase, so
	// that writing many costs one derivation. That is sound: who finds the
	// passphrase opens all of the files whatever their salts, and the salt still
	// keeps tables computed beforehand, or for another PKI, from being of use.
	// The files then share one AES key, under which CBC hides what it should
	// because each file has its own random IV.
	salt []byte

	mu      sync.Mutex
	derived map[kdf]func() ([]byte, error)
}

var errNoPassphrase = errors.New("passphrase: it was not made by NewPassphrase")

// NewPassphrase copies a secret of 1 to MaxPassphrase octets.
func NewPassphrase(secret []byte) (*Passphrase, error) {
	if len(secret) == 0 {
		return nil, errors.New("passphrase: it is empty")
	}
	if len(secret) > MaxPassphrase {
		return nil, fmt.Errorf("passphrase: %d octets are more than %d", len(secret), MaxPassphrase)
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("passphrase: drawing a salt: %w", err)
	}
	state := &passphraseState{
		secret:  bytes.Clone(secret),
		salt:    salt,
		derived: make(map[kdf]func() ([]byte, error)),
	}
	return &Passphrase{func() *passphraseState { return state }}, nil
}

// derive returns the key that k makes of the passphrase, and computes it at
// most once, also when called concurrently.
func (p *Passphrase) derive(k kdf) ([]byte, error) {
	if p.state == nil {
		return nil, errNoPassphrase
	}
	s := p.state()
	s.mu.Lock()
	once, ok := s.derived[k]
	if !ok {
		once = sync.OnceValues(func() ([]byte, error) { return k.derive(s.secret) })
		s.derived[k] = once
	}
	s.mu.Unlock()
	return once()
}

const redacted = "[passphrase]"

// String returns "[passphrase]".
func (p Passphrase) String() string { return redacted }

// GoString returns "[passphrase]".
func (p Passphrase) GoString() string { return redacted }

// Format writes "[passphrase]" for every verb.
func (p Passphrase) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalText returns "[passphrase]"; JSON, YAML and XML encoders use it.
func (p Passphrase) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[passphrase]" as a JSON string.
func (p Passphrase) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue returns "[passphrase]".
func (p Passphrase) LogValue() slog.Value { return slog.StringValue(redacted) }

// Secret returns a copy of the secret, for a format that derives keys of its own
// from it, such as PKCS#12 or age. It must not be printed, logged or kept.
func (p *Passphrase) Secret() ([]byte, error) {
	if p.state == nil {
		return nil, errNoPassphrase
	}
	return bytes.Clone(p.state().secret), nil
}
