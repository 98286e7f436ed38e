package keys

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvPINOf(t *testing.T) {
	for label, want := range map[string]string{
		"root": "TMPKI_PIN_ROOT", "Release-2": "TMPKI_PIN_RELEASE_2", "a b/c.d": "TMPKI_PIN_A_B_C_D", "Schlüssel": "TMPKI_PIN_SCHL_SSEL", "": "TMPKI_PIN_",
	} {
		if got := EnvPINOf(label); got != want {
			t.Errorf("%q: %s, want %s", label, got, want)
		}
	}
}

// TestPINSource: where a PIN comes from, the first that is set and no other.
func TestPINSource(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const other = "other"
	good := file("good", secret+"\n", 0o400)
	for _, row := range []struct {
		name   string
		source string
		env    map[string]string
		typed  string // "-": no terminal
		asked  bool
		want   string
	}{
		{name: "file", source: "file:" + good, typed: "-"},
		{name: "path", source: good, typed: "-"},
		{name: "file before environment", source: good, env: map[string]string{EnvPIN: other, "TMPKI_PIN_THE_ROOT": other}},
		{name: "no newline", source: file("bare", secret, 0o600)},
		{name: "CRLF", source: file("crlf", secret+"\r\n", 0o600)},
		{name: "first line", source: file("lines", secret+"\nother\n", 0o640)},
		{name: "variable of the token before that of all", env: map[string]string{"TMPKI_PIN_THE_ROOT": secret, EnvPIN: other}},
		{name: "variable of all", env: map[string]string{EnvPIN: secret}},
		{name: "terminal", typed: secret, asked: true},

		{name: "missing file", source: "/none/pin", env: map[string]string{EnvPIN: secret}, want: `PIN of token "the root": stat /none/pin: no such file`},
		{name: "empty file", source: file("empty", "\n", 0o600), want: "it is empty"},
		{name: "open to all", source: file("open", secret, 0o644), want: "everybody may read it (mode 0644)"},
		{name: "too large", source: file("large", strings.Repeat("1", MaxFileSize+1), 0o600), want: "larger than"},
		{name: "a directory", source: dir, want: "not a regular file"},
		{name: "empty variable", env: map[string]string{EnvPIN: "", "TMPKI_PIN_OTHER": secret}, want: `PIN of token "the root": environment variable TMPKI_PIN: it is empty`},
		{name: "empty variable of the token", env: map[string]string{"TMPKI_PIN_THE_ROOT": "", EnvPIN: secret}, want: "environment variable TMPKI_PIN_THE_ROOT: it is empty"},
		{name: "too long", env: map[string]string{EnvPIN: strings.Repeat("1", MaxPassphrase+1)}, want: "more than 1024"},
		{name: "nothing", typed: "-", want: `no PIN for token "the root": set TMPKI_PIN_THE_ROOT or TMPKI_PIN, name a file with pin-source in the key URI, or run this on a terminal`},
		{name: "nothing typed", typed: "", want: "it is empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSystem(nil)
			s.env = func(name string) (string, bool) { v, ok := row.env[name]; return v, ok }
			s.ask = func(prompt string) ([]byte, error) {
				if prompt != `PIN of token "the root": ` {
					t.Errorf("prompt %q", prompt)
				}
				if row.typed == "-" {
					return nil, errNoTerminal
				}
				return []byte(row.typed), nil
			}
			p, asked, err := s.pin(PKCS11{PINSource: row.source}, "the root")
			checkError(t, err, row.want)
			if err == nil && (string(p.secret()) != secret || asked != row.asked) {
				t.Errorf("another PIN, or asked: %v", asked)
			}
			if has := s.hasPIN(PKCS11{PINSource: row.source}, "the root"); has != (row.source != "" || row.env != nil) {
				t.Errorf("hasPIN: %v", has)
			}
		})
	}
}

// TestNoPKCS11: a program without cgo says so, whatever else is wrong.
func TestNoPKCS11(t *testing.T) {
	s := newSystem(nil)
	p := PKCS11{Token: "a", Object: "b", ModulePath: "/none.so"}
	_, err := s.openToken(p)
	if !errors.Is(err, ErrNoPKCS11) {
		t.Error(err)
	}
	if err := s.checkToken(p, rsa2048); !errors.Is(err, ErrNoPKCS11) {
		t.Error(err)
	}
	if sight := s.look(p); !errors.Is(sight.Err, ErrNoPKCS11) {
		t.Error(sight.Err)
	}
}

// TestWrapPadded has the first example of RFC 5649, Section 6, which is for
// AES-192.
func TestWrapPadded(t *testing.T) {
	unhexed := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	got, err := wrapPadded(unhexed("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"), unhexed("c37b7e6492584340bed12207808941155068f738"))
	if err != nil || hex.EncodeToString(got) != "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a" {
		t.Errorf("%x, %v", got, err)
	}
	for _, n := range []int{0, 8, MaxFileSize + 1} {
		if _, err := wrapPadded(make([]byte, 32), make([]byte, n)); err == nil {
			t.Errorf("%d octets are wrapped", n)
		}
	}
}
