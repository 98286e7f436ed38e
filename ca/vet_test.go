package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// request describes a PKCS#10 request. Its zero fields mean: CN=Device 7, a P-256
// key, the UUID testUUID, and no other extension.
type request struct {
	subject    []byte
	key        crypto.Signer
	public     []byte // nil: the key's
	names      []byte // SubjectAltName; nil: the UUID, empty: none
	extensions []testExtension
	signature  func([]byte) []byte
	attribute  []byte // in place of the extensions
}

const testUUID = "0E4bdf5a-8a4b-4f4f-8d3a-8b0a6c2f6c3d"

func (r request) build() []byte {
	if r.subject == nil {
		r.subject = printable("Device 7")
	}
	if r.key == nil {
		r.key = testKey("p256/device7")
	}
	if r.public == nil {
		r.public = must(spki.MarshalPublicKey(r.key.Public()))
	}
	if r.names == nil {
		r.names = san(gn(tagURI, "UUID:"+testUUID))
	}
	if len(r.names) > 0 {
		r.extensions = append(r.extensions, testExtension{oidSubjectAltName, false, r.names})
	}
	list := sequence(func(b *cryptobyte.Builder) {
		for _, x := range r.extensions {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(x.oid)
				if x.critical {
					b.AddASN1Boolean(true)
				}
				b.AddASN1OctetString(x.value)
			})
		}
	})
	attribute := r.attribute
	if attribute == nil {
		attribute = seq(oidDER(1, 2, 840, 113549, 1, 9, 14), element(cbasn1.SET, list))
	}
	info := seq([]byte{2, 1, 0}, r.subject, r.public, explicit(0, attribute))
	algorithm := must(spki.DefaultAlgorithm(must(spki.KeyTypeOf(r.key.Public())), 0))
	signature := rawSign(algorithm, r.key, info)
	if r.signature != nil {
		signature = r.signature(signature)
	}
	return seq(info, must(algorithm.Marshal()), element(cbasn1.BIT_STRING, []byte{0}, signature))
}

func deviceProfile() *Profile {
	return must(NewProfile("device", ProfileConfig{Validity: ptr("1095d"), KeyUsage: []string{"digitalSignature", "nonRepudiation", "keyEncipherment"}, ExtendedKeyUsage: []string{"clientAuth", "emailProtection"}}))
}

var deviceBase = SubjectConfig{Country: "DE", Organization: "Test"}

func vet(c RequestConfig, data []byte) (*Vetted, error) {
	r, err := ParseUnprovenRequest(data)
	if err != nil {
		return nil, err
	}
	return must(NewRequestPolicy(c)).Vet(deviceProfile(), deviceBase, r)
}

var strictDevice = RequestConfig{Subject: []string{"serial_number", "common_name"}, UUID: "required", Extensions: "refuse"}

