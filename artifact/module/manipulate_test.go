package module

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/asn1"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/cms"
	"tmpki/spki"
)

// signWith signs a content with any options, as no honest tool does.
func signWith(t testing.TB, content []byte, p party, algorithm spki.SignatureAlgorithm, opts cms.Options) []byte {
	t.Helper()
	message, err := cms.Sign(cms.Signer{Key: p.key, Certificate: p.certificate.Raw, Algorithm: algorithm}, content, opts)
	if err != nil {
		t.Fatal(err)
	}
	return appendSignature(content, message)
}

// remake rewrites the SignerInfos of a signed module: change gets the one that
// is there, and returns all that shall be.
func remake(t testing.TB, signed []byte, change func(signer cryptobyte.String) []byte) []byte {
	t.Helper()
	content, message, err := split(signed)
	if err != nil {
		t.Fatal(err)
	}
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	var info, inner, body, signers, before cryptobyte.String
	input := cryptobyte.String(message)
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1(&inner, explicit) || !inner.ReadASN1(&body, cbasn1.SEQUENCE) {
		t.Fatal("not SignedData")
	}
	all := body
	if !body.SkipASN1(cbasn1.INTEGER) || !body.SkipASN1(cbasn1.SET) || !body.SkipASN1(cbasn1.SEQUENCE) {
		t.Fatal("not SignedData")
	}
	before = all[:len(all)-len(body)]
	if !body.ReadASN1(&signers, cbasn1.SET) {
		t.Fatal("no signers")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(before)
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(change(signers)) })
			})
		})
	})
	return appendSignature(content, b.BytesOrPanic())
}

// sequence returns a SEQUENCE of elements.
func sequence(elements ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(elements, nil)) })
	return b.BytesOrPanic()
}

