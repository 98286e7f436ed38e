package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/spki"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"plain, a=b; ü € 中":              "plain, a=b; ü € 中",
		"a\nb\x00\x7f":                   `a\0Ab\00\7F`,
		"\x1b[31m":                       `\1B[31m`,
		`back\slash`:                     `back\\slash`,
		"\xff\xc3":                       `\FF\C3`,
		"\u202e\u2028\u0085\u200b\ufeff": `\E2\80\AE\E2\80\A8\C2\85\E2\80\8B\EF\BB\BF`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestColonHex(t *testing.T) {
	for want, in := range map[string][]byte{"": nil, "0a": {10}, "0a:ff:00": {10, 255, 0}} {
		if got := ColonHex(in); got != want {
			t.Errorf("ColonHex(%x) = %q, want %q", in, got, want)
		}
	}
}

func TestDescribeExtension(t *testing.T) {
	tests := []struct {
		oid, der string // the value in hexadecimal
		name     string
		want     []string // nil: malformed, or unknown if there is no name
	}{
		{"2.5.29.19", "3000", "basic_constraints", []string{"not a CA"}},
		{"2.5.29.19", "30060101ff020100", "basic_constraints", []string{"CA", "path length 0"}},
		{"2.5.29.19", "30030101ff00", "basic_constraints", nil},     // trailing octet
		{"2.5.29.19", "30060101ff0201ff", "basic_constraints", nil}, // negative
		{"2.5.29.19", "300301010f", "basic_constraints", nil},       // not DER
		{"2.5.29.15", "03020106", "key_usage", []string{"keyCertSign", "cRLSign"}},
		{"2.5.29.15", "0303070080", "key_usage", []string{"decipherOnly"}},
		{"2.5.29.15", "0303060040", "key_usage", []string{"bit 9"}},
		{"2.5.29.15", "030100", "key_usage", []string{}},
		{"2.5.29.15", "0400", "key_usage", nil},
		{"2.5.29.37", "300a06082b06010505070303", "extended_key_usage", []string{"codeSigning"}},
		{"2.5.29.37", "300906032a0304060455", "extended_key_usage", nil},
		{"2.5.29.37", "300c06032a03040605551d2500", "extended_key_usage", nil},
		{"2.5.29.37", "300b06032a03040604551d2500", "extended_key_usage", []string{"1.2.3.4", "anyExtendedKeyUsage"}},
		{"2.5.29.17", "3003820141", "subject_alt_names", []string{"dns:A"}},
		{"2.5.29.17", "300482021b0a", "subject_alt_names", []string{`dns:\1B\0A`}},
		{"2.5.29.17", "3003870141", "subject_alt_names", []string{"ip:41"}},
		{"2.5.29.17", "3003020141", "subject_alt_names", nil},
		{"2.5.29.18", "3003810141", "issuer_alt_names", []string{"email:A"}},
		{"2.5.29.30", "300ea00c300a87080a000000ff000000", "name_constraints", []string{"permitted ip:10.0.0.0/8"}},
		{"2.5.29.30", "300ea10c300a87080a000000ff00ff00", "name_constraints", []string{"excluded ip:10.0.0.0/ff00ff00"}},
		{"2.5.29.30", "3000", "name_constraints", []string{}},
		{"2.5.29.30", "3002a100ff", "name_constraints", nil},
		{"2.5.29.32", "3007300506032a0304", "policies", []string{"1.2.3.4"}},
		{"2.5.29.32", "3009300706032a03043000", "policies", []string{"1.2.3.4 (with qualifiers)"}},
		{"2.5.29.32", "30023000", "policies", nil},
		{"1.3.6.1.5.5.7.1.1", "300f300d06082b060105050730018601" + "41", "authority_info", []string{"ocsp A"}},
		{"1.3.6.1.5.5.7.1.1", "300a300806032a0304820141", "authority_info", []string{"1.2.3.4 dns:A"}},
		{"1.3.6.1.5.5.7.1.1", "3007300506032a0304", "authority_info", nil},
		{"2.5.29.31", "30093007a005a003860141", "crl_urls", []string{"A"}},
		{"2.5.29.31", "30023000", "crl_urls", []string{"a point without a full name"}},
		{"2.5.29.31", "3003020101", "crl_urls", nil},
		{"2.5.29.14", "0402abcd", "subject_key_id", []string{"ab:cd"}},
		{"2.5.29.14", "0402ab", "subject_key_id", nil},
		{"2.5.29.35", "30048002abcd", "authority_key_id", []string{"ab:cd"}},
		{"2.5.29.35", "3000", "authority_key_id", []string{}},
		{"2.5.29.35", "04", "authority_key_id", nil},
		{"1.3.6.1.5.5.7.48.1.5", "0500", "ocsp_nocheck", []string{}},
		{"1.3.6.1.5.5.7.48.1.5", "0501", "ocsp_nocheck", nil},
		{"2.5.29.20", "02010a", "crl_number", []string{"10"}},
		{"2.5.29.20", "0200", "crl_number", nil},
		{"1.2.3.4", "1b5b", "", nil},
	}
	for _, test := range tests {
		t.Run(test.oid+"="+test.der, func(t *testing.T) {
			oid, err := parseOID(test.oid)
			if err != nil {
				t.Fatal(err)
			}
			value, err := hex.DecodeString(test.der)
			if err != nil {
				t.Fatal(err)
			}
			got := DescribeExtension(pkix.Extension{Id: oid, Critical: true, Value: value})
			if got.OID != test.oid || !got.Critical || got.Name != test.name || !bytes.Equal(got.DER, value) {
				t.Errorf("got %+v", got)
			}
			if !slices.Equal(got.Values, test.want) || (got.Values == nil) != (test.want == nil) || (got.Err != nil) != (test.name != "" && test.want == nil) {
				t.Errorf("values %q, error %v; want %q", got.Values, got.Err, test.want)
			}
		})
	}
}

