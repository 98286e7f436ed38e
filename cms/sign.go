package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// Signer is who signs, and how.
type Signer struct {
	Key         crypto.Signer
	Certificate []byte // DER; its key must be Key's
	Algorithm   spki.SignatureAlgorithm
}

// Options are what the consumers of signatures differ in. The zero value is a
// detached signature in a ContentInfo, over signed attributes, of plain octets,
// without a certificate and without a time.
type Options struct {
	// Bare leaves out the ContentInfo, as UEFI wants it.
	Bare bool

	// NoAttributes signs the content itself, as kernel modules and UEFI have
	// it. Attributes and SigningTime must then be empty.
	NoAttributes bool

	// NullParameters writes NULL after the digest algorithm's OID, as PKCS #7
	// tools do, where newer ones write nothing (RFC 5754, Section 2).
	NullParameters bool

	// SigningTime becomes the attribute of that name, in UTC and whole seconds
	// (RFC 5652, Section 11.3). The zero time leaves it out.
	SigningTime time.Time

	// Attributes are signed beside those that this package makes: contentType,
	// messageDigest and signingTime.
	Attributes []Attribute

	// Certificates go into the message, each in DER, for whoever builds a chain.
	// The signer's own is included only if it is listed here.
	Certificates [][]byte
}

// Sign returns a detached signature over content, in DER.
func Sign(signer Signer, content []byte, opts Options) ([]byte, error) {
	digest, err := sum(signer.Algorithm, content)
	if err != nil {
		return nil, err
	}
	return SignDigest(signer, digest, opts)
}

// SignDigest is Sign for a content that is already hashed with the hash of the
// signer's algorithm.
func SignDigest(signer Signer, digest []byte, opts Options) ([]byte, error) {
	return sign(signer, &SignedData{version: 1, ContentType: oidData}, digest, opts)
}

// SignElement returns a signature that carries its content: a whole DER element
// of a content type other than id-data. The digest covers the element without
// its tag and length. Signed attributes are mandatory (RFC 5652, Section 5.3).
func SignElement(signer Signer, contentType asn1.ObjectIdentifier, element []byte, opts Options) ([]byte, error) {
	octets, ok := contentOctets(element)
	if !ok || contentType.Equal(oidData) || opts.NoAttributes {
		return nil, fmt.Errorf("signing a DER element of type %v: needs one element, a type other than id-data, and signed attributes", contentType)
	}
	digest, err := sum(signer.Algorithm, octets)
	if err != nil {
		return nil, err
	}
	// An OCTET STRING of another type than id-data is new with CMS, which calls
	// that version 3; other elements are PKCS #7, which knows 1 only.
	version := 1
	if element[0] == byte(cbasn1.OCTET_STRING) {
		version = 3
	}
	return sign(signer, &SignedData{version: version, ContentType: contentType, Content: element}, digest, opts)
}

// sum hashes content with the algorithm's hash.
func sum(alg spki.SignatureAlgorithm, content []byte) ([]byte, error) {
	if spki.HashName(alg.Hash) == "" {
		return nil, fmt.Errorf("CMS: the hash of %v is not supported", alg)
	}
	h := alg.Hash.New()
	h.Write(content)
	return h.Sum(nil), nil
}

