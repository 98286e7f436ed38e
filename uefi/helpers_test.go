package uefi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificate returns the first certificate of a file in testdata, in DER.
func certificate(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(readFile(t, name))
	if block == nil {
		t.Fatalf("%s: no PEM", name)
	}
	return block.Bytes
}

func privateKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(readFile(t, name))
	if block == nil {
		t.Fatalf("%s: no PEM", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

func guid(t testing.TB, s string) GUID {
	t.Helper()
	g, err := ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func variable(t testing.TB, name string) Variable {
	t.Helper()
	v, err := SecureBootVariable(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// database returns the signature database in a file of testdata.
func database(t testing.TB, name string) SignatureDatabase {
	t.Helper()
	db, err := ParseSignatureLists(readFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// seeds adds the files of testdata that match to a fuzzer's corpus.
func seeds(f *testing.F, pattern string) {
	paths, err := filepath.Glob("testdata/" + pattern)
	if err != nil || len(paths) < 5 {
		f.Fatalf("the seeds %s are missing: %d, %v", pattern, len(paths), err)
	}
	for _, path := range paths {
		f.Add(readFile(f, filepath.Base(path)))
	}
}

// writeFile writes a file into a directory of the test's own.
func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sameFile checks what a tool wrote.
func sameFile(t *testing.T, path string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the tool wrote %x, we %x", want, got)
	}
}
