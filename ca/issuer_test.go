package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

var testLinter = sync.OnceValue(func() *Linter { return must(NewLinter()) })

func ptr[T any](v T) *T { return &v }

// Profiles that most tests use.
func rootProfile() *Profile {
	return must(NewProfile("root", ProfileConfig{CA: ptr(true), Validity: ptr("3650d"), KeyUsage: []string{"keyCertSign", "cRLSign"}}))
}
func subProfile() *Profile {
	return must(NewProfile("subca", ProfileConfig{CA: ptr(true), PathLength: ptr(0), Validity: ptr("2190d"), KeyUsage: []string{"keyCertSign", "cRLSign"}}))
}
func leafProfile() *Profile {
	return must(NewProfile("backend", ProfileConfig{Validity: ptr("365d"), KeyUsage: []string{"digitalSignature"}, ExtendedKeyUsage: []string{"serverAuth"}}))
}

func testName(cn string) Name {
	return must(NewName(SubjectConfig{Country: "DE", Organization: "Test", CommonName: cn}))
}

func defaultAlgorithm(t testing.TB, s crypto.Signer) spki.SignatureAlgorithm {
	t.Helper()
	return must(spki.DefaultAlgorithm(must(spki.KeyTypeOf(s.Public())), 0))
}

// issue takes the road of the package comment.
func issue(t testing.TB, i *Issuer, p *Profile, r Request) *Certificate {
	t.Helper()
	prepared, err := i.Prepare(p, r)
	if err != nil {
		t.Fatalf("preparing %s: %v", r.Name, err)
	}
	if got := prepared.Record("test"); got.TBSHash != sha256.Sum256(prepared.draft.RawTBSCertificate) || got.Issuer != i.name || got.Actor != "test" || got.Name != r.Name || got.Profile != p.name {
		t.Errorf("record %+v", got)
	}
	cert, err := i.Sign(prepared)
	if err != nil {
		t.Fatalf("signing %s: %v", r.Name, err)
	}
	if !bytes.Equal(cert.RawTBSCertificate, prepared.draft.RawTBSCertificate) {
		t.Errorf("%s: the signed bytes are not those that were linted", r.Name)
	}
	if err := testLinter().Check(cert.Raw); err != nil {
		t.Errorf("%s: %v", r.Name, err)
	}
	return cert
}

