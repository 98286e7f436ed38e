package module

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/elf"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tmpki/internal/tooltest"
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

// newParty makes a self-signed certificate with this name and serial.
func newParty(t testing.TB, key crypto.Signer, name string, serial int64) party {
	t.Helper()
	return issue(t, key, name, serial, nil)
}

// issue makes a certificate by issuer, or a self-signed one.
func issue(t testing.TB, key crypto.Signer, name string, serial int64, issuer *party) party {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     time.Now().Add(-time.Hour), // expired: the kernel does not ask
		KeyUsage:     x509.KeyUsageDigitalSignature,
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
	return party{key, certificate}
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pssCertificate makes a certificate of an id-RSASSA-PSS key with this name and
// serial.
func pssCertificate(t testing.TB, name string, serial int64) *x509.Certificate {
	t.Helper()
	out := filepath.Join(t.TempDir(), "cert")
	tooltest.Run(t, "openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-noenc",
		"-keyout", os.DevNull, "-subj", "/CN="+name, "-set_serial", fmt.Sprint(serial), "-outform", "DER", "-out", out)
	certificate, err := x509.ParseCertificate(read(t, out))
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// newModule returns a small module of the given ELF type and sections, with
// padding of so many octets that do not compress.
func newModule(t testing.TB, name string, padding int) []byte {
	t.Helper()
	return newELF(t, elf.ET_REL, ".modinfo", name, padding)
}

func newELF(t testing.TB, kind elf.Type, section, name string, padding int) []byte {
	t.Helper()
	modinfo := fmt.Appendf(nil, "license=GPL\x00name=%s\x00", name)
	names := fmt.Appendf(nil, "\x00%s\x00.data\x00.shstrtab\x00", section)
	data := make([]byte, padding)
	rand.Read(data)
	const headerSize, sectionSize = 64, 64
	align := func(n int) int { return (n + 7) &^ 7 }
	at := []int{headerSize}
	for _, b := range [][]byte{modinfo, data, names} {
		at = append(at, align(at[len(at)-1]+len(b)))
	}

	var out bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	header := elf.Header64{
		Type: uint16(kind), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: uint64(at[3]),
		Ehsize: headerSize, Shentsize: sectionSize, Shnum: 4, Shstrndx: 3,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	put(header)
	for i, b := range [][]byte{modinfo, data, names} {
		out.Write(b)
		out.Write(make([]byte, at[i+1]-out.Len()))
	}
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(at[0]), Size: uint64(len(modinfo)), Addralign: 1})
	put(elf.Section64{Name: uint32(len(section)) + 2, Type: uint32(elf.SHT_PROGBITS), Off: uint64(at[1]), Size: uint64(padding), Addralign: 8})
	put(elf.Section64{Name: uint32(len(section)) + 8, Type: uint32(elf.SHT_STRTAB), Off: uint64(at[2]), Size: uint64(len(names)), Addralign: 1})
	return out.Bytes()
}

// save writes the party's key and certificate for tools that want PEM.
func (p party) save(t testing.TB) (keyPath, certificatePath string) {
	t.Helper()
	dir := t.TempDir()
	keyPath, certificatePath = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, certificatePath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw}))
	return keyPath, certificatePath
}

// load reads what save has written.
func load(keyPath, certificatePath string) (party, error) {
	var der [2][]byte
	for i, path := range []string{keyPath, certificatePath} {
		data, err := os.ReadFile(path)
		if err != nil {
			return party{}, err
		}
		block, _ := pem.Decode(data)
		der[i] = block.Bytes
	}
	key, err := x509.ParsePKCS8PrivateKey(der[0])
	if err != nil {
		return party{}, err
	}
	certificate, err := x509.ParseCertificate(der[1])
	return party{key.(crypto.Signer), certificate}, err
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
