package spki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Scheme is a way to sign.
type Scheme int

// The signature schemes of the platform's consumers.
const (
	PKCS1v15 Scheme = iota + 1 // RSASSA-PKCS1-v1_5 (RFC 8017, Section 8.2)
	PSS                        // RSASSA-PSS (RFC 8017, Section 8.1), MGF1 with the same hash
	ECDSA                      // ECDSA with a DER signature (RFC 5758, Section 3.2)
	EdDSA                      // Ed25519 (RFC 8410), which hashes by itself
)

// SignatureAlgorithm is a scheme with its parameters. It is comparable.
type SignatureAlgorithm struct {
	Scheme     Scheme
	Hash       crypto.Hash // SHA256, SHA384 or SHA512; 0 for EdDSA
	SaltLength int         // PSS: octets of salt
}

// hashes lists the digests in use. SHA-1 is left out on purpose.
var hashes = []struct {
	hash                    crypto.Hash
	name                    string
	digest, pkcs1v15, ecdsa asn1.ObjectIdentifier
}{
	{crypto.SHA256, "sha256", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, "sha384", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, "sha512", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

var oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}

// ParseHash reads "sha256", "sha384" or "sha512".
func ParseHash(s string) (crypto.Hash, error) {
	for _, h := range hashes {
		if h.name == s {
			return h.hash, nil
		}
	}
	return 0, fmt.Errorf("hash %q is unknown: use sha256, sha384 or sha512", s)
}

// HashName returns the name that ParseHash reads, or "" for other hashes.
func HashName(hash crypto.Hash) string {
	for _, h := range hashes {
		if h.hash == hash {
			return h.name
		}
	}
	return ""
}

// HashOID returns the OID of a digest algorithm (RFC 5754, Section 2), or nil.
func HashOID(hash crypto.Hash) asn1.ObjectIdentifier {
	for _, h := range hashes {
		if h.hash == hash {
			return h.digest
		}
	}
	return nil
}

// HashByOID is the inverse of HashOID; it returns 0 for other OIDs.
func HashByOID(oid asn1.ObjectIdentifier) crypto.Hash {
	for _, h := range hashes {
		if h.digest.Equal(oid) {
			return h.hash
		}
	}
	return 0
}

// DefaultAlgorithm returns how a key of type t signs when nothing else is
// asked for: PKCS#1 v1.5 for rsaEncryption, PSS with a salt as long as the hash
// for id-RSASSA-PSS. For EC keys the hash is at least as strong as the curve.
// hash 0 takes SHA-256, or the curve's own.
func DefaultAlgorithm(t KeyType, hash crypto.Hash) (SignatureAlgorithm, error) {
	if hash == 0 {
		hash = map[string]crypto.Hash{"P-384": crypto.SHA384, "P-521": crypto.SHA512}[t.Curve]
	}
	if hash == 0 {
		hash = crypto.SHA256
	}
	switch t.Kind {
	case RSA:
		return SignatureAlgorithm{Scheme: PKCS1v15, Hash: hash}, nil
	case RSAPSS:
		return SignatureAlgorithm{Scheme: PSS, Hash: hash, SaltLength: hash.Size()}, nil
	case EC:
		return SignatureAlgorithm{Scheme: ECDSA, Hash: hash}, nil
	case Ed25519:
		return SignatureAlgorithm{Scheme: EdDSA}, nil
	default:
		return SignatureAlgorithm{}, fmt.Errorf("no signature algorithm for key type %v", t)
	}
}

// String names the algorithm for people, such as "RSASSA-PSS SHA-512 salt 64".
func (a SignatureAlgorithm) String() string {
	switch a.Scheme {
	case PKCS1v15:
		return "RSA PKCS#1 v1.5 " + a.Hash.String()
	case PSS:
		return fmt.Sprintf("RSASSA-PSS %v salt %d", a.Hash, a.SaltLength)
	case ECDSA:
		return "ECDSA " + a.Hash.String()
	case EdDSA:
		return "Ed25519"
	default:
		return fmt.Sprintf("unknown scheme %d", int(a.Scheme))
	}
}

// Marshal returns the DER AlgorithmIdentifier of the signature.
func (a SignatureAlgorithm) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	for _, h := range hashes {
		if h.hash != a.Hash {
			continue
		}
		switch a.Scheme {
		case PKCS1v15:
			addAlgorithm(&b, h.pkcs1v15, true)
			return b.Bytes()
		case ECDSA:
			addAlgorithm(&b, h.ecdsa, false)
			return b.Bytes()
		case PSS:
			key := PSSPublicKey{Params: &PSSParams{Hash: a.Hash, SaltLength: a.SaltLength}}
			if err := key.Params.check(); err != nil {
				return nil, fmt.Errorf("signature algorithm: %w", err)
			}
			return key.AlgorithmIdentifier(), nil
		}
	}
	if a.Scheme == EdDSA && a.Hash == 0 {
		addAlgorithm(&b, oidEd25519, false)
		return b.Bytes()
	}
	return nil, fmt.Errorf("signature algorithm %v has no identifier", a)
}

