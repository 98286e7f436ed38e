package uefi

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/cms"
	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// testTime is what the tools are told as -t '2026-01-02 03:04:05'.
var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sign signs an update with testdata/signer.key.
func sign(t testing.TB, u Update) []byte {
	t.Helper()
	b, err := SignVariable(u, privateKey(t, "signer.key"), certificate(t, "signer.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) *Auth {
	t.Helper()
	a, err := ParseAuth(b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The platform's files are signed by whom the firmware trusts. DB.auth lacks
// the certificate that DB.esl has, which is a fault of the scripts that made it.
func TestVerifyPlatformFiles(t *testing.T) {
	for _, c := range []struct{ file, variable, signer, value string }{
		{"PK.auth", "PK", "PK.crt", "PK.esl"},
		{"KEK.auth", "KEK", "PK.crt", "KEK.esl"},
		{"DB.auth", "db", "KEK.crt", "DB.esl"},
	} {
		a := parse(t, readFile(t, c.file))
		if err := a.Verify(variable(t, c.variable), false, certificate(t, c.signer)); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
		want := database(t, c.value)
		if c.value == "DB.esl" {
			want = want[:1]
		}
		wantBytes, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.payload, wantBytes) {
			t.Errorf("%s holds another value than %s", c.file, c.value)
		}
		if local := time.Date(2026, 11, 24, 20, 15, 42, 0, time.UTC); !a.Time.Equal(local) {
			t.Errorf("%s: time %v", c.file, a.Time)
		}
	}
}

// sign-efi-sig-list gives the same octets, down to the NULL after SHA-256: the
// two may differ in nothing.
func TestAuthIsSignEFISigList(t *testing.T) {
	for _, c := range []struct {
		name string
		u    Update
		file string
		args []string
	}{
		{"PK", Update{Variable: variable(t, "PK"), Time: testTime, Value: database(t, "signer.esl")}, "signer.esl", nil},
		{"KEK", Update{Variable: variable(t, "KEK"), Time: testTime, Value: database(t, "KEK.esl")}, "KEK.esl", nil},
		{"db", Update{Variable: variable(t, "db"), Time: testTime, Value: database(t, "DB.esl")}, "DB.esl", nil},
		{"dbx appended", Update{Variable: variable(t, "dbx"), Time: testTime, Append: true, Value: database(t, "hashes.esl")}, "hashes.esl", []string{"-a"}},
		{"PK deleted", Update{Variable: variable(t, "PK"), Time: testTime}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := "testdata/" + c.file
			if c.file == "" {
				file = writeFile(t, "empty.esl", nil)
			}
			out := filepath.Join(t.TempDir(), "auth")
			args := append(c.args, "-t", "2026-01-02 03:04:05", "-k", "testdata/signer.key", "-c", "testdata/signer.crt", c.u.Variable.Name, file, out)
			tooltest.Run(t, "sign-efi-sig-list", args...)
			sameFile(t, out, sign(t, c.u))

			// What is signed is the same too.
			tooltest.Run(t, "sign-efi-sig-list", append(slices.Clone(c.args), "-o", "-t", "2026-01-02 03:04:05", c.u.Variable.Name, file, out)...)
			efiTime, err := marshalTime(c.u.Time)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := c.u.Value.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			sameFile(t, out, c.u.Variable.message(c.u.Append, efiTime, payload))
		})
	}
}

// OpenSSL verifies the signature over what the specification says is signed.
func TestOpenSSLVerifiesAuth(t *testing.T) {
	tooltest.Need(t, "openssl")
	a := parse(t, sign(t, Update{Variable: variable(t, "db"), Time: testTime, Value: database(t, "DB.esl")}))
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02")) // id-signedData
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(a.signature) })
	})
	message := slices.Concat([]byte("d\x00b\x00"), ImageSecurityDatabase[:], []byte("\x27\x00\x00\x00"), a.efiTime, a.payload)
	tooltest.Run(t, "openssl", "smime", "-verify", "-binary", "-inform", "DER", "-in", writeFile(t, "p7", b.BytesOrPanic()),
		"-content", writeFile(t, "message", message), "-CAfile", "testdata/signer.crt", "-purpose", "any")
}

