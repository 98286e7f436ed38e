package spki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"tmpki/spki"
)

// tlv writes one DER element with up to 65535 octets of content.
func tlv(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

func oid(t testing.TB, arcs ...int) []byte {
	t.Helper()
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

const seq = 0x30

var null = []byte{5, 0}

// pssParts are the parts of an id-RSASSA-PSS AlgorithmIdentifier; each row of a
// table breaks one.
type pssParts struct {
	oid, hash, mask, salt, trailer, tail []byte
}

func goodPSS(t testing.TB) pssParts {
	sha256 := tlv(seq, oid(t, 2, 16, 840, 1, 101, 3, 4, 2, 1), null)
	return pssParts{
		oid:  oid(t, 1, 2, 840, 113549, 1, 1, 10),
		hash: tlv(0xa0, sha256),
		mask: tlv(0xa1, tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 8), sha256)),
		salt: tlv(0xa2, []byte{2, 1, 32}),
	}
}

func (p pssParts) der() []byte {
	return tlv(seq, p.oid, tlv(seq, p.hash, p.mask, p.salt, p.trailer, p.tail))
}

func TestParsePSSParams(t *testing.T) {
	sha1Alg := tlv(seq, oid(t, 1, 3, 14, 3, 2, 26), null)
	sha256Alg := tlv(seq, oid(t, 2, 16, 840, 1, 101, 3, 4, 2, 1), null)
	sha256Bare := tlv(seq, oid(t, 2, 16, 840, 1, 101, 3, 4, 2, 1))
	sha384Alg := tlv(seq, oid(t, 2, 16, 840, 1, 101, 3, 4, 2, 2), null)
	mgf1 := oid(t, 1, 2, 840, 113549, 1, 1, 8)
	for _, tt := range []struct {
		name  string
		alter func(*pssParts)
		want  string // part of the error, or "" for none
	}{
		{"as it should be", func(p *pssParts) {}, ""},
		{"hash parameters left out", func(p *pssParts) { p.hash, p.mask = tlv(0xa0, sha256Bare), tlv(0xa1, tlv(seq, mgf1, sha256Bare)) }, ""},
		{"trailer 1", func(p *pssParts) { p.trailer = tlv(0xa3, []byte{2, 1, 1}) }, ""},
		{"default salt", func(p *pssParts) { p.salt = nil }, ""},
		{"salt 0", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 1, 0}) }, ""},
		{"salt 990", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 2, 0x03, 0xde}) }, ""},
		{"salt 991", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 2, 0x03, 0xdf}) }, "salt length is out of range"},
		{"salt -1", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 1, 0xff}) }, "salt length is out of range"},
		{"salt of 9 octets", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0}) }, "salt length is out of range"},
		{"salt padded", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 2, 0, 32}) }, "salt length is out of range"},
		{"salt with a tail", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 1, 32, 5, 0}) }, "salt length is out of range"},
		{"salt 20 spelled out", func(p *pssParts) { p.salt = tlv(0xa2, []byte{2, 1, 20}) }, "not DER"},
		{"trailer 2", func(p *pssParts) { p.trailer = tlv(0xa3, []byte{2, 1, 2}) }, "trailer field"},
		{"no hash", func(p *pssParts) { p.hash = nil }, "SHA-1 (the default)"},
		{"no mask", func(p *pssParts) { p.mask = nil }, "SHA-1 (the default)"},
		{"SHA-1", func(p *pssParts) { p.hash = tlv(0xa0, sha1Alg) }, "message hash is not supported"},
		{"hash with a tail", func(p *pssParts) { p.hash = tlv(0xa0, sha256Alg, null) }, "message hash is not supported"},
		{"hash with parameters", func(p *pssParts) {
			p.hash = tlv(0xa0, tlv(seq, oid(t, 2, 16, 840, 1, 101, 3, 4, 2, 1), []byte{2, 1, 1}))
		}, "message hash is not supported"},
		{"mask SHA-1", func(p *pssParts) { p.mask = tlv(0xa1, tlv(seq, mgf1, sha1Alg)) }, "MGF1 has another hash"},
		{"mask SHA-384", func(p *pssParts) { p.mask = tlv(0xa1, tlv(seq, mgf1, sha384Alg)) }, "MGF1 has another hash"},
		{"mask not MGF1", func(p *pssParts) { p.mask = tlv(0xa1, tlv(seq, p.oid, sha256Alg)) }, "not MGF1"},
		{"mask with a tail", func(p *pssParts) { p.mask = tlv(0xa1, tlv(seq, mgf1, sha256Alg), null) }, "not MGF1"},
		{"unknown field", func(p *pssParts) { p.tail = tlv(0xa4, []byte{2, 1, 1}) }, "malformed"},
		{"fields out of order", func(p *pssParts) { p.hash, p.mask = p.mask, p.hash }, "malformed"},
		{"hash twice", func(p *pssParts) { p.tail = p.hash }, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parts := goodPSS(t)
			tt.alter(&parts)
			params, ok, err := spki.ParsePSSAlgorithm(parts.der())
			checkError(t, err, tt.want)
			if !ok {
				t.Error("not seen as id-RSASSA-PSS")
			}
			if err == nil {
				a, err := spki.ParseSignatureAlgorithm(parts.der())
				if err != nil || a.Scheme != spki.PSS || a.Hash != params.Hash || a.SaltLength != params.SaltLength {
					t.Errorf("ParseSignatureAlgorithm = %v, %v", a, err)
				}
			}
		})
	}
	if _, _, err := spki.ParsePSSAlgorithm(append(goodPSS(t).der(), 0)); err == nil {
		t.Error("trailing data passes")
	}
	if _, _, err := spki.ParsePSSAlgorithm(tlv(seq, goodPSS(t).oid, null)); err == nil {
		t.Error("NULL parameters pass")
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one about %q", err, want)
	}
}

func TestSignatureAlgorithmRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		alg spki.SignatureAlgorithm
		hex string // "" where only the round trip counts
	}{
		{spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, "300d06092a864886f70d01010b0500"},
		{spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}, "300d06092a864886f70d01010d0500"},
		{spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA384}, "300a06082a8648ce3d040303"},
		{spki.SignatureAlgorithm{Scheme: spki.EdDSA}, "300506032b6570"},
		{spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}, "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"},
		{spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA384, SaltLength: 20}, ""},
		{spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 446}, ""},
	} {
		der, err := tt.alg.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if tt.hex != "" && hex.EncodeToString(der) != tt.hex {
			t.Errorf("%v: %x, want %s", tt.alg, der, tt.hex)
		}
		if again, err := spki.ParseSignatureAlgorithm(der); err != nil || again != tt.alg {
			t.Errorf("%v comes back as %v, %v", tt.alg, again, err)
		}
	}
}

func TestRejectedSignatureAlgorithms(t *testing.T) {
	for _, tt := range []struct{ name, hex, want string }{
		{"empty", "", "not an AlgorithmIdentifier"},
		{"SHA-1 with RSA", "300d06092a864886f70d0101050500", "1.2.840.113549.1.1.5 is not supported"},
		{"MD5 with RSA", "300d06092a864886f70d0101040500", "is not supported"},
		{"ECDSA with SHA-1", "300906072a8648ce3d0401", "is not supported"},
		{"ECDSA with NULL", "300c06082a8648ce3d0403020500", "is not supported"},
		{"Ed25519 with NULL", "300706032b65700500", "is not supported"},
		{"PSS without parameters", "300b06092a864886f70d01010a", "without parameters"},
		{"trailing data", "300506032b657000", "not an AlgorithmIdentifier"},
		{"long length", "30810506032b6570", "not an AlgorithmIdentifier"},
		{"indefinite length", "308006032b65700000", "not an AlgorithmIdentifier"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			der, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			_, err = spki.ParseSignatureAlgorithm(der)
			checkError(t, err, tt.want)
		})
	}
	// What can't be parsed can't be written either.
	for _, a := range []spki.SignatureAlgorithm{
		{},
		{Scheme: spki.PKCS1v15, Hash: crypto.SHA1},
		{Scheme: spki.PSS, Hash: crypto.SHA1, SaltLength: 20},
		{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: -1},
		{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 991},
		{Scheme: spki.EdDSA, Hash: crypto.SHA512},
	} {
		if der, err := a.Marshal(); err == nil {
			t.Errorf("%v is written as %x", a, der)
		}
	}
}