// TestManipulations alters a good module in one place each, and wants the
// reason by its own words.
func TestManipulations(t *testing.T) {
	ca := newParty(t, rsaKey(t, 1, 2048), "root@vendor", 1) // "@" makes it UTF8String, as OpenSSL has it
	p := issue(t, rsaKey(t, 0, 2048), "signer", 0x4711, &ca)
	module := newModule(t, "m", 100)
	good := mustSign(t, module, p)
	trusted := []*x509.Certificate{ca.certificate, p.certificate}
	if _, err := Verify(good, trusted); err != nil {
		t.Fatal(err)
	}
	pkcs1, noAttributes := algorithm(), cms.Options{NoAttributes: true}
	digest := sha256.Sum256(module)

	// Places in the good module, counted from its end.
	trailer := len(good) - len(magic) - trailerSize
	at := func(i int, change func(b *byte)) []byte {
		b := bytes.Clone(good)
		change(&b[i])
		return b
	}
	flip := func(b *byte) { *b ^= 1 }
	sized := func(delta int) []byte {
		b := bytes.Clone(good)
		size := b[trailer+sizeAt:]
		binary.BigEndian.PutUint32(size, uint32(int(binary.BigEndian.Uint32(size))+delta))
		return b
	}

	for _, c := range []struct {
		name    string
		file    []byte
		trusted []*x509.Certificate
		want    string
	}{
		// The content.
		{"flipped bit in the header", at(40, flip), trusted, "signature does not verify"},
		{"flipped bit in .modinfo", at(70, flip), trusted, "signature does not verify"},
		{"flipped bit at the end of the content", at(len(module)-1, flip), trusted, "signature does not verify"},
		{"inserted octet", append([]byte{0}, good...), trusted, "signature does not verify"},
		{"signature alone", good[len(module):], trusted, "outside 1 to the"},
		{"signature of another module", append(newModule(t, "n", 100), good[len(module):]...), trusted, "signature does not verify"},

		// The trailer.
		{"no signature", module, trusted, "module is not signed"},
		{"trailing octet", append(bytes.Clone(good), 0), trusted, "module is not signed"},
		{"flipped bit in the magic", at(len(good)-5, flip), trusted, "module is not signed"},
		{"magic alone", []byte(magic), trusted, "0 octets are too few for a trailer"},
		{"type X.509 of old kernels", at(trailer+idTypeAt, func(b *byte) { *b = 1 }), trusted, "its type is 1, not PKCS #7"},
		{"algo is set", at(trailer, flip), trusted, "trailer 01 00 02"},
		{"hash is set", at(trailer+1, flip), trusted, "trailer 00 01 02"},
		{"signer_len is set", at(trailer+3, flip), trusted, "trailer 00 00 02 01"},
		{"key_id_len is set", at(trailer+4, flip), trusted, "trailer 00 00 02 00 01"},
		{"padding is set", at(trailer+7, flip), trusted, "trailer 00 00 02 00 00 00 00 01"},
		{"size 0", sized(-(trailer - len(module))), trusted, "its size is 0"},
		{"size of all", sized(len(module)), trusted, "outside 1 to the"},
		{"size beyond the file", at(trailer+sizeAt, func(b *byte) { *b = 0xff }), trusted, "its size is 42781"},
		{"size one more", sized(1), trusted, "are not one DER element"},
		{"size one less", sized(-1), trusted, "are not one DER element"},

		// The message.
		{"flipped bit in the signature", at(trailer-1, flip), trusted, "signature does not verify"},
		{"octets behind the message", appendSignature(module, append(bytes.Clone(good[len(module):trailer]), 0)), trusted, "are not one DER element"},
		{"SHA-512", signWith(t, module, p, spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}, noAttributes), trusted, "it is RSA PKCS#1 v1.5 SHA-512"},
		{"PSS", signWith(t, module, p, spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}, noAttributes), trusted, "it is RSASSA-PSS SHA-256 salt 32"},
		{"signed attributes", signWith(t, module, p, pkcs1, cms.Options{}), trusted, "it has signed attributes"},
		{"a certificate in it", signWith(t, module, p, pkcs1, cms.Options{NoAttributes: true, Certificates: [][]byte{p.certificate.Raw}}), trusted, "1 certificates are in the message"},
		{"content inside", func() []byte {
			octets := append([]byte{4, 32}, digest[:]...)
			message, err := cms.SignElement(cms.Signer{Key: p.key, Certificate: p.certificate.Raw, Algorithm: pkcs1}, asn1.ObjectIdentifier{1, 2, 3}, octets, cms.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return appendSignature(module, message)
		}(), trusted, "it is not detached"},
		{"content of another type", appendSignature(module, bytes.Replace(good[len(module):trailer],
			[]byte("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"), []byte("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x05"), 1)), trusted, "content of type 1.2.840.113549.1.7.5"},
		{"no signer", remake(t, good, func(cryptobyte.String) []byte { return nil }), trusted, "0 signers, not 1"},
		{"two signers", remake(t, good, func(s cryptobyte.String) []byte { return append(bytes.Clone(s), s...) }), trusted, "2 signers, not 1"},
		{"unsigned attributes", remake(t, good, func(s cryptobyte.String) []byte {
			var body cryptobyte.String
			s.ReadASN1(&body, cbasn1.SEQUENCE)
			return sequence(body, []byte("\xa1\x0a\x30\x08\x06\x02\x2a\x03\x31\x02\x05\x00"))
		}), trusted, "it has unsigned attributes"},
		{"signer named by key", remake(t, good, func(s cryptobyte.String) []byte {
			var body cryptobyte.String
			s.ReadASN1(&body, cbasn1.SEQUENCE)
			body.SkipASN1(cbasn1.INTEGER)
			body.SkipASN1(cbasn1.SEQUENCE)
			return sequence([]byte("\x02\x01\x03\x80\x04abcd"), body)
		}), trusted, "key identifier 61626364 is not named by issuer and serial"},
		{"algorithm by its other name", func() []byte {
			b := bytes.Clone(good)
			i := bytes.LastIndex(b, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"))
			b[i+8] = 0x0b
			return b
		}(), trusted, "called 1.2.840.113549.1.1.11"},

		// The keyring.
		{"empty keyring", good, nil, "not among the 0 trusted"},
		{"only the CA trusted", good, trusted[:1], "serial 4711 is not among the 1 trusted"},
		{"other serial", good, []*x509.Certificate{issue(t, p.key, "signer", 0x4712, &ca).certificate}, "serial 4711 is not among"},
		{"other issuer", good, []*x509.Certificate{newParty(t, p.key, "signer", 0x4711).certificate}, "serial 4711 is not among"},
		{"other key by an issuer of the same name", good, []*x509.Certificate{issue(t, rsaKey(t, 1, 2048), "signer", 0x4711, &ca).certificate}, "signature does not verify"},
		{"ECDSA key of that name and serial", good, []*x509.Certificate{issue(t, ecKey(t), "signer", 0x4711, &ca).certificate}, "by rsaEncryption keys only"},
		{"PSS key of that name and serial", good, []*x509.Certificate{pssCertificate(t, "root@vendor", 0x4711)}, "is rsa-pss:2048"},
		{"weak key of that name and serial", good, []*x509.Certificate{issue(t, rsaKey(t, 0, 1024), "signer", 0x4711, &ca).certificate}, "is rsa:1024"},
		{"good signature below the last", sign2(t, good, ca), trusted[1:], "serial 1 is not among"},

		// What no kernel loads.
		{"signed text", signWith(t, []byte("hello, kernel, how are you today?"), p, pkcs1, noAttributes), trusted, "no ELF header"},
		{"signed program", signWith(t, newELF(t, elf.ET_EXEC, ".modinfo", "m", 0), p, pkcs1, noAttributes), trusted, "ELF type is ET_EXEC"},
		{"signed object file", signWith(t, newELF(t, elf.ET_REL, ".comment", "m", 0), p, pkcs1, noAttributes), trusted, "no .modinfo section"},
	} {
		t.Run(c.name, func(t *testing.T) {
			signer, err := Verify(c.file, c.trusted)
			if err == nil || signer != nil {
				t.Fatalf("accepted, by %v", signer)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, not %q", err, c.want)
			}
		})
	}
}

// sign2 puts a second signature behind the first, as sign-file does.
func sign2(t testing.TB, signed []byte, p party) []byte {
	t.Helper()
	return signWith(t, signed, p, algorithm(), cms.Options{NoAttributes: true})
}
