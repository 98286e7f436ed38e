// Package cms reads, makes and verifies SignedData (RFC 5652, Section 5) as the
// platform's consumers take it: kernel modules (no attributes), UEFI
// authenticated variables (no ContentInfo around), Authenticode (content of a
// type of its own) and detached signatures of files (signed attributes).
//
// It holds one signature to one certificate's key. It builds no chains, asks
// for no dates and no purposes: see package ca. It keeps no clock and reads no
// content: who signs 100 MiB hands over their digest.
//
// Left out: adding a signer to a message, checking timestamps, revocation lists
// inside a message, SHA-1, and Ed25519, whose signed attributes OpenSSL 3.0
// can't verify.
package cms

import (
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// Limits of what Parse takes. Nothing that the platform signs comes near.
const (
	MaxSize         = 1 << 20 // octets of a message
	MaxSigners      = 16
	MaxCertificates = 32
	MaxAttributes   = 64 // of one signer, signed and unsigned each
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// SignedData is a parsed message (RFC 5652, Section 5.1). Nothing in it is
// verified before Verify says so, and then only for one signer; the
// certificates and the unsigned attributes are never covered by a signature.
type SignedData struct {
	// ContentType is what the signature is over: id-data (1.2.840.113549.1.7.1)
	// for plain octets, or a type of an application's own.
	ContentType asn1.ObjectIdentifier

	// Content is the DER element that was signed, with tag and length: an
	// OCTET STRING (RFC 5652), or any other element (PKCS #7, RFC 2315,
	// Section 7), as Authenticode has it. It is nil if the content is detached.
	Content []byte

	// Certificates are the certificates in the message, each in DER, in the
	// message's order, which means nothing.
	Certificates [][]byte

	// Signers are the signatures, each independent of the others. A message
	// that only carries certificates has none.
	Signers []SignerInfo

	version          int
	digestAlgorithms [][]byte // DER, as found
}

// SignerInfo is one signature (RFC 5652, Section 5.3). The signer's certificate
// is named by Issuer and Serial, or by SubjectKeyID alone.
type SignerInfo struct {
	Issuer       []byte   // DER Name, or nil
	Serial       *big.Int // nil if and only if Issuer is
	SubjectKeyID []byte   // nil if Issuer is there

	// Algorithm is the signature's; its hash is the content's hash too.
	Algorithm spki.SignatureAlgorithm

	// SignedAttributes are nil when the signature is over the content itself.
	// A consumer whose format has them must refuse a signature without them:
	// else the attributes of one message can be shown as another one's content.
	SignedAttributes []Attribute

	// UnsignedAttributes are whatever anybody added later, such as a timestamp.
	UnsignedAttributes []Attribute

	Signature []byte

	digestAlgorithm    []byte // DER, as found
	signatureAlgorithm []byte // DER, as found
}

// Attribute is a type with its values (RFC 5652, Section 5.3), each a whole DER
// element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// context returns the tag [n] of a constructed element.
func context(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// contentOctets returns what a digest of the content covers: a DER element
// without its tag and length (RFC 5652, Section 5.4).
func contentOctets(element []byte) ([]byte, bool) {
	input := cryptobyte.String(element)
	var value cryptobyte.String
	var tag cbasn1.Tag
	if !input.ReadAnyASN1(&value, &tag) || !input.Empty() {
		return nil, false
	}
	return value, true
}
