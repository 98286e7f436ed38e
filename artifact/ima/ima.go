// Package ima signs files for the Integrity Measurement Architecture of the
// Linux kernel, and verifies them as the kernel does: signatures of version 2
// over a file's content (struct signature_v2_hdr in
// security/integrity/integrity.h, security/integrity/digsig_asymmetric.c of
// Linux 6.1). For the same key and file, the octets are those of evmctl
// ima_sign.
//
// The signature goes into the extended attribute security.ima, or beside the
// file into FILE.sig, for a build that can't set attributes. The kernel finds
// the key by four octets of a certificate's subject key identifier, builds no
// chain and asks for no dates. Nor does this package.
//
// Left out: hashes and HMACs in place of signatures, EVM, version 3 (fs-verity),
// ECDSA, and other hashes than SHA-256.
package ima

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"

	"tmpki/spki"
)

// algorithm is the only one that we make: evmctl's default.
func algorithm() spki.SignatureAlgorithm {
	return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
}

// Signed is the signature of a file, with what a ledger wants to know of it.
type Signed struct {
	Signature []byte   // as it goes into security.ima, or FILE.sig
	SHA256    [32]byte // of the content
	Size      int64    // of the content, in octets
}

// Sign signs a file's content with the key of a certificate, and verifies what
// comes out. It refuses keys that are not rsaEncryption of 2048, 3072 or 4096
// bits, and what KeyID refuses. What CheckKeyring says of the certificate is for
// the caller to ask: it depends on the kernel.
func Sign(content io.Reader, key crypto.Signer, certificate *x509.Certificate) (*Signed, error) {
	// 1. Who signs.
	pub, err := publicKey(certificate)
	if err != nil {
		return nil, err
	}
	if !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("the certificate of %q does not belong to the signing key", certificate.Subject)
	}
	keyID, err := KeyID(certificate)
	if err != nil {
		return nil, err
	}

	// 2. Sign. What the key returns is verified over this digest at once, so
	// there is no need to do it again.
	digest, size, err := hash(content)
	if err != nil {
		return nil, err
	}
	octets, err := algorithm().SignDigest(key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := (&Signature{KeyID: keyID, Octets: octets}).Marshal()

	// 3. Read back what the kernel will read.
	if _, err := Parse(signature); err != nil {
		return nil, err
	}
	return &Signed{Signature: signature, SHA256: digest, Size: size}, nil
}

// Verify checks a file's signature as a kernel would that has the trusted
// certificates in its keyring .ima, and returns the one that signed. The error
// wraps spki.ErrSignature if content or signature were altered. Whether a newer
// kernel would let that certificate into the keyring, CheckKeyring tells.
func Verify(content io.Reader, signature []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	digest, _, err := hash(content)
	if err != nil {
		return nil, err
	}
	return VerifyDigest(digest, signature, trusted)
}

// VerifyDigest is Verify for a content whose SHA-256 is known.
func VerifyDigest(digest [32]byte, signature []byte, trusted []*x509.Certificate) (*x509.Certificate, error) {
	s, err := Parse(signature)
	if err != nil {
		return nil, err
	}

	// 1. Find the key, as request_asymmetric_key does. The certificates of one
	// key are as good as one. Of two keys with the same identifier the kernel
	// takes whichever it meets first, so that is no verdict.
	var signer *x509.Certificate
	var pub *rsa.PublicKey
	refused := fmt.Errorf("IMA signature: none of %d trusted certificates has key identifier %x", len(trusted), s.KeyID)
	for _, certificate := range trusted {
		if !bytes.HasSuffix(certificate.SubjectKeyId, s.KeyID[:]) {
			continue
		}
		if _, err := KeyID(certificate); err != nil {
			refused = err
			continue
		}
		candidate, err := publicKey(certificate)
		if err != nil {
			refused = err
			continue
		}
		if signer != nil && !pub.Equal(candidate) {
			return nil, fmt.Errorf("IMA signature: key identifier %x is that of %q and of %q, which have different keys", s.KeyID, signer.Subject, certificate.Subject)
		}
		if signer == nil {
			signer, pub = certificate, candidate
		}
	}
	if signer == nil {
		return nil, refused
	}

	// 2. Verify.
	if err := algorithm().VerifyDigest(pub, digest[:], s.Octets); err != nil {
		return nil, fmt.Errorf("IMA signature by %q: %w", signer.Subject, err)
	}
	return signer, nil
}

// hash returns the SHA-256 of a content and its size in octets.
func hash(content io.Reader) (digest [32]byte, size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, content); err != nil {
		return digest, 0, fmt.Errorf("hashing: %w", err)
	}
	return [32]byte(h.Sum(nil)), size, nil
}

// publicKey returns the certificate's key, if the kernel can verify with it and
// it is strong enough. evmctl would sign with an id-RSASSA-PSS key too, in a way
// that no kernel accepts.
func publicKey(certificate *x509.Certificate) (*rsa.PublicKey, error) {
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	keyType, err := spki.KeyTypeOf(pub)
	if err != nil {
		return nil, fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key of %q is %v, but IMA signatures are made by rsaEncryption keys only", certificate.Subject, keyType)
	}
	switch keyType.Bits {
	case 2048, 3072, 4096:
		return key, nil
	default:
		return nil, fmt.Errorf("the key of %q is %v, but must have 2048, 3072 or 4096 bits", certificate.Subject, keyType)
	}
}

// KeyID returns what names the certificate's key in a signature: the last four
// octets of its subject key identifier. That must be the SHA-1 of the key (RFC
// 5280, Section 4.2.1.2, method 1): the kernel looks at the certificate, but
// evmctl and others compute it from the key, and all must find the same.
func KeyID(certificate *x509.Certificate) ([4]byte, error) {
	want, err := spki.KeyID(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return [4]byte{}, fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	if len(certificate.SubjectKeyId) == 0 {
		return [4]byte{}, fmt.Errorf("the certificate of %q has no subject key identifier, by which the kernel finds the key", certificate.Subject)
	}
	if !bytes.Equal(certificate.SubjectKeyId, want) {
		return [4]byte{}, fmt.Errorf("the certificate of %q has subject key identifier %x, not the SHA-1 of its key, %x", certificate.Subject, certificate.SubjectKeyId, want)
	}
	return [4]byte(want[len(want)-4:]), nil
}

// CheckKeyring tells, as an error, why Linux 6.5 and later, if so configured,
// refuse the certificate in the keyring .ima (restrict_link_by_digsig in
// crypto/asymmetric_keys/restrict.c). Earlier kernels take it, so callers may
// only warn.
func CheckKeyring(certificate *x509.Certificate) error {
	switch {
	case certificate.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("the certificate of %q lacks key usage digitalSignature, so Linux 6.5 and later refuse it in .ima", certificate.Subject)
	case certificate.IsCA:
		return fmt.Errorf("the certificate of %q is a CA's, so Linux 6.5 and later refuse it in .ima", certificate.Subject)
	case certificate.KeyUsage&x509.KeyUsageCertSign != 0:
		return fmt.Errorf("the certificate of %q has key usage keyCertSign, so Linux 6.5 and later refuse it in .ima", certificate.Subject)
	default:
		return nil
	}
}