func sign(signer Signer, sd *SignedData, digest []byte, opts Options) ([]byte, error) {
	// 1. Check that all fits together, before a key is touched.
	alg := signer.Algorithm
	if spki.HashName(alg.Hash) == "" || alg.Scheme == spki.EdDSA {
		return nil, fmt.Errorf("signing with %v in CMS is not supported", alg)
	}
	if len(digest) != alg.Hash.Size() {
		return nil, fmt.Errorf("signing with %v: digest of %d octets", alg, len(digest))
	}
	certificate, err := x509.ParseCertificate(signer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the signer's certificate: %v", err)
	}
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	if !spki.Equal(pub, signer.Key.Public()) {
		return nil, fmt.Errorf("the certificate of %q does not belong to the signing key", certificate.Subject)
	}
	if opts.NoAttributes && (len(opts.Attributes) > 0 || !opts.SigningTime.IsZero()) {
		return nil, errors.New("signing without attributes, but with attributes or a signing time")
	}

	// 2. Say who signs and how.
	s := SignerInfo{
		Issuer:    certificate.RawIssuer,
		Serial:    certificate.SerialNumber,
		Algorithm: alg,
	}
	if s.digestAlgorithm, err = digestAlgorithm(alg.Hash, opts.NullParameters); err != nil {
		return nil, err
	}
	if s.signatureAlgorithm, err = signatureAlgorithm(alg); err != nil {
		return nil, err
	}
	sd.digestAlgorithms = [][]byte{s.digestAlgorithm}
	if len(opts.Certificates) > 0 {
		sd.Certificates = slices.Clone(opts.Certificates)
		slices.SortFunc(sd.Certificates, bytes.Compare) // a SET OF in DER
	}

	// 3. Sign the attributes, or else the content.
	if opts.NoAttributes {
		if s.Signature, err = alg.SignDigest(signer.Key, digest); err != nil {
			return nil, err
		}
	} else {
		if s.SignedAttributes, err = signedAttributes(sd.ContentType, digest, opts); err != nil {
			return nil, err
		}
		message, err := signedOctets(s.SignedAttributes)
		if err != nil {
			return nil, err
		}
		if s.Signature, err = alg.Sign(signer.Key, message); err != nil {
			return nil, err
		}
	}
	sd.Signers = []SignerInfo{s}

	// 4. Write it down, and read it back: nothing leaves that Parse refuses.
	der, err := sd.marshal()
	if err != nil {
		return nil, fmt.Errorf("CMS SignedData: %w", err)
	}
	if _, err := ParseBare(der); err != nil {
		return nil, err
	}
	if opts.Bare {
		return der, nil
	}
	return wrap(der)
}

// signedAttributes returns the attributes to sign, in the order of DER.
func signedAttributes(contentType asn1.ObjectIdentifier, digest []byte, opts Options) ([]Attribute, error) {
	// 1. Those that this package makes.
	var typeValue, digestValue cryptobyte.Builder
	typeValue.AddASN1ObjectIdentifier(contentType)
	digestValue.AddASN1OctetString(digest)
	typeDER, err := typeValue.Bytes()
	if err != nil {
		return nil, fmt.Errorf("signed attribute contentType: %w", err)
	}
	attributes := []Attribute{
		{Type: oidContentType, Values: [][]byte{typeDER}},
		{Type: oidMessageDigest, Values: [][]byte{digestValue.BytesOrPanic()}},
	}
	if !opts.SigningTime.IsZero() {
		der, err := marshalTime(opts.SigningTime)
		if err != nil {
			return nil, fmt.Errorf("signed attribute signingTime: %w", err)
		}
		attributes = append(attributes, Attribute{Type: oidSigningTime, Values: [][]byte{der}})
	}

	// 2. The caller's, none of which may be one of them, or stand twice.
	for _, a := range opts.Attributes {
		for _, value := range a.Values {
			if _, ok := contentOctets(value); !ok {
				return nil, fmt.Errorf("signed attribute %v: a value is not one DER element", a.Type)
			}
		}
		if a.Type.Equal(oidSigningTime) {
			return nil, errors.New("signed attribute signingTime: it goes into Options.SigningTime")
		}
		if slices.ContainsFunc(attributes, func(b Attribute) bool { return b.Type.Equal(a.Type) }) {
			return nil, fmt.Errorf("signed attribute %v: it stands twice", a.Type)
		}
		attributes = append(attributes, Attribute{Type: a.Type, Values: slices.Clone(a.Values)})
	}
	return attributes, sortAttributes(attributes)
}

// marshalTime writes the value of a signing time: UTCTime from 1950 to 2049,
// else GeneralizedTime (RFC 5652, Section 11.3).
func marshalTime(t time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	if t = t.UTC(); t.Year() >= 1950 && t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
	return b.Bytes()
}

func digestAlgorithm(hash crypto.Hash, null bool) ([]byte, error) {
	return algorithm(spki.HashOID(hash), null)
}

// signatureAlgorithm writes PKCS#1 v1.5 as rsaEncryption (RFC 3370, Section
// 3.2): the kernel and the firmware know it by that name.
func signatureAlgorithm(alg spki.SignatureAlgorithm) ([]byte, error) {
	if alg.Scheme == spki.PKCS1v15 {
		return algorithm(oidRSAEncryption, true)
	}
	return alg.Marshal()
}

func algorithm(oid asn1.ObjectIdentifier, null bool) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
	return b.Bytes()
}
