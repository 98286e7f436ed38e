package ima

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/internal/tooltest"
	"tmpki/internal/tree"
	"tmpki/spki"
)

// A party is a key with a certificate.
type party struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

// rsaKey returns the test's n-th RSA key of that size; making one is slow.
func rsaKey(t testing.TB, n, bits int) *rsa.PrivateKey {
	t.Helper()
	made, _ := rsaKeys.LoadOrStore([2]int{n, bits}, sync.OnceValues(func() (*rsa.PrivateKey, error) {
		return rsa.GenerateKey(rand.Reader, bits)
	}))
	key, err := made.(func() (*rsa.PrivateKey, error))()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKeys sync.Map

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newParty makes a self-signed certificate that is fit for .ima, but for what
// change does to it.
func newParty(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) party {
	t.Helper()
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keyID, err := spki.KeyID(pub)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "signer"},
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     time.Now().Add(-time.Hour), // expired: the kernel does not ask
		KeyUsage:     x509.KeyUsageDigitalSignature,
		SubjectKeyId: keyID,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return party{key, certificate}
}

// pssCertificate makes a certificate of an id-RSASSA-PSS key, with the SHA-1 of
// it as its identifier.
func pssCertificate(t testing.TB) *x509.Certificate {
	t.Helper()
	out := filepath.Join(t.TempDir(), "cert")
	tooltest.Run(t, "openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-noenc",
		"-keyout", os.DevNull, "-subj", "/CN=pss", "-outform", "DER", "-out", out)
	certificate, err := x509.ParseCertificate(read(t, out))
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// save writes key and certificate as evmctl wants them.
func (p party) save(t testing.TB) (keyPath, certificatePath string) {
	t.Helper()
	dir := t.TempDir()
	keyPath, certificatePath = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.der")
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, certificatePath, p.certificate.Raw)
	return keyPath, certificatePath
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// forget is a ledger for tests that don't read it.
func forget([]tree.Result) error { return nil }

// mount mounts an empty file system of that kind, or skips the test.
func mount(t *testing.T, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Skipf("mounting %s needs root: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
