package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// The algorithms of private keys, beside id-RSASSA-PSS, which package spki reads.
var (
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519       = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidP256          = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384          = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521          = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)

// Tags of the optional fields of OneAsymmetricKey and ECPrivateKey.
var (
	tag0          = cbasn1.Tag(0).ContextSpecific().Constructed()
	tag1          = cbasn1.Tag(1).ContextSpecific().Constructed()
	tag1Primitive = cbasn1.Tag(1).ContextSpecific()
)

var (
	errMalformed   = errors.New("malformed")
	errKeyMismatch = errors.New("the public key in it belongs to another private key")
)

// MarshalPKCS8 writes a private key as DER PrivateKeyInfo (RFC 5958, Section
// 2), with the same bytes as OpenSSL. It fails for a signer that does not hold
// its key in memory, such as one in a token.
func MarshalPKCS8(signer crypto.Signer) ([]byte, error) {
	switch key := signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		if _, err := spki.KeyTypeOf(key.Public()); err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		return x509.MarshalPKCS8PrivateKey(key)
	case *spki.PSSSigner:
		inner, ok := key.Signer.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("private key: a signer of type %T can't be exported", key.Signer)
		}
		if _, err := spki.MarshalPublicKey(key.Public()); err != nil { // checks key.Params
			return nil, fmt.Errorf("private key: %w", err)
		}
		return marshalPrivateKeyInfo(key.Public().(*spki.PSSPublicKey).AlgorithmIdentifier(), x509.MarshalPKCS1PrivateKey(inner))
	default:
		return nil, fmt.Errorf("private key: a signer of type %T can't be exported", signer)
	}
}

func marshalPrivateKeyInfo(algorithm, key []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(algorithm)
		b.AddASN1OctetString(key)
	})
	return b.Bytes()
}

// ParsePKCS8 reads a DER PrivateKeyInfo or OneAsymmetricKey (RFC 5958, Section
// 2) into a signer of the types that Generate makes. Attributes are skipped; a
// public key beside the private one must belong to it. It refuses trailing
// data, and RSA keys that have more than two primes, fail
// rsa.PrivateKey.Validate, or have a public key that spki.ParsePublicKey
// refuses. Weak keys from 512 bits on are read; what may sign is decided elsewhere.
func ParsePKCS8(der []byte) (crypto.Signer, error) {
	// 1. Take the structure apart.
	input := cryptobyte.String(der)
	var info, algorithm, key, attributes, public cryptobyte.String
	var version int
	var hasPublic bool
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1Integer(&version) ||
		!info.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!info.ReadOptionalASN1(&attributes, new(bool), tag0) ||
		!info.ReadOptionalASN1(&public, &hasPublic, tag1Primitive) || !info.Empty() {
		return nil, errors.New("private key: not a PKCS#8 PrivateKeyInfo")
	}
	if version != 0 && version != 1 {
		return nil, fmt.Errorf("private key: PKCS#8 version %d is not supported", version)
	}
	if hasPublic && version == 0 {
		return nil, errors.New("private key: PKCS#8 version 0 has no public key field")
	}

	// 2. Read the key.
	signer, err := parsePrivateKey(algorithm, key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}

	// 3. Compare the public key, which tells others what we sign with.
	if hasPublic {
		bits, err := publicBits(signer.Public())
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		// The field is an IMPLICIT BIT STRING, so its first octet counts unused bits.
		if !bytes.Equal(public, append([]byte{0}, bits...)) {
			return nil, fmt.Errorf("private key: %w", errKeyMismatch)
		}
	}
	return signer, nil
}

// parsePrivateKey reads the privateKey field of a PrivateKeyInfo by its
// privateKeyAlgorithm, a whole DER AlgorithmIdentifier.
func parsePrivateKey(algorithm, key []byte) (crypto.Signer, error) {
	params, isPSS, err := spki.ParsePSSAlgorithm(algorithm)
	if err != nil {
		return nil, err
	}
	if isPSS {
		inner, err := parseRSA(key)
		if err != nil {
			return nil, err
		}
		return &spki.PSSSigner{Signer: inner, Params: params}, nil
	}

	input := cryptobyte.String(algorithm)
	var fields cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&fields, cbasn1.SEQUENCE) || !fields.ReadASN1ObjectIdentifier(&oid) {
		return nil, errMalformed
	}
	switch {
	case oid.Equal(oidRSAEncryption):
		if !readNull(&fields) || !fields.Empty() {
			return nil, errors.New("RSA: the parameters are not NULL")
		}
		inner, err := parseRSA(key)
		if err != nil {
			return nil, err
		}
		return inner, nil
	case oid.Equal(oidECPublicKey):
		curve, err := readCurve(&fields)
		if err != nil || !fields.Empty() {
			return nil, errors.New("EC: the curve is not P-256, P-384 or P-521")
		}
		inner, err := parseEC(key, curve)
		if err != nil {
			return nil, err
		}
		return inner, nil
	case oid.Equal(oidEd25519):
		input, seed := cryptobyte.String(key), cryptobyte.String(nil)
		if !fields.Empty() || !input.ReadASN1(&seed, cbasn1.OCTET_STRING) || !input.Empty() || len(seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("Ed25519: %w", errMalformed)
		}
		return ed25519.NewKeyFromSeed(seed), nil
	default:
		return nil, fmt.Errorf("algorithm %v is not supported", oid)
	}
}

