package keys

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"
)

// pbes2Parts are the parts of an EncryptedPrivateKeyInfo; each row of a table
// breaks one.
type pbes2Parts struct {
	scheme                 []byte // OID of PBES2
	kdf, salt, iterations  []byte // of PBKDF2, or of scrypt with N, r, p in iterations
	keyLength, prf, kdfEnd []byte
	cipher, iv             []byte
	data, end              []byte
}

func goodPBES2(t testing.TB) pbes2Parts {
	return pbes2Parts{
		scheme:     mustASN1(t, oidPBES2),
		kdf:        mustASN1(t, oidPBKDF2),
		salt:       tlv(4, []byte("saltsalt")),
		iterations: mustASN1(t, 1),
		prf:        tlv(0x30, mustASN1(t, prfs[2].oid), []byte{5, 0}),
		cipher:     mustASN1(t, ciphers[0].oid),
		iv:         tlv(4, make([]byte, 16)),
		data:       tlv(4, make([]byte, 64)),
	}
}

func (p pbes2Parts) der() []byte {
	return tlv(0x30,
		tlv(0x30, p.scheme, tlv(0x30,
			tlv(0x30, p.kdf, tlv(0x30, p.salt, p.iterations, p.keyLength, p.prf, p.kdfEnd)),
			tlv(0x30, p.cipher, p.iv))),
		p.data, p.end)
}

