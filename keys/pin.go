package keys

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// EnvPIN is the environment variable with the PIN of tokens. A variable of one
// token goes before it: see EnvPINOf.
const EnvPIN = "TMPKI_PIN"

// EnvPINOf returns the name of the environment variable with the PIN of the
// token of this label: TMPKI_PIN_ and the label in upper case, with an
// underscore for what is no letter or digit.
func EnvPINOf(label string) string {
	return EnvPIN + "_" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z' || '0' <= r && r <= '9':
			return r
		default:
			return '_'
		}
	}, label)
}

// What a caller can tell apart, with errors.Is.
var (
	// ErrPINNeeded: there is no PIN at hand, and nobody to ask.
	ErrPINNeeded = errors.New("no PIN")
	// ErrPINWrong: the token refused the PIN. It is not tried again.
	ErrPINWrong = errors.New("the PIN is wrong")
	// ErrPINLocked: the token takes no PIN any more, or one more wrong try would
	// lock it.
	ErrPINLocked = errors.New("the PIN is locked")
)

// pin returns the PIN of a token, and whether a person has just typed it. A PIN
// is held as a Passphrase is: nothing prints it.
func (s *system) pin(u PKCS11, label string) (pin *Passphrase, typed bool, err error) {
	wrap := func(p *Passphrase, err error) (*Passphrase, bool, error) {
		if err != nil {
			return nil, false, fmt.Errorf("PIN of token %q: %w", label, err)
		}
		return p, false, nil
	}
	if u.PINSource != "" {
		secret, err := readSecretFile(strings.TrimPrefix(u.PINSource, "file:"))
		if err != nil {
			return wrap(nil, err)
		}
		return wrap(newPIN(secret))
	}
	for _, name := range []string{EnvPINOf(label), EnvPIN} {
		if value, ok := s.env(name); ok {
			p, err := newPIN([]byte(value))
			if err != nil {
				err = fmt.Errorf("environment variable %s: %w", name, err)
			}
			return wrap(p, err)
		}
	}
	secret, err := s.ask(fmt.Sprintf("PIN of token %q: ", label))
	if errors.Is(err, errNoTerminal) {
		return nil, false, fmt.Errorf("%w for token %q: set %s or %s, name a file with pin-source in the key URI, or run this on a terminal",
			ErrPINNeeded, label, EnvPINOf(label), EnvPIN)
	}
	if err == nil {
		pin, err = newPIN(secret)
	}
	if err != nil {
		return wrap(nil, err)
	}
	return pin, true, nil
}

func newPIN(secret []byte) (*Passphrase, error) {
	if len(secret) == 0 {
		return nil, errors.New("it is empty")
	}
	return NewPassphrase(secret)
}

// hasPIN reports whether a PIN can be had without asking anybody.
func (s *system) hasPIN(u PKCS11, label string) bool {
	if u.PINSource != "" {
		return true
	}
	for _, name := range []string{EnvPINOf(label), EnvPIN} {
		if _, ok := s.env(name); ok {
			return true
		}
	}
	return false
}

var errNoTerminal = errors.New("no terminal")

// askOnTerminal prompts on /dev/tty without echo.
func askOnTerminal(prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNoTerminal, err)
	}
	defer tty.Close()
	return askSecret(tty, prompt)
}
