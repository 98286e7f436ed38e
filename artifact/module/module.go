// Package module signs Linux kernel modules, and verifies them as the kernel
// does (kernel/module/signing.c and crypto/asymmetric_keys/pkcs7_verify.c of
// Linux 6.1). For the same key and file, the octets are those of the kernel's
// scripts/sign-file.
//
// A signature is appended to the module: a PKCS #7 message, which names its
// signer by issuer and serial and has neither certificates nor attributes, and
// a trailer (include/linux/module_signature.h). The kernel takes SHA-256 with
// PKCS#1 v1.5 by an rsaEncryption key, and only from a signer whose very
// certificate is in a keyring: it builds no chain, and asks for no dates. Nor
// does this package.
//
// Modules may be compressed (.ko.gz, .ko.xz, .ko.zst): the signature is inside,
// where the kernel looks for it.
//
// Left out: the kernel's revocation list (.blacklist keyring), signers named by
// key identifier (sign-file -k), and other hashes than SHA-256.
package module

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"tmpki/cms"
	"tmpki/spki"
)

// MaxSize is the size, in octets, that a module may have, compressed or not.
const MaxSize = 1 << 30

// algorithm is the only one that the platform's kernel takes.
func algorithm() spki.SignatureAlgorithm {
	return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
}

// oidRSAEncryption is the name that the kernel knows for it.
func oidRSAEncryption() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
}

// Signed is a signed module, with what a ledger wants to know of it.
type Signed struct {
	File   []byte   // compressed as it came
	SHA256 [32]byte // of the module without signature and compression
	Size   int64    // of the same, in octets
}

// Sign signs a module, compressed or not, with the key of a certificate, and
// verifies what comes out. Signatures that are there already are replaced,
// because the kernel looks at the last one only.
//
// It refuses what the kernel would: files that are not modules, keys that are
// not rsaEncryption of 2048, 3072 or 4096 bits.
func Sign(file []byte, key crypto.Signer, certificate *x509.Certificate) (*Signed, error) {
	if err := checkKey(certificate); err != nil {
		return nil, err
	}
	return sign(file, key, certificate)
}

// sign is Sign for a certificate that is checked.
func sign(file []byte, key crypto.Signer, certificate *x509.Certificate) (*Signed, error) {
	// 1. What is to be signed.
	module, compression, err := Decompress(file)
	if err != nil {
		return nil, err
	}
	content, err := strip(module)
	if err != nil {
		return nil, err
	}
	if err := checkELF(content); err != nil {
		return nil, err
	}

	// 2. Sign it.
	digest := sha256.Sum256(content)
	signer := cms.Signer{Key: key, Certificate: certificate.Raw, Algorithm: algorithm()}
	message, err := cms.SignDigest(signer, digest[:], cms.Options{NoAttributes: true})
	if err != nil {
		return nil, err
	}
	signed := appendSignature(content, message)

	// 3. Read back what the kernel will read. The content is compared rather
	// than hashed again, and that the signature is the key's over this digest was
	// verified when it was made: both would cost much, and could tell no more.
	readBack, signature, err := Parse(signed)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(readBack, content) {
		return nil, errors.New("the signed module has another content")
	}
	named, err := signature.signer()
	if err != nil {
		return nil, err
	}
	if !names(named, certificate) {
		return nil, fmt.Errorf("the signature names %v, not %q", named, certificate.Subject)
	}
	out, err := Compress(signed, compression)
	if err != nil {
		return nil, err
	}
	return &Signed{File: out, SHA256: digest, Size: int64(len(content))}, nil
}

// Verify checks a module, compressed or not, as a kernel would that has the
// trusted certificates in its keyring, and returns the one that signed it. It
// looks at the last signature only, as the kernel does. The error wraps
// ErrUnsigned if there is none, and spki.ErrSignature if module or signature
// were altered.
func Verify(file []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	module, _, err := Decompress(file)
	if err != nil {
		return nil, err
	}
	content, signature, err := Parse(module)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(content)
	signer, err := signature.verify(digest[:], trusted)
	if err != nil {
		return nil, err
	}
	if err := checkELF(content); err != nil {
		return nil, err
	}
	return signer, nil
}