func TestSignVariableVerifies(t *testing.T) {
	for _, c := range []struct {
		name   string
		append bool
		value  SignatureDatabase
	}{
		{"PK", false, database(t, "signer.esl")}, {"PK", false, nil},
		{"KEK", false, database(t, "DB.esl")}, {"KEK", true, database(t, "signer.esl")}, {"KEK", false, nil},
		{"db", false, database(t, "DB.esl")}, {"db", true, database(t, "hashes.esl")},
		{"dbx", false, database(t, "hashes.esl")}, {"dbx", true, database(t, "other.esl")},
	} {
		v := variable(t, c.name)
		a := parse(t, sign(t, Update{Variable: v, Append: c.append, Time: testTime, Value: c.value}))
		if err := a.Verify(v, c.append, certificate(t, "signer.crt")); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !a.Time.Equal(testTime) || len(a.Value) != len(c.value) {
			t.Errorf("%s: time %v, %d lists", c.name, a.Time, len(a.Value))
		}
	}
}

func TestSignVariableRefuses(t *testing.T) {
	type args struct {
		u           Update
		key         crypto.Signer
		certificate []byte
	}
	for _, c := range []struct {
		name  string
		spoil func(a *args)
		err   string
	}{
		{"EC key", func(a *args) { a.key, a.certificate = privateKey(t, "ec.key"), certificate(t, "ec.crt") }, "signing db: the certificate of \"CN=ec,O=Test,C=DE\": firmware can't use a key of type ec:P-256"},
		{"PSS certificate", func(a *args) { a.certificate = certificate(t, "pss.crt") }, "firmware can't use a key of type rsa-pss:2048"},
		{"PSS key", func(a *args) { a.key = &spki.PSSSigner{Signer: a.key} }, "does not belong to the signing key"},
		{"RSA 1024", func(a *args) { a.certificate = certificate(t, "rsa1024.crt") }, "RSA key of 1024 bits"},
		{"key of another certificate", func(a *args) { a.key = privateKey(t, "other.key") }, "does not belong to the signing key"},
		{"no certificate", func(a *args) { a.certificate = nil }, "the signer's certificate"},
		{"PEM for DER", func(a *args) { a.certificate = readFile(t, "signer.crt") }, "the signer's certificate"},
		{"no variable", func(a *args) { a.u.Variable = Variable{} }, "use PK, KEK, db or dbx"},
		{"variable of another vendor", func(a *args) { a.u.Variable.Vendor = GlobalVariable }, "the vendor is"},
		{"two PKs", func(a *args) { a.u.Variable = variable(t, "PK") }, "signing PK: 2 certificates"},
		{"EC certificate in the value", func(a *args) { a.u.Value[0].Signatures[0].Data = certificate(t, "ec.crt") }, "signing db: entry 1"},
		{"bogus list", func(a *args) { a.u.Value[0].Signatures[0].Data = nil }, "signing db: entry 1"},
		{"empty list", func(a *args) { a.u.Value[0].Signatures = nil }, "signature list 1 is empty"},
		{"nothing appended", func(a *args) { a.u.Value, a.u.Append = nil, true }, "nothing to append"},
		{"appended to PK", func(a *args) {
			a.u = Update{Variable: variable(t, "PK"), Append: true, Time: testTime, Value: database(t, "PK.esl")}
		}, "nothing can be appended"},
		{"no time", func(a *args) { a.u.Time = time.Time{} }, "the year 1 is outside"},
		{"time with a fraction", func(a *args) { a.u.Time = testTime.Add(1) }, "not in whole seconds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := args{
				Update{Variable: variable(t, "db"), Time: testTime, Value: database(t, "DB.esl")},
				privateKey(t, "signer.key"), certificate(t, "signer.crt"),
			}
			c.spoil(&a)
			if _, err := SignVariable(a.u, a.key, a.certificate); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
}

func TestParseAuthRefuses(t *testing.T) {
	length := func(n int) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[16:], binary.LittleEndian.Uint32(b[16:])+uint32(n))
			return b
		}
	}
	set := func(at int, octets ...byte) func([]byte) []byte {
		return func(b []byte) []byte {
			copy(b[at:], octets)
			return b
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(b []byte) []byte
		err   string
	}{
		{"nothing", func(b []byte) []byte { return nil }, "0 octets are too few"},
		{"header cut", func(b []byte) []byte { return b[:39] }, "39 octets are too few"},
		{"signature missing", func(b []byte) []byte { return b[:40] }, "dwLength"},
		{"signature cut", func(b []byte) []byte { return b[:500] }, "dwLength"},
		{"a list alone", func(b []byte) []byte { return readFile(t, "DB.esl") }, "wRevision is 0x0000"},
		{"no date", set(2, 0), "does not exist"},
		{"nanosecond", set(8, 1), "must be 0"},
		{"time zone", set(12, 60), "must be 0"},
		{"dwLength one less", length(-1), "SEQUENCE"},
		{"dwLength one more", length(1), "1 octets of trailing data"},
		{"dwLength of the header", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[16:], 24); return b }, "dwLength is 24"},
		{"dwLength 0", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[16:], 0); return b }, "dwLength is 0"},
		{"dwLength 2^32-1", set(16, 255, 255, 255, 255), "dwLength is 4294967295"},
		{"revision 1", set(20, 0, 1), "wRevision is 0x0100"},
		{"certificate type PKCS", set(22, 2, 0), "wCertificateType is 0x0002"},
		{"another GUID", set(24, 0), "not EFI_CERT_TYPE_PKCS7_GUID"},
		{"GUID in the order of the text", set(24, 0x4a, 0xaf, 0xd2, 0x9d), "not EFI_CERT_TYPE_PKCS7_GUID"},
		{"SHA-384", func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte{0x65, 3, 4, 2, 1}, []byte{0x65, 3, 4, 2, 4})
		}, "2.16.840.1.101.3.4.2.4 is not supported"},
		{"ContentInfo", func(b []byte) []byte {
			var wrapped cryptobyte.Builder
			signed := b[40 : 16+binary.LittleEndian.Uint32(b[16:])]
			wrapped.AddASN1(cbasn1.SEQUENCE, func(w *cryptobyte.Builder) {
				w.AddBytes([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"))
				w.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(w *cryptobyte.Builder) { w.AddBytes(signed) })
			})
			return slices.Concat(b[:16], winCertHeader(len(wrapped.BytesOrPanic())), wrapped.BytesOrPanic())
		}, "the version is malformed"},
		{"trailing octet", func(b []byte) []byte { return append(b, 0) }, "signature list 2"},
		{"value cut", func(b []byte) []byte { return b[:len(b)-1] }, "signature list 1"},
		{"unknown type in the value", func(b []byte) []byte { b[bytes.Index(b, CertX509[:])] ^= 1; return b }, "is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseAuth(c.spoil(readFile(t, "PK-by-signer.auth"))); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	type check struct {
		b           []byte // of an .auth file
		variable    Variable
		append      bool
		certificate []byte
	}
	// signed replaces the signature by one of another form, over the right message.
	signed := func(t *testing.T, c *check, who cms.Signer, opts cms.Options) {
		t.Helper()
		opts.Bare = true
		a := parse(t, c.b)
		signature, err := cms.Sign(who, c.variable.message(c.append, a.efiTime, a.payload), opts)
		if err != nil {
			t.Fatal(err)
		}
		c.b = slices.Concat(a.efiTime, winCertHeader(len(signature)), signature, a.payload)
	}
	signer := func(t *testing.T, hash crypto.Hash) cms.Signer {
		return cms.Signer{
			Key: privateKey(t, "signer.key"), Certificate: certificate(t, "signer.crt"),
			Algorithm: spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: hash},
		}
	}
	own := [][]byte{certificate(t, "signer.crt")}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, c *check)
		err   string
	}{
		{"another variable", func(t *testing.T, c *check) { c.variable = variable(t, "dbx") }, "does not verify"},
		{"another vendor", func(_ *testing.T, c *check) { c.variable.Vendor = GlobalVariable }, "does not verify"},
		{"unknown variable", func(_ *testing.T, c *check) { c.variable.Name = "dB" }, "does not verify"},
		{"an append", func(_ *testing.T, c *check) { c.append = true }, "does not verify"},
		{"a second later", func(_ *testing.T, c *check) { c.b[6]++ }, "does not verify"},
		{"owner changed", func(_ *testing.T, c *check) { c.b[bytes.Index(c.b, CertX509[:])+28] ^= 1 }, "does not verify"},
		{"certificate in the value changed", func(_ *testing.T, c *check) { c.b[len(c.b)-1] ^= 1 }, "does not verify"},
		{"value taken away", func(_ *testing.T, c *check) { c.b = c.b[:bytes.Index(c.b, CertX509[:])] }, "does not verify"},
		{"value added", func(t *testing.T, c *check) { c.b = append(c.b, readFile(t, "hashes.esl")...) }, "does not verify"},
		{"value twice", func(t *testing.T, c *check) { c.b = append(c.b, readFile(t, "DB.esl")...) }, "does not verify"},
		{"signature flipped", func(_ *testing.T, c *check) { c.b[bytes.Index(c.b, CertX509[:])-1] ^= 1 }, "does not verify"},
		{"another signer is trusted", func(t *testing.T, c *check) { c.certificate = certificate(t, "other.crt") }, "is not in the message"},
		{"no certificate is trusted", func(_ *testing.T, c *check) { c.certificate = nil }, "the trusted certificate"},
		{"EC is trusted", func(t *testing.T, c *check) { c.certificate = certificate(t, "ec.crt") }, "firmware can't use a key of type ec"},
		{"certificate in the message changed", func(_ *testing.T, c *check) { c.b[bytes.Index(c.b, own[0])+100] ^= 1 }, "is not in the message"},
		{"without a certificate", func(t *testing.T, c *check) {
			signed(t, c, signer(t, crypto.SHA256), cms.Options{NoAttributes: true})
		}, "is not in the message"},
		{"signed by another, whose certificate is not trusted", func(t *testing.T, c *check) {
			who := cms.Signer{Key: privateKey(t, "other.key"), Certificate: certificate(t, "other.crt"), Algorithm: firmwareAlgorithm()}
			signed(t, c, who, cms.Options{NoAttributes: true, Certificates: append(own, who.Certificate)})
		}, "none of 1 signers is"},
		{"SHA-384", func(t *testing.T, c *check) {
			signed(t, c, signer(t, crypto.SHA384), cms.Options{NoAttributes: true, Certificates: own})
		}, "firmware takes RSA PKCS#1 v1.5 SHA-256 only"},
		{"RSASSA-PSS", func(t *testing.T, c *check) {
			who := signer(t, crypto.SHA256)
			who.Algorithm.Scheme, who.Algorithm.SaltLength = spki.PSS, 32
			signed(t, c, who, cms.Options{NoAttributes: true, Certificates: own})
		}, "firmware takes RSA PKCS#1 v1.5 SHA-256 only"},
		{"signed attributes", func(t *testing.T, c *check) {
			signed(t, c, signer(t, crypto.SHA256), cms.Options{Certificates: own})
		}, "has signed attributes"},
		{"the value inside the signature", func(t *testing.T, c *check) {
			a := parse(t, c.b)
			var element cryptobyte.Builder
			element.AddASN1OctetString(c.variable.message(c.append, a.efiTime, a.payload))
			who := signer(t, crypto.SHA256)
			signature, err := cms.SignElement(who, spki.HashOID(crypto.SHA256), element.BytesOrPanic(), cms.Options{Bare: true, Certificates: own})
			if err != nil {
				t.Fatal(err)
			}
			c.b = slices.Concat(a.efiTime, winCertHeader(len(signature)), signature, a.payload)
		}, "is not detached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := check{variable: variable(t, "db"), certificate: certificate(t, "signer.crt")}
			k.b = sign(t, Update{Variable: k.variable, Time: testTime, Value: database(t, "DB.esl")})
			c.spoil(t, &k)
			err := parse(t, k.b).Verify(k.variable, k.append, k.certificate)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if (c.err == "does not verify") != errors.Is(err, spki.ErrSignature) {
				t.Fatalf("%v: wraps ErrSignature: %v", err, errors.Is(err, spki.ErrSignature))
			}
		})
	}
}