// ParseSignatureAlgorithm reads a DER AlgorithmIdentifier of a signature. It
// refuses SHA-1, and PSS whose mask hash is another than its message hash.
func ParseSignatureAlgorithm(der []byte) (SignatureAlgorithm, error) {
	if params, ok, err := ParsePSSAlgorithm(der); err != nil {
		return SignatureAlgorithm{}, fmt.Errorf("signature algorithm: %w", err)
	} else if ok {
		if params == nil {
			return SignatureAlgorithm{}, errors.New("signature algorithm: RSASSA-PSS without parameters")
		}
		return SignatureAlgorithm{Scheme: PSS, Hash: params.Hash, SaltLength: params.SaltLength}, nil
	}
	for _, h := range hashes {
		for _, a := range []SignatureAlgorithm{{Scheme: PKCS1v15, Hash: h.hash}, {Scheme: ECDSA, Hash: h.hash}} {
			if want, err := a.Marshal(); err == nil && bytes.Equal(der, want) {
				return a, nil
			}
		}
	}
	ed := SignatureAlgorithm{Scheme: EdDSA}
	if want, err := ed.Marshal(); err == nil && bytes.Equal(der, want) {
		return ed, nil
	}
	input := cryptobyte.String(der)
	var alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	if input.ReadASN1(&alg, cbasn1.SEQUENCE) && alg.ReadASN1ObjectIdentifier(&oid) {
		return SignatureAlgorithm{}, fmt.Errorf("signature algorithm: %v is not supported", oid)
	}
	return SignatureAlgorithm{}, errors.New("signature algorithm: not an AlgorithmIdentifier")
}

func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

// Fits reports, as an error, why a key can't make or verify signatures of this
// algorithm.
func (a SignatureAlgorithm) Fits(pub crypto.PublicKey) error {
	ok := false
	switch k := pub.(type) {
	case *rsa.PublicKey:
		ok = a.Scheme == PKCS1v15 || a.Scheme == PSS
	case *PSSPublicKey:
		ok = a.Scheme == PSS
		if ok && k.Params != nil && (k.Params.Hash != a.Hash || a.SaltLength < k.Params.SaltLength) {
			return fmt.Errorf("%v: the key allows only %v with a salt of at least %d", a, k.Params.Hash, k.Params.SaltLength)
		}
	case *ecdsa.PublicKey:
		ok = a.Scheme == ECDSA
	case ed25519.PublicKey:
		ok = a.Scheme == EdDSA
	}
	if !ok {
		t, err := KeyTypeOf(pub)
		if err != nil {
			return err
		}
		return fmt.Errorf("%v does not fit a key of type %v", a, t)
	}
	if a.Scheme == EdDSA && a.Hash != 0 || a.Scheme != EdDSA && HashName(a.Hash) == "" {
		return fmt.Errorf("%v: the hash is not supported", a)
	}
	// crypto/rsa takes a salt length of 0 for "whatever the signature says".
	if a.Scheme == PSS && a.SaltLength < 1 {
		return fmt.Errorf("%v: a salt of %d octets is not supported", a, a.SaltLength)
	}
	return nil
}

// Algorithms lists the signature algorithms that a public key fits, PSS with salts
// as long as the hash.
func Algorithms(pub crypto.PublicKey) []SignatureAlgorithm {
	all := []SignatureAlgorithm{{Scheme: EdDSA}}
	for _, h := range hashes {
		all = append(all, SignatureAlgorithm{Scheme: PKCS1v15, Hash: h.hash}, SignatureAlgorithm{Scheme: PSS, Hash: h.hash, SaltLength: h.hash.Size()},
			SignatureAlgorithm{Scheme: ECDSA, Hash: h.hash})
	}
	return slices.DeleteFunc(all, func(a SignatureAlgorithm) bool { return a.Fits(pub) != nil })
}

// ErrSignature is returned, wrapped, for a signature that does not verify.
var ErrSignature = errors.New("signature does not verify")

// Verify checks a signature over message. The error wraps ErrSignature when the
// key and the algorithm fit each other but the signature is not theirs.
func (a SignatureAlgorithm) Verify(pub crypto.PublicKey, message, signature []byte) error {
	if err := a.Fits(pub); err != nil {
		return err
	}
	if a.Scheme == EdDSA {
		if !ed25519.Verify(pub.(ed25519.PublicKey), message, signature) {
			return fmt.Errorf("%v: %w", a, ErrSignature)
		}
		return nil
	}
	h := a.Hash.New()
	h.Write(message)
	return a.VerifyDigest(pub, h.Sum(nil), signature)
}

