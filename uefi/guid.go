package uefi

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID is an EFI_GUID as firmware stores it: the first three fields are
// little-endian, the last two plain octets (UEFI 2.10, Appendix A).
type GUID [16]byte

// Well-known GUIDs. They are to be read only.
var (
	// GlobalVariable is EFI_GLOBAL_VARIABLE, the vendor of PK and KEK.
	GlobalVariable = mustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")

	// ImageSecurityDatabase is EFI_IMAGE_SECURITY_DATABASE_GUID, the vendor of
	// db and dbx.
	ImageSecurityDatabase = mustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")

	// CertX509 is EFI_CERT_X509_GUID: the data is a certificate in DER.
	CertX509 = mustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")

	// CertSHA256 is EFI_CERT_SHA256_GUID: the data is the Authenticode SHA-256
	// of an image, 32 octets.
	CertSHA256 = mustGUID("c1c41626-504c-4092-aca9-41f936934328")

	// CertX509SHA256 is EFI_CERT_X509_SHA256_GUID: the data is the SHA-256 of a
	// certificate's TBSCertificate, then the EFI_TIME of its revocation, or
	// zeros for always.
	CertX509SHA256 = mustGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")

	// certTypePKCS7 is EFI_CERT_TYPE_PKCS7_GUID, the form of every signature
	// over a variable.
	certTypePKCS7 = mustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
)

// NewGUID returns a random GUID (RFC 9562, version 4), such as an owner of
// signatures.
func NewGUID() GUID {
	var g GUID
	rand.Read(g[:])         // never fails
	g[7] = g[7]&0x0f | 0x40 // the version is in the third field, little-endian
	g[8] = g[8]&0x3f | 0x80 // the variant
	return g
}

// ParseGUID reads the text form, "8be4df61-93ca-11d2-aa0d-00e098032b8c", in
// either case and without braces.
func ParseGUID(s string) (GUID, error) {
	fields := strings.Split(s, "-")
	if len(fields) != 5 || len(fields[0]) != 8 || len(fields[1]) != 4 || len(fields[2]) != 4 || len(fields[3]) != 4 {
		return GUID{}, fmt.Errorf("GUID %q: not of the form 8-4-4-4-12", s)
	}
	octets, err := hex.DecodeString(strings.Join(fields, ""))
	if err != nil || len(octets) != 16 {
		return GUID{}, fmt.Errorf("GUID %q: not of 32 hexadecimal digits", s)
	}
	return GUID(octets).swapped(), nil
}

// String returns the text form in lower case.
func (g GUID) String() string {
	b := g.swapped()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// swapped turns the octets of the firmware into the order of the text form, and
// back.
func (g GUID) swapped() GUID {
	binary.BigEndian.PutUint32(g[0:4], binary.LittleEndian.Uint32(g[0:4]))
	binary.BigEndian.PutUint16(g[4:6], binary.LittleEndian.Uint16(g[4:6]))
	binary.BigEndian.PutUint16(g[6:8], binary.LittleEndian.Uint16(g[6:8]))
	return g
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}