// EDK II finds the signer by issuer and serial.
func TestVerifyRefusesKeyIdentifier(t *testing.T) {
	tooltest.Need(t, "openssl")
	v := variable(t, "db")
	a := parse(t, sign(t, Update{Variable: v, Time: testTime, Value: database(t, "DB.esl")}))
	out := filepath.Join(t.TempDir(), "p7")
	tooltest.Run(t, "openssl", "cms", "-sign", "-binary", "-noattr", "-keyid", "-md", "sha256", "-outform", "DER", "-out", out,
		"-in", writeFile(t, "message", v.message(false, a.efiTime, a.payload)), "-signer", "testdata/signer.crt", "-inkey", "testdata/signer.key")
	info, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	input := cryptobyte.String(info)
	var body, signature cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !body.SkipASN1(cbasn1.OBJECT_IDENTIFIER) ||
		!body.ReadASN1(&signature, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		t.Fatal("openssl wrote no ContentInfo")
	}
	b := slices.Concat(a.efiTime, winCertHeader(len(signature)), signature, a.payload)
	if err := parse(t, b).Verify(v, false, certificate(t, "signer.crt")); err == nil || !strings.Contains(err.Error(), "not by issuer and serial") {
		t.Fatalf("got %v", err)
	}
}

// A signature is not enough: the firmware refuses values that it can't use.
func TestVerifyChecksValue(t *testing.T) {
	a := parse(t, sign(t, Update{Variable: variable(t, "db"), Time: testTime, Value: database(t, "DB.esl")}))
	pk := variable(t, "PK")
	signature, err := cms.Sign(
		cms.Signer{Key: privateKey(t, "signer.key"), Certificate: certificate(t, "signer.crt"), Algorithm: firmwareAlgorithm()},
		pk.message(false, a.efiTime, a.payload),
		cms.Options{Bare: true, NoAttributes: true, Certificates: [][]byte{certificate(t, "signer.crt")}})
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Concat(a.efiTime, winCertHeader(len(signature)), signature, a.payload)
	if err := parse(t, b).Verify(pk, false, certificate(t, "signer.crt")); err == nil || !strings.Contains(err.Error(), "PK: 2 certificates") {
		t.Fatalf("got %v", err)
	}
}

func FuzzParseAuth(f *testing.F) {
	seeds(f, "*.auth")
	trusted := certificate(f, "other.crt")
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAuth(b)
		if err != nil {
			return
		}
		efiTime, err := marshalTime(a.Time)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := a.Value.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again := slices.Concat(efiTime, winCertHeader(len(a.signature)), a.signature, payload); !bytes.Equal(again, b) {
			t.Fatalf("%x is written back as %x", b, again)
		}
		if a.Verify(Variable{Name: "db", Vendor: ImageSecurityDatabase}, false, trusted) == nil {
			t.Fatal("verifies with a key that never signed")
		}
	})
}
