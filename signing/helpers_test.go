package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/elf"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
	"tmpki/store"
)

// now is the clock of the tests.
var now = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// testPassphrase encrypts the keys of the customer side.
const testPassphrase = "opensesame"

const passphraseVariable = "GYROIDOS_TEST_PASSWD_PKI"

func TestMain(m *testing.M) {
	// This program itself, started again as somebody with fewer rights.
	if dir := os.Getenv("TMPKI_TEST_SIGN_IN"); dir != "" {
		os.Exit(signAsChild(dir))
	}
	os.Setenv(passphraseVariable, testPassphrase)
	code := m.Run()
	os.RemoveAll(madeIn)
	os.Exit(code)
}

// madeIn is where original is.
var madeIn string

// original is a development PKI with UEFI keys; it is made once, and never signed
// with: see newPKI.
var original = sync.OnceValues(func() (string, error) {
	// A fuzzer's workers must know the keys that made its seeds.
	if dir := os.Getenv("TMPKI_TEST_PKI"); dir != "" {
		return dir, nil
	}
	var err error
	if madeIn, err = os.MkdirTemp("", "tmpki-signing-"); err != nil {
		return "", err
	}
	dir := filepath.Join(madeIn, "pki")
	o := plan.Options{Actor: "tester", Now: clock, Demand: plan.Demand{PlatformKeys: true}}
	if _, err := plan.Generate(context.Background(), dir, spki.KeyType{Kind: spki.RSA, Bits: 2048}, o); err != nil {
		return "", err
	}
	// One more GuestOS, and a device, which must not pass for one.
	path := filepath.Join(dir, plan.FileName)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	more := `certificates:
  device_1:
    issuer: device_subca
    profile: signer
    key: rsa-pss:2048
    subject: {common_name: Device 1}
  filer:
    issuer: ssig_subca_cml
    profile: signer
    signs: [file]
    key: rsa-pss:2048
    subject: {common_name: Filer}
  config_rsa:
    issuer: ssig_subca
    profile: signer
    signs: [guestos, container, file]
    key: rsa:2048
    subject: {common_name: Configs with rsaEncryption}
`
	text = bytes.Replace(text, []byte("\ncertificates:\n"), []byte("\n"+more), 1)
	text = bytes.Replace(text, []byte("\nsigners:\n"), []byte("\nsigners:\n  file: filer\n"), 1)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", err
	}
	if _, err = plan.Apply(context.Background(), dir, o); err != nil {
		return "", err
	}
	return dir, os.Setenv("TMPKI_TEST_PKI", dir)
})

