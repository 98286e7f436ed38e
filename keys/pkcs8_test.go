package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"tmpki/spki"
)

func TestParsePKCS8Rejects(t *testing.T) {
	r, err := testRSA()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	var (
		version0 = []byte{2, 1, 0}
		version1 = []byte{2, 1, 1}
		null     = []byte{5, 0}
		pkcs1    = x509.MarshalPKCS1PrivateKey(r.(*rsa.PrivateKey))
		rsaOID   = mustASN1(t, oidRSAEncryption)
		rsaAlg   = tlv(0x30, rsaOID, null)
		pssOID   = mustASN1(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10})
		p256Alg  = tlv(0x30, mustASN1(t, oidECPublicKey), mustASN1(t, oidP256))
		p384Alg  = tlv(0x30, mustASN1(t, oidECPublicKey), mustASN1(t, oidP384))
		edAlg    = tlv(0x30, mustASN1(t, oidEd25519))
		seed     = make([]byte, ed25519.SeedSize)
		edKey    = tlv(4, tlv(4, seed))
		edPublic = ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		scalar   = tlv(4, mustScalar(t, ec))
	)
	point, err := publicBits(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	otherPoint := bytes.Clone(point)
	otherPoint[len(otherPoint)-1] ^= 1
	for _, tt := range []struct {
		name string
		der  []byte
		want string
	}{
		{"rsa", tlv(0x30, version0, rsaAlg, tlv(4, pkcs1)), ""},
		{"pss", tlv(0x30, version0, tlv(0x30, pssOID), tlv(4, pkcs1)), ""},
		{"ed25519", tlv(0x30, version0, edAlg, edKey), ""},
		{"ed25519 with its public key", tlv(0x30, version1, edAlg, edKey, tlv(0x81, []byte{0}, edPublic)), ""},
		{"attributes", tlv(0x30, version0, edAlg, edKey, tlv(0xa0, tlv(0x30))), ""},
		{"ec with no more than the scalar", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, scalar))), ""},
		{"ec with everything", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, scalar, tlv(0xa0, mustASN1(t, oidP256)), tlv(0xa1, tlv(3, []byte{0}, point))))), ""},

		{"empty", nil, "not a PKCS#8"},
		{"trailing data", append(tlv(0x30, version0, edAlg, edKey), 0), "not a PKCS#8"},
		{"unknown field", tlv(0x30, version0, edAlg, edKey, tlv(0xa2)), "not a PKCS#8"},
		{"negative length", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff}, "not a PKCS#8"},
		{"indefinite length", append(append([]byte{0x30, 0x80}, version0...), 0, 0), "not a PKCS#8"},
		{"version 2", tlv(0x30, []byte{2, 1, 2}, edAlg, edKey), "version 2"},
		{"version -1", tlv(0x30, []byte{2, 1, 0xff}, edAlg, edKey), "version -1"},
		{"public key in version 0", tlv(0x30, version0, edAlg, edKey, tlv(0x81, []byte{0}, edPublic)), "version 0"},
		{"another public key", tlv(0x30, version1, edAlg, edKey, tlv(0x81, []byte{0}, seed)), "belongs to another private key"},
		{"unknown algorithm", tlv(0x30, version0, tlv(0x30, mustASN1(t, oidP256)), edKey), "is not supported"},
		{"no algorithm", tlv(0x30, version0, tlv(0x30), edKey), "not an AlgorithmIdentifier"},

		{"rsa without NULL", tlv(0x30, version0, tlv(0x30, rsaOID), tlv(4, pkcs1)), "not NULL"},
		{"rsa with more than NULL", tlv(0x30, version0, tlv(0x30, rsaOID, null, null), tlv(4, pkcs1)), "not NULL"},
		{"rsa with a tail", tlv(0x30, version0, rsaAlg, tlv(4, pkcs1, null)), "RSA: malformed"},
		{"rsa cut", tlv(0x30, version0, rsaAlg, tlv(4, pkcs1[:len(pkcs1)-1])), "RSA: malformed"},
		{"rsa of three primes", tlv(0x30, version0, rsaAlg, tlv(4, tlv(0x30, version1, mustASN1(t, big.NewInt(15))))), "more than two primes"},
		{"rsa too large", tlv(0x30, version0, rsaAlg, tlv(4, hugeRSA(t))), "longer than 8192 bits"},
		{"rsa too small", tlv(0x30, version0, rsaAlg, tlv(4, tinyRSA(t))), "500 bits is outside 512 to 8192"},
		{"rsa changed", tlv(0x30, version0, rsaAlg, tlv(4, changed(pkcs1, 40))), "RSA: "},
		{"ec in rsa", tlv(0x30, version0, rsaAlg, tlv(4, tlv(0x30, version1, scalar))), "RSA: malformed"},

		{"pss with NULL", tlv(0x30, version0, tlv(0x30, pssOID, null), tlv(4, pkcs1)), "RSASSA-PSS parameters"},
		{"pss around ec", tlv(0x30, version0, tlv(0x30, pssOID), tlv(4, tlv(0x30, version1, scalar))), "RSA: malformed"},
		{"mask generation as the algorithm", tlv(0x30, version0, tlv(0x30, mustASN1(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8})), tlv(4, pkcs1)), "is not supported"},

		{"ed25519 with NULL", tlv(0x30, version0, tlv(0x30, mustASN1(t, oidEd25519), null), edKey), "Ed25519: malformed"},
		{"ed25519 short", tlv(0x30, version0, edAlg, tlv(4, tlv(4, seed[1:]))), "Ed25519: malformed"},
		{"ed25519 with a tail", tlv(0x30, version0, edAlg, tlv(4, tlv(4, seed), null)), "Ed25519: malformed"},

		{"ec version 0", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version0, scalar))), "EC: malformed"},
		{"ec with a tail", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, scalar), null)), "EC: malformed"},
		{"ec zero", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, tlv(4, make([]byte, 32))))), "EC: "},
		{"ec above the order", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, tlv(4, bytes.Repeat([]byte{0xff}, 32))))), "EC: "},
		{"ec too long", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, tlv(4, make([]byte, 33))))), "too long"},
		{"ec of another curve", tlv(0x30, version0, p384Alg, tlv(4, tlv(0x30, version1, scalar, tlv(0xa0, mustASN1(t, oidP256))))), "named twice and differs"},
		{"ec of another point", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, scalar, tlv(0xa1, tlv(3, []byte{0}, otherPoint))))), "belongs to another private key"},
		{"ec public key cut", tlv(0x30, version0, p256Alg, tlv(4, tlv(0x30, version1, scalar, tlv(0xa1, tlv(3, []byte{0}, point[:33]))))), "belongs to another private key"},
		{"ec without curve", tlv(0x30, version0, tlv(0x30, mustASN1(t, oidECPublicKey)), tlv(4, tlv(0x30, version1, scalar))), "the curve is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer, err := ParsePKCS8(tt.der)
			checkError(t, err, tt.want)
			if (signer == nil) != (err != nil) {
				t.Errorf("signer %v beside error %v", signer, err)
			}
		})
	}
}