// VerifyDigest is Verify for a message that is already hashed with a.Hash. It
// is not defined for EdDSA.
func (a SignatureAlgorithm) VerifyDigest(pub crypto.PublicKey, digest, signature []byte) error {
	if err := a.Fits(pub); err != nil {
		return err
	}
	// crypto/ecdsa cuts a digest to the size of the curve, so it takes any length.
	if a.Scheme != EdDSA && len(digest) != a.Hash.Size() {
		return fmt.Errorf("verifying %v: digest of %d octets", a, len(digest))
	}
	ok := false
	switch a.Scheme {
	case PKCS1v15:
		key, _ := RSAKey(pub)
		ok = rsa.VerifyPKCS1v15(key, a.Hash, digest, signature) == nil
	case PSS:
		key, _ := RSAKey(pub)
		ok = rsa.VerifyPSS(key, a.Hash, digest, signature, &rsa.PSSOptions{SaltLength: a.SaltLength}) == nil
	case ECDSA:
		ok = ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest, signature)
	default:
		return fmt.Errorf("%v can't verify a digest", a)
	}
	if !ok {
		return fmt.Errorf("%v: %w", a, ErrSignature)
	}
	return nil
}

// Sign signs message with a signer of any kind and verifies what came back: a
// token can fail, and a faulty RSA signature gives the key away.
func (a SignatureAlgorithm) Sign(signer crypto.Signer, message []byte) ([]byte, error) {
	if a.Scheme != EdDSA {
		if err := a.Fits(signer.Public()); err != nil {
			return nil, err
		}
		h := a.Hash.New()
		h.Write(message)
		return a.SignDigest(signer, h.Sum(nil))
	}
	if err := a.Fits(signer.Public()); err != nil {
		return nil, err
	}
	signature, err := signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing with %v: %w", a, err)
	}
	if err := a.Verify(signer.Public(), message, signature); err != nil {
		return nil, fmt.Errorf("the signer returned a bad signature: %w", err)
	}
	return signature, nil
}

// SignDigest is Sign for a message that is already hashed with a.Hash. It is
// not defined for EdDSA.
func (a SignatureAlgorithm) SignDigest(signer crypto.Signer, digest []byte) ([]byte, error) {
	if err := a.Fits(signer.Public()); err != nil {
		return nil, err
	}
	if a.Scheme == EdDSA {
		return nil, fmt.Errorf("%v can't sign a digest", a)
	}
	if len(digest) != a.Hash.Size() {
		return nil, fmt.Errorf("signing with %v: digest of %d octets", a, len(digest))
	}
	var opts crypto.SignerOpts = a.Hash
	if a.Scheme == PSS {
		opts = &rsa.PSSOptions{SaltLength: a.SaltLength, Hash: a.Hash}
	}
	signature, err := signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing with %v: %w", a, err)
	}
	if err := a.VerifyDigest(signer.Public(), digest, signature); err != nil {
		return nil, fmt.Errorf("the signer returned a bad signature: %w", err)
	}
	return signature, nil
}

// PSSSigner restricts an RSA signer, in a file or a token, to RSASSA-PSS. It
// implements crypto.Signer; its public key is a *PSSPublicKey.
type PSSSigner struct {
	Signer crypto.Signer // its public key is an *rsa.PublicKey
	Params *PSSParams    // nil: no restriction
}

// Public returns the *PSSPublicKey of the signer, or nil if Signer is not RSA.
func (s *PSSSigner) Public() crypto.PublicKey {
	key, ok := s.Signer.Public().(*rsa.PublicKey)
	if !ok {
		return nil
	}
	return &PSSPublicKey{Key: key, Params: s.Params}
}

// Sign makes a PSS signature; it refuses options that are not *rsa.PSSOptions,
// so that no caller gets PKCS#1 v1.5 out of a PSS key by accident, and those
// that Params do not allow. rsa.PSSSaltLengthAuto is refused where Params are
// set, since what it gives depends on the signer.
func (s *PSSSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		return nil, errors.New("an id-RSASSA-PSS key makes PSS signatures only")
	}
	if s.Params != nil {
		salt := pss.SaltLength
		if salt == rsa.PSSSaltLengthEqualsHash {
			salt = s.Params.Hash.Size()
		}
		a := SignatureAlgorithm{Scheme: PSS, Hash: pss.HashFunc(), SaltLength: salt}
		if err := a.Fits(s.Public()); err != nil {
			return nil, err
		}
	}
	return s.Signer.Sign(random, digest, opts)
}