// The requests that the platform's daemon and a software TPM made.
func TestVetReference(t *testing.T) {
	for file, want := range map[string]struct{ cn, uuid string }{
		"plain.csr": {"Standard PC 0000", "83131c82-ec1d-49ff-943b-1af411858dd0"},
		"scd-1.csr": {"Standard PC\n SN 12/34\n", "e2e8ae6c-1c75-4acd-b2e4-ff38740858d0"},
		"scd-2.csr": {"Standard PC (Q35 +  012345678901234567890123456789012345678", "91303516-3fe3-4605-9cb9-735ff5085b50"},
		"tpm-1.csr": {"Standard PC SN1", "701b8942-b485-48f3-b7a1-165ab66597a0"},
	} {
		v, err := vet(strictDevice, readReference(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if v.Fields.CommonName != want.cn || v.UUID != want.uuid || len(v.SubjectAltNames) != 1 || v.SubjectAltNames[0] != "uri:UUID:"+want.uuid {
			t.Errorf("%s: %+v", file, v)
		}
		// The profile says who the maker is, the request doesn't.
		if v.Subject.CommonName() != want.cn || !strings.HasPrefix(v.Subject.String(), "C=DE, O=Test, CN=Standard PC") {
			t.Errorf("%s: subject %s", file, v.Subject)
		}
		sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
		cert := issue(t, sub, deviceProfile(), Request{Name: "device", Subject: v.Subject, PublicKey: v.Key, SubjectAltNames: v.SubjectAltNames, NotBefore: testFrom})
		if cert.UUID() != want.uuid || !bytes.Equal(cert.SubjectKeyId, v.KeyID) {
			t.Errorf("%s: certificate of %q, key %x, want %x", file, cert.UUID(), cert.SubjectKeyId, v.KeyID)
		}
	}
}

// Every kind of key can prove possession, and gets a certificate.
func TestVetKeys(t *testing.T) {
	sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	for _, kind := range keyKinds {
		v, err := vet(strictDevice, request{key: testKey(kind + "/vetted")}.build())
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		cert := issue(t, sub, deviceProfile(), Request{Name: "device", Subject: v.Subject, PublicKey: v.Key, SubjectAltNames: v.SubjectAltNames, NotBefore: testFrom})
		// Only keys of rsaEncryption encipher (RFC 4055, Section 1.2; RFC 8813, Section 3).
		want := "digitalSignature, nonRepudiation"
		if kind == "rsa" {
			want += ", keyEncipherment"
		}
		if got := strings.Join(usageNames(cert.KeyUsage), ", "); got != want {
			t.Errorf("%s: key usage %s, want %s", kind, got, want)
		}
		if drift := deviceProfile().Drift(cert, v.SubjectAltNames); drift != "" {
			t.Errorf("%s: %s", kind, drift)
		}
	}
}

func bitString(b ...byte) []byte { return element(cbasn1.BIT_STRING, b) }

// Each row breaks one rule, and names it.
func TestVetRefuses(t *testing.T) {
	usage := func(b ...byte) request {
		return request{extensions: []testExtension{{oidKeyUsage, true, bitString(b...)}}}
	}
	asks := func(oid []int, value []byte) request {
		return request{extensions: []testExtension{{oid, false, value}}}
	}
	names := func(n ...[]byte) request { return request{names: san(n...)} }
	uri := func(s string) []byte { return gn(tagURI, s) }
	cn := func(tag cbasn1.Tag, value string) request {
		return request{subject: dn(set(ava("2.5.4.3", tag, value)))}
	}
	weak := func(n *big.Int, e int) request {
		return request{public: must(spki.MarshalPublicKey(&rsa.PublicKey{N: n, E: e}))}
	}
	good := rsaKey(testKey("rsa/weak"))
	rows := []struct {
		name    string
		request request
		want    string // "" passes
	}{
		{"nothing wrong", request{}, ""},
		{"a changed signature", request{signature: func(s []byte) []byte { s[len(s)-1] ^= 1; return s }}, "proof of possession: ECDSA SHA-256: signature does not verify"},
		{"somebody else's key", request{public: must(spki.MarshalPublicKey(testKey("p256/other").Public()))}, "proof of possession: ECDSA SHA-256: signature does not verify"},
		{"a signature of another kind", request{public: must(spki.MarshalPublicKey(testKey("rsa/other").Public()))}, "proof of possession: ECDSA SHA-256 does not fit a key of type rsa:2048"},
		// Keys.
		{"RSA 1024", request{key: testKey("rsa1024/device")}, "publicKey: RSA 1024 is too short, 2048 bits are the least"},
		{"RSA 2047", weak(new(big.Int).Or(new(big.Int).Rsh(good.N, 1), big.NewInt(1)), 65537), "publicKey: RSA 2047 is too short"},
		{"exponent 3", weak(good.N, 3), "publicKey: exponent 3: an odd number of at least 65537 is asked for"},
		{"exponent 17", weak(good.N, 17), "publicKey: exponent 17"},
		{"a factor of 3", weak(multipleOf(good.N, 3), 65537), "publicKey: the modulus is divisible by 3"},
		{"a factor of 751", weak(multipleOf(good.N, 751), 65537), "publicKey: the modulus is divisible by 751"},
		{"primes side by side", weak(closePrimes(0), 65537), "publicKey: the two primes are so close"},
		{"primes at some distance", weak(closePrimes(516), 65537), "publicKey: the two primes are so close"},
		{"the square of a prime", weak(square(), 65537), "publicKey: the two primes are so close"},
		{"ROCA", weak(rocaModulus(), 65537), "publicKey: made by a library with the ROCA flaw"},
		{"a point of small order", request{key: testKey("ed25519/device"), public: must(spki.MarshalPublicKey(ed25519.PublicKey(unhex(smallOrders[2]))))}, "publicKey: a point of small order"},
		// Names.
		{"a name of 64 characters", cn(cbasn1.UTF8String, strings.Repeat("ä", 64)), ""},
		{"a name of 65 characters", cn(cbasn1.UTF8String, strings.Repeat("ä", 65)), "has 65 characters, more than 64 (RFC 5280, Appendix A.1)"},
		{"newlines and an escape", cn(cbasn1.UTF8String, "PC\n SN\x1b[31m\n"), ""},
		{"a NUL", cn(cbasn1.UTF8String, "a\x00b"), `subject.common_name: "a\x00b" holds a NUL`},
		{"a BMPString", cn(tagBMPString, "\x00a\x20\xac"), ""},
		{"a number for a name", cn(cbasn1.INTEGER, "\x07"), "ASN.1 tag 2 is not one of a character string"},
		{"two common names", request{subject: dn("CN=a", "CN=b")}, "subject.common_name: stands twice"},
		{"no common name", request{subject: dn("O=b")}, "subject.common_name: missing"},
		{"an empty name", request{subject: dn()}, "subject.common_name: missing"},
		{"a serial number that is not printable", request{subject: dn(set(ava("2.5.4.3", 12, "a")), set(ava("2.5.4.5", 12, "S\n1")))}, `subject.serial_number: "S\n1": '\n' can't be shown`},
		{"another's organization", request{subject: dn("O=Somebody Else", "CN=a")}, ""},
		// UUIDs.
		{"no alternative name", request{names: []byte{}}, "no UUID: subjectAltName must hold a URI"},
		{"an empty list of alternative names", names(), "no UUID"},
		{"a scheme in small letters", names(uri("uuid:" + testUUID)), ""},
		{"two UUIDs", names(uri("UUID:"+testUUID), uri("UUID:701b8942-b485-48f3-b7a1-165ab66597a0")), "more than one UUID"},
		{"one UUID twice", names(uri("UUID:"+testUUID), uri("UUID:"+testUUID)), "more than one UUID"},
		{"an empty UUID", names(uri("UUID:")), `UUID: "" is not 32 hexadecimal digits`},
		{"a short UUID", names(uri("UUID:" + testUUID[1:])), "is not 32 hexadecimal digits"},
		{"a long UUID", names(uri("UUID:" + testUUID + "0")), "is not 32 hexadecimal digits"},
		{"a UUID without dashes", names(uri("UUID:" + strings.ReplaceAll(testUUID, "-", "0"))), "is not 32 hexadecimal digits"},
		{"a UUID with a letter g", names(uri("UUID:g" + testUUID[1:])), "is not 32 hexadecimal digits"},
		{"a UUID of zeros", names(uri("UUID:00000000-0000-0000-0000-000000000000")), "is a placeholder that many boards have"},
		{"a UUID of ones", names(uri("UUID:FFFFFFFF-ffff-FFFF-ffff-ffffffffffff")), "is a placeholder"},
		{"the UUID of a board's maker", names(uri("UUID:03000200-0400-0500-0006-000700080009")), "is a placeholder"},
		// Other names.
		{"a DNS name", names(uri("UUID:"+testUUID), gn(tagDNS, "a.example")), `asks for the name "dns:a.example", which its profile doesn't let through`},
		{"another URI", names(uri("UUID:"+testUUID), uri("https://a.example")), `asks for the name "uri:https://a.example"`},
		{"a directory name", names(uri("UUID:"+testUUID), explicit(tagDirectory, dn("CN=a"))), `asks for the name "[4]"`},
		// Extensions.
		{"what the profile gives", usage(5, 0xe0), ""},
		{"less than the profile gives", usage(7, 0x80), ""},
		{"keyAgreement", usage(3, 0x08), "asks for key usages keyAgreement, which its profile doesn't let through"},
		{"keyCertSign", usage(2, 0x04), "asks for the key usage of a CA certificate"},
		{"cRLSign", usage(1, 0x02), "asks for the key usage of a CA certificate"},
		{"a key usage that is none", asks(oidKeyUsage, null), "keyUsage: malformed"},
		{"no CA", asks(oidBasicConstraints, basicConstraints(false, -1)), ""},
		{"a CA", asks(oidBasicConstraints, basicConstraints(true, -1)), "asks for a CA certificate"},
		{"a CA with a path length", asks(oidBasicConstraints, basicConstraints(true, 0)), "asks for a CA certificate"},
		{"constraints that are none", asks(oidBasicConstraints, null), "basicConstraints: malformed"},
		{"clientAuth", asks(oidExtKeyUsage, seq(oidDER(1, 3, 6, 1, 5, 5, 7, 3, 2))), ""},
		{"serverAuth", asks(oidExtKeyUsage, seq(oidDER(1, 3, 6, 1, 5, 5, 7, 3, 2), oidDER(1, 3, 6, 1, 5, 5, 7, 3, 1))), "asks for extended key usage 1.3.6.1.5.5.7.3.1"},
		{"its own key identifier", asks(oidSubjectKeyID, octets(must(spki.KeyID(must(spki.MarshalPublicKey(testKey("p256/device7").Public())))))), ""},
		{"another key identifier", asks(oidSubjectKeyID, octets([]byte("01234567890123456789"))), "asks for extension 2.5.29.14"},
		{"name constraints", asks(oidNameConstraints, seq()), "asks for extension 2.5.29.30"},
		{"an unknown extension", asks([]int{1, 2, 3}, null), "asks for extension 1.2.3"},
	}
	for _, r := range rows {
		_, err := vet(strictDevice, r.request.build())
		var rejected *RejectedError
		switch {
		case r.want == "" && err != nil, r.want != "" && err == nil:
			t.Errorf("%s: %v", r.name, err)
		case err != nil && (!errors.As(err, &rejected) || !strings.Contains(err.Error(), r.want)):
			t.Errorf("%s: %v\nwant %s", r.name, err, r.want)
		}
	}
	// The same with a policy that drops what it doesn't let through: what remains
	// refused is what no requester could mean well.
	dropping := strictDevice
	dropping.Extensions = "drop"
	for _, r := range rows {
		v, err := vet(dropping, r.request.build())
		if dropped := strings.HasPrefix(r.want, "asks for") && !strings.Contains(r.want, "CA certificate"); dropped != (r.want != "" && err == nil) {
			t.Errorf("%s, dropping: %v", r.name, err)
		} else if err == nil && (len(v.SubjectAltNames) != 1 || !strings.EqualFold(v.SubjectAltNames[0], "uri:UUID:"+testUUID)) {
			t.Errorf("%s, dropping: names %q", r.name, v.SubjectAltNames)
		}
	}
}

// The provider for TPMs names ECDSA with parameters that it doesn't have; nobody
// else may, and PKCS#1 v1.5 must have them.
func TestRequestAlgorithm(t *testing.T) {
	plain := request{}.build()
	algorithm := must(spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}.Marshal())
	oid := algorithm[2:]
	for name, row := range map[string]struct {
		algorithm []byte
		want      string
	}{
		"NULL":                {seq(oid, null), ""},
		"NULL and more":       {seq(oid, null, null), "is not supported"},
		"a number":            {seq(oid, []byte{2, 1, 0}), "is not supported"},
		"Ed25519 with NULL":   {seq(oidDER(1, 3, 101, 112), null), "is not supported"},
		"PKCS#1 without NULL": {seq(oidDER(1, 2, 840, 113549, 1, 1, 11)), "is not supported"},
	} {
		input := cryptobyte.String(plain)
		var outer, info, old, signature cryptobyte.String
		if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&info, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&old, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&signature, cbasn1.BIT_STRING) {
			t.Fatal("malformed")
		}
		_, err := vet(strictDevice, seq(info, row.algorithm, signature))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What can't be parsed is refused before it is vetted.
func TestVetRefusesFiles(t *testing.T) {
	good := request{}.build()
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good})
	twice := []testExtension{{oidKeyUsage, true, bitString(7, 0x80)}, {oidKeyUsage, true, bitString(7, 0x80)}}
	for _, r := range []struct {
		name string
		data []byte
		want string
	}{
		{"trailing data", append(bytes.Clone(good), 0), "trailing data"},
		{"trailing text", append(bytes.Clone(asPEM), "more"...), "something follows the certificate request"},
		{"two requests", append(bytes.Clone(asPEM), asPEM...), "something follows the certificate request"},
		{"cut off", good[:len(good)-1], "certificate request: "},
		{"cut PEM", asPEM[:len(asPEM)-30], "malformed or cut off"},
		{"a huge one", make([]byte, 2*MaxCertificate+1), "is too large"},
		{"a certificate", pemOf(good), "a CERTIFICATE stands where a certificate request should"},
		{"nothing", nil, "certificate request: "},
		{"a name that is not UTF-8", request{subject: dn(set(ava("2.5.4.3", 12, "a\xffb")))}.build(), "invalid UTF-8"},
		{"a PrintableString that is none", request{subject: dn(set(ava("2.5.4.3", 19, "\xc3\xa4")))}.build(), "PrintableString contains invalid character"},
		{"half a BMPString", request{subject: dn(set(ava("2.5.4.3", 30, "\x00a\x00")))}.build(), "invalid BMPString"},
		{"half a UniversalString", request{subject: dn(set(ava("2.5.4.3", 28, "\x00\x00\x00a\x00")))}.build(), "5 octets are no string of its type"},
		{"a VisibleString that isn't ASCII", request{subject: dn(set(ava("2.5.4.3", 26, "\xc3\xa4")))}.build(), "is not ASCII, as its string type demands"},
		{"an IP address of five octets", request{names: san(gn(tagURI, "UUID:"+testUUID), gn(tagIP, "12345"))}.build(), "IP address"},
		{"an extension twice", request{extensions: twice}.build(), "duplicate"},
		{"an RSA key with an even modulus", request{public: must(spki.MarshalPublicKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}))}.build(), "not one of RSA"},
		{"an RSA key with exponent 1", request{public: must(spki.MarshalPublicKey(&rsa.PublicKey{N: rsaKey(testKey("rsa/weak")).N, E: 1}))}.build(), "not one of RSA"},
		{"a point that is not on its curve", request{public: bytes.Replace(must(spki.MarshalPublicKey(testKey("p256/device7").Public())), []byte{4}, []byte{4, 1}, 0)}.build(), ""},
	} {
		_, err := vet(strictDevice, r.data)
		if r.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v\nwant %s", r.name, err, r.want)
		}
	}
	offCurve := must(spki.MarshalPublicKey(testKey("p256/device7").Public()))
	offCurve[len(offCurve)-1] ^= 1
	if _, err := vet(strictDevice, request{public: offCurve}.build()); err == nil {
		t.Error("a point that is not on its curve was taken")
	}
}

