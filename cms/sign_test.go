package cms

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

var (
	oidIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidOpusInfo     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}
	signingTime     = time.Date(2026, 5, 17, 14, 3, 9, 0, time.UTC)
)

// forms are the signatures of all consumers.
func forms(t testing.TB) []struct {
	name     string
	detached bool
	der      []byte
	signer   string
} {
	content := readFile(t, "content")
	module, err := Sign(signer(t, "rsa", pkcs1SHA256), content, Options{NoAttributes: true})
	if err != nil {
		t.Fatal(err)
	}
	variable, err := Sign(signer(t, "rsa", pkcs1SHA256), content, Options{
		Bare: true, NoAttributes: true, NullParameters: true, Certificates: [][]byte{certificate(t, "rsa")},
	})
	if err != nil {
		t.Fatal(err)
	}
	authenticode, err := SignElement(signer(t, "rsa", pkcs1SHA256), oidIndirectData, []byte{0x30, 3, 2, 1, 42}, Options{
		NullParameters: true, SigningTime: signingTime, Certificates: [][]byte{certificate(t, "rsa")},
		Attributes: []Attribute{{Type: oidOpusInfo, Values: [][]byte{{0x30, 0}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, alg spki.SignatureAlgorithm) []byte {
		der, err := Sign(signer(t, name, alg), content, Options{SigningTime: signingTime, Certificates: [][]byte{certificate(t, name), certificate(t, "ed25519")}})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	return []struct {
		name     string
		detached bool
		der      []byte
		signer   string
	}{
		{"module", true, module, "rsa"},
		{"variable", true, variable, "rsa"},
		{"authenticode", false, authenticode, "rsa"},
		{"file, PKCS #1", true, file("rsa", pkcs1SHA512), "rsa"},
		{"file, PSS by an RSA key", true, file("rsa", pssSHA512), "rsa"},
		{"file, PSS", true, file("pss", pssSHA512), "pss"},
		{"file, ECDSA", true, file("ec", ecdsaSHA256), "ec"},
	}
}

func parseEither(der []byte, bare bool) (*SignedData, error) {
	if bare {
		return ParseBare(der)
	}
	return Parse(der)
}

func TestSignVerifies(t *testing.T) {
	content := readFile(t, "content")
	for _, form := range forms(t) {
		t.Run(form.name, func(t *testing.T) {
			sd, err := parseEither(form.der, form.name == "variable")
			if err != nil {
				t.Fatal(err)
			}
			s, err := sd.SignerOf(certificate(t, form.signer))
			if err != nil {
				t.Fatal(err)
			}
			if form.detached {
				err = sd.Verify(s, publicKey(t, form.signer), content)
			} else {
				err = sd.VerifyEmbedded(s, publicKey(t, form.signer))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := sd.VerifyDigest(s, publicKey(t, form.signer), make([]byte, s.Algorithm.Hash.Size())); err == nil {
				t.Fatal("another digest verifies")
			}
			want := signingTime
			if form.name == "module" || form.name == "variable" {
				want = time.Time{}
			}
			if got, err := s.SigningTime(); err != nil || !got.Equal(want) {
				t.Fatalf("signing time %v, %v", got, err)
			}
			der, err := sd.Certificate(s)
			if form.name == "module" {
				if err == nil {
					t.Fatal("a certificate in a module's signature")
				}
			} else if err != nil || !bytes.Equal(der, certificate(t, form.signer)) {
				t.Fatalf("the signer's certificate is not found: %v", err)
			}
		})
	}
}

// No certificates are no field, whether the caller's list is nil or empty.
func TestSignWithoutCertificates(t *testing.T) {
	der, err := Sign(signer(t, "rsa", pkcs1SHA256), readFile(t, "content"), Options{NoAttributes: true, Certificates: [][]byte{}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(der, readFile(t, "module.p7")) {
		t.Fatal("an empty list shows in the message")
	}
}

func TestSignDigestIsSign(t *testing.T) {
	content := readFile(t, "content")
	digest := sha512.Sum512(content)
	opts := Options{SigningTime: signingTime}
	a, err := Sign(signer(t, "rsa", pkcs1SHA512), content, opts)
	if err != nil {
		t.Fatal(err)
	}
	b, err := SignDigest(signer(t, "rsa", pkcs1SHA512), digest[:], opts)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Fatal("a digest and its content give two signatures")
	}
	sd, err := Parse(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := sd.VerifyDigest(&sd.Signers[0], publicKey(t, "rsa"), digest[:]); err != nil {
		t.Fatal(err)
	}
}

// The certificates and the attributes are written in one order only.
func TestSignIsDeterministic(t *testing.T) {
	var messages [][]byte
	attributes := []Attribute{
		{Type: oidOpusInfo, Values: [][]byte{{0x30, 0}}},
		{Type: asn1.ObjectIdentifier{1, 2, 3}, Values: [][]byte{{5, 0}, {4, 1, 9}}},
	}
	certificates := [][]byte{certificate(t, "rsa"), certificate(t, "ec")}
	for range 2 {
		der, err := Sign(signer(t, "rsa", pkcs1SHA256), nil, Options{Attributes: attributes, Certificates: certificates})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, der)
		attributes[0], attributes[1] = attributes[1], attributes[0]
		attributes[0].Values, attributes[1].Values = reversed(attributes[0].Values), reversed(attributes[1].Values)
		certificates = reversed(certificates)
	}
	if !bytes.Equal(messages[0], messages[1]) {
		t.Fatal("the order of the options shows in the message")
	}
}

func reversed(s [][]byte) [][]byte {
	r := make([][]byte, 0, len(s))
	for i := len(s) - 1; i >= 0; i-- {
		r = append(r, s[i])
	}
	return r
}

func TestSigningTimeOutsideUTCTime(t *testing.T) {
	for _, year := range []int{1949, 1950, 2049, 2050, 9999} {
		when := time.Date(year, 6, 1, 2, 3, 4, 0, time.UTC)
		der, err := Sign(signer(t, "ec", ecdsaSHA256), nil, Options{SigningTime: when})
		if err != nil {
			t.Fatal(err)
		}
		sd, err := Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := sd.Signers[0].SigningTime(); err != nil || !got.Equal(when) {
			t.Errorf("signed at %v, read %v, %v", when, got, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	good := func() (Signer, []byte, Options) { return signer(t, "rsa", pkcs1SHA256), make([]byte, 32), Options{} }
	for _, c := range []struct {
		name  string
		spoil func(s *Signer, digest *[]byte, o *Options)
		err   string
	}{
		{"key of another certificate", func(s *Signer, _ *[]byte, _ *Options) { s.Certificate = certificate(t, "ec") }, "does not belong to the signing key"},
		{"no certificate", func(s *Signer, _ *[]byte, _ *Options) { s.Certificate = nil }, "the signer's certificate"},
		{"PEM for DER", func(s *Signer, _ *[]byte, _ *Options) { s.Certificate = readFile(t, "rsa.crt") }, "the signer's certificate"},
		{"Ed25519", func(s *Signer, _ *[]byte, _ *Options) {
			*s = signer(t, "ed25519", spki.SignatureAlgorithm{Scheme: spki.EdDSA})
		}, "Ed25519 in CMS is not supported"},
		{"SHA-1", func(s *Signer, _ *[]byte, _ *Options) { s.Algorithm.Hash = crypto.SHA1 }, "is not supported"},
		{"no algorithm", func(s *Signer, _ *[]byte, _ *Options) { s.Algorithm = spki.SignatureAlgorithm{} }, "is not supported"},
		{"ECDSA with an RSA key", func(s *Signer, _ *[]byte, _ *Options) { s.Algorithm = ecdsaSHA256 }, "does not fit"},
		{"PSS without salt", func(s *Signer, _ *[]byte, _ *Options) { s.Algorithm.Scheme = spki.PSS }, "salt"},
		{"digest of another hash", func(_ *Signer, d *[]byte, _ *Options) { *d = make([]byte, 64) }, "digest of 64 octets"},
		{"attributes and none", func(_ *Signer, _ *[]byte, o *Options) { o.NoAttributes = true; o.SigningTime = signingTime }, "without attributes, but"},
		{"signing time by hand", func(_ *Signer, _ *[]byte, o *Options) { o.Attributes = []Attribute{{oidSigningTime, [][]byte{{5, 0}}}} }, "Options.SigningTime"},
		{"message digest by hand", func(_ *Signer, _ *[]byte, o *Options) {
			o.Attributes = []Attribute{{oidMessageDigest, [][]byte{{4, 0}}}}
		}, "stands twice"},
		{"attribute without value", func(_ *Signer, _ *[]byte, o *Options) { o.Attributes = []Attribute{{Type: oidOpusInfo}} }, "has no value"},
		{"attribute that is two elements", func(_ *Signer, _ *[]byte, o *Options) {
			o.Attributes = []Attribute{{oidOpusInfo, [][]byte{{5, 0, 5, 0}}}}
		}, "not one DER element"},
		{"attribute that is BER", func(_ *Signer, _ *[]byte, o *Options) {
			o.Attributes = []Attribute{{oidOpusInfo, [][]byte{{0x30, 0x80, 0, 0}}}}
		}, "not one DER element"},
		{"PEM for a further certificate", func(_ *Signer, _ *[]byte, o *Options) { o.Certificates = [][]byte{readFile(t, "rsa.crt")} }, "certificates is malformed"},
		{"too many certificates", func(_ *Signer, _ *[]byte, o *Options) {
			for range MaxCertificates + 1 {
				o.Certificates = append(o.Certificates, certificate(t, "ec"))
			}
		}, "more than 32 certificates"},
		{"year 10000", func(_ *Signer, _ *[]byte, o *Options) { o.SigningTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "signed attribute signingTime"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, digest, opts := good()
			c.spoil(&s, &digest, &opts)
			if _, err := SignDigest(s, digest, opts); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
	t.Run("raw RSA key with the certificate of a PSS key", func(t *testing.T) {
		s := signer(t, "pss", pssSHA512)
		s.Key = s.Key.(*spki.PSSSigner).Signer
		if _, err := Sign(s, nil, Options{}); err == nil || !strings.Contains(err.Error(), "does not belong") {
			t.Fatalf("got %v", err)
		}
	})
	for name, element := range map[string][]byte{"no element": {}, "two": {5, 0, 5, 0}, "BER": {0x30, 0x80, 0, 0}} {
		if _, err := SignElement(signer(t, "rsa", pkcs1SHA256), oidIndirectData, element, Options{}); err == nil {
			t.Errorf("SignElement takes %s", name)
		}
	}
	if _, err := SignElement(signer(t, "rsa", pkcs1SHA256), oidIndirectData, []byte{5, 0}, Options{NoAttributes: true}); err == nil {
		t.Error("SignElement signs without attributes")
	}
}

// A second opinion on what we sign.
func TestOpenSSLVerifiesOurs(t *testing.T) {
	openssl := tooltest.Path(t, "openssl")
	content := readFile(t, "content")
	for _, form := range forms(t) {
		t.Run(form.name, func(t *testing.T) {
			der := form.der
			if form.name == "authenticode" {
				t.Skip("openssl cms takes OCTET STRINGs only; TestOpenSSLVerifiesElement has one")
			}
			if form.name == "variable" {
				var err error
				if der, err = wrap(der); err != nil {
					t.Fatal(err)
				}
			}
			tooltest.Run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", writeFile(t, "sig", der),
				"-content", writeFile(t, "content", content), "-out", os.DevNull,
				"-certfile", "testdata/"+form.signer+".crt", "-CAfile", "testdata/"+form.signer+".crt", "-purpose", "any")

			altered := bytes.Replace(content, []byte("debos"), []byte("Debos"), 1)
			cmd := exec.Command(openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", writeFile(t, "sig", der),
				"-content", writeFile(t, "content", altered), "-out", os.DevNull, "-certfile", "testdata/"+form.signer+".crt", "-noverify")
			if cmd.Run() == nil {
				t.Fatal("openssl verifies another content")
			}
		})
	}
}

func TestOpenSSLVerifiesElement(t *testing.T) {
	element := append([]byte{4, 25}, readFile(t, "content")...)
	der, err := SignElement(signer(t, "rsa", pkcs1SHA256), asn1.ObjectIdentifier{1, 2, 3, 4}, element, Options{Certificates: [][]byte{certificate(t, "rsa")}})
	if err != nil {
		t.Fatal(err)
	}
	out := tooltest.Run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", writeFile(t, "sig", der), "-CAfile", "testdata/rsa.crt", "-purpose", "any")
	if !bytes.Equal(out, element[2:]) {
		t.Fatalf("openssl finds the content %q", out)
	}
}

// The kernel's own tool gives the same octets for the same key and file.
func TestModuleIsSignFile(t *testing.T) {
	tooltest.Need(t, "sign-file")
	dir := t.TempDir()
	for _, size := range []int{0, 1, 100_000} {
		module := bytes.Repeat([]byte{7}, size)
		path := filepath.Join(dir, "module.ko")
		if err := os.WriteFile(path, module, 0o600); err != nil {
			t.Fatal(err)
		}
		tooltest.Run(t, "sign-file", "-d", "sha256", "testdata/rsa.key", "testdata/rsa.crt", path)
		want, err := os.ReadFile(path + ".p7s")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Sign(signer(t, "rsa", pkcs1SHA256), module, Options{NoAttributes: true})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d octets: sign-file has %x, we have %x", size, want, got)
		}
	}
}

func TestSignerOfComparesSerials(t *testing.T) {
	sd, err := Parse(readFile(t, "module.p7"))
	if err != nil {
		t.Fatal(err)
	}
	sd.Signers[0].Serial = new(big.Int).Add(sd.Signers[0].Serial, big.NewInt(1))
	if _, err := sd.SignerOf(certificate(t, "rsa")); err == nil {
		t.Fatal("another serial of the same issuer is taken for the signer")
	}
}
