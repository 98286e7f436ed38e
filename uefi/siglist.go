package uefi

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// MaxDatabaseSize bounds a signature database that is read or written, in
// octets. Firmware has room for far less (OVMF: 32 KiB a variable).
const MaxDatabaseSize = 1 << 20

const (
	listHeaderSize = 28 // SignatureType and three sizes
	ownerSize      = 16
)

// SignatureDatabase is the value of PK, KEK, db or dbx: signature lists one
// after another. The zero value is an empty database, ready to be added to.
type SignatureDatabase []SignatureList

// SignatureList is an EFI_SIGNATURE_LIST (UEFI 2.10, Section 32.4.1). Its
// signatures are of one type and of one size.
type SignatureList struct {
	Type       GUID // CertX509, CertSHA256 or CertX509SHA256
	Signatures []Signature
}

// Signature is an EFI_SIGNATURE_DATA.
type Signature struct {
	Owner GUID   // the agent that added the signature; firmware does not interpret it
	Data  []byte // see the GUID of the list's type
}

// Entry is one signature of a database, with its type.
type Entry struct {
	Type GUID
	Signature
}

// TypeName returns what people call the entry's type: "x509", "sha256" or
// "x509-sha256".
func (e Entry) TypeName() string {
	switch e.Type {
	case CertX509:
		return "x509"
	case CertSHA256:
		return "sha256"
	case CertX509SHA256:
		return "x509-sha256"
	default:
		return e.Type.String()
	}
}

// Certificate returns the certificate in DER, or nil if the entry is a hash.
func (e Entry) Certificate() []byte {
	if e.Type != CertX509 {
		return nil
	}
	return e.Data
}

// Hash returns the 32 octets of an image's hash, or of a certificate's, or nil
// if the entry is a certificate.
func (e Entry) Hash() []byte {
	if e.Type == CertX509 || len(e.Data) < 32 {
		return nil
	}
	return e.Data[:32]
}

// ParseSignatureLists reads a whole signature database, such as an .esl file.
// It refuses sizes that don't add up, empty lists, unknown types, signature
// headers (no known type has one), trailing octets, and what is larger than
// MaxDatabaseSize. An X.509 signature must be one DER element; whether the
// firmware can use it, Check tells. No octets are an empty database.
func ParseSignatureLists(b []byte) (SignatureDatabase, error) {
	if len(b) > MaxDatabaseSize {
		return nil, fmt.Errorf("signature lists: %d octets are more than %d", len(b), MaxDatabaseSize)
	}
	var db SignatureDatabase
	for rest := b; len(rest) > 0; {
		list, size, err := parseSignatureList(rest)
		if err != nil {
			return nil, fmt.Errorf("signature list %d at octet %d: %w", len(db)+1, len(b)-len(rest), err)
		}
		db = append(db, list)
		rest = rest[size:]
	}
	return db, nil
}

// parseSignatureList reads the first list of b, and tells how long it is.
func parseSignatureList(b []byte) (list SignatureList, size int, err error) {
	if len(b) < listHeaderSize {
		return list, 0, fmt.Errorf("%d octets are too few for a header", len(b))
	}
	list.Type = GUID(b[0:16])
	listSize := int64(binary.LittleEndian.Uint32(b[16:20]))
	headerSize := int64(binary.LittleEndian.Uint32(b[20:24]))
	signatureSize := int64(binary.LittleEndian.Uint32(b[24:28]))
	switch {
	case listSize < listHeaderSize || listSize > int64(len(b)):
		return list, 0, fmt.Errorf("SignatureListSize is %d, outside %d to the %d octets that are there", listSize, listHeaderSize, len(b))
	case headerSize != 0:
		return list, 0, fmt.Errorf("SignatureHeaderSize is %d, not 0", headerSize)
	case signatureSize <= ownerSize:
		return list, 0, fmt.Errorf("SignatureSize is %d, without room for data after the owner", signatureSize)
	case listSize == listHeaderSize:
		return list, 0, errors.New("the list is empty")
	case (listSize-listHeaderSize)%signatureSize != 0:
		return list, 0, fmt.Errorf("SignatureListSize %d is no multiple of SignatureSize %d after the header", listSize, signatureSize)
	}
	for rest := b[listHeaderSize:listSize]; len(rest) > 0; rest = rest[signatureSize:] {
		data := rest[ownerSize:signatureSize]
		if err := checkData(list.Type, data); err != nil {
			return list, 0, fmt.Errorf("signature %d: %w", len(list.Signatures)+1, err)
		}
		list.Signatures = append(list.Signatures, Signature{Owner: GUID(rest[:ownerSize]), Data: bytes.Clone(data)})
	}
	return list, int(listSize), nil
}

// checkData checks the form of one signature's data.
func checkData(typ GUID, data []byte) error {
	switch typ {
	case CertX509:
		if !isSequence(data) {
			return fmt.Errorf("%d octets are not a certificate in DER", len(data))
		}
	case CertSHA256:
		if len(data) != 32 {
			return fmt.Errorf("a SHA-256 hash of %d octets", len(data))
		}
	case CertX509SHA256:
		if len(data) != 32+timeSize {
			return fmt.Errorf("a certificate's SHA-256 hash and revocation time of %d octets", len(data))
		}
	default:
		return fmt.Errorf("type %v is not supported", typ)
	}
	return nil
}

