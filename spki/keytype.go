package spki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"strconv"
	"strings"
)

// Kind is a family of keys.
type Kind int

// The kinds of keys that the platform's consumers can meet.
const (
	RSA     Kind = iota + 1 // rsaEncryption (RFC 8017)
	RSAPSS                  // id-RSASSA-PSS (RFC 4055)
	EC                      // id-ecPublicKey on a NIST curve (RFC 5480)
	Ed25519                 // id-Ed25519 (RFC 8410)
)

// KeyType is an algorithm with its size, such as rsa-pss:4096. It is
// comparable; its zero value is no key type.
type KeyType struct {
	Kind  Kind
	Bits  int    // RSA and RSAPSS: modulus length in bits
	Curve string // EC: P-256, P-384 or P-521
}

// ParseKeyType reads "rsa:N", "rsa-pss:N" (N: 2048, 3072, 4096), "ec:CURVE"
// (P-256, P-384, P-521, or OpenSSL's names of them) or "ed25519".
func ParseKeyType(s string) (KeyType, error) {
	name, arg, hasArg := strings.Cut(s, ":")
	switch name {
	case "rsa", "rsa-pss":
		bits, err := strconv.Atoi(arg)
		if err != nil || strconv.Itoa(bits) != arg || (bits != 2048 && bits != 3072 && bits != 4096) {
			return KeyType{}, fmt.Errorf("key type %q: the size must be 2048, 3072 or 4096", s)
		}
		if name == "rsa-pss" {
			return KeyType{Kind: RSAPSS, Bits: bits}, nil
		}
		return KeyType{Kind: RSA, Bits: bits}, nil
	case "ec":
		curves := map[string]string{
			"P-256": "P-256", "secp256r1": "P-256", "prime256v1": "P-256",
			"P-384": "P-384", "secp384r1": "P-384",
			"P-521": "P-521", "secp521r1": "P-521",
		}
		curve, ok := curves[arg]
		if !ok {
			return KeyType{}, fmt.Errorf("key type %q: the curve must be P-256, P-384 or P-521", s)
		}
		return KeyType{Kind: EC, Curve: curve}, nil
	case "ed25519":
		if hasArg {
			return KeyType{}, fmt.Errorf("key type %q: ed25519 takes no size", s)
		}
		return KeyType{Kind: Ed25519}, nil
	default:
		return KeyType{}, fmt.Errorf("key type %q is unknown: use rsa:N, rsa-pss:N, ec:CURVE or ed25519", s)
	}
}

// String returns the form that ParseKeyType reads.
func (t KeyType) String() string {
	switch t.Kind {
	case RSA:
		return fmt.Sprintf("rsa:%d", t.Bits)
	case RSAPSS:
		return fmt.Sprintf("rsa-pss:%d", t.Bits)
	case EC:
		return "ec:" + t.Curve
	case Ed25519:
		return "ed25519"
	default:
		return "none"
	}
}

// KeyTypeOf returns the type of a public key, or an error for keys that this
// program can't use. The size of an RSA key is what it is, not only what
// ParseKeyType allows.
func KeyTypeOf(pub crypto.PublicKey) (KeyType, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return KeyType{Kind: RSA, Bits: k.N.BitLen()}, nil
	case *PSSPublicKey:
		return KeyType{Kind: RSAPSS, Bits: k.Key.N.BitLen()}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return KeyType{Kind: EC, Curve: k.Curve.Params().Name}, nil
		}
		return KeyType{}, fmt.Errorf("public key: curve %s is not supported", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return KeyType{Kind: Ed25519}, nil
	default:
		return KeyType{}, fmt.Errorf("public key: type %T is not supported", pub)
	}
}
