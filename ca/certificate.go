package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// MaxCertificate bounds what is read as one certificate or request, in octets.
const MaxCertificate = 64 << 10

// MaxChain bounds the certificates in one PEM file.
const MaxChain = 64

// Certificate is a parsed certificate whose key and signature algorithm are
// known also where crypto/x509 leaves them out.
type Certificate struct {
	*x509.Certificate

	// Key is the public key: see spki.ParsePublicKey. Use it in place of
	// PublicKey, which is nil for id-RSASSA-PSS.
	Key crypto.PublicKey

	// Algorithm is that of the signature. It is zero, and AlgorithmError says
	// why, when this program can't verify it.
	Algorithm      spki.SignatureAlgorithm
	AlgorithmError error
}

// ParseCertificate reads one DER certificate. It refuses trailing data and keys
// that package spki doesn't know.
func ParseCertificate(der []byte) (*Certificate, error) {
	return parseCertificate(der, nil, nil)
}

// parseCertificate is ParseCertificate for who may have read the key before.
func parseCertificate(der []byte, key crypto.PublicKey, keyDER []byte) (*Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("certificate of %d octets is larger than %d", len(der), MaxCertificate)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %v", err)
	}
	c := &Certificate{Certificate: parsed}
	if err := checkTimes(parsed.RawTBSCertificate); err != nil {
		return nil, fmt.Errorf("certificate %q: %w", c.Subject(), err)
	}
	if key != nil && bytes.Equal(keyDER, parsed.RawSubjectPublicKeyInfo) {
		c.Key = key
	} else if c.Key, err = spki.ParsePublicKey(parsed.RawSubjectPublicKeyInfo); err != nil {
		return nil, fmt.Errorf("certificate %q: %w", c.Subject(), err)
	}
	algorithm, err := outerAlgorithm(der)
	if err != nil {
		return nil, err
	}
	c.Algorithm, c.AlgorithmError = spki.ParseSignatureAlgorithm(algorithm)
	return c, nil
}

// checkTimes refuses validity times in another form than RFC 5280, Section 4.1.2.5
// demands, such as without seconds or with an offset. crypto/x509 takes them,
// OpenSSL doesn't.
func checkTimes(tbs []byte) error {
	input := cryptobyte.String(tbs)
	var seq, validity, value cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!seq.SkipASN1(cbasn1.INTEGER) || !seq.SkipASN1(cbasn1.SEQUENCE) || !seq.SkipASN1(cbasn1.SEQUENCE) ||
		!seq.ReadASN1(&validity, cbasn1.SEQUENCE) {
		return errors.New("malformed validity")
	}
	for _, name := range []string{"notBefore", "notAfter"} {
		var tag cbasn1.Tag
		if !validity.ReadAnyASN1(&value, &tag) || !bytes.HasSuffix(value, []byte("Z")) ||
			len(value) != map[cbasn1.Tag]int{cbasn1.UTCTime: 13, cbasn1.GeneralizedTime: 15}[tag] {
			return fmt.Errorf("%s %q is not of the form YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ", name, value)
		}
	}
	return nil
}

// outerAlgorithm returns the signatureAlgorithm of a SEQUENCE { tbs,
// signatureAlgorithm, signature }: a certificate, a request or a CRL.
func outerAlgorithm(der []byte) ([]byte, error) {
	input := cryptobyte.String(der)
	var outer, algorithm cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.SkipASN1(cbasn1.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) {
		return nil, errors.New("malformed signature algorithm")
	}
	return algorithm, nil
}

// Subject returns the name of the certificate's owner.
func (c *Certificate) Subject() Name { return Name(c.RawSubject) }

// Issuer returns the name of the certificate's issuer.
func (c *Certificate) Issuer() Name { return Name(c.RawIssuer) }

// SelfIssued reports whether issuer and subject are one name (RFC 5280, Section 3.2).
func (c *Certificate) SelfIssued() bool { return c.Subject().Equal(c.Issuer()) }

// SelfSigned reports whether the certificate's own key signed it, and it doesn't
// say that another one did.
func (c *Certificate) SelfSigned() bool { return issued(c, c) && c.CheckSignature(c.Key) == nil }

// CheckSignature verifies the certificate's signature with the issuer's key.
func (c *Certificate) CheckSignature(key crypto.PublicKey) error {
	if c.AlgorithmError != nil {
		return c.AlgorithmError
	}
	return c.Algorithm.Verify(key, c.RawTBSCertificate, c.Signature)
}

// Equal reports whether two certificates are the same bytes.
func (c *Certificate) Equal(o *Certificate) bool { return bytes.Equal(c.Raw, o.Raw) }

// KeyType returns the type of the certificate's key.
func (c *Certificate) KeyType() spki.KeyType {
	t, err := spki.KeyTypeOf(c.Key)
	if err != nil {
		return spki.KeyType{} // ParseCertificate let no such key in
	}
	return t
}

// ParsePEM reads the certificates of a PEM file in their order. Text before,
// between and after the blocks is passed over, as OpenSSL does; a block of
// another type is an error, as is a file without a certificate.
func ParsePEM(data []byte) ([]*Certificate, error) {
	if len(data) > MaxChain*MaxCertificate {
		return nil, fmt.Errorf("file of %d octets is too large for a certificate chain", len(data))
	}
	begins := bytes.Count(data, []byte("-----BEGIN "))
	var certs []*Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a %s stands where a certificate should", block.Type)
		}
		c, err := ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		if certs = append(certs, c); len(certs) > MaxChain {
			return nil, fmt.Errorf("more than %d certificates in one file", MaxChain)
		}
	}
	if begins == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	// pem.Decode skips a block that it can't read; a certificate that is lost
	// that way must not pass for one that was never there.
	if begins != len(certs) {
		return nil, errors.New("a PEM block is malformed or cut off")
	}
	return certs, nil
}

// MarshalPEM writes certificates as PEM blocks, without text between them.
func MarshalPEM(certs ...*Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		// Encode to a bytes.Buffer fails for headers only, and there are none.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}