// oidData is id-data (RFC 5652, Section 4), plain octets.
var oidData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}

// signer returns the one signer of the message, if it has the form that the
// kernel takes.
func (s *Signature) signer() (*cms.SignerInfo, error) {
	if n := len(s.SignedData.Signers); n != 1 {
		return nil, fmt.Errorf("module signature: %d signers, not 1", n)
	}
	signer := &s.SignedData.Signers[0]
	switch {
	case s.SignedData.Content != nil:
		return nil, errors.New("module signature: it is not detached, but carries a content of its own")
	case !s.SignedData.ContentType.Equal(oidData):
		return nil, fmt.Errorf("module signature: it is over content of type %v, not id-data", s.SignedData.ContentType)
	case s.SignedData.Certificates != nil:
		return nil, fmt.Errorf("module signature: %d certificates are in the message; the kernel needs the signer's in its keyring", len(s.SignedData.Certificates))
	case signer.SignedAttributes != nil:
		return nil, errors.New("module signature: it has signed attributes, which the kernel refuses")
	case signer.UnsignedAttributes != nil:
		return nil, errors.New("module signature: it has unsigned attributes")
	case signer.Issuer == nil:
		return nil, fmt.Errorf("module signature: %v is not named by issuer and serial", signer)
	case signer.Algorithm != algorithm():
		return nil, fmt.Errorf("module signature: it is %v, but the kernel takes %v only", signer.Algorithm, algorithm())
	case !signer.SignatureOID().Equal(oidRSAEncryption()):
		return nil, fmt.Errorf("module signature: its algorithm is called %v, but the kernel knows rsaEncryption only", signer.SignatureOID())
	}
	return signer, nil
}

// verify checks the signature over a content with this SHA-256.
func (s *Signature) verify(digest []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	signer, err := s.signer()
	if err != nil {
		return nil, err
	}
	// Two certificates can have one name and serial, if not by one issuer;
	// either may be the one.
	err = fmt.Errorf("module signature: the certificate of %v is not among the %d trusted", signer, len(trusted))
	for _, certificate := range trusted {
		if !names(signer, certificate) {
			continue
		}
		if err = s.verifyBy(signer, certificate, digest); err == nil {
			return certificate, nil
		}
	}
	return nil, err
}

// names reports whether the signer means this certificate.
func names(signer *cms.SignerInfo, certificate *x509.Certificate) bool {
	return bytes.Equal(signer.Issuer, certificate.RawIssuer) && signer.Serial.Cmp(certificate.SerialNumber) == 0
}

// verifyBy checks the signature with the key of one certificate.
func (s *Signature) verifyBy(signer *cms.SignerInfo, certificate *x509.Certificate, digest []byte) error {
	if err := checkKey(certificate); err != nil {
		return err
	}
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return err
	}
	if err := s.SignedData.VerifyDigest(signer, pub, digest); err != nil {
		return fmt.Errorf("module signature by %q: %w", certificate.Subject, err)
	}
	return nil
}

// checkKey refuses keys that the kernel can't verify with, or that are too weak
// to be trusted with what runs in it.
func checkKey(certificate *x509.Certificate) error {
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	keyType, err := spki.KeyTypeOf(pub)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	if _, ok := pub.(*rsa.PublicKey); !ok {
		return fmt.Errorf("the key of %q is %v, but the kernel takes module signatures by rsaEncryption keys only", certificate.Subject, keyType)
	}
	switch keyType.Bits {
	case 2048, 3072, 4096:
		return nil
	default:
		return fmt.Errorf("the key of %q is %v, but must have 2048, 3072 or 4096 bits", certificate.Subject, keyType)
	}
}