// authority makes a root, or a CA below one.
func authority(t testing.TB, by *Issuer, p *Profile, name string, key crypto.Signer) *Issuer {
	t.Helper()
	r := Request{Name: name, Subject: testName(name), PublicKey: key.Public(), NotBefore: testFrom}
	if by == nil {
		var err error
		if by, err = NewSelfIssuer(name, r.Subject, key, defaultAlgorithm(t, key), testLinter()); err != nil {
			t.Fatal(err)
		}
	}
	i, err := NewIssuer(name, issue(t, by, p, r), key, defaultAlgorithm(t, key), testLinter())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var keyKinds = []string{"rsa", "pss", "pss256", "p256", "p384", "p521", "ed25519"}

// All key types as root, sub CA and leaf, below all others: openssl verify in
// its strict mode agrees, and so does Verify.
func TestIssueKeyTypes(t *testing.T) {
	tooltest.Need(t, "openssl")
	dir := t.TempDir()
	type file struct{ root, sub, leaf string }
	var files []file
	serials := map[string]bool{}
	for i, above := range keyKinds {
		root := authority(t, nil, rootProfile(), "Root "+above, testKey(above+"/issue root"))
		for j, below := range keyKinds {
			sub := authority(t, root, subProfile(), "Sub "+below, testKey(below+"/issue sub"))
			leafKey := testKey(keyKinds[(i+j)%len(keyKinds)] + "/issue leaf")
			leaf := issue(t, sub, leafProfile(), Request{Name: "leaf", Subject: testName("Leaf"), PublicKey: leafKey.Public(), NotBefore: testFrom,
				SubjectAltNames: []string{"dns:localhost", "ip:127.0.0.1"}})
			certs := []*Certificate{leaf, sub.certificate, root.certificate}
			if _, err := Verify(leaf, VerifyOptions{Roots: certs[2:], Intermediates: certs[1:2], Time: testFrom}); err != nil {
				t.Errorf("%s, %s: %v", above, below, err)
			}
			for k, c := range certs {
				if k < 2 { // the root is seen many times
					if serials[c.SerialNumber.String()] {
						t.Errorf("serial %x twice", c.SerialNumber)
					}
					serials[c.SerialNumber.String()] = true
				}
				if c.SerialNumber.Sign() <= 0 || len(c.SerialNumber.Bytes()) != 20 || c.SerialNumber.Bit(159) != 0 {
					t.Errorf("serial %x is not of 20 octets and positive", c.SerialNumber)
				}
				if !bytes.Equal(c.SubjectKeyId, must(spki.KeyID(must(spki.MarshalPublicKey(c.Key))))) {
					t.Errorf("subject key identifier %x is not method 1", c.SubjectKeyId)
				}
				for _, x := range c.Extensions {
					if x.Id.Equal(oidAuthorityKeyID) {
						if want := authorityKeyID(certs[k+1].SubjectKeyId, nil, nil); !bytes.Equal(x.Value, want) {
							t.Errorf("authority key identifier %x, want the key identifier alone: %x", x.Value, want)
						}
					}
				}
			}
			if len(root.certificate.AuthorityKeyId) != 0 {
				t.Error("the root has an authority key identifier")
			}
			f := file{}
			for k, path := range []*string{&f.leaf, &f.sub, &f.root} {
				*path = filepath.Join(dir, fmt.Sprintf("%d-%d-%d", i, j, k))
				if err := os.WriteFile(*path, MarshalPEM(certs[k]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			files = append(files, f)
		}
	}
	at := fmt.Sprint(testFrom.Add(time.Hour).Unix())
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, f := range files {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			tooltest.Run(t, "openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", at, "-CAfile", f.root, "-untrusted", f.sub, f.leaf)
			tooltest.Run(t, "openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", at, "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile", f.root, "-untrusted", f.sub, f.leaf)
		})
	}
	wg.Wait()
}

// Everything that a profile can say, as OpenSSL reads it.
func TestIssueExtensions(t *testing.T) {
	tooltest.Need(t, "openssl")
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/extensions root"))
	sub := must(NewProfile("sub", ProfileConfig{
		CA: ptr(true), PathLength: ptr(3), Validity: ptr("1000d"),
		KeyUsage:         []string{"cRLSign", "keyCertSign"},
		ExtendedKeyUsage: []string{"serverAuth", "OCSPSigning", "1.3.6.1.4.1.311.10.3.6"},
		NameConstraints: &NameConstraintsConfig{
			Permitted: []string{"dns:example.com", "email:example.com", "email:a@example.org", "uri:.example.com", "ip:10.0.0.0/8"},
			Excluded:  []string{"dns:.bad.example.com", "ip:2001:db8::/32"},
		},
		Policies:   []string{"1.3.6.1.4.1.99999.1", "2.5.29.32.0"},
		IssuerURLs: []string{"http://pki.example.com/root.cer"},
		OCSPURLs:   []string{"http://ocsp.example.com/"},
		CRLURLs:    []string{"http://pki.example.com/a.crl", "ldap://ldap.example.com/cn=a"},
		Extensions: []ExtensionConfig{{OID: "1.3.6.1.4.1.99999.2", DER: "0c0568656c6c6f"}},
	}))
	cert := authority(t, root, sub, "Sub", testKey("p256/extensions sub")).certificate
	path := filepath.Join(t.TempDir(), "cert")
	if err := os.WriteFile(path, MarshalPEM(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	text := string(tooltest.Run(t, "openssl", "x509", "-in", path, "-noout", "-text", "-certopt", "no_header,no_version,no_serial,no_signame,no_validity,no_subject,no_issuer,no_pubkey,no_sigdump"))
	text = regexp.MustCompile(`\s*\n+`).ReplaceAllString(text, "\n")
	text = regexp.MustCompile(`([0-9A-F]{2}:){19}[0-9A-F]{2}`).ReplaceAllString(text, "KEYID")
	want := `        X509v3 extensions:
            X509v3 Basic Constraints: critical
                CA:TRUE, pathlen:3
            X509v3 Key Usage: critical
                Certificate Sign, CRL Sign
            X509v3 Extended Key Usage:
                TLS Web Server Authentication, OCSP Signing, 1.3.6.1.4.1.311.10.3.6
            X509v3 Name Constraints: critical
                Permitted:
                  DNS:example.com
                  email:example.com
                  email:a@example.org
                  URI:.example.com
                  IP:10.0.0.0/255.0.0.0
                Excluded:
                  DNS:.bad.example.com
                  IP:2001:DB8:0:0:0:0:0:0/FFFF:FFFF:0:0:0:0:0:0
            X509v3 Certificate Policies:
                Policy: 1.3.6.1.4.1.99999.1
                Policy: X509v3 Any Policy
            Authority Information Access:
                OCSP - URI:http://ocsp.example.com/
                CA Issuers - URI:http://pki.example.com/root.cer
            X509v3 CRL Distribution Points:
                Full Name:
                  URI:http://pki.example.com/a.crl
                Full Name:
                  URI:ldap://ldap.example.com/cn=a
            1.3.6.1.4.1.99999.2:
                ..hello
            X509v3 Subject Key Identifier:
                KEYID
            X509v3 Authority Key Identifier:
                KEYID
`
	if strings.TrimSpace(text) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if drift := sub.Drift(cert, nil); drift != "" {
		t.Errorf("drift: %s", drift)
	}
}

// The octets of key usage and basicConstraints: DER has one form for each.
func TestExtensionOctets(t *testing.T) {
	for _, r := range []struct {
		names []string
		want  string
	}{
		{[]string{"digitalSignature"}, "03020780"},
		{[]string{"digitalSignature", "nonRepudiation", "keyEncipherment"}, "030205e0"},
		{[]string{"keyAgreement"}, "03020308"},
		{[]string{"keyAgreement", "encipherOnly"}, "03020009"},
		{[]string{"keyAgreement", "decipherOnly"}, "0303070880"},
		{[]string{"decipherOnly", "keyAgreement", "digitalSignature"}, "0303078880"},
	} {
		p := must(NewProfile("x", ProfileConfig{Validity: ptr("1d"), KeyUsage: r.names}))
		if got := hex.EncodeToString(p.fixed[1].value); got != r.want || !p.fixed[1].critical || hex.EncodeToString(p.fixed[0].value) != "3000" || !p.fixed[0].critical {
			t.Errorf("%v: key usage %s, want %s; basicConstraints %x", r.names, got, r.want, p.fixed[0].value)
		}
	}
	for _, r := range []struct {
		pathLength *int
		want       string
	}{{nil, "30030101ff"}, {ptr(0), "30060101ff020100"}, {ptr(10), "30060101ff02010a"}} {
		p := must(NewProfile("x", ProfileConfig{CA: ptr(true), PathLength: r.pathLength, Validity: ptr("1d"), KeyUsage: []string{"keyCertSign", "cRLSign"}}))
		if got := hex.EncodeToString(p.fixed[0].value); got != r.want || hex.EncodeToString(p.fixed[1].value) != "03020106" {
			t.Errorf("basicConstraints %s, want %s; key usage %x", got, r.want, p.fixed[1].value)
		}
	}
}

// The device reads its UUID back by pattern: the URI stays as it was written.
func TestIssueDevice(t *testing.T) {
	sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	const uuid = "uri:UUID:0E4bdf5a-8a4b-4f4f-8d3a-8b0a6c2f6c3d"
	req := must(ParseRequest(readReference(t, "tpm-1.csr")))
	cert := issue(t, sub, leafProfile(), Request{Name: "device", Subject: req.Subject(), PublicKey: req.Key, NotBefore: testFrom, SubjectAltNames: []string{uuid, "dns:a.example"}})
	want := san(gn(tagURI, uuid[4:]), gn(tagDNS, "a.example"))
	found := false
	for _, x := range cert.Extensions {
		found = found || x.Id.Equal(oidSubjectAltName) && bytes.Equal(x.Value, want) && !x.Critical
	}
	if !found || !spki.Equal(cert.Key, req.Key) || !bytes.Equal(cert.RawSubject, req.RawSubject) {
		t.Errorf("extensions %v", cert.Extensions)
	}
	// Newlines in a real device's name are no reason to refuse it.
	req = must(ParseRequest(readReference(t, "scd-1.csr")))
	issue(t, sub, leafProfile(), Request{Name: "device", Subject: req.Subject(), PublicKey: req.Key, NotBefore: testFrom})
	req = must(ParseRequest(readReference(t, "scd-2.csr")))
	issue(t, sub, leafProfile(), Request{Name: "device", Subject: req.Subject(), PublicKey: req.Key, NotBefore: testFrom})
}

func TestValidityEncoding(t *testing.T) {
	key := testKey("p256/validity")
	i := must(NewSelfIssuer("root", testName("Root"), key, defaultAlgorithm(t, key), testLinter()))
	for _, r := range []struct {
		from, to, wantFrom, wantTo string
	}{
		{"2026-01-01T00:00:00.9Z", "8400d", "170d3236303130313030303030305a", "170d3438313233313030303030305a"},
		{"2049-12-31T00:00:00Z", "1d", "170d3439313233313030303030305a", "180f32303530303130313030303030305a"},
		{"2050-01-01T01:00:00+01:00", "36525d", "180f32303530303130313030303030305a", "180f32313530303130323030303030305a"},
	} {
		from := must(time.Parse(time.RFC3339, r.from))
		p := must(NewProfile("root", ProfileConfig{CA: ptr(true), Validity: ptr(r.to), KeyUsage: []string{"keyCertSign", "cRLSign"}}))
		cert := issue(t, i, p, Request{Name: "root", Subject: i.subject, PublicKey: key.Public(), NotBefore: from})
		if !bytes.Contains(cert.RawTBSCertificate, unhex(r.wantFrom+r.wantTo)) {
			t.Errorf("%s + %s: %v to %v", r.from, r.to, cert.NotBefore, cert.NotAfter)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	key, leafKey := testKey("p256/prepare"), testKey("p256/prepare leaf")
	constrained := must(NewProfile("sub", ProfileConfig{CA: ptr(true), PathLength: ptr(0), Validity: ptr("1000d"), KeyUsage: []string{"keyCertSign", "cRLSign"},
		NameConstraints: &NameConstraintsConfig{Permitted: []string{"dns:example.com"}}}))
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/prepare root"))
	sub := authority(t, root, constrained, "Sub", key)
	self := must(NewSelfIssuer("self", testName("Self"), key, defaultAlgorithm(t, key), testLinter()))
	for _, r := range []struct {
		name    string
		issuer  *Issuer
		profile *Profile
		change  func(*Request)
		want    string
	}{
		{"as it should be", sub, leafProfile(), func(r *Request) {}, ""},
		{"outlives the issuer", sub, must(NewProfile("long", ProfileConfig{Validity: ptr("1001d"), KeyUsage: []string{"digitalSignature"}})), func(r *Request) {},
			`"leaf" would be valid until 2028-09-28, but its issuer "Sub" ends on 2028-09-27: shorten validity, or renew the issuer`},
		{"ends with the issuer", sub, must(NewProfile("long", ProfileConfig{Validity: ptr("1000d"), KeyUsage: []string{"digitalSignature"}})), func(r *Request) {}, ""},
		{"begins before the issuer", sub, leafProfile(), func(r *Request) { r.NotBefore = testFrom.Add(-time.Second) },
			`"leaf" would be valid from 2025-12-31T23:59:59Z, before its issuer "Sub": is the clock right?`},
		{"no time", sub, leafProfile(), func(r *Request) { r.NotBefore = time.Time{} },
			`"leaf" would be valid from 0001-01-01T00:00:00Z, before its issuer "Sub": is the clock right?`},
		{"the issuer's subject", sub, leafProfile(), func(r *Request) { r.Subject = testName("SUB") },
			`"leaf" has the subject of its issuer "Sub": give it its own common_name`},
		{"the issuer's key", sub, leafProfile(), func(r *Request) { r.PublicKey = key.Public() }, `"leaf" has the key of its issuer "Sub"`},
		{"a CA below path length 0", sub, must(NewProfile("subca", ProfileConfig{CA: ptr(true), Validity: ptr("1d"), KeyUsage: []string{"keyCertSign", "cRLSign"}})), func(r *Request) {}, `"leaf" does not fit below "Sub", whose path length is 0`},
		{"a name that the issuer forbids", sub, leafProfile(), func(r *Request) { r.SubjectAltNames = []string{"dns:example.com", "dns:example.org"} },
			`"leaf": the name example.org is not among the permitted ones, which its issuer "Sub" forbids`},
		{"a common name that the issuer forbids", sub, leafProfile(), func(r *Request) { r.Subject = testName("www.example.org") },
			`"leaf": the name www.example.org is not among the permitted ones, which its issuer "Sub" forbids`},
		{"a name that is none", sub, leafProfile(), func(r *Request) { r.SubjectAltNames = []string{"dns:a b"} },
			`"leaf": subject_alt_names: "dns:a b": ' ' is not allowed in a general name`},
		{"no subject", sub, leafProfile(), func(r *Request) { r.Subject = nil }, `"leaf": subject: malformed name`},
		{"something behind the subject", sub, leafProfile(), func(r *Request) { r.Subject = append(testName("Leaf"), r.Subject...) }, `"leaf": subject: malformed name`},
		{"a subject that is cut off", sub, leafProfile(), func(r *Request) { r.Subject = r.Subject[:len(r.Subject)-1] }, `"leaf": subject: malformed name`},
		{"a short key", sub, leafProfile(), func(r *Request) { r.PublicKey = testKey("rsa1024/leaf").Public() },
			`"leaf": publicKey: RSA 1024 is too short, 2048 bits are the least`},
		{"no key", sub, leafProfile(), func(r *Request) { r.PublicKey = nil }, `"leaf": publicKey: public key: type <nil> is not supported`},
		{"self-signed, another subject", self, rootProfile(), func(r *Request) { r.PublicKey = key.Public() },
			`"leaf" is self-signed: its subject and key must be its own`},
		{"self-signed, another key", self, rootProfile(), func(r *Request) { r.Subject = testName("Self") },
			`"leaf" is self-signed: its subject and key must be its own`},
	} {
		req := Request{Name: "leaf", Subject: testName("Leaf"), PublicKey: leafKey.Public(), NotBefore: testFrom}
		r.change(&req)
		_, err := r.issuer.Prepare(r.profile, req)
		var rejected *RejectedError
		switch {
		case r.want == "":
			if err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		case err == nil || err.Error() != r.want:
			t.Errorf("%s: %v\nwant %s", r.name, err, r.want)
		case !errors.As(err, &rejected):
			t.Errorf("%s: %v is a %T: not the requester's to mend", r.name, err, err)
		}
	}
	// What only the linter sees is refused as well, before anything is signed.
	bad := must(NewProfile("bad", ProfileConfig{Validity: ptr("1d"), KeyUsage: []string{"keyEncipherment"}}))
	if _, err := sub.Prepare(bad, Request{Name: "leaf", Subject: testName("Leaf"), PublicKey: leafKey.Public(), NotBefore: testFrom}); err == nil || !strings.HasPrefix(err.Error(), `the certificate of "leaf" would be bad: lint: `) {
		t.Errorf("lint: %v", err)
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	key := testKey("p256/new issuer")
	root := authority(t, nil, rootProfile(), "Root", key)
	leaf := issue(t, root, leafProfile(), Request{Name: "leaf", Subject: testName("Leaf"), PublicKey: testKey("p256/new leaf").Public(), NotBefore: testFrom})
	ecdsa := defaultAlgorithm(t, key)
	for _, r := range []struct {
		cert      *Certificate
		signer    crypto.Signer
		algorithm spki.SignatureAlgorithm
		want      string
	}{
		{root.certificate, testKey("p256/another"), ecdsa, fmt.Sprintf(`issuer "x": the key is not the one in its certificate %x`, root.certificate.SerialNumber)},
		{leaf, testKey("p256/new leaf"), ecdsa, fmt.Sprintf(`issuer "x": its certificate %x may not sign certificates`, leaf.SerialNumber)},
		{root.certificate, key, spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, `issuer "x": RSA PKCS#1 v1.5 SHA-256 does not fit a key of type ec:P-256`},
	} {
		if _, err := NewIssuer("x", r.cert, r.signer, r.algorithm, testLinter()); err == nil || err.Error() != r.want {
			t.Errorf("%v\nwant %s", err, r.want)
		}
	}
	if _, err := NewSelfIssuer("x", testName("X"), key, spki.SignatureAlgorithm{Scheme: spki.EdDSA}, testLinter()); err == nil {
		t.Error("EdDSA with an EC key: no error")
	}
}

// faultySigner does to signatures, and says of its key, what it is told.
type faultySigner struct {
	crypto.Signer
	sign func(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (s faultySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(random, digest, opts)
}

func TestSignFaulty(t *testing.T) {
	broken := errors.New("the token is gone")
	for _, kind := range keyKinds {
		key, other := testKey(kind+"/issue root"), testKey(kind+"/issue sub")
		for name, sign := range map[string]func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error){
			"flips a bit": func(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
				signature, err := key.Sign(random, digest, opts)
				signature[len(signature)-1] ^= 1
				return signature, err
			},
			"signs another digest": func(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
				digest = bytes.Clone(digest)
				digest[0] ^= 1
				return key.Sign(random, digest, opts)
			},
			"signs with another key": other.Sign,
			"returns nothing":        func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil },
			"returns zeros":          func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return make([]byte, 256), nil },
			"returns an error as well": func(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
				s, _ := key.Sign(r, d, o)
				return s, broken
			},
			"returns its argument back": func(_ io.Reader, d []byte, _ crypto.SignerOpts) ([]byte, error) { return d, nil },
		} {
			signer := faultySigner{key, sign}
			i := must(NewSelfIssuer("root", testName("Root"), signer, defaultAlgorithm(t, key), testLinter()))
			p := must(i.Prepare(rootProfile(), Request{Name: "root", Subject: i.subject, PublicKey: key.Public(), NotBefore: testFrom}))
			cert, err := i.Sign(p)
			if err == nil || cert != nil {
				t.Errorf("%s: a signer that %s: no error", kind, name)
			} else if name == "returns an error as well" && !errors.Is(err, broken) || name != "returns an error as well" && !errors.Is(err, spki.ErrSignature) {
				t.Errorf("%s: a signer that %s: %v", kind, name, err)
			}
		}
	}
}

func TestSignOnce(t *testing.T) {
	key, leafKey := testKey("p256/once"), testKey("p256/once leaf")
	a, b := authority(t, nil, rootProfile(), "A", key), authority(t, nil, rootProfile(), "A", key)
	p := must(a.Prepare(leafProfile(), Request{Name: "leaf", Subject: testName("Leaf"), PublicKey: leafKey.Public(), NotBefore: testFrom}))
	if _, err := b.Sign(p); err == nil || err.Error() != "the certificate was prepared by another issuer" {
		t.Errorf("foreign: %v", err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var certs []*Certificate
	for range 8 {
		wg.Go(func() {
			cert, err := a.Sign(p)
			if err == nil {
				mu.Lock()
				certs = append(certs, cert)
				mu.Unlock()
			} else if err.Error() != `the certificate of "leaf" was signed before: prepare another one` {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(certs) != 1 {
		t.Errorf("%d certificates with serial %x", len(certs), p.Serial())
	}
}

func TestIssueConcurrently(t *testing.T) {
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/concurrent"))
	leafKey := testKey("ed25519/concurrent")
	profile := leafProfile()
	var mu sync.Mutex
	serials := map[string]bool{}
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			cert := issueQuietly(root, profile, Request{Name: fmt.Sprint(n), Subject: testName(fmt.Sprint("Leaf ", n)), PublicKey: leafKey.Public(), NotBefore: testFrom,
				SubjectAltNames: []string{"dns:a.example"}})
			if err := cert.CheckSignature(root.certificate.Key); err != nil {
				t.Error(err)
			}
			if profile.Drift(cert, []string{"dns:a.example"}) != "" || profile.Drift(cert, nil) == "" {
				t.Error("drift")
			}
			mu.Lock()
			defer mu.Unlock()
			serials[cert.SerialNumber.String()] = true
		})
	}
	wg.Wait()
	if len(serials) != 40 {
		t.Errorf("%d serials", len(serials))
	}
}

func issueQuietly(i *Issuer, p *Profile, r Request) *Certificate {
	return must(i.Sign(must(i.Prepare(p, r))))
}

func TestSerials(t *testing.T) {
	seen := map[string]bool{}
	var or, and [20]byte
	for i := range and {
		and[i] = 0xff
	}
	now := time.Unix(1_800_000_000, 0)
	for range 5000 {
		serial := must(newSerial(now))
		if len(serial) != 20 || !bytes.Equal(serial[:4], []byte{0x11, 0xe1, 0xa3, 0x00}) {
			t.Fatalf("serial %x", serial)
		}
		seen[string(serial)] = true
		for i, b := range serial {
			or[i] |= b
			and[i] &= b
		}
	}
	// Each of the other 128 bits is set here and clear there.
	if len(seen) != 5000 || !bytes.Equal(or[4:], bytes.Repeat([]byte{0xff}, 16)) || !bytes.Equal(and[4:], make([]byte, 16)) {
		t.Errorf("%d serials, bits ever set %x, bits always set %x", len(seen), or, and)
	}
	// Whatever the clock says, the encoding has one length (RFC 5280, 4.1.2.2), and
	// later serials are greater.
	last := []byte{}
	for _, year := range []int{1970, 1999, 2017, 2018, 2026, 2038, 2084, 2086, 9999} {
		serial := must(newSerial(time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)))
		if len(serial) != 20 || serial[0] == 0 || serial[0] > 0x7f {
			t.Errorf("%d: serial %x", year, serial)
		}
		if year > 2018 && year < 2085 && bytes.Compare(serial, last) <= 0 {
			t.Errorf("%d: serial %x after %x", year, serial, last)
		}
		last = serial
	}
}
