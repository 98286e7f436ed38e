package ca

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzParseCertificate: what parses has the same octets, and can be held
// against itself without a panic.
func FuzzParseCertificate(f *testing.F) {
	for _, r := range verifyRows()[:200] {
		f.Add(r.leaf.build())
	}
	for _, file := range []string{"backend.cert", "ssig_cml.cert", "gen_rootca.cert"} {
		f.Add(reference(f, file)[0].Raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCertificate(der)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Raw, der) || !bytes.Contains(der, c.RawTBSCertificate) {
			t.Fatal("Raw is not what was parsed")
		}
		if c.Key == nil || c.KeyType().Kind == 0 {
			t.Fatal("no key")
		}
		if (c.AlgorithmError == nil) != (c.Algorithm.Scheme != 0) {
			t.Fatalf("algorithm %v, error %v", c.Algorithm, c.AlgorithmError)
		}
		checkText(t, c.Subject().String())
		checkText(t, c.Issuer().String())
		again, err := ParsePEM(MarshalPEM(c))
		if err != nil || len(again) != 1 || !again[0].Equal(c) {
			t.Fatalf("PEM and back: %v", err)
		}
		list := []*Certificate{c}
		_, selfErr := Verify(c, VerifyOptions{Roots: list, Time: testNow})
		if selfErr == nil && !c.SelfSigned() {
			t.Fatal("a root that is not self-signed")
		}
		if selfErr != nil {
			checkText(t, selfErr.Error())
		}
		if nc, err := constraintsOf(c); err == nil && nc != nil {
			_ = nc.checkCertificate(c, true)
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	for _, file := range []string{"backend.cert", "ssig.cert", "gen_rootca.cert", "plain.csr"} {
		f.Add(readReference(f, file))
	}
	f.Add(bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\n"), 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParsePEM(data)
		if err != nil {
			if certs != nil {
				t.Fatal("certificates beside an error")
			}
			return
		}
		if len(certs) == 0 || len(certs) > MaxChain {
			t.Fatalf("%d certificates", len(certs))
		}
		again, err := ParsePEM(MarshalPEM(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("%d certificates, then %d (%v)", len(certs), len(again), err)
		}
		for i := range certs {
			if !again[i].Equal(certs[i]) {
				t.Fatalf("certificate %d changed", i)
			}
		}
	})
}

// FuzzParseRequest: what parses proves possession of its key, and is the same
// as DER.
func FuzzParseRequest(f *testing.F) {
	for _, file := range []string{"plain.csr", "scd-1.csr", "scd-2.csr", "tpm-1.csr"} {
		f.Add(readReference(f, file))
		f.Add(must(ParseRequest(readReference(f, file))).Raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRequest(data)
		if err != nil {
			checkText(t, err.Error())
			return
		}
		if err := r.Algorithm.Verify(r.Key, r.RawTBSCertificateRequest, r.Signature); err != nil {
			t.Fatal(err)
		}
		checkText(t, r.Subject().String())
		if again, err := ParseRequest(r.Raw); err != nil || !bytes.Equal(again.Raw, r.Raw) {
			t.Fatalf("as DER: %v", err)
		}
	})
}

// FuzzName: whatever a name holds, it shows as one line of text, equals itself,
// and equals others both ways.
func FuzzName(f *testing.F) {
	for _, n := range [][]byte{dn(), dn("CN=a", "O=b"), dn("CN=\x00\n\x1b[0m"), dn("CN=a\xffb"), dn(set(ava("2.5.4.3", 30, "\xd8\x00\x00a"))), dn(set(ava("2.5.4.3", 20, "\xc4"))),
		dn(set(ava("2.5.4.3", 28, "\x7f\xff\xff\xff"))), dn(set(ava("2.5.4.3", 12, "b"), ava("2.5.4.10", 12, "a"))), {0x30}, {0x31, 0}, nil} {
		f.Add(n, []byte(dn("CN=A")))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		n, o := Name(a), Name(b)
		checkText(t, n.String())
		n.CommonName()
		if !n.Equal(n) || n.Equal(o) != o.Equal(n) || n.Equal(o) != (n.Canonical() == o.Canonical()) {
			t.Fatalf("%x and %x: %q, %q", a, b, n.Canonical(), o.Canonical())
		}
	})
}

func checkText(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("%q can't be shown", s)
	}
}

func TestFuzzCorpora(t *testing.T) {
	for _, name := range []string{"FuzzParseCertificate", "FuzzParsePEM", "FuzzParseRequest", "FuzzName"} {
		files, err := os.ReadDir(filepath.Join("testdata", "fuzz", name))
		if err != nil || len(files) == 0 {
			t.Errorf("the seed corpus of %s is empty (%v)", name, err)
		}
	}
}
