package keys

import (
	"crypto"
	"crypto/pbkdf2"
	_ "crypto/sha1"   // HMAC-SHA-1, the default PRF of PBKDF2
	_ "crypto/sha256" // HMAC-SHA-224, HMAC-SHA-256
	_ "crypto/sha512" // HMAC-SHA-384, HMAC-SHA-512
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// How keys are written, and what is still read: a file must not be able to
// occupy the reader for hours, or take its memory.
const (
	saltSize       = 16      // octets of a new salt
	iterations     = 600_000 // of PBKDF2-HMAC-SHA256 for a new key (OWASP's figure of 2023)
	maxSaltSize    = 1024    // octets
	maxIterations  = 10_000_000
	maxScryptBytes = 256 << 20 // memory: 128·N·r octets (RFC 7914, Section 2)
	maxScryptWork  = 1 << 30   // time: 128·N·r·p octets to go through
)

var (
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// prfs are the pseudorandom functions of PBKDF2 (RFC 8018, Appendix B.1).
var prfs = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}},
	{crypto.SHA224, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}},
	{crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}},
	{crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}},
	{crypto.SHA512, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}},
}

// kdf is a key derivation function with all of its parameters: PBKDF2 (RFC
// 8018, Section 5.2) if prf is set, else scrypt (RFC 7914). It is comparable,
// so that derived keys can be remembered by it.
type kdf struct {
	salt      string
	keyLength int // octets

	prf        crypto.Hash
	iterations int

	n, r, p int
}

func (k kdf) String() string {
	if k.prf != 0 {
		return fmt.Sprintf("PBKDF2-HMAC-%v with %d iterations", k.prf, k.iterations)
	}
	return fmt.Sprintf("scrypt with N=%d, r=%d, p=%d", k.n, k.r, k.p)
}

func (k kdf) derive(secret []byte) ([]byte, error) {
	if k.prf != 0 {
		return pbkdf2.Key(k.prf.New, string(secret), []byte(k.salt), k.iterations, k.keyLength)
	}
	return scrypt.Key(secret, []byte(k.salt), k.n, k.r, k.p, k.keyLength)
}

// marshal writes the keyDerivationFunc of PBES2-params; only PBKDF2 is written.
func (k kdf) marshal(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPBKDF2)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString([]byte(k.salt))
			b.AddASN1Int64(int64(k.iterations))
			for _, prf := range prfs {
				if prf.hash == k.prf {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(prf.oid)
						b.AddASN1NULL()
					})
				}
			}
		})
	})
}

// parseKDF reads the content of a keyDerivationFunc AlgorithmIdentifier, for a
// cipher whose key has keyLength octets.
func parseKDF(algorithm cryptobyte.String, keyLength int) (kdf, error) {
	var oid asn1.ObjectIdentifier
	var params cryptobyte.String
	if !algorithm.ReadASN1ObjectIdentifier(&oid) || !algorithm.ReadASN1(&params, cbasn1.SEQUENCE) || !algorithm.Empty() {
		return kdf{}, fmt.Errorf("key derivation: %w", errMalformed)
	}
	switch {
	case oid.Equal(oidPBKDF2):
		return parsePBKDF2(params, keyLength)
	case oid.Equal(oidScrypt):
		return parseScrypt(params, keyLength)
	default:
		return kdf{}, fmt.Errorf("key derivation %v is not supported", oid)
	}
}

// parsePBKDF2 reads PBKDF2-params (RFC 8018, Appendix A.2).
func parsePBKDF2(params cryptobyte.String, keyLength int) (kdf, error) {
	k := kdf{keyLength: keyLength, prf: crypto.SHA1}
	var salt cryptobyte.String
	if !params.ReadASN1(&salt, cbasn1.OCTET_STRING) || !params.ReadASN1Integer(&k.iterations) || !readKeyLength(&params, keyLength) {
		return kdf{}, fmt.Errorf("PBKDF2: %w", errMalformed)
	}
	if !params.Empty() {
		var prf cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !params.ReadASN1(&prf, cbasn1.SEQUENCE) || !params.Empty() ||
			!prf.ReadASN1ObjectIdentifier(&oid) || !readNull(&prf) || !prf.Empty() {
			return kdf{}, fmt.Errorf("PBKDF2: %w", errMalformed)
		}
		k.prf = 0
		for _, known := range prfs {
			if known.oid.Equal(oid) {
				k.prf = known.hash
			}
		}
		if k.prf == 0 {
			return kdf{}, fmt.Errorf("PBKDF2: PRF %v is not supported", oid)
		}
	}
	if k.iterations < 1 || k.iterations > maxIterations {
		return kdf{}, fmt.Errorf("PBKDF2: %d iterations are outside 1 to %d", k.iterations, maxIterations)
	}
	return k.withSalt(salt)
}

// parseScrypt reads scrypt-params (RFC 7914, Section 7).
func parseScrypt(params cryptobyte.String, keyLength int) (kdf, error) {
	k := kdf{keyLength: keyLength}
	var salt cryptobyte.String
	if !params.ReadASN1(&salt, cbasn1.OCTET_STRING) ||
		!params.ReadASN1Integer(&k.n) || !params.ReadASN1Integer(&k.r) || !params.ReadASN1Integer(&k.p) ||
		!readKeyLength(&params, keyLength) || !params.Empty() {
		return kdf{}, fmt.Errorf("scrypt: %w", errMalformed)
	}
	if k.n < 2 || k.n&(k.n-1) != 0 || k.r < 1 || k.p < 1 {
		return kdf{}, fmt.Errorf("%v is not defined: N must be a power of two, r and p positive", k)
	}
	// Divide, since the products can overflow.
	if k.n > maxScryptBytes/128/k.r {
		return kdf{}, fmt.Errorf("%v takes more than %d MiB", k, maxScryptBytes>>20)
	}
	if k.p > maxScryptWork/128/k.n/k.r {
		return kdf{}, fmt.Errorf("%v takes too long", k)
	}
	return k.withSalt(salt)
}

func (k kdf) withSalt(salt []byte) (kdf, error) {
	if len(salt) < 1 || len(salt) > maxSaltSize {
		return kdf{}, fmt.Errorf("%v: a salt of %d octets is outside 1 to %d", k, len(salt), maxSaltSize)
	}
	k.salt = string(salt)
	return k, nil
}

// readKeyLength reads the optional keyLength, which must be that of the cipher.
func readKeyLength(params *cryptobyte.String, want int) bool {
	if !params.PeekASN1Tag(cbasn1.INTEGER) {
		return true
	}
	var got int
	return params.ReadASN1Integer(&got) && got == want
}