// publicKey writes a SubjectPublicKeyInfo around an RSA key.
func publicKey(t testing.TB, algorithm []byte, n *big.Int, e int64, extra ...[]byte) []byte {
	t.Helper()
	number := func(x *big.Int) []byte {
		der, err := asn1.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key := tlv(seq, append([][]byte{number(n), number(big.NewInt(e))}, extra...)...)
	return tlv(seq, algorithm, tlv(3, []byte{0}, key))
}

func modulus(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1)
}

func TestRejectedPublicKeys(t *testing.T) {
	rsaAlg := tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 1), null)
	pssAlg := tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 10))
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224DER, err := x509.MarshalPKIXPublicKey(&p224.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ed := tlv(seq, tlv(seq, oid(t, 1, 3, 101, 112)), tlv(3, make([]byte, 33)))
	good := publicKey(t, pssAlg, modulus(2048), 65537)
	if _, err := spki.ParsePublicKey(good); err != nil {
		t.Fatal(err)
	}
	even := new(big.Int).Lsh(modulus(2047), 1)
	for _, tt := range []struct {
		name string
		der  []byte
		want string
	}{
		{"empty", nil, "not a SubjectPublicKeyInfo"},
		{"trailing data", append(bytes.Clone(good), 0), "not a SubjectPublicKeyInfo"},
		{"truncated", good[:len(good)-1], "not a SubjectPublicKeyInfo"},
		{"third field", tlv(seq, pssAlg, tlv(3, []byte{0, 1}), null), "not a SubjectPublicKeyInfo"},
		{"unused bits", tlv(seq, rsaAlg, tlv(3, []byte{4, 0x10})), "whole number of octets"},
		{"bits that should be unused", tlv(seq, rsaAlg, tlv(3, []byte{4, 0x1f})), "not a SubjectPublicKeyInfo"},
		{"no RSA key within", tlv(seq, pssAlg, tlv(3, []byte{0, 5, 0})), "public key: "},
		{"rsa field after the exponent", publicKey(t, rsaAlg, modulus(2048), 65537, null), "not DER"},
		{"pss field after the exponent", publicKey(t, pssAlg, modulus(2048), 65537, null), "not DER"},
		{"rsa without NULL", publicKey(t, tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 1)), modulus(2048), 65537), "public key: "},
		{"rsa field after NULL", publicKey(t, tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 1), null, null), modulus(2048), 65537), "not DER"},
		{"pss with NULL", publicKey(t, tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 10), null), modulus(2048), 65537), "malformed"},
		{"ed25519 with NULL", tlv(seq, tlv(seq, oid(t, 1, 3, 101, 112), null), tlv(3, make([]byte, 33))), "public key: "},
		{"ed25519 short", tlv(seq, tlv(seq, oid(t, 1, 3, 101, 112)), tlv(3, make([]byte, 32))), "public key: "},
		{"ed25519 trailing", append(ed, 1), "not a SubjectPublicKeyInfo"},
		{"504 bits", publicKey(t, rsaAlg, modulus(504), 65537), "504 bits is outside 512 to 8192"},
		{"8193 bits", publicKey(t, pssAlg, modulus(8193), 65537), "8193 bits is outside 512 to 8192"},
		{"negative modulus", publicKey(t, rsaAlg, big.NewInt(-5), 65537), "public key: "},
		{"even modulus", publicKey(t, rsaAlg, even, 65537), "not one of RSA"},
		{"exponent 1", publicKey(t, pssAlg, modulus(2048), 1), "not one of RSA"},
		{"exponent 65536", publicKey(t, rsaAlg, modulus(2048), 65536), "not one of RSA"},
		{"exponent -3", publicKey(t, rsaAlg, modulus(2048), -3), "public key: "},
		{"P-224", p224DER, "P-224 is not supported"},
		{"X25519", tlv(seq, tlv(seq, oid(t, 1, 3, 101, 110)), tlv(3, make([]byte, 33))), "not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pub, err := spki.ParsePublicKey(tt.der)
			checkError(t, err, tt.want)
			if pub != nil {
				t.Errorf("returned %T with the error", pub)
			}
		})
	}
}

