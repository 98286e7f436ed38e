//go:build e2e

package secboot

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"tmpki/artifact/efi"
	"tmpki/uefi"
)

// authority is a key with its certificate.
type authority struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
}

// newAuthority makes a key and a certificate, signed by an issuer or, if that is
// nil, by itself, with an algorithm of choice.
func newAuthority(t *testing.T, name string, isCA bool, issuer *authority, algorithm x509.SignatureAlgorithm) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), // firmware asks for no dates
		BasicConstraintsValid: true,
		IsCA:                  isCA,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		SignatureAlgorithm:    algorithm,
	}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, certificate}
}

// update makes an .auth file.
func (a *authority) update(t *testing.T, name string, appendWrite bool, value uefi.SignatureDatabase) Update {
	t.Helper()
	v, err := uefi.SecureBootVariable(name)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := uefi.SignVariable(uefi.Update{Variable: v, Append: appendWrite, Time: uefi.NextTime(time.Now(), time.Time{}), Value: value}, a.key, a.certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return Update{Name: name, Append: appendWrite, Auth: auth}
}

// sign signs an EFI program.
func (a *authority) sign(t *testing.T, program []byte, chain ...[]byte) []byte {
	t.Helper()
	img, err := efi.Open(bytes.NewReader(program), int64(len(program)))
	if err != nil {
		t.Fatal(err)
	}
	var signed bytes.Buffer
	if err := img.Sign(&signed, efi.Signer{Key: a.key, Certificate: a.certificate.Raw, Chain: chain}, efi.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	return signed.Bytes()
}

// certificates returns a database of certificates.
func certificates(t *testing.T, ders ...[]byte) uefi.SignatureDatabase {
	t.Helper()
	var db uefi.SignatureDatabase
	for _, der := range ders {
		if _, err := db.AddCertificate(uefi.NewGUID(), der); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// digest returns the hash that db and dbx know a program by.
func digest(t *testing.T, program []byte) [32]byte {
	t.Helper()
	img, err := efi.Open(bytes.NewReader(program), int64(len(program)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(d)
}

// need skips a test on a machine that lacks something; in CI nothing may lack.
func need(t *testing.T, err error) {
	t.Helper()
	var missing *MissingError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSecureBoot enrols keys through the firmware, each checked by it, and holds
// the firmware's verdict on images, before and after an update of dbx, against
// that of package efi.
func TestSecureBoot(t *testing.T) {
	m, err := New(t.TempDir())
	need(t, err)
	hello, err := HelloProgram(t.TempDir())
	need(t, err)

	// 1. The platform's keys. db has a root, with a signer two levels below it,
	// and a certificate that signs by itself.
	const pkcs1, pss = x509.SHA256WithRSA, x509.SHA512WithRSAPSS
	pk := newAuthority(t, "PK", true, nil, pkcs1)
	kek := newAuthority(t, "KEK", true, nil, pkcs1)
	stranger := newAuthority(t, "stranger", true, nil, pkcs1)
	root := newAuthority(t, "root", true, nil, pkcs1)
	sub := newAuthority(t, "sub CA", true, root, pkcs1)
	leaf := newAuthority(t, "leaf", false, sub, pkcs1)
	other := newAuthority(t, "other leaf", false, root, pss)
	third := newAuthority(t, "third leaf", false, root, pkcs1)
	direct := newAuthority(t, "direct", false, nil, pkcs1)
	underDirect := newAuthority(t, "below direct", false, direct, pkcs1)

	// db also has the hash of an unsigned image, whose length is odd.
	byHash := append(bytes.Clone(hello), "unsigned."...)
	db := certificates(t, root.certificate.Raw, direct.certificate.Raw)
	if _, err := db.AddHash(uefi.NewGUID(), digest(t, byHash)); err != nil {
		t.Fatal(err)
	}
	databases := efi.Databases{
		Certificates: [][]byte{root.certificate.Raw, direct.certificate.Raw},
		Images:       [][32]byte{digest(t, byHash)},
	}

	// 2. In setup mode a PK must be signed by itself.
	var refused *StatusError
	if err := m.Enrol(stranger.update(t, "PK", false, certificates(t, pk.certificate.Raw))); !errors.As(err, &refused) {
		t.Fatalf("PK signed by a stranger: %v", err)
	}
	err = m.Enrol(
		pk.update(t, "PK", false, certificates(t, pk.certificate.Raw)),
		pk.update(t, "KEK", false, certificates(t, kek.certificate.Raw)),
		kek.update(t, "db", false, db),
	)
	if err != nil {
		t.Fatal(err)
	}

	// 3. The images, and what becomes of them.
	byLeaf := leaf.sign(t, hello, sub.certificate.Raw)
	byOther := other.sign(t, hello)
	byThird := third.sign(t, hello)
	byDirect := direct.sign(t, hello)
	odd := direct.sign(t, append(bytes.Clone(hello), "odd"...))
	altered := bytes.Clone(byLeaf)
	text := bytes.Index(altered, []byte("h\x00e\x00l\x00l\x00o\x00"))
	altered[text] ^= 1
	type row struct {
		name  string
		image []byte
		want  Verdict
	}
	judge := func(rows ...row) {
		t.Helper()
		for _, r := range rows {
			start := time.Now()
			verdict, console, err := m.Boot(r.image)
			if err != nil {
				t.Fatalf("%s: %v", r.name, err)
			}
			if verdict != r.want || (verdict == Booted) != strings.Contains(console, "hello: SecureBoot=1") {
				t.Errorf("%s: the firmware: %v, want %v: %s", r.name, verdict, r.want, console)
			}
			img, err := efi.Open(bytes.NewReader(r.image), int64(len(r.image)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = img.Verify(databases); (err == nil) != (r.want == Booted) {
				t.Errorf("%s: package efi: %v, want %v", r.name, err, r.want)
			}
			t.Logf("%s: %v in %v (%v)", r.name, verdict, time.Since(start).Round(100*time.Millisecond), err)
		}
	}
	judge(
		row{"below the root in db, over a sub CA in the signature", byLeaf, Booted},
		row{"of odd length", odd, Booted},
		row{"below the root in db", byThird, Booted},
		row{"signed by the certificate in db", byDirect, Booted},
		row{"with a stranger's signature first", direct.sign(t, stranger.sign(t, hello)), Booted},
		row{"unsigned, of odd length, its hash in db", byHash, Booted},
		row{"unsigned", hello, Denied},
		row{"below a certificate in db that is no CA", underDirect.sign(t, hello), Denied},
		row{"signed by a stranger", stranger.sign(t, hello), Denied},
		row{"without the sub CA in the signature", leaf.sign(t, hello), Denied},
		row{"altered", altered, Denied},
	)
	if t.Failed() {
		return
	}

	// 4. Revoke one image by its hash, the sub CA by its certificate, and one of
	// the leaves by its certificate's hash, for all times.
	var dbx uefi.SignatureDatabase
	revokedImage := digest(t, odd)
	if _, err := dbx.AddHash(uefi.NewGUID(), revokedImage); err != nil {
		t.Fatal(err)
	}
	if _, err := dbx.AddCertificate(uefi.NewGUID(), sub.certificate.Raw); err != nil {
		t.Fatal(err)
	}
	revokedTBS := sha256.Sum256(third.certificate.RawTBSCertificate)
	const timeSize = 16
	entry := uefi.Entry{Type: uefi.CertX509SHA256, Signature: uefi.Signature{Owner: uefi.NewGUID(), Data: append(revokedTBS[:], make([]byte, timeSize)...)}}
	if _, err := dbx.Add(entry); err != nil {
		t.Fatal(err)
	}
	m.Enroller = direct.sign(t, m.Enroller)
	if err := m.Enrol(stranger.update(t, "dbx", true, dbx)); !errors.As(err, &refused) {
		t.Fatalf("dbx signed by a stranger: %v", err)
	}
	if err := m.Enrol(kek.update(t, "dbx", true, dbx)); err != nil {
		t.Fatal(err)
	}
	databases.RevokedImages = [][32]byte{revokedImage}
	databases.RevokedCertificates = [][]byte{sub.certificate.Raw}
	databases.RevokedTBS = [][32]byte{revokedTBS}
	judge(
		row{"revoked by its hash", odd, Denied},
		row{"signed by a leaf revoked by its hash", byThird, Denied},
		row{"below the revoked sub CA", byLeaf, Denied},
		row{"below the root by PSS, beside the revoked sub CA", byOther, Booted},
		row{"of a good and a revoked signer", leaf.sign(t, byDirect, sub.certificate.Raw), Denied},
	)
}