// parseRSA reads an RSAPrivateKey (RFC 8017, Appendix A.1.2) of two primes.
func parseRSA(der []byte) (*rsa.PrivateKey, error) {
	// Look at the size first: to validate a key of half a million bits takes minutes.
	input := cryptobyte.String(der)
	var fields, modulus cryptobyte.String
	var version int
	if !input.ReadASN1(&fields, cbasn1.SEQUENCE) || !input.Empty() ||
		!fields.ReadASN1Integer(&version) || !fields.ReadASN1(&modulus, cbasn1.INTEGER) {
		return nil, fmt.Errorf("RSA: %w", errMalformed)
	}
	if version != 0 {
		return nil, errors.New("RSA: a key of more than two primes is not supported")
	}
	if len(modulus) > spki.MaxRSABits/8+1 || len(der) > 6*spki.MaxRSABits/8 {
		return nil, fmt.Errorf("RSA: the modulus is longer than %d bits", spki.MaxRSABits)
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("RSA: %v", err)
	}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("RSA: %v", err)
	}
	// A key is of no use if others refuse its public half.
	public, err := spki.MarshalPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("RSA: %w", err)
	}
	if _, err := spki.ParsePublicKey(public); err != nil {
		return nil, fmt.Errorf("RSA: %w", err)
	}
	return key, nil
}

// parseEC reads an ECPrivateKey (RFC 5915, Section 3). curve is what stands
// around it, or nil when the structure stands alone and must name it itself.
func parseEC(der []byte, curve elliptic.Curve) (*ecdsa.PrivateKey, error) {
	input := cryptobyte.String(der)
	var fields, scalar, params, public cryptobyte.String
	var version int
	var hasParams, hasPublic bool
	if !input.ReadASN1(&fields, cbasn1.SEQUENCE) || !input.Empty() ||
		!fields.ReadASN1Integer(&version) || version != 1 ||
		!fields.ReadASN1(&scalar, cbasn1.OCTET_STRING) ||
		!fields.ReadOptionalASN1(&params, &hasParams, tag0) ||
		!fields.ReadOptionalASN1(&public, &hasPublic, tag1) || !fields.Empty() {
		return nil, fmt.Errorf("EC: %w", errMalformed)
	}
	if hasParams {
		named, err := readCurve(&params)
		if err != nil || !params.Empty() || curve != nil && named != curve {
			return nil, errors.New("EC: the curve is not P-256, P-384 or P-521, or it is named twice and differs")
		}
		curve = named
	}
	if curve == nil {
		return nil, errors.New("EC: the key names no curve")
	}
	// Old programs dropped leading zeros, against RFC 5915.
	size := (curve.Params().N.BitLen() + 7) / 8
	if len(scalar) > size {
		return nil, errors.New("EC: the private value is too long for its curve")
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, size-len(scalar)), scalar...))
	if err != nil {
		return nil, fmt.Errorf("EC: %v", err)
	}
	if hasPublic {
		want, err := publicBits(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("EC: %w", err)
		}
		var got asn1.BitString
		if !public.ReadASN1BitString(&got) || !public.Empty() || got.BitLength%8 != 0 {
			return nil, fmt.Errorf("EC: %w", errMalformed)
		}
		if !bytes.Equal(got.Bytes, want) {
			return nil, fmt.Errorf("EC: %w", errKeyMismatch)
		}
	}
	return key, nil
}

func readCurve(s *cryptobyte.String) (elliptic.Curve, error) {
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&oid) {
		return nil, errMalformed
	}
	switch {
	case oid.Equal(oidP256):
		return elliptic.P256(), nil
	case oid.Equal(oidP384):
		return elliptic.P384(), nil
	case oid.Equal(oidP521):
		return elliptic.P521(), nil
	default:
		return nil, fmt.Errorf("curve %v is not supported", oid)
	}
}

func readNull(s *cryptobyte.String) bool {
	var null cryptobyte.String
	return s.ReadASN1(&null, cbasn1.NULL) && null.Empty()
}

// publicBits returns the octets of the subjectPublicKey of a key.
func publicBits(pub crypto.PublicKey) ([]byte, error) {
	der, err := spki.MarshalPublicKey(pub)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var info cryptobyte.String
	var bits asn1.BitString
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1BitString(&bits) {
		return nil, errMalformed
	}
	return bits.Bytes, nil
}