// TestUnwritablePublicKeys checks that parameters that we would not read are an
// error when written, not a panic.
func TestUnwritablePublicKeys(t *testing.T) {
	key := &rsa.PublicKey{N: modulus(2048), E: 65537}
	for _, params := range []*spki.PSSParams{{}, {Hash: crypto.SHA1, SaltLength: 20}, {Hash: crypto.SHA256, SaltLength: -1}, {Hash: crypto.SHA256, SaltLength: 1000}} {
		if der, err := spki.MarshalPublicKey(&spki.PSSPublicKey{Key: key, Params: params}); err == nil {
			t.Errorf("%v is written as %x", params, der)
		}
	}
	if _, err := spki.MarshalPublicKey("no key"); err == nil {
		t.Error("a string is written as a key")
	}
}

// TestPSSKeyIsForPSSOnly is the promise of the package.
func TestPSSKeyIsForPSSOnly(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	message, v15 := []byte("m"), spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
	signature, err := v15.Sign(rsaKey, message)
	if err != nil {
		t.Fatal(err)
	}
	if err := v15.Verify(&rsaKey.PublicKey, message, signature); err != nil {
		t.Fatal(err)
	}
	for _, params := range []*spki.PSSParams{nil, {Hash: crypto.SHA256, SaltLength: 32}} {
		signer := &spki.PSSSigner{Signer: rsaKey, Params: params}
		if err := v15.Verify(signer.Public(), message, signature); err == nil {
			t.Error("a PSS key verifies PKCS#1 v1.5")
		}
		if _, err := v15.Sign(signer, message); err == nil {
			t.Error("a PSS key signs with PKCS#1 v1.5")
		}
		if _, err := signer.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err == nil {
			t.Error("a PSS signer signs with PKCS#1 v1.5 when asked directly")
		}
	}
}

