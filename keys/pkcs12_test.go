package keys

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

// token is a key with its certificate and the one above it.
type softToken struct {
	key   *rsa.PrivateKey
	chain []*x509.Certificate
}

var tokenOnce = sync.OnceValues(func() (softToken, error) {
	var t softToken
	ca, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return t, err
	}
	if t.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return t, err
	}
	template := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC), BasicConstraintsValid: true}
	}
	root := template("root", 1)
	root.IsCA = true
	for _, c := range []struct {
		template *x509.Certificate
		public   any
	}{{template("leaf", 2), &t.key.PublicKey}, {root, &ca.PublicKey}} {
		der, err := x509.CreateCertificate(rand.Reader, c.template, root, c.public, ca)
		if err != nil {
			return t, err
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return t, err
		}
		t.chain = append(t.chain, parsed)
	}
	return t, nil
})

func testToken(t testing.TB) softToken {
	t.Helper()
	made, err := tokenOnce()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func pass(t testing.TB, secret string) *Passphrase {
	t.Helper()
	p, err := NewPassphrase([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sameChain(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, func(a, b *x509.Certificate) bool { return a.Equal(b) })
}

// TestPKCS12 lets OpenSSL and NSS read what we write.
func TestPKCS12(t *testing.T) {
	tooltest.Need(t, "openssl", "pk12util", "certutil")
	tok := testToken(t)
	nss := t.TempDir()
	tooltest.Run(t, "certutil", "-N", "-d", nss, "--empty-password")
	for _, row := range []struct {
		format PKCS12Format
		secret string
		want   PKCS12Description
	}{
		{PKCS12AES, "trustme", PKCS12Description{[]string{"AES-256-CBC"}, "SHA-256", pkcs12Iterations, ""}},
		{PKCS12AES, "pässwörd €", PKCS12Description{[]string{"AES-256-CBC"}, "SHA-256", pkcs12Iterations, ""}},
		{PKCS12Legacy, "trustme", PKCS12Description{[]string{"3DES"}, "SHA-1", 1, ""}},
		{PKCS12Legacy, strings.Repeat("x", 1000), PKCS12Description{[]string{"3DES"}, "SHA-1", 1, ""}},
	} {
		der, err := MarshalPKCS12(tok.key, tok.chain, pass(t, row.secret), row.format)
		if err != nil {
			t.Fatal(err)
		}
		key, chain, err := ParsePKCS12(der, pass(t, row.secret))
		if err != nil || !key.Equal(tok.key) || !sameChain(chain, tok.chain) {
			t.Errorf("%s: %v", row.format, err)
		}
		if d, err := DescribePKCS12(der); err != nil || !slices.Equal(d.Encryption, row.want.Encryption) || d.MAC != row.want.MAC || d.Iterations != row.want.Iterations || d.Unreadable != "" {
			t.Errorf("%s: %+v, %v", row.format, d, err)
		}
		if _, _, err := ParsePKCS12(der, pass(t, row.secret+"x")); !errors.Is(err, ErrPassphraseWrong) {
			t.Errorf("%s with a wrong password: %v", row.format, err)
		}
		if _, _, err := ParsePKCS12(der, nil); !errors.Is(err, ErrPassphraseNeeded) {
			t.Errorf("%s without a password: %v", row.format, err)
		}
		file, secretFile := write(t, "t.p12", der), write(t, "pass", []byte(row.secret))
		out := openssl(t, "pkcs12", "-in", file, "-passin", "file:"+secretFile, "-nodes")
		if bytes.Count(out, []byte("BEGIN CERTIFICATE")) != 2 || !bytes.Contains(out, []byte("BEGIN PRIVATE KEY")) {
			t.Errorf("%s: openssl reads\n%s", row.format, out)
		}
		if len(row.secret) > 100 {
			continue // longer than NSS reads from a file
		}
		listing := tooltest.Run(t, "pk12util", "-l", file, "-d", nss, "-w", secretFile)
		if !bytes.Contains(listing, []byte("Key(shrouded)")) || bytes.Count(listing, []byte("Certificate")) < 2 {
			t.Errorf("%s: NSS reads\n%s", row.format, listing)
		}
	}
	if _, err := MarshalPKCS12(tok.key, tok.chain[1:], pass(t, "x"), PKCS12AES); err == nil {
		t.Error("a certificate of another key: no error")
	}
	if _, err := MarshalPKCS12(tok.key, nil, pass(t, "x"), PKCS12AES); err == nil {
		t.Error("no certificate: no error")
	}
	if _, err := MarshalPKCS12(tok.key, tok.chain, pass(t, "\xff"), PKCS12AES); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("a password in another encoding: %v", err)
	}
	if _, err := MarshalPKCS12(tok.key, tok.chain, pass(t, "x"), "zip"); err == nil {
		t.Error("an unknown format: no error")
	}
}

// opensslPKCS12 makes a file with OpenSSL.
func opensslPKCS12(t testing.TB, args ...string) []byte {
	t.Helper()
	tok := testToken(t)
	keyPEM := mustPEM(t, tok.key, nil)
	var certs bytes.Buffer
	for _, c := range tok.chain {
		certs.Write(toPEM("CERTIFICATE", c.Raw))
	}
	args = append([]string{"pkcs12", "-export", "-passout", "file:" + write(t, "pass", []byte(secret)),
		"-inkey", write(t, "key", keyPEM), "-in", write(t, "certs", certs.Bytes()), "-name", "a friendly name"}, args...)
	return openssl(t, args...)
}

// TestPKCS12OfOpenSSL reads what others write, and says what the platform can't.
func TestPKCS12OfOpenSSL(t *testing.T) {
	tok := testToken(t)
	for _, row := range []struct{ args, unreadable, fails string }{
		{"", "", ""},
		{"-descert -keypbe PBE-SHA1-3DES -macalg sha1", "", ""},
		{"-keypbe AES-128-CBC -certpbe AES-128-CBC -macalg sha512", "", ""},
		{"-certpbe NONE", "", ""},
		{"-legacy", "it is encrypted with RC2 or RC4", ""},
		{"-nomac", "it has no MAC", "has no MAC"},
		{"-iter 3000 -maciter", "", ""},
	} {
		der := opensslPKCS12(t, strings.Fields(row.args)...)
		d, err := DescribePKCS12(der)
		if err != nil || d.Unreadable != row.unreadable {
			t.Errorf("%s: %+v, %v", row.args, d, err)
		}
		key, chain, err := ParsePKCS12(der, passphrase(t))
		if row.fails != "" {
			checkError(t, err, row.fails)
			continue
		}
		if err != nil || !key.Equal(tok.key) || !sameChain(chain, tok.chain) {
			t.Errorf("%s: %v", row.args, err)
		}
	}
}

// TestPKCS12Refuses what the platform can't use, and what is no such file.
func TestPKCS12Refuses(t *testing.T) {
	good := opensslPKCS12(t, "-certpbe", "NONE")
	for name, row := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"nothing":        {func([]byte) []byte { return nil }, "not a PKCS#12 file"},
		"a PEM file":     {func([]byte) []byte { return toPEM("CERTIFICATE", testToken(t).chain[0].Raw) }, "not a PKCS#12 file"},
		"a certificate":  {func([]byte) []byte { return testToken(t).chain[0].Raw }, "not a PKCS#12 file"},
		"trailing data":  {func(b []byte) []byte { return append(bytes.Clone(b), 0) }, "not a PKCS#12 file"},
		"cut":            {func(b []byte) []byte { return b[:len(b)-1] }, "not a PKCS#12 file"},
		"large":          {func([]byte) []byte { return make([]byte, MaxPKCS12+1) }, "octets are more than"},
		"altered":        {func(b []byte) []byte { b = bytes.Clone(b); b[200] ^= 1; return b }, "PKCS#12"},
		"MAC for ever":   {func(b []byte) []byte { return manyIterations(t, b, -1) }, "iterations"},
		"key for ever":   {func(b []byte) []byte { return manyIterations(t, b, 0) }, "iterations"},
		"nested too far": {func([]byte) []byte { return nested(60) }, "nested too deeply"},
	} {
		_, _, err := ParsePKCS12(row.change(good), passphrase(t))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	// Keys that open there and wrap nothing.
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"EC":  {"ec", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"PSS": {"rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		key, cert, file := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".p12")
		openssl(t, append([]string{"req", "-x509", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", cert, "-newkey"}, args...)...)
		openssl(t, "pkcs12", "-export", "-inkey", key, "-in", cert, "-passout", "pass:"+secret, "-out", file)
		der, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParsePKCS12(der, passphrase(t)); err == nil || !strings.Contains(err.Error(), "PKCS#12") || errors.Is(err, ErrPassphraseWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// manyIterations finds the iterations 2048 in a file of OpenSSL and makes them as
// many as fit into their two octets and more: n is which one, -1 the last.
func manyIterations(t *testing.T, der []byte, n int) []byte {
	t.Helper()
	// 02 02 08 00 becomes 02 02 80 00, a negative number: no length changes.
	pattern := []byte{2, 2, 8, 0}
	at := bytes.Index(der, pattern)
	if n < 0 {
		at = bytes.LastIndex(der, pattern)
	}
	if at < 0 {
		t.Fatal("no iterations in the file")
	}
	out := bytes.Clone(der)
	out[at+2] = 0x80
	return out
}

// nested is a file with structures in structures.
func nested(depth int) []byte {
	inner := []byte{5, 0}
	for range depth {
		inner = tlv(0x30, inner)
	}
	return tlv(0x30, []byte{2, 1, 3}, tlv(0x30, []byte{6, 1, 42}, tlv(0xa0, inner)))
}

// FuzzPKCS12: whatever is described is within bounds, and nothing panics. What
// takes long to open is not tried.
func FuzzPKCS12(f *testing.F) {
	needSeeds(f)
	p := passphrase(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		d, err := DescribePKCS12(der)
		if err != nil {
			return
		}
		if d.Iterations > maxIterations || d.Iterations < 0 {
			t.Fatalf("%+v", d)
		}
		if bytes.Contains(der, []byte{2, 3}) || bytes.Contains(der, []byte{2, 4}) {
			return // may be many iterations
		}
		key, chain, err := ParsePKCS12(der, p)
		checkPrinted(t, err)
		if err != nil {
			return
		}
		again, err := MarshalPKCS12(key, chain, p, PKCS12Legacy)
		if err != nil {
			t.Fatal(err)
		}
		if same, _, err := ParsePKCS12(again, p); err != nil || !same.Equal(key) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