func FuzzDescribeExtension(f *testing.F) {
	f.Add(0, []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, i int, value []byte) {
		if i < 0 || i >= len(describers) {
			return
		}
		x := DescribeExtension(pkix.Extension{Id: describers[i].oid, Value: value})
		for _, v := range x.Values {
			if strings.ContainsAny(v, "\x1b\n\r\x7f") {
				t.Errorf("%s: %q", x.Name, v)
			}
		}
	})
}

// testChain makes a root, a sub CA and a leaf.
func testChain(t *testing.T) (root, sub, leaf *Certificate, rootKey ed25519.PrivateKey) {
	t.Helper()
	issue := func(name string, isCA bool, issuer *x509.Certificate, issuerKey ed25519.PrivateKey) (*Certificate, ed25519.PrivateKey) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if issuer == nil {
			issuer, issuerKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, pub, issuerKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	root, rootKey = issue("Root", true, nil, nil)
	sub, subKey := issue("Sub CA", true, root.Certificate, rootKey)
	leaf, _ = issue("A leaf", false, sub.Certificate, subKey)
	return root, sub, leaf, rootKey
}

func TestLink(t *testing.T) {
	root, sub, leaf, _ := testChain(t)
	stranger, _, _, _ := testChain(t) // has the root's name, and another key
	for _, test := range []struct {
		name        string
		certs, want []*Certificate
	}{
		{"none", nil, nil},
		{"one", []*Certificate{leaf}, []*Certificate{leaf}},
		{"in order", []*Certificate{leaf, sub, root}, []*Certificate{leaf, sub, root}},
		{"issuers in disorder", []*Certificate{leaf, root, sub}, []*Certificate{leaf, sub, root}},
		{"without the root", []*Certificate{leaf, sub}, []*Certificate{leaf, sub}},
		{"a hole", []*Certificate{leaf, root}, []*Certificate{leaf}},
		{"root first", []*Certificate{root, sub, leaf}, []*Certificate{root}},
		{"a name that lies", []*Certificate{leaf, sub, stranger}, []*Certificate{leaf, sub}},
		{"twice the same", []*Certificate{leaf, leaf, sub}, []*Certificate{leaf, sub}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Link(test.certs); !slices.EqualFunc(got, test.want, (*Certificate).Equal) {
				t.Errorf("%d certificates, want %d", len(got), len(test.want))
			}
		})
	}
}

func TestParseCRL(t *testing.T) {
	root, sub, _, key := testChain(t)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: time.Now(), ReasonCode: 1}},
	}, root.Certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	for name, data := range map[string][]byte{"DER": der, "PEM": block} {
		l, err := ParseCRL(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l.Issuer().String() != "CN=Root" || l.Algorithm.Scheme != spki.EdDSA || l.Count != 1 {
			t.Errorf("%s: %+v", name, l)
		}
		if err := l.CheckSignature(root.Key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.CheckSignature(sub.Key); !errors.Is(err, spki.ErrSignature) {
			t.Errorf("%s with another key: %v", name, err)
		}
	}
	for want, data := range map[string][]byte{
		"CRL: ":                               der[:len(der)-1],
		"something follows it":                append(bytes.Clone(der), 0),
		"something follows":                   append(bytes.Clone(block), block...),
		`a "CERTIFICATE" stands where`:        MarshalPEM(root),
		fmt.Sprintf("larger than %d", MaxCRL): make([]byte, MaxCRL+1),
		"too large":                           make([]byte, 2*MaxCRL+1),
	} {
		if _, err := ParseCRL(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestUnprovenRequest(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Device"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRequest(der); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(der)
	bad[len(bad)-1] ^= 1
	if _, err := ParseRequest(bad); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("ParseRequest takes a bad proof: %v", err)
	}
	r, err := ParseUnprovenRequest(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckProof(); !errors.Is(err, spki.ErrSignature) || r.Subject().String() != "CN=Device" {
		t.Errorf("%s: %v", r.Subject(), err)
	}
	// An algorithm that this program doesn't verify can be looked at, no more.
	ed := asn1.ObjectIdentifier{1, 3, 101, 112}
	oid, err := asn1.Marshal(ed)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(bad, oid)
	bad[at+len(oid)-1]++ // Ed448
	if _, err := ParseRequest(bad); err == nil || !strings.Contains(err.Error(), "1.3.101.113 is not supported") {
		t.Errorf("ParseRequest: %v", err)
	}
	if r, err = ParseUnprovenRequest(bad); err != nil || r.AlgorithmError == nil {
		t.Errorf("ParseUnprovenRequest: %v", err)
	}
}
