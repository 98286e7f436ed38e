package cms

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// samples are messages of other tools, one row each in TestOthersVerify.
func samples(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.p7")
	if err != nil || len(paths) < 10 {
		t.Fatalf("the samples are missing: %d, %v", len(paths), err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

func TestOthersVerify(t *testing.T) {
	rows := map[string]struct {
		signers      []string
		alg          spki.SignatureAlgorithm // of the first
		certificates int
		attributes   bool
		embedded     bool
	}{
		"module.p7":              {[]string{"rsa"}, pkcs1SHA256, 0, false, false},
		"sbsign.p7":              {[]string{"rsa"}, pkcs1SHA256, 1, true, true},
		"osslsigncode.p7":        {[]string{"rsa"}, pkcs1SHA256, 1, true, true},
		"smime.p7":               {[]string{"rsa"}, pkcs1SHA256, 1, true, false},
		"cms-attributes.p7":      {[]string{"rsa"}, pkcs1SHA256, 1, true, false},
		"cms-no-attributes.p7":   {[]string{"rsa"}, pkcs1SHA256, 1, false, false},
		"cms-no-certificates.p7": {[]string{"rsa"}, pkcs1SHA512, 0, true, false},
		"cms-key-identifier.p7":  {[]string{"rsa"}, spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA384}, 1, true, false},
		"cms-embedded.p7":        {[]string{"rsa"}, pkcs1SHA256, 1, true, true},
		"cms-certificates.p7":    {[]string{"rsa"}, pkcs1SHA256, 2, true, false},
		"cms-pss.p7":             {[]string{"pss"}, pssSHA512, 1, true, false},
		"cms-pss-rsa.p7":         {[]string{"rsa"}, pssSHA512, 1, true, false},
		"cms-ec.p7":              {[]string{"ec"}, ecdsaSHA256, 1, true, false},
		"cms-two-signers.p7":     {[]string{"rsa", "ec"}, spki.SignatureAlgorithm{}, 2, true, false},
		"auth.p7":                {}, // bare, and verified in package uefi
		"ber.p7":                 {}, // refused below
	}
	for _, name := range samples(t) {
		row, ok := rows[name]
		if !ok {
			t.Errorf("%s has no row", name)
		}
		if len(row.signers) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			sd, err := Parse(readFile(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if len(sd.Signers) != len(row.signers) || len(sd.Certificates) != row.certificates {
				t.Fatalf("%d signers, %d certificates", len(sd.Signers), len(sd.Certificates))
			}
			for _, who := range row.signers {
				s, err := sd.SignerOf(certificate(t, who))
				if err != nil {
					t.Fatal(err)
				}
				if (s.SignedAttributes != nil) != row.attributes {
					t.Errorf("%d signed attributes", len(s.SignedAttributes))
				}
				if len(row.signers) == 1 && s.Algorithm != row.alg {
					t.Errorf("the algorithm is %v", s.Algorithm)
				}
				if row.certificates > 0 {
					if der, err := sd.Certificate(s); err != nil || !bytes.Equal(der, certificate(t, who)) {
						t.Errorf("the certificate of %v: %v", who, err)
					}
				}
				if row.embedded {
					err = sd.VerifyEmbedded(s, publicKey(t, who))
				} else {
					err = sd.Verify(s, publicKey(t, who), readFile(t, "content"))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestParseOrParseBare(t *testing.T) {
	if _, err := Parse(readFile(t, "auth.p7")); err == nil {
		t.Error("Parse takes a SignedData without a ContentInfo")
	}
	if _, err := ParseBare(readFile(t, "auth.p7")); err != nil {
		t.Error(err)
	}
	if _, err := ParseBare(readFile(t, "module.p7")); err == nil {
		t.Error("ParseBare takes a ContentInfo")
	}
	if _, err := ParseBare(append(readFile(t, "auth.p7"), 0)); err == nil || !strings.Contains(err.Error(), "1 octets of trailing data") {
		t.Errorf("trailing octet: %v", err)
	}
	if _, err := ParseBare(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "are more than") {
		t.Errorf("too large: %v", err)
	}
}

// The parameters of a digest algorithm are absent or NULL, here and there alike.
func TestParseTakesDigestParametersOfBothKinds(t *testing.T) {
	sd, err := Parse(readFile(t, "module.p7"))
	if err != nil {
		t.Fatal(err)
	}
	if sd.digestAlgorithms[0], err = digestAlgorithm(crypto.SHA256, true); err != nil {
		t.Fatal(err)
	}
	der, err := sd.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if sd, err = ParseBare(der); err != nil {
		t.Fatal(err)
	}
	if err := sd.Verify(&sd.Signers[0], publicKey(t, "rsa"), readFile(t, "content")); err != nil {
		t.Fatal(err)
	}
}

// replaced replaces the one place of old, in hexadecimal, in a message.
func replaced(t *testing.T, der []byte, old, new string) []byte {
	t.Helper()
	from, err := hex.DecodeString(strings.ReplaceAll(old, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	to, err := hex.DecodeString(strings.ReplaceAll(new, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(der, from); n != 1 {
		t.Fatalf("%s stands %d times", old, n)
	}
	return bytes.Replace(der, from, to, 1)
}

// Each row changes the octets of one good message, whose frame stays sound.
func TestParseRefusesOctets(t *testing.T) {
	module := readFile(t, "module.p7")
	for _, c := range []struct {
		name string
		der  []byte
		err  string
	}{
		{"nothing", nil, "not a ContentInfo"},
		{"truncated", module[:len(module)-1], "not a ContentInfo"},
		{"trailing octet", append(bytes.Clone(module), 0), "1 octets after"},
		{"indefinite length", readFile(t, "ber.p7"), "not a ContentInfo"},
		{"too large", make([]byte, MaxSize+1), "more than"},
		{"another content type", replaced(t, module, "06092a864886f70d010702", "06092a864886f70d010703"), "is not SignedData"},
		{"unknown digest algorithm", bytes.ReplaceAll(module, []byte{0x65, 3, 4, 2, 1}, []byte{0x65, 3, 4, 2, 9}), "2.16.840.1.101.3.4.2.9 is not supported"},
		{"SHA-1 signer", bytes.Replace(module, []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"), []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"), 1), "not supported"},
		{"digest hash and signature hash differ", bytes.Replace(module, []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"), []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"), 1), "is hashed with SHA-256, but the signature is"},
		{"rsaEncryption with other parameters", bytes.Replace(module, []byte("\x01\x01\x01\x05\x00"), []byte("\x01\x01\x01\x04\x00"), 1), "not supported"},
		{"SHA-512 signer not listed", bytes.Replace(module, []byte{0x65, 3, 4, 2, 1}, []byte{0x65, 3, 4, 2, 3}, 1), "not listed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(c.der); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
}

// Each row spoils one field of a good message, which is then written anew.
func TestParseRefusesFields(t *testing.T) {
	element := func(hexDER string) []byte {
		b, err := hex.DecodeString(hexDER)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	attributes := func(sd *SignedData) *[]Attribute { return &sd.Signers[0].SignedAttributes }
	for _, c := range []struct {
		name  string
		spoil func(sd *SignedData)
		err   string
	}{
		{"version 0", func(sd *SignedData) { sd.version = 0 }, "version 0 is not supported"},
		{"version 5", func(sd *SignedData) { sd.version = 5 }, "version 5 is not supported"},
		{"17 digest algorithms", func(sd *SignedData) {
			for range MaxSigners {
				sd.digestAlgorithms = append(sd.digestAlgorithms, sd.digestAlgorithms[0])
			}
		}, "more than 16 digest algorithms"},
		{"17 signers", func(sd *SignedData) {
			for range MaxSigners {
				sd.Signers = append(sd.Signers, sd.Signers[0])
			}
		}, "more than 16 signers"},
		{"33 certificates", func(sd *SignedData) {
			for range MaxCertificates {
				sd.Certificates = append(sd.Certificates, sd.Certificates[0])
			}
		}, "more than 32 certificates"},
		{"certificate of another form", func(sd *SignedData) { sd.Certificates[0] = element("a1020500") }, "set of certificates"},
		{"content in two elements", func(sd *SignedData) { sd.Content = element("04000400") }, "not one DER element"},
		{"content of no octets", func(sd *SignedData) { sd.Content = element("") }, "not one DER element"},
		{"content in pieces", func(sd *SignedData) { sd.ContentType, sd.Content = oidIndirectData, element("24030401aa") }, "which is BER"},
		{"plain content that is a SEQUENCE", func(sd *SignedData) { sd.Content = element("3000") }, "not an OCTET STRING"},
		{"digest algorithm with parameters", func(sd *SignedData) {
			sd.digestAlgorithms[0] = element("300e0609608648016503040201040100")
		}, "malformed"},
		{"issuer that is no SEQUENCE", func(sd *SignedData) { sd.Signers[0].Issuer = element("3100") }, "issuer and serial"},
		{"empty key identifier", func(sd *SignedData) { sd.Signers[0].Issuer = nil }, "key identifier"},
		{"signature algorithm unknown", func(sd *SignedData) { sd.Signers[0].signatureAlgorithm = element("300506032a0304") }, "1.2.3.4 is not supported"},
		{"Ed25519", func(sd *SignedData) { sd.Signers[0].signatureAlgorithm = element("300506032b6570") }, "Ed25519 is not supported"},
		{"PSS without parameters", func(sd *SignedData) {
			sd.Signers[0].signatureAlgorithm = element("300b06092a864886f70d01010a")
		}, "without parameters"},
		{"no signed attribute, but the field", func(sd *SignedData) { *attributes(sd) = []Attribute{} }, "signed attributes: none"},
		{"attributes out of order", func(sd *SignedData) {
			a := *attributes(sd)
			a[0], a[1] = a[1], a[0]
		}, "not in the order of DER"},
		{"attribute values out of order", func(sd *SignedData) {
			*attributes(sd) = []Attribute{{oidOpusInfo, [][]byte{element("0500"), element("0400")}}}
		}, "not in the order of DER"},
		{"attribute twice", func(sd *SignedData) {
			a := attributes(sd)
			*a = append([]Attribute{(*a)[0]}, *a...)
		}, "stands twice"},
		{"attribute without value", func(sd *SignedData) { (*attributes(sd))[0].Values = nil }, "has no value"},
		{"65 attributes", func(sd *SignedData) {
			for i := range MaxAttributes + 1 {
				*attributes(sd) = append(*attributes(sd), Attribute{asn1.ObjectIdentifier{1, 2, i}, [][]byte{{5, 0}}})
			}
		}, "more than 64"},
		{"unsigned attribute malformed", func(sd *SignedData) {
			sd.Signers[0].UnsignedAttributes = []Attribute{{oidOpusInfo, [][]byte{element("3080")}}}
		}, "unsigned attributes"},
		{"further field in a signer", func(sd *SignedData) {
			sd.Signers[0].signatureAlgorithm = append(bytes.Clone(sd.Signers[0].signatureAlgorithm), element("0400")...)
		}, "signer 1: 260 octets of trailing data"},
		{"no unsigned attribute, but the field", func(sd *SignedData) { sd.Signers[0].UnsignedAttributes = []Attribute{} }, "unsigned attributes: none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, err := Parse(readFile(t, "cms-attributes.p7"))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(sd)
			der, err := sd.marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseBare(der); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
}

// Revocation lists and further fields have no place in SignedData here.
func TestParseRefusesFurtherFields(t *testing.T) {
	message := func(afterCertificates, afterSigners string) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddBytes([]byte("\x31\x00\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"))
			b.AddBytes([]byte(afterCertificates + "\x31\x00" + afterSigners))
		})
		return b.BytesOrPanic()
	}
	if _, err := ParseBare(message("", "")); err != nil {
		t.Fatalf("the row before: %v", err)
	}
	if _, err := ParseBare(message("\xa1\x00", "")); err == nil || !strings.Contains(err.Error(), "revocation lists") {
		t.Errorf("revocation lists: %v", err)
	}
	if _, err := ParseBare(message("", "\x05\x00")); err == nil || !strings.Contains(err.Error(), "set of signers") {
		t.Errorf("further field: %v", err)
	}
}

// What Parse takes is written back as the same octets, so it has understood all
// of them.
func FuzzParse(f *testing.F) {
	for _, name := range samples(f) {
		f.Add(readFile(f, name))
	}
	for _, form := range forms(f) {
		f.Add(form.der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, bare := range []bool{false, true} {
			sd, err := parseEither(der, bare)
			if err != nil {
				continue
			}
			again, err := sd.marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bare {
				if again, err = wrap(again); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(again, der) {
				t.Fatalf("%x is written back as %x", der, again)
			}
			for i := range sd.Signers {
				sd.Signers[i].SigningTime()
				if sd.Verify(&sd.Signers[i], publicKey(t, "ed25519"), nil) == nil {
					t.Fatal("verifies with a key that can't be the signer's")
				}
			}
		}
	})
}
