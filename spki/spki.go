// Package spki reads and writes what crypto/x509 leaves out of public keys and
// signature algorithms: SubjectPublicKeyInfo (RFC 5280, Section 4.1.2.7) with
// id-RSASSA-PSS (RFC 4055, Section 3.1), and AlgorithmIdentifier (RFC 5280,
// Section 4.1.1.2) with RSASSA-PSS parameters of any salt length.
//
// A key's type tells what the key may do: a *PSSPublicKey never verifies a
// PKCS#1 v1.5 signature, and a *PSSSigner never makes one. Certificates stand
// in package ca, private keys in package keys.
package spki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRSABits bounds the modulus of an RSA key that is read, in bits: a larger
// one costs its verifier more than any signature is worth.
const MaxRSABits = 8192

// minRSABits is what is still read, so that weak keys can be shown and refused
// by name elsewhere.
const minRSABits = 512

var (
	oidRSASSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// PSSPublicKey is an RSA key that may verify RSASSA-PSS signatures only
// (id-RSASSA-PSS, RFC 4055, Section 3.1).
type PSSPublicKey struct {
	Key    *rsa.PublicKey
	Params *PSSParams // nil: no restriction on hash and salt
}

// Equal reports whether x is the same key with the same restrictions.
func (k *PSSPublicKey) Equal(x crypto.PublicKey) bool {
	o, ok := x.(*PSSPublicKey)
	if !ok || (k.Params == nil) != (o.Params == nil) {
		return false
	}
	return k.Key.Equal(o.Key) && (k.Params == nil || *k.Params == *o.Params)
}

// ParsePublicKey reads a DER SubjectPublicKeyInfo. It returns *rsa.PublicKey,
// *PSSPublicKey, *ecdsa.PublicKey (P-256, P-384, P-521) or ed25519.PublicKey,
// and an error for any other key, for what is not DER, for trailing data, and for
// RSA keys outside 512 to MaxRSABits bits or with an even modulus or exponent.
func ParsePublicKey(der []byte) (crypto.PublicKey, error) {
	input := cryptobyte.String(der)
	var info, alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	var bits asn1.BitString
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1(&alg, cbasn1.SEQUENCE) ||
		!alg.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1BitString(&bits) || !info.Empty() {
		return nil, errors.New("public key: not a SubjectPublicKeyInfo")
	}
	if bits.BitLength%8 != 0 {
		return nil, errors.New("public key: not a whole number of octets")
	}
	if !oid.Equal(oidRSASSAPSS) {
		pub, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, fmt.Errorf("public key: %v", err)
		}
		if err := checkPublicKey(pub); err != nil {
			return nil, err
		}
		// crypto/x509 passes over fields after the last one that it knows.
		if again, err := x509.MarshalPKIXPublicKey(pub); err != nil || !bytes.Equal(again, der) {
			return nil, errors.New("public key: not DER, or more fields than the algorithm has")
		}
		return pub, nil
	}
	key, err := x509.ParsePKCS1PublicKey(bits.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: %v", err)
	}
	pss := &PSSPublicKey{Key: key}
	if !alg.Empty() {
		if pss.Params, err = parsePSSParams(alg); err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
	}
	if err := checkPublicKey(pss); err != nil {
		return nil, err
	}
	if !bytes.Equal(x509.MarshalPKCS1PublicKey(key), bits.Bytes) {
		return nil, errors.New("public key: not DER, or more fields than an RSA key has")
	}
	return pss, nil
}

func checkPublicKey(pub crypto.PublicKey) error {
	t, err := KeyTypeOf(pub)
	if err != nil {
		return err
	}
	if t.Kind == RSA || t.Kind == RSAPSS {
		if t.Bits < minRSABits || t.Bits > MaxRSABits {
			return fmt.Errorf("public key: RSA modulus of %d bits is outside %d to %d", t.Bits, minRSABits, MaxRSABits)
		}
		// RFC 8017, Section 3.1: N is a product of odd primes, and e an odd
		// number of at least 3. crypto/rsa finds that out only when it verifies.
		key, _ := RSAKey(pub)
		if key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
			return errors.New("public key: the modulus or the exponent is not one of RSA")
		}
	}
	return nil
}

// MarshalPublicKey writes the DER SubjectPublicKeyInfo of a key of the types
// that ParsePublicKey returns.
func MarshalPublicKey(pub crypto.PublicKey) ([]byte, error) {
	pss, ok := pub.(*PSSPublicKey)
	if !ok {
		if _, err := KeyTypeOf(pub); err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(pub)
	}
	if err := pss.Params.check(); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(pss.AlgorithmIdentifier())
		b.AddASN1BitString(x509.MarshalPKCS1PublicKey(pss.Key))
	})
	return b.Bytes()
}

// AlgorithmIdentifier returns the DER AlgorithmIdentifier of the key, as it
// stands in SubjectPublicKeyInfo and in PKCS#8. It panics if Params are none
// that ParsePSSAlgorithm could have returned.
func (k *PSSPublicKey) AlgorithmIdentifier() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidRSASSAPSS)
		if k.Params != nil {
			k.Params.marshal(b)
		}
	})
	return b.BytesOrPanic()
}

// ParsePSSAlgorithm reads the DER AlgorithmIdentifier of an id-RSASSA-PSS key.
// It returns nil parameters for an unrestricted key, and ok == false when der
// names another algorithm.
func ParsePSSAlgorithm(der []byte) (params *PSSParams, ok bool, err error) {
	input := cryptobyte.String(der)
	var alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&alg, cbasn1.SEQUENCE) || !input.Empty() || !alg.ReadASN1ObjectIdentifier(&oid) {
		return nil, false, errors.New("not an AlgorithmIdentifier")
	}
	if !oid.Equal(oidRSASSAPSS) {
		return nil, false, nil
	}
	if alg.Empty() {
		return nil, true, nil
	}
	params, err = parsePSSParams(alg)
	return params, true, err
}

// KeyID returns the 20-octet key identifier of a DER SubjectPublicKeyInfo: SHA-1
// over the bits of the key (RFC 5280, Section 4.2.1.2, method 1). The kernel's
// IMA finds its keys by the last four octets of exactly this form.
func KeyID(spkiDER []byte) ([]byte, error) {
	input := cryptobyte.String(spkiDER)
	var info cryptobyte.String
	var bits asn1.BitString
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1BitString(&bits) {
		return nil, errors.New("key identifier: not a SubjectPublicKeyInfo")
	}
	sum := sha1.Sum(bits.Bytes)
	return sum[:], nil
}

// RSAKey returns the RSA key inside pub, whether rsaEncryption or id-RSASSA-PSS.
func RSAKey(pub crypto.PublicKey) (*rsa.PublicKey, bool) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return k, true
	case *PSSPublicKey:
		return k.Key, true
	default:
		return nil, false
	}
}

// Equal reports whether two public keys are the same key of the same type.
func Equal(a, b crypto.PublicKey) bool {
	switch k := a.(type) {
	case *rsa.PublicKey:
		return k.Equal(b)
	case *PSSPublicKey:
		return k.Equal(b)
	case *ecdsa.PublicKey:
		return k.Equal(b)
	case ed25519.PublicKey:
		return k.Equal(b)
	default:
		return false
	}
}