// TestPSSRestrictions has rows that break one restriction of a key each.
func TestPSSRestrictions(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer := &spki.PSSSigner{Signer: rsaKey, Params: &spki.PSSParams{Hash: crypto.SHA384, SaltLength: 48}}
	for _, tt := range []struct {
		name string
		hash crypto.Hash
		salt int
		ok   bool
	}{
		{"exact", crypto.SHA384, 48, true},
		{"longer salt", crypto.SHA384, 50, true},
		{"salt as the hash", crypto.SHA384, rsa.PSSSaltLengthEqualsHash, true},
		{"shorter salt", crypto.SHA384, 47, false},
		{"any salt", crypto.SHA384, rsa.PSSSaltLengthAuto, false},
		{"other hash", crypto.SHA256, 48, false},
		{"no hash", 0, 48, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			size := 48
			if tt.hash == crypto.SHA256 {
				size = 32
			}
			_, err := signer.Sign(rand.Reader, make([]byte, size), &rsa.PSSOptions{Hash: tt.hash, SaltLength: tt.salt})
			if (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

func TestSignVerifiesTheSigner(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}
	if _, err := a.Sign(publicOf{other, &key.PublicKey}, []byte("m")); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("a signature by another key: %v", err)
	}
	if _, err := a.SignDigest(key, make([]byte, 31)); err == nil {
		t.Error("a digest of 31 octets is signed")
	}
	if err := a.VerifyDigest(&key.PublicKey, make([]byte, 64), nil); err == nil || errors.Is(err, spki.ErrSignature) {
		t.Errorf("a digest of 64 octets: %v", err)
	}
	ed := spki.SignatureAlgorithm{Scheme: spki.EdDSA}
	if _, err := ed.SignDigest(ed25519.NewKeyFromSeed(make([]byte, 32)), make([]byte, 64)); err == nil {
		t.Error("Ed25519 signs a digest")
	}
}

// publicOf claims another public key than its signer has, as a faulty token may.
type publicOf struct {
	crypto.Signer
	public crypto.PublicKey
}

func (p publicOf) Public() crypto.PublicKey { return p.public }

func TestFits(t *testing.T) {
	ec := &ecdsa.PublicKey{Curve: elliptic.P256(), X: elliptic.P256().Params().Gx, Y: elliptic.P256().Params().Gy}
	rsaKey := &rsa.PublicKey{N: modulus(2048), E: 65537}
	ed := ed25519.PublicKey(make([]byte, 32))
	for _, tt := range []struct {
		name string
		alg  spki.SignatureAlgorithm
		pub  crypto.PublicKey
		want string
	}{
		{"rsa v1.5", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, rsaKey, ""},
		{"rsa ecdsa", spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}, rsaKey, "does not fit a key of type rsa:2048"},
		{"rsa SHA-1", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA1}, rsaKey, "hash is not supported"},
		{"rsa pss salt 0", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256}, rsaKey, "salt of 0 octets"},
		{"ec v1.5", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, ec, "does not fit a key of type ec:P-256"},
		{"ed25519", spki.SignatureAlgorithm{Scheme: spki.EdDSA}, ed, ""},
		{"ed25519 with hash", spki.SignatureAlgorithm{Scheme: spki.EdDSA, Hash: crypto.SHA512}, ed, "hash is not supported"},
		{"nothing", spki.SignatureAlgorithm{}, ed, "does not fit"},
		{"no key", spki.SignatureAlgorithm{Scheme: spki.EdDSA}, nil, "not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) { checkError(t, tt.alg.Fits(tt.pub), tt.want) })
	}
}

func TestKeyTypes(t *testing.T) {
	for _, s := range []string{"rsa:2048", "rsa:3072", "rsa:4096", "rsa-pss:4096", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"} {
		kt, err := spki.ParseKeyType(s)
		if err != nil || kt.String() != s {
			t.Errorf("%q comes back as %q, %v", s, kt, err)
		}
		if a, err := spki.DefaultAlgorithm(kt, 0); err != nil || a.Scheme == 0 {
			t.Errorf("%q signs with %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "rsa", "rsa:", "rsa:1024", "rsa:2048 ", "rsa-pss:0", "rsa:+2048", "rsa:02048", "ec", "ec:P-224", "ec:p-256", "ed25519:", "dsa:2048"} {
		if kt, err := spki.ParseKeyType(s); err == nil {
			t.Errorf("%q is read as %v", s, kt)
		}
	}
	if _, err := spki.DefaultAlgorithm(spki.KeyType{}, 0); err == nil {
		t.Error("no key type has an algorithm")
	}
}

func TestKeyID(t *testing.T) {
	der := publicKey(t, tlv(seq, oid(t, 1, 2, 840, 113549, 1, 1, 10)), modulus(2048), 65537)
	pub, err := spki.ParsePublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := spki.RSAKey(pub)
	if !ok {
		t.Fatal("no RSA key")
	}
	want := sha1.Sum(x509.MarshalPKCS1PublicKey(key))
	if id, err := spki.KeyID(der); err != nil || !bytes.Equal(id, want[:]) {
		t.Errorf("KeyID = %x, %v; want %x", id, err, want)
	}
	if _, err := spki.KeyID(nil); err == nil {
		t.Error("nothing has a key identifier")
	}
	if spki.Equal(pub, key) || spki.Equal(key, pub) || !spki.Equal(pub, pub) {
		t.Error("an rsaEncryption key equals an id-RSASSA-PSS key")
	}
}