// Names that another policy lets through come after the UUID, and in our encoding.
func TestVetAltNames(t *testing.T) {
	c := RequestConfig{Subject: []string{"common_name"}, UUID: "optional", SubjectAltNames: []string{"dns", "ip", "email", "uri"}}
	names := func(n ...[]byte) []byte { return request{names: san(n...)}.build() }
	v, err := vet(c, names(gn(tagDNS, "a.example"), gn(tagIP, "\x0a\x00\x00\x01"), gn(tagURI, "UUID:"+testUUID), gn(tagEmail, "a@b.example"), gn(tagURI, "https://a.example/x")))
	if want := "uri:UUID:" + testUUID + " dns:a.example ip:10.0.0.1 email:a@b.example uri:https://a.example/x"; err != nil || strings.Join(v.SubjectAltNames, " ") != want {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := vet(c, request{names: []byte{}}.build()); err != nil || v.UUID != "" || len(v.SubjectAltNames) != 0 {
		t.Errorf("%v, %v", v, err)
	}
	for _, r := range []struct {
		name string
		data []byte
		want string
	}{
		{"a wildcard", names(gn(tagDNS, "*.example")), "a request can't ask for a wildcard"},
		{"a name that is no host", names(gn(tagDNS, "a b")), "is not allowed in a general name"},
		{"a name twice", names(gn(tagDNS, "a.example"), gn(tagDNS, "a.example")), "stands twice"},
		{"a mailbox without a host", names(gn(tagEmail, "a")), "is not a mail address"},
		{"an IPv4 address in IPv6", names(gn(tagIP, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01")), ""},
		{"a directory name", names(explicit(tagDirectory, dn("CN=a"))), "which its profile doesn't let through"},
	} {
		if _, err := vet(c, r.data); (err == nil) != (r.want == "") || err != nil && !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v", r.name, err)
		}
	}
	var many [][]byte
	for i := range maxAltNames + 1 {
		many = append(many, gn(tagDNS, fmt.Sprintf("a%d.example", i)))
	}
	if _, err := vet(c, names(many...)); err == nil || !strings.Contains(err.Error(), "65 names, more than 64") {
		t.Error(err)
	}
	// Without a rule for UUIDs none gets in by way of the URIs.
	c.UUID = "none"
	if _, err := vet(c, names(gn(tagURI, "uuid:"+testUUID))); err == nil || !strings.Contains(err.Error(), "asks for UUID") {
		t.Error(err)
	}
	c.Extensions = "drop"
	if v, err := vet(c, names(gn(tagURI, "uuid:"+testUUID))); err != nil || len(v.SubjectAltNames) != 0 || v.UUID != "" {
		t.Errorf("%v, %v", v, err)
	}
}

// No good key is taken for a weak one.
func TestCheckKeyGood(t *testing.T) {
	for i := range 6 {
		if err := CheckKey(testKey(fmt.Sprintf("rsa/good%d", i)).Public()); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if err := CheckKey(must(ecdsa.GenerateKey(c, rand.Reader)).Public()); err != nil {
			t.Error(err)
		}
	}
	// What no product of two odd primes below 752 away hides: the groups hold each prime once.
	product := big.NewInt(1)
	for _, g := range smallPrimes {
		product.Mul(product, new(big.Int).SetUint64(g.product))
	}
	want, count := big.NewInt(1), 0
	for p := int64(3); p < 752; p++ {
		if big.NewInt(p).ProbablyPrime(20) {
			want.Mul(want, big.NewInt(p))
			count++
		}
	}
	if product.Cmp(want) != 0 || count != 132 {
		t.Errorf("%d primes, product %v", count, product)
	}
}

// multipleOf returns an odd multiple of p of the size of n without a smaller factor.
func multipleOf(n *big.Int, p int64) *big.Int {
	for q := new(big.Int).Div(n, big.NewInt(p)); ; q.Add(q, big.NewInt(1)) {
		if q.ProbablyPrime(0) {
			return new(big.Int).Mul(q, big.NewInt(p))
		}
	}
}

// closePrimes returns the product of two primes of 1024 bits that are 2^distance
// apart, or neighbours.
func closePrimes(distance uint) *big.Int {
	p := new(big.Int).Set(rsaKey(testKey("rsa/weak")).Primes[0])
	q := new(big.Int).Add(p, new(big.Int).Lsh(big.NewInt(1), distance))
	for q.SetBit(q, 0, 1); q.Cmp(p) == 0 || !q.ProbablyPrime(0); q.Add(q, big.NewInt(2)) {
	}
	return new(big.Int).Mul(p, q)
}

func square() *big.Int {
	p := rsaKey(testKey("rsa/weak")).Primes[0]
	return new(big.Int).Mul(p, p)
}

// rocaModulus makes a key as the flawed library does (Nemec and others, "The
// Return of Coppersmith's Attack", 2017, Section 2): each prime is
// k·M + (65537^a mod M), M the product of the first 126 primes for 2048 bits.
func rocaModulus() *big.Int {
	m, count := big.NewInt(1), 0
	for p := int64(2); count < 126; p++ {
		if big.NewInt(p).ProbablyPrime(20) {
			m.Mul(m, big.NewInt(p))
			count++
		}
	}
	prime := func() *big.Int {
		for {
			p := new(big.Int).Exp(big.NewInt(65537), must(rand.Int(rand.Reader, m)), m)
			k := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(1023-m.BitLen()))))
			k.SetBit(k, 1024-m.BitLen(), 1)
			if p.Add(p, k.Mul(k, m)); p.BitLen() == 1024 && p.ProbablyPrime(0) {
				return p
			}
		}
	}
	for {
		if n := new(big.Int).Mul(prime(), prime()); n.BitLen() == 2048 {
			return n
		}
	}
}

func BenchmarkCheckKey(b *testing.B) {
	for _, kind := range []string{"rsa/bench", "p256/bench"} {
		key := testKey(kind).Public()
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				if err := CheckKey(key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
