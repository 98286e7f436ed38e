package keys

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"tmpki/internal/durable"

	"golang.org/x/term"
)

// Source says where a passphrase comes from. The first one that is set and
// there wins: the environment, a file, the terminal. There is no default
// passphrase.
type Source struct {
	Env      string // name of an environment variable
	File     string // path of a file; its first line is the passphrase
	Prompt   bool   // ask on the terminal, /dev/tty
	Split    bool   // shared by officers, who are not asked here: see Split
	Optional bool   // none is fine: return nil if Env and File are not there and Prompt is false
}

// Read returns the passphrase that opens the key called name, which is shown
// in prompts. It returns nil only if the source is optional and nothing is set.
// A variable or file that is there and empty is an error: an unset secret in a
// CI job must not turn encryption off.
func (s Source) Read(name string) (*Passphrase, error) {
	return s.read(name, false)
}

// ReadNew is Read for a key that is about to be made: at the terminal it asks
// twice, since a typing error would lock the key away for good.
func (s Source) ReadNew(name string) (*Passphrase, error) {
	return s.read(name, true)
}

func (s Source) read(name string, isNew bool) (*Passphrase, error) {
	if s.Split && !s.Optional {
		return nil, fmt.Errorf("no passphrase for %q: %w", name, ErrSplit)
	}
	if s.Env != "" {
		if value, ok := os.LookupEnv(s.Env); ok {
			p, err := NewPassphrase([]byte(value))
			if err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", s.Env, err)
			}
			return p, nil
		}
	}
	if s.File != "" {
		p, err := readPassphraseFile(s.File)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || !s.Prompt && !s.Optional {
			return p, err
		}
	}
	if s.Prompt {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("asking for the passphrase of %q: %s, and no terminal: %w", name, s.missing(), err)
		}
		defer tty.Close()
		return ask(tty, name, isNew)
	}
	if s.Optional {
		return nil, nil
	}
	return nil, fmt.Errorf("no passphrase for %q: %s", name, s.missing())
}

func (s Source) missing() string {
	if s.Env != "" {
		return fmt.Sprintf("environment variable %s is not set", s.Env)
	}
	return "no source of passphrases is configured"
}

func readPassphraseFile(path string) (*Passphrase, error) {
	line, err := readSecretFile(path)
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	p, err := NewPassphrase(line)
	if err != nil {
		return nil, fmt.Errorf("passphrase file %q: %w", path, err)
	}
	return p, nil
}

// readSecretFile returns the first line of a file, without its "\n" or "\r\n".
func readSecretFile(path string) ([]byte, error) {
	data, info, err := durable.ReadFile(path, MaxFileSize)
	if err != nil {
		return nil, err
	}
	// A group may read it: so are secrets given to services.
	if mode := info.Mode().Perm(); mode&0o004 != 0 {
		return nil, fmt.Errorf("%q: everybody may read it (mode %#o); close it with: chmod o= FILE", path, mode)
	}
	line, _, hasEnd := bytes.Cut(data, []byte("\n"))
	if hasEnd {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line, nil
}

// ask prompts on a terminal, twice for a new key.
func ask(tty *os.File, name string, isNew bool) (*Passphrase, error) {
	prompts := []string{fmt.Sprintf("Passphrase for %q: ", name)}
	if isNew {
		prompts = []string{fmt.Sprintf("New passphrase for %q: ", name), "The same again: "}
	}
	var answers [][]byte
	for _, prompt := range prompts {
		answer, err := askSecret(tty, prompt)
		if err != nil {
			return nil, fmt.Errorf("asking for a passphrase: %w", err)
		}
		answers = append(answers, answer)
	}
	if isNew && subtle.ConstantTimeCompare(answers[0], answers[1]) != 1 {
		return nil, errors.New("the two passphrases differ")
	}
	return NewPassphrase(answers[0])
}

// askSecret prompts on a terminal and reads a line without echo.
//
// BUG: killed by a signal while it waits, it leaves the terminal without echo.
func askSecret(tty *os.File, prompt string) ([]byte, error) {
	if _, err := fmt.Fprint(tty, prompt); err != nil {
		return nil, err
	}
	answer, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return answer, err
}