// newPKI returns a directory with a copy of the PKI, for one test.
func newPKI(t testing.TB) string {
	t.Helper()
	from, err := original()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newSession opens a PKI of its own for one test.
func newSession(t testing.TB) *Session {
	t.Helper()
	return openSession(t, newPKI(t))
}

func openSession(t testing.TB, dir string) *Session {
	t.Helper()
	s, err := Open(t.Context(), dir, "tester@here", clock)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cert returns the certificate of an entry.
func (s *Session) cert(t testing.TB, name string) *ca.Certificate {
	t.Helper()
	c := s.PKI.Have.Certificates[name]
	if c == nil {
		t.Fatalf("no certificate of %s", name)
	}
	return c
}

// key returns the private key of an entry.
func (s *Session) key(t testing.TB, name string) crypto.Signer {
	t.Helper()
	k, err := s.PKI.Signer(s.PKI.Plan.Entry(name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signatures returns the ledger's entries of artifacts, and fails unless the
// whole store is sound.
func signatures(t testing.TB, dir string) []store.Entry {
	t.Helper()
	db, err := plan.ReadStore(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := db.Entries(t.Context(), 0, 10000)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e store.Entry) bool { return e.Kind != store.KindSign })
}

// spoil makes the ledger of an open session unusable.
func spoil(t testing.TB, s *Session) {
	t.Helper()
	path := plan.StorePath(s.PKI.Dir)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
}

// refused fails unless err is an error that says each of the texts.
func refused(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error is %q, want %q", err, text)
		}
	}
}

// files returns what is below a directory: name and content.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged runs do and fails if anything below dir is different afterwards.
func unchanged(t testing.TB, dir string, do func()) {
	t.Helper()
	before := files(t, dir)
	do()
	after := files(t, dir)
	for name := range after {
		if before[name] != after[name] {
			t.Errorf("%s is new or changed", name)
		}
	}
	if len(after) < len(before) {
		t.Errorf("%d of %d files are left", len(after), len(before))
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// write writes a file below a directory, and returns its path.
func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// pemFile writes certificates into a file.
func pemFile(t testing.TB, dir, name string, certs ...*ca.Certificate) string {
	t.Helper()
	return write(t, dir, name, ca.MarshalPEM(certs...))
}

// keyFile writes a key into a file, encrypted if there is a passphrase.
func keyFile(t testing.TB, dir, name string, key crypto.Signer, passphrase string) string {
	t.Helper()
	var p *keys.Passphrase
	if passphrase != "" {
		var err error
		if p, err = keys.NewPassphrase([]byte(passphrase)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := keys.MarshalPEM(key, p)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, name, data)
}

// opts are what a certificate of issue can differ in.
type opts struct {
	name      string
	from, to  time.Time
	extension []pkix.Extension
	serial    int64
	ca        bool
	like      *ca.Certificate // has its name and key identifier
}

// issue has a certificate made by crypto/x509, with the key of an issuer that it
// can use; without one it is self-signed.
func issue(t testing.TB, key crypto.Signer, issuer *ca.Certificate, issuerKey crypto.Signer, o opts) *ca.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(max(o.serial, 7)),
		Subject:         pkix.Name{CommonName: o.name},
		NotBefore:       now.Add(-time.Hour),
		NotAfter:        now.Add(time.Hour),
		ExtraExtensions: o.extension,
	}
	if o.ca {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	if o.like != nil {
		template.RawSubject, template.SubjectKeyId = o.like.RawSubject, o.like.SubjectKeyId
	}
	if !o.from.IsZero() {
		template.NotBefore = o.from
	}
	if !o.to.IsZero() {
		template.NotAfter = o.to
	}
	parent := template
	if issuer != nil {
		parent = issuer.Certificate
	} else {
		issuerKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var unknownCritical = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}

// newKey returns the test run's n-th key of a kind: making RSA keys is slow.
func newKey(t testing.TB, kind string, n int) crypto.Signer {
	t.Helper()
	made, _ := testKeys.LoadOrStore(fmt.Sprint(kind, n), sync.OnceValues(func() (crypto.Signer, error) {
		kt, err := spki.ParseKeyType(kind)
		if err != nil {
			return nil, err
		}
		return keys.Generate(kt)
	}))
	key, err := made.(func() (crypto.Signer, error))()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var testKeys sync.Map

// newModule returns a small kernel module.
func newModule(t testing.TB, name string) []byte {
	t.Helper()
	modinfo := fmt.Appendf(nil, "license=GPL\x00name=%s\x00", name)
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	const headerSize, sectionSize = 64, 64
	var out bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: uint64(headerSize + len(modinfo) + len(names)), Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	put(header)
	put(modinfo)
	put(names)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(modinfo)), Addralign: 1})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(headerSize + len(modinfo)), Size: uint64(len(names)), Addralign: 1})
	return out.Bytes()
}

// newEFI returns a small EFI application of that many octets, 1024 or more.
func newEFI(size int) []byte {
	b := make([]byte, size)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	coff := b[0x80:]
	copy(coff, "PE\x00\x00")
	le.PutUint16(coff[4:], 0x8664)
	le.PutUint16(coff[6:], 1)     // NumberOfSections
	le.PutUint16(coff[20:], 0xf0) // SizeOfOptionalHeader
	le.PutUint16(coff[22:], 2)    // Characteristics: executable
	optional := coff[24:]
	le.PutUint16(optional, 0x20b)       // PE32+
	le.PutUint32(optional[32:], 0x1000) // SectionAlignment
	le.PutUint32(optional[36:], 0x10)   // FileAlignment
	le.PutUint32(optional[60:], 0x200)  // SizeOfHeaders
	le.PutUint16(optional[68:], 10)     // Subsystem: EFI application
	le.PutUint32(optional[108:], 16)    // NumberOfRvaAndSizes
	section := optional[0xf0:]
	copy(section, ".text")
	le.PutUint32(section[8:], uint32(size-0x200))
	le.PutUint32(section[12:], 0x1000)
	le.PutUint32(section[16:], uint32(size-0x200))
	le.PutUint32(section[20:], 0x200)
	return b
}

// pemBlock is one block of a PEM file.
func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// sameSet reports whether two lists hold the same, in any order.
func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
