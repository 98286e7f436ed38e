package efi

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	mathrand "math/rand"
	"sync"
	"testing"
	"time"
)

// peImage describes an image for a test. Its zero value with some sections is
// a good x64 application.
type peImage struct {
	pe32        bool
	directories int   // of the data directories; 0: 16
	sections    []int // the sizes of their data
	trailing    int   // octets behind the sections
}

const testHeaderSize = 0x400

// build writes the image: headers, sections of noise, more noise. A section
// without data stands at the end of the table.
func (p peImage) build() []byte {
	const offset = 0x80
	if p.directories == 0 {
		p.directories = maxDirectories
	}
	machine, magic, fixed := uint16(0x8664), uint16(magicPE32Plus), fixedSizePE32Plus
	if p.pe32 {
		machine, magic, fixed = 0x014c, magicPE32, fixedSizePE32
	}
	b := make([]byte, testHeaderSize)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[offsetOfPEOffset:], offset)
	coff := b[offset:]
	copy(coff, "PE\x00\x00")
	binary.LittleEndian.PutUint16(coff[4:], machine)
	binary.LittleEndian.PutUint16(coff[6:], uint16(len(p.sections)+1))
	binary.LittleEndian.PutUint16(coff[20:], uint16(fixed+p.directories*directorySize))
	binary.LittleEndian.PutUint16(coff[22:], 0x0002) // Characteristics: executable, as pesign wants it
	optional := coff[coffHeaderSize:]
	binary.LittleEndian.PutUint16(optional, magic)
	binary.LittleEndian.PutUint32(optional[32:], 0x1000) // SectionAlignment
	binary.LittleEndian.PutUint32(optional[36:], 0x10)   // FileAlignment
	binary.LittleEndian.PutUint32(optional[offsetOfSizeOfHeaders:], testHeaderSize)
	binary.LittleEndian.PutUint16(optional[offsetOfSubsystem:], 10)
	binary.LittleEndian.PutUint32(optional[fixed-4:], uint32(p.directories))
	table := optional[fixed+p.directories*directorySize:]
	size := testHeaderSize
	for i, n := range p.sections {
		copy(table[i*sectionHeaderSize:], ".s")
		putSection(table[i*sectionHeaderSize:], n, size)
		size += n
	}
	copy(table[len(p.sections)*sectionHeaderSize:], ".bss")
	noise := make([]byte, size-testHeaderSize+p.trailing)
	mathrand.New(mathrand.NewSource(1)).Read(noise)
	return append(b, noise...)
}

func putSection(header []byte, size, pointer int) {
	binary.LittleEndian.PutUint32(header[8:], uint32(size))
	binary.LittleEndian.PutUint32(header[12:], 0x1000+uint32(pointer))
	binary.LittleEndian.PutUint32(header[16:], uint32(size))
	binary.LittleEndian.PutUint32(header[20:], uint32(pointer))
}

// openBytes opens an image that must be good.
func openBytes(t testing.TB, b []byte) *Image {
	t.Helper()
	img, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// signBytes signs an image, which must work.
func signBytes(t testing.TB, b []byte, signer Signer, opts SignOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openBytes(t, b).Sign(&out, signer, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// authority is a key with its certificate.
type authority struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
}

// signer returns who signs with a, over a chain to the last of the issuers.
func (a *authority) signer(issuers ...*authority) Signer {
	s := Signer{Key: a.key, Certificate: a.certificate.Raw}
	for _, issuer := range issuers {
		s.Chain = append(s.Chain, issuer.certificate.Raw)
	}
	return s
}

// issue makes a certificate for a key; a nil issuer means itself. Its dates are
// in the past: firmware does not ask.
func issue(name string, key crypto.Signer, issuer *authority, change func(*x509.Certificate)) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return certificate
}

// asLeaf makes a certificate one that issues no others.
func asLeaf(c *x509.Certificate) {
	c.IsCA = false
	c.KeyUsage = x509.KeyUsageDigitalSignature
}

// authorities are what the tests sign with.
type authorities struct {
	root, sub, leaf *authority // each issued by the one before
	direct          *authority // by itself
	stranger        *authority // by itself, and in no database
	namesake        *authority // another root of the same name
}

// testAuthorities makes them once: keys take time.
var testAuthorities = sync.OnceValue(func() *authorities {
	make := func(name string, issuer *authority, change func(*x509.Certificate)) *authority {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return &authority{key, issue(name, key, issuer, change)}
	}
	var a authorities
	a.root = make("root", nil, nil)
	a.sub = make("sub CA", a.root, nil)
	a.leaf = make("leaf", a.sub, asLeaf)
	a.direct = make("direct", nil, asLeaf)
	a.stranger = make("stranger", nil, nil)
	a.namesake = make("root", nil, nil)
	return &a
})

// trusting returns databases with these certificates in db.
func trusting(as ...*authority) Databases {
	var d Databases
	for _, a := range as {
		d.Certificates = append(d.Certificates, a.certificate.Raw)
	}
	return d
}