func TestParseEnvelope(t *testing.T) {
	number := func(values ...int) []byte {
		var der []byte
		for _, v := range values {
			der = append(der, mustASN1(t, v)...)
		}
		return der
	}
	scrypt := func(p *pbes2Parts, n, r, work int) {
		p.kdf, p.iterations, p.prf = mustASN1(t, oidScrypt), number(n, r, work), nil
	}
	for _, tt := range []struct {
		name  string
		alter func(*pbes2Parts)
		want  string
	}{
		{"as it should be", func(p *pbes2Parts) {}, ""},
		{"key length", func(p *pbes2Parts) { p.keyLength = number(32) }, ""},
		{"default PRF", func(p *pbes2Parts) { p.prf = nil }, ""},
		{"10M iterations", func(p *pbes2Parts) { p.iterations = number(10_000_000) }, ""},
		{"scrypt", func(p *pbes2Parts) { scrypt(p, 16384, 8, 1) }, ""},
		{"scrypt with key length", func(p *pbes2Parts) { scrypt(p, 16384, 8, 1); p.keyLength = number(32) }, ""},
		{"scrypt of 256 MiB", func(p *pbes2Parts) { scrypt(p, 1<<18, 8, 4) }, ""},

		{"not PBES2", func(p *pbes2Parts) { p.scheme = mustASN1(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}) }, "is not PBES2"},
		{"end", func(p *pbes2Parts) { p.end = []byte{5, 0} }, "malformed"},
		{"unknown KDF", func(p *pbes2Parts) { p.kdf = p.scheme }, "key derivation 1.2.840.113549.1.5.13 is not supported"},
		{"another key length", func(p *pbes2Parts) { p.keyLength = number(16) }, "PBKDF2: malformed"},
		{"KDF end", func(p *pbes2Parts) { p.kdfEnd = []byte{5, 0} }, "PBKDF2: malformed"},
		{"salt by algorithm", func(p *pbes2Parts) { p.salt = tlv(0x30, p.kdf) }, "PBKDF2: malformed"},
		{"no salt", func(p *pbes2Parts) { p.salt = tlv(4) }, "salt of 0 octets"},
		{"long salt", func(p *pbes2Parts) { p.salt = tlv(4, make([]byte, 1025)) }, "salt of 1025 octets"},
		{"unknown PRF", func(p *pbes2Parts) { p.prf = tlv(0x30, p.kdf, []byte{5, 0}) }, "PRF 1.2.840.113549.1.5.12 is not supported"},
		{"PRF without NULL", func(p *pbes2Parts) { p.prf = tlv(0x30, mustASN1(t, prfs[0].oid)) }, "PBKDF2: malformed"},
		{"0 iterations", func(p *pbes2Parts) { p.iterations = number(0) }, "0 iterations"},
		{"-1 iterations", func(p *pbes2Parts) { p.iterations = number(-1) }, "-1 iterations"},
		{"iteration bomb", func(p *pbes2Parts) { p.iterations = number(10_000_001) }, "10000001 iterations are outside"},
		{"iterations beyond int", func(p *pbes2Parts) { p.iterations = tlv(2, bytes.Repeat([]byte{0x7f}, 9)) }, "PBKDF2: malformed"},
		{"iterations padded", func(p *pbes2Parts) { p.iterations = []byte{2, 2, 0, 1} }, "PBKDF2: malformed"},

		{"scrypt N not a power", func(p *pbes2Parts) { scrypt(p, 16383, 8, 1) }, "must be a power of two"},
		{"scrypt N 1", func(p *pbes2Parts) { scrypt(p, 1, 8, 1) }, "must be a power of two"},
		{"scrypt N negative", func(p *pbes2Parts) { scrypt(p, -16384, 8, 1) }, "must be a power of two"},
		{"scrypt r 0", func(p *pbes2Parts) { scrypt(p, 16384, 0, 1) }, "must be a power of two"},
		{"scrypt p 0", func(p *pbes2Parts) { scrypt(p, 16384, 8, 0) }, "must be a power of two"},
		{"scrypt memory", func(p *pbes2Parts) { scrypt(p, 1<<19, 8, 1) }, "takes more than 256 MiB"},
		{"scrypt memory by r", func(p *pbes2Parts) { scrypt(p, 2, 1<<20+1, 1) }, "takes more than 256 MiB"},
		{"scrypt memory overflow", func(p *pbes2Parts) { scrypt(p, 1<<62, 1<<62, 1) }, "takes more than 256 MiB"},
		{"scrypt time", func(p *pbes2Parts) { scrypt(p, 1<<18, 8, 5) }, "takes too long"},
		{"scrypt time overflow", func(p *pbes2Parts) { scrypt(p, 2, 1, 1<<62) }, "takes too long"},
		{"scrypt with a PRF", func(p *pbes2Parts) { prf := p.prf; scrypt(p, 16384, 8, 1); p.prf = prf }, "scrypt: malformed"},

		{"unknown cipher", func(p *pbes2Parts) { p.cipher = p.kdf }, "cipher 1.2.840.113549.1.5.12 is not supported"},
		{"short IV", func(p *pbes2Parts) { p.iv = tlv(4, make([]byte, 8)) }, "IV is not one of 16 octets"},
		{"no IV", func(p *pbes2Parts) { p.iv = nil }, "IV is not one of 16 octets"},
		{"part of a block", func(p *pbes2Parts) { p.data = tlv(4, make([]byte, 63)) }, "not whole blocks"},
		{"no data", func(p *pbes2Parts) { p.data = tlv(4) }, "not whole blocks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parts := goodPBES2(t)
			tt.alter(&parts)
			start := time.Now()
			_, err := parseEnvelope(parts.der())
			checkError(t, err, tt.want)
			if tt.want != "" {
				_, err = ParsePEM(toPEM(labelEncrypted, parts.der()), passphrase(t))
				checkError(t, err, tt.want)
				if d := time.Since(start); d > time.Second {
					t.Errorf("refused after %v", d)
				}
			}
		})
	}
}

// TestSealEachLength: a padding of every length opens again.
func TestSealEachLength(t *testing.T) {
	for n := range 40 {
		plain := tlv(0x30, []byte{2, 1, 0}, make([]byte, n))
		der, err := seal(plain, passphrase(t))
		if err != nil {
			t.Fatal(err)
		}
		e, err := parseEnvelope(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.open(passphrase(t)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d octets come back as %x, %v", len(plain), got, err)
		}
	}
}

// TestSealedFilesDiffer: one salt in a run, and never the same IV.
func TestSealedFilesDiffer(t *testing.T) {
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	ivs := make(map[string]bool)
	salts := make(map[string]bool)
	for range 20 {
		block, _ := pem.Decode(mustPEM(t, ec, passphrase(t)))
		e, err := parseEnvelope(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		ivs[string(e.iv)] = true
		salts[e.kdf.salt] = true
	}
	if len(ivs) != 20 || len(salts) != 1 {
		t.Errorf("20 files have %d IVs and %d salts", len(ivs), len(salts))
	}
	other, err := NewPassphrase([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if salts[string(other.state().salt)] {
		t.Error("two passphrases have one salt")
	}
}
