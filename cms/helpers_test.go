package cms

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

var (
	pkcs1SHA256 = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
	pkcs1SHA512 = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}
	pssSHA512   = spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}
	ecdsaSHA256 = spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificate returns testdata/NAME.crt in DER.
func certificate(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(readFile(t, name+".crt"))
	if block == nil {
		t.Fatalf("%s.crt: no PEM", name)
	}
	return block.Bytes
}

// publicKey returns the key of testdata/NAME.crt.
func publicKey(t testing.TB, name string) crypto.PublicKey {
	t.Helper()
	c, err := x509.ParseCertificate(certificate(t, name))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := spki.ParsePublicKey(c.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// signer returns testdata/NAME.key and NAME.crt.
func signer(t testing.TB, name string, alg spki.SignatureAlgorithm) Signer {
	t.Helper()
	block, _ := pem.Decode(readFile(t, name+".key"))
	if block == nil {
		t.Fatalf("%s.key: no PEM", name)
	}
	s := Signer{Certificate: certificate(t, name), Algorithm: alg}
	if name == "pss" { // crypto/x509 does not read its PKCS #8
		input := cryptobyte.String(block.Bytes)
		var info, octets cryptobyte.String
		if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.INTEGER) ||
			!info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1(&octets, cbasn1.OCTET_STRING) {
			t.Fatal("pss.key: not PKCS #8")
		}
		key, err := x509.ParsePKCS1PrivateKey(octets)
		if err != nil {
			t.Fatal(err)
		}
		s.Key = &spki.PSSSigner{Signer: key}
		return s
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s.Key = key.(crypto.Signer)
	return s
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