// isSequence reports whether b is one SEQUENCE in DER, of any content.
func isSequence(b []byte) bool {
	input := cryptobyte.String(b)
	return input.SkipASN1(cbasn1.SEQUENCE) && input.Empty()
}

// Marshal writes the database as firmware and .esl files have it. The lists
// must be as ParseSignatureLists would read them.
func (db SignatureDatabase) Marshal() ([]byte, error) {
	var b []byte
	for i, list := range db {
		if len(list.Signatures) == 0 {
			return nil, fmt.Errorf("signature list %d is empty", i+1)
		}
		size := ownerSize + len(list.Signatures[0].Data)
		b = append(b, list.Type[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(listHeaderSize+size*len(list.Signatures)))
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(size))
		for j, s := range list.Signatures {
			if ownerSize+len(s.Data) != size {
				return nil, fmt.Errorf("signature list %d: signature %d has another size than the first", i+1, j+1)
			}
			if err := checkData(list.Type, s.Data); err != nil {
				return nil, fmt.Errorf("signature list %d: signature %d: %w", i+1, j+1, err)
			}
			b = append(b, s.Owner[:]...)
			b = append(b, s.Data...)
		}
		if len(b) > MaxDatabaseSize {
			return nil, fmt.Errorf("signature lists: more than %d octets", MaxDatabaseSize)
		}
	}
	return b, nil
}

// Entries returns all signatures of the database in order.
func (db SignatureDatabase) Entries() []Entry {
	var entries []Entry
	for _, list := range db {
		for _, s := range list.Signatures {
			entries = append(entries, Entry{Type: list.Type, Signature: s})
		}
	}
	return entries
}

// Contains reports whether the database has a signature of this type and data,
// whoever owns it.
func (db SignatureDatabase) Contains(typ GUID, data []byte) bool {
	return slices.ContainsFunc(db.Entries(), func(e Entry) bool { return e.Type == typ && bytes.Equal(e.Data, data) })
}

// AddCertificate adds a certificate, in DER, as a list of its own, as all tools
// do. It refuses one that the firmware can't use. A certificate that is there
// already, whoever owns it, is not added again.
func (db *SignatureDatabase) AddCertificate(owner GUID, der []byte) (added bool, err error) {
	return db.Add(Entry{Type: CertX509, Signature: Signature{Owner: owner, Data: der}})
}

// AddHash adds the Authenticode SHA-256 of an image to the list of hashes. A
// hash that is there already, whoever owns it, is not added again.
func (db *SignatureDatabase) AddHash(owner GUID, sum [32]byte) (added bool, err error) {
	return db.Add(Entry{Type: CertSHA256, Signature: Signature{Owner: owner, Data: sum[:]}})
}

// Add adds an entry, such as one of another database: a certificate like
// AddCertificate, a hash to the last list of its type.
func (db *SignatureDatabase) Add(e Entry) (added bool, err error) {
	if err := checkEntry(e); err != nil {
		return false, err
	}
	if db.Contains(e.Type, e.Data) {
		return false, nil
	}
	s := Signature{Owner: e.Owner, Data: bytes.Clone(e.Data)}
	if e.Type != CertX509 {
		for i := len(*db) - 1; i >= 0; i-- {
			if list := &(*db)[i]; list.Type == e.Type {
				list.Signatures = append(slices.Clip(list.Signatures), s)
				return true, nil
			}
		}
	}
	*db = append(slices.Clip(*db), SignatureList{Type: e.Type, Signatures: []Signature{s}})
	return true, nil
}

// checkEntry is checkData, and for certificates what EDK II's
// CheckSignatureListFormat wants: that an RSA key can be read.
func checkEntry(e Entry) error {
	if err := checkData(e.Type, e.Data); err != nil {
		return err
	}
	if e.Type != CertX509 {
		return nil
	}
	certificate, err := x509.ParseCertificate(e.Data)
	if err != nil {
		return fmt.Errorf("not a certificate: %v", err)
	}
	return checkKey(certificate)
}

// checkKey refuses a certificate whose key the firmware can't use.
func checkKey(certificate *x509.Certificate) error {
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	t, err := spki.KeyTypeOf(pub)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	if err := CheckKeyType(t); err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	return nil
}

// CheckKeyType tells, as an error, why a key can't be used in Secure Boot, for
// signing variables or images: EDK II reads rsaEncryption keys only. Many
// boards take no more than 2048 bits, which is for the platform to say.
func CheckKeyType(t spki.KeyType) error {
	if t.Kind != spki.RSA {
		return fmt.Errorf("firmware can't use a key of type %v: use rsa:2048, rsa:3072 or rsa:4096", t)
	}
	switch t.Bits {
	case 2048, 3072, 4096:
		return nil
	default:
		return fmt.Errorf("firmware can't use an RSA key of %d bits: use 2048, 3072 or 4096", t.Bits)
	}
}
