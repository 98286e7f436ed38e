package keys

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// openssl runs the second opinion and returns its standard output.
func openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	return tooltest.Run(t, "openssl", args...)
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secret is the passphrase of the tests; no error may show it.
const secret = "correct horse"

var testPassphrase = sync.OnceValues(func() (*Passphrase, error) { return NewPassphrase([]byte(secret)) })

func passphrase(t testing.TB) *Passphrase {
	t.Helper()
	p, err := testPassphrase()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	testRSA = sync.OnceValues(func() (crypto.Signer, error) { return Generate(spki.KeyType{Kind: spki.RSA, Bits: 2048}) })
	testEC  = sync.OnceValues(func() (crypto.Signer, error) { return Generate(spki.KeyType{Kind: spki.EC, Curve: "P-256"}) })
)

// testKeys has one signer of each kind.
func testKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	r, err1 := testRSA()
	ec, err2 := testEC()
	p521, err3 := Generate(spki.KeyType{Kind: spki.EC, Curve: "P-521"})
	ed, err4 := Generate(spki.KeyType{Kind: spki.Ed25519})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"rsa":     r,
		"pss":     &spki.PSSSigner{Signer: r},
		"pss512":  &spki.PSSSigner{Signer: r, Params: &spki.PSSParams{Hash: crypto.SHA512, SaltLength: 64}},
		"p256":    ec,
		"p521":    p521,
		"ed25519": ed,
	}
}

func mustPEM(t testing.TB, signer crypto.Signer, p *Passphrase) []byte {
	t.Helper()
	data, err := MarshalPEM(signer, p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func toPEM(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// tlv writes one DER element with up to 65535 octets of content.
func tlv(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

func mustASN1(t testing.TB, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// checkError wants an error that says want, or none if want is "", and never
// one that shows the passphrase.
func checkError(t testing.TB, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one about %q", err, want)
	}
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, secret) {
		t.Errorf("the error shows the passphrase: %s", text)
	}
}

// needSeeds fails if the committed corpus of a fuzzer is gone: without it, the
// fuzzer passes and tests nothing. TestWriteSeeds makes it.
func needSeeds(f *testing.F) {
	f.Helper()
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seed corpus for %s (%v); make it with: WRITE_SEEDS=1 go test -run TestWriteSeeds ./keys", f.Name(), err)
	}
}