func mustScalar(t testing.TB, signer crypto.Signer) []byte {
	t.Helper()
	scalar, err := signer.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return scalar
}

func changed(der []byte, at int) []byte {
	der = bytes.Clone(der)
	der[at] ^= 1
	return der
}

// hugeRSA is an RSAPrivateKey with a modulus of 8208 bits; to check that the
// numbers belong together would be a waste of time.
func hugeRSA(t testing.TB) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 8207)
	return tlv(0x30, []byte{2, 1, 0}, mustASN1(t, n), mustASN1(t, n), mustASN1(t, n))
}

// tinyRSA is a sound RSAPrivateKey of 500 bits.
func tinyRSA(t testing.TB) []byte {
	t.Helper()
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		p, err1 := rand.Prime(rand.Reader, 250)
		q, err2 := rand.Prime(rand.Reader, 250)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if d == nil || p.Cmp(q) == 0 {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		return x509.MarshalPKCS1PrivateKey(key)
	}
}

// TestShortScalar reads the EC keys of old programs, which drop leading zeros.
func TestShortScalar(t *testing.T) {
	key, err := ParsePKCS8(tlv(0x30, []byte{2, 1, 0}, tlv(0x30, mustASN1(t, oidECPublicKey), mustASN1(t, oidP256)),
		tlv(4, tlv(0x30, []byte{2, 1, 1}, tlv(4, []byte{7})))))
	if err != nil {
		t.Fatal(err)
	}
	if scalar := mustScalar(t, key); len(scalar) != 32 || scalar[31] != 7 {
		t.Errorf("scalar %x", scalar)
	}
}

// onToken is a signer that keeps its key to itself.
type onToken struct{ crypto.Signer }

func TestMarshalPKCS8Rejects(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := testRSA()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		signer crypto.Signer
		want   string
	}{
		{"nil", nil, "can't be exported"},
		{"token", onToken{r}, "can't be exported"},
		{"token with a PSS key", &spki.PSSSigner{Signer: onToken{r}}, "can't be exported"},
		{"P-224", p224, "P-224 is not supported"},
		{"PSS with SHA-1", &spki.PSSSigner{Signer: r, Params: &spki.PSSParams{Hash: crypto.SHA1, SaltLength: 20}}, "is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := MarshalPEM(tt.signer, nil)
			checkError(t, err, tt.want)
		})
	}
}
