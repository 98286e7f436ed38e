package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Verify checks a detached signature over content, with the signer's key. The
// error wraps spki.ErrSignature when all is well formed but the signature is
// not that key's.
func (sd *SignedData) Verify(signer *SignerInfo, pub crypto.PublicKey, content []byte) error {
	digest, err := sum(signer.Algorithm, content)
	if err != nil {
		return err
	}
	return sd.VerifyDigest(signer, pub, digest)
}

// VerifyDigest is Verify for a content that is already hashed with
// signer.Algorithm.Hash.
func (sd *SignedData) VerifyDigest(signer *SignerInfo, pub crypto.PublicKey, digest []byte) error {
	if sd.Content != nil {
		return errors.New("CMS: the signature is not detached: the message carries its content")
	}
	return sd.verifyDigest(signer, pub, digest)
}

// VerifyEmbedded is Verify for a message that carries its content.
func (sd *SignedData) VerifyEmbedded(signer *SignerInfo, pub crypto.PublicKey) error {
	if sd.Content == nil {
		return errors.New("CMS: the signature is detached: the message does not carry its content")
	}
	octets, ok := contentOctets(sd.Content)
	if !ok {
		return errors.New("CMS: the content is not one DER element")
	}
	digest, err := sum(signer.Algorithm, octets)
	if err != nil {
		return err
	}
	return sd.verifyDigest(signer, pub, digest)
}

func (sd *SignedData) verifyDigest(signer *SignerInfo, pub crypto.PublicKey, digest []byte) error {
	if signer.SignedAttributes == nil {
		if !sd.ContentType.Equal(oidData) {
			return fmt.Errorf("CMS: content of type %v without signed attributes", sd.ContentType)
		}
		if err := signer.Algorithm.VerifyDigest(pub, digest, signer.Signature); err != nil {
			return fmt.Errorf("CMS: %w", err)
		}
		return nil
	}

	// 1. The attributes speak of this content.
	var contentType asn1.ObjectIdentifier
	value, err := signer.single(oidContentType)
	if err != nil {
		return fmt.Errorf("CMS: attribute contentType: %w", err)
	}
	if !value.ReadASN1ObjectIdentifier(&contentType) || !value.Empty() {
		return errors.New("CMS: attribute contentType: malformed")
	}
	if !contentType.Equal(sd.ContentType) {
		return fmt.Errorf("CMS: attribute contentType is %v, but the content's type is %v", contentType, sd.ContentType)
	}
	var messageDigest cryptobyte.String
	if value, err = signer.single(oidMessageDigest); err != nil {
		return fmt.Errorf("CMS: attribute messageDigest: %w", err)
	}
	if !value.ReadASN1(&messageDigest, cbasn1.OCTET_STRING) || !value.Empty() {
		return errors.New("CMS: attribute messageDigest: malformed")
	}
	if !bytes.Equal(messageDigest, digest) {
		return fmt.Errorf("CMS: the content's digest is %x, but %x was signed", digest, []byte(messageDigest))
	}

	// 2. The signature is over the attributes.
	message, err := signedOctets(signer.SignedAttributes)
	if err != nil {
		return fmt.Errorf("CMS: signed attributes: %w", err)
	}
	if err := signer.Algorithm.Verify(pub, message, signer.Signature); err != nil {
		return fmt.Errorf("CMS: %w", err)
	}
	return nil
}

// single returns the one value of a signed attribute that must stand there.
func (s *SignerInfo) single(oid asn1.ObjectIdentifier) (cryptobyte.String, error) {
	a := s.signedAttribute(oid)
	if a == nil {
		return nil, errors.New("missing")
	}
	if len(a.Values) != 1 {
		return nil, fmt.Errorf("has %d values, not 1", len(a.Values))
	}
	return a.Values[0], nil
}

// signedAttribute returns an attribute, or nil. Parse has checked that no type
// stands twice.
func (s *SignerInfo) signedAttribute(oid asn1.ObjectIdentifier) *Attribute {
	for i := range s.SignedAttributes {
		if s.SignedAttributes[i].Type.Equal(oid) {
			return &s.SignedAttributes[i]
		}
	}
	return nil
}

// SigningTime returns the time that the signer claims (RFC 5652, Section 11.3),
// in UTC, or the zero time if there is none. Nobody vouches for it.
func (s *SignerInfo) SigningTime() (time.Time, error) {
	var t time.Time
	if s.signedAttribute(oidSigningTime) == nil {
		return t, nil
	}
	value, err := s.single(oidSigningTime)
	if err != nil {
		return t, fmt.Errorf("CMS: attribute signingTime: %w", err)
	}
	der, ok := value, false
	switch {
	case value.PeekASN1Tag(cbasn1.UTCTime):
		ok = value.ReadASN1UTCTime(&t)
	case value.PeekASN1Tag(cbasn1.GeneralizedTime):
		ok = value.ReadASN1GeneralizedTime(&t)
	}
	if !ok {
		return time.Time{}, errors.New("CMS: attribute signingTime: malformed")
	}
	// cryptobyte also takes times without seconds, and local ones.
	if again, err := marshalTime(t); err != nil || !bytes.Equal(again, der) {
		return time.Time{}, fmt.Errorf("CMS: attribute signingTime: %x is not in the form of RFC 5652, Section 11.3", []byte(der))
	}
	return t.UTC(), nil
}

// Certificate returns the certificate in sd, in DER, that names itself the
// signer's. Whether it is trusted, and whether its key made the signature, is
// for the caller to find out.
func (sd *SignedData) Certificate(signer *SignerInfo) ([]byte, error) {
	for _, der := range sd.Certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue // another certificate's fault is not the signer's
		}
		if signer.names(certificate) {
			return der, nil
		}
	}
	return nil, fmt.Errorf("CMS: the certificate of %v is not in the message", signer)
}

// SignerOf returns the signer that names a certificate, given in DER, as its own.
func (sd *SignedData) SignerOf(der []byte) (*SignerInfo, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("CMS: the signer's certificate: %v", err)
	}
	for i := range sd.Signers {
		if sd.Signers[i].names(certificate) {
			return &sd.Signers[i], nil
		}
	}
	return nil, fmt.Errorf("CMS: none of %d signers is %q with serial %x", len(sd.Signers), certificate.Subject, certificate.SerialNumber)
}

// names reports whether the signer means this certificate.
func (s *SignerInfo) names(certificate *x509.Certificate) bool {
	if s.Issuer == nil {
		return bytes.Equal(s.SubjectKeyID, certificate.SubjectKeyId)
	}
	return bytes.Equal(s.Issuer, certificate.RawIssuer) && s.Serial.Cmp(certificate.SerialNumber) == 0
}

// String tells which certificate the signer means, for errors.
func (s *SignerInfo) String() string {
	if s.Issuer == nil {
		return fmt.Sprintf("the signer with key identifier %x", s.SubjectKeyID)
	}
	return fmt.Sprintf("the signer with serial %x", s.Serial)
}

// SignatureOID returns the OID that the message has for the signer's algorithm.
// PKCS#1 v1.5 goes by two: rsaEncryption (RFC 3370, Section 3.2), and the one
// that names the hash too (RFC 5754, Section 3.2), which the kernel does not know.
func (s *SignerInfo) SignatureOID() asn1.ObjectIdentifier {
	input := cryptobyte.String(s.signatureAlgorithm)
	var alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) {
		return nil // Parse has refused that
	}
	return oid
}
