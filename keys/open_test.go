package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tmpki/spki"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	plain, sealed := mustPEM(t, ec, nil), mustPEM(t, ec, passphrase(t))
	for name, data := range map[string][]byte{
		"plain.key": plain, "sealed.key": sealed, "cut.key": plain[:60], "a.cert": toPEM("CERTIFICATE", []byte{0x30, 0}),
		"large.key": append(bytes.Repeat([]byte("\n"), MaxFileSize), plain...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		syscall.Mkfifo(filepath.Join(dir, "fifo.key"), 0o600),
		os.Symlink("plain.key", filepath.Join(dir, "link.key")),
		os.Symlink("fifo.key", filepath.Join(dir, "fifo-link.key")),
		os.Symlink("nothing", filepath.Join(dir, "dangling.key")),
		os.Mkdir(filepath.Join(dir, "dir.key"), 0o755)); err != nil {
		t.Fatal(err)
	}

	errNoTerminal := errors.New("no terminal")
	right := func() (*Passphrase, error) { return passphrase(t), nil }
	none := func() (*Passphrase, error) { return nil, nil }
	fails := func() (*Passphrase, error) { return nil, errNoTerminal }
	for _, tt := range []struct {
		uri   string
		pass  func() (*Passphrase, error)
		calls int
		is    error  // nil: any error that says want
		want  string // "" for no error
	}{
		{"file:plain.key", nil, 0, nil, ""},
		{"file:plain.key", fails, 0, nil, ""},
		{"file:" + dir + "/plain.key", nil, 0, nil, ""},
		{"file:link.key", nil, 0, nil, ""},
		{"file:sealed.key", right, 1, nil, ""},
		{"file:sealed.key", nil, 0, ErrPassphraseNeeded, "sealed.key"},
		{"file:sealed.key", none, 1, ErrPassphraseNeeded, "sealed.key"},
		{"file:sealed.key", fails, 1, errNoTerminal, "sealed.key"},
		{"file:cut.key", right, 0, ErrTruncated, "cut.key"},
		{"file:a.cert", right, 0, ErrCertificate, "a.cert"},
		{"file:none.key", right, 0, fs.ErrNotExist, "none.key"},
		{"file:dangling.key", right, 0, fs.ErrNotExist, "dangling.key"},
		{"file:fifo.key", right, 0, nil, "not a regular file"},
		{"file:fifo-link.key", right, 0, nil, "not a regular file"},
		{"file:dir.key", right, 0, nil, "not a regular file"},
		{"file:/dev/zero", right, 0, nil, "not a regular file"},
		{"file:large.key", right, 0, nil, "larger than 65536 octets"},
		{"pkcs11:token=root;object=a?module-path=/none.so", right, 0, nil, `opening key "pkcs11:token=root;object=a?module-path=/none.so": `},
	} {
		t.Run(tt.uri, func(t *testing.T) {
			u, err := ParseURI(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			pass := tt.pass
			if pass != nil {
				pass = func() (*Passphrase, error) { calls++; return tt.pass() }
			}
			signer, err := Open(dir, u, pass)
			checkError(t, err, tt.want)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			if err == nil && !spki.Equal(signer.Public(), ec.Public()) {
				t.Error("another key is opened")
			}
			if calls != tt.calls {
				t.Errorf("asked %d times for the passphrase, want %d", calls, tt.calls)
			}
		})
	}
	_, err = Open(dir, URI{}, nil)
	checkError(t, err, "unknown kind of key URI")
}
