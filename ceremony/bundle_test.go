package ceremony_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/ceremony"
	"tmpki/spki"
)

var when = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const pki = "000102030405060708090a0b0c0d0e0f"

// request returns one that uses every field.
func request() *ceremony.Request {
	return &ceremony.Request{
		Actor:  "root@online",
		Number: 3,
		PKI:    pki,
		Plan:   "version: 1\nplan: <test> & ü\n",
		Certificates: []ceremony.CertificateItem{
			{Entry: "root"},
			{Entry: "sub", CSR: []byte("a request"), Have: "0a"},
		},
		CRLs: []ceremony.CRLItem{{Authority: "root", Number: 2, Validity: 86400, Revoked: []ceremony.Revoked{
			{Name: "sub", Reason: 4, Serial: "0a", Time: when},
			{Name: "sub", Reason: 1, Serial: "0b", Time: when},
		}}},
		Known:     []ceremony.Known{{Entry: "DB", Certificate: []byte("a certificate")}},
		Program:   "tmpki test",
		Time:      when,
		Variables: []ceremony.VariableItem{{ID: "board-a/db", Owner: "6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11", After: when}, {ID: "PK", Owner: "6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11"}},
		Vendors:   []ceremony.Vendor{{File: "vendor/ms.cer", Content: []byte("another")}},
	}
}

func response() *ceremony.Response {
	return &ceremony.Response{
		Actor:               "root@offline",
		Certificates:        []ceremony.Issued{{Entry: "root", Certificate: []byte("a certificate")}},
		CRLs:                []ceremony.CRL{{Authority: "root", Content: []byte("a CRL")}},
		Number:              3,
		PKI:                 pki,
		Plan:                strings.Repeat("ab", 32),
		Program:             "tmpki test",
		Request:             strings.Repeat("cd", 32),
		Time:                when,
		Transcript:          "Ceremony\n",
		TranscriptSignature: []byte("cms"),
		TranscriptSigner:    "root",
		Variables:           []ceremony.Variable{{ID: "PK", Content: []byte("auth")}},
	}
}

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var algorithm = spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: 5}

func TestRoundTrip(t *testing.T) {
	k := key(t)
	q, a := request(), response()
	for _, err := range []error{q.Seal(), a.Seal(), q.Sign("sub", k, algorithm), a.Sign("root", k, algorithm)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	q2, err := ceremony.ParseRequest(q.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	a2, err := ceremony.ParseResponse(a.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(q2.Marshal(), q.Marshal()) || q2.Plan != q.Plan || q2.Digest() != q.Digest() || !bytes.Equal(a2.Marshal(), a.Marshal()) || a2.Transcript != a.Transcript {
		t.Error("not the same after reading")
	}
	if err := q2.Verify(q2.Signatures()[0], k.Public(), algorithm); err != nil {
		t.Error(err)
	}
	if err := q2.Verify(q2.Signatures()[0], key(t).Public(), algorithm); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if err := a2.Verify(q2.Signatures()[0], k.Public(), algorithm); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("the signature of another bundle: %v", err)
	}
	if _, err := ceremony.ParseRequest(a.Marshal()); err == nil || !strings.Contains(err.Error(), "a response, where a request should be") {
		t.Errorf("a response as request: %v", err)
	}
	if _, err := ceremony.ParseResponse(q.Marshal()); err == nil || !strings.Contains(err.Error(), "a request, where a response should be") {
		t.Errorf("a request as response: %v", err)
	}
}

func TestDigest(t *testing.T) {
	var d ceremony.Digest
	for i := range d {
		d[i] = byte(i * 9)
	}
	if got := d.Short(); got != "0009 121b 242d 363f 4851 5a63 6c75 7e87" {
		t.Errorf("short: %s", got)
	}
	for text, want := range map[string]bool{
		d.Short(): true, d.String(): true, strings.ToUpper(d.Short()): true, strings.ReplaceAll(d.Short(), " ", "-"): true,
		d.Short()[:38]: false, "": false, "0009": false, d.String() + "00": false, strings.Replace(d.String(), "0009", "0008", 1): false,
	} {
		if d.Matches(text) != want {
			t.Errorf("%q matches: %v", text, !want)
		}
	}
}

// TestAltered changes each octet of a bundle: none goes unnoticed.
func TestAltered(t *testing.T) {
	q := request()
	if err := errors.Join(q.Seal(), q.Sign("sub", key(t), algorithm)); err != nil {
		t.Fatal(err)
	}
	good := q.Marshal()
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			got, err := ceremony.ParseRequest(bad)
			if err != nil {
				continue
			}
			// What is left is the name or the value in a line of a signature,
			// which then verifies with no key.
			if !bytes.Equal(got.Marshal(), bad) || i < bytes.LastIndex(good, []byte("\nsignature ")) {
				t.Fatalf("octet %d (%q) can be changed", i, good[i])
			}
		}
	}
	for i := range good {
		if _, err := ceremony.ParseRequest(good[:i]); err == nil && i != bytes.LastIndex(good, []byte("signature ")) {
			t.Fatalf("cut after %d octets, it is read", i)
		}
	}
	if _, err := ceremony.ParseRequest(append(bytes.Clone(good), '\n')); !errors.Is(err, ceremony.ErrAltered) {
		t.Errorf("trailing newline: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	rows := []struct {
		name   string
		change func(q *ceremony.Request)
		err    string
	}{
		{"no actor", func(q *ceremony.Request) { q.Actor = "" }, "empty"},
		{"actor of two lines", func(q *ceremony.Request) { q.Actor = "a\nb" }, "not one line"},
		{"actor that turns the text", func(q *ceremony.Request) { q.Actor = "a\u202eb" }, "not one line"},
		{"number", func(q *ceremony.Request) { q.Number = 0 }, "number 0"},
		{"pki", func(q *ceremony.Request) { q.PKI = "00" }, "identifier"},
		{"time with a fraction", func(q *ceremony.Request) { q.Time = when.Add(1) }, "whole seconds"},
		{"local time", func(q *ceremony.Request) { q.Time = when.In(time.FixedZone("x", 3600)) }, "whole seconds"},
		{"no plan", func(q *ceremony.Request) { q.Plan = "" }, "plan of 0 octets"},
		{"nothing to do", func(q *ceremony.Request) { q.Certificates, q.CRLs, q.Variables = nil, nil, nil }, "0 things"},
		{"entry twice", func(q *ceremony.Request) { q.Certificates[1].Entry = "root" }, "twice"},
		{"bad entry", func(q *ceremony.Request) { q.Certificates[1].Entry = "../root" }, "bad name"},
		{"bad serial", func(q *ceremony.Request) { q.Certificates[1].Have = "00" }, "bad serial"},
		{"large CSR", func(q *ceremony.Request) { q.Certificates[1].CSR = make([]byte, 65<<10) }, "octets"},
		{"authority twice", func(q *ceremony.Request) { q.CRLs = append(q.CRLs, q.CRLs[0]) }, "twice"},
		{"reason", func(q *ceremony.Request) { q.CRLs[0].Revoked[0].Reason = 7 }, "revocation 1"},
		{"removeFromCRL", func(q *ceremony.Request) { q.CRLs[0].Revoked[0].Reason = 8 }, "revocation 1"},
		{"serials out of order", func(q *ceremony.Request) { q.CRLs[0].Revoked[1].Serial = "09" }, "order"},
		{"CRL number", func(q *ceremony.Request) { q.CRLs[0].Number = 0 }, "out of bounds"},
		{"CRL validity", func(q *ceremony.Request) { q.CRLs[0].Validity = 1 }, "out of bounds"},
		{"variable", func(q *ceremony.Request) { q.Variables[0].ID = "a/b/db" }, "bad name"},
		{"owner", func(q *ceremony.Request) { q.Variables[0].Owner = "x" }, "bad owner"},
		{"known", func(q *ceremony.Request) { q.Known[0].Certificate = nil }, "0 octets"},
		{"vendor", func(q *ceremony.Request) { q.Vendors[0].File = "a\x1b[2J" }, "bad name"},
	}
	for _, row := range rows {
		q := request()
		row.change(q)
		if err := q.Seal(); err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %v, want %q", row.name, err, row.err)
		}
	}
}

func TestBadResponses(t *testing.T) {
	rows := []struct {
		name   string
		change func(a *ceremony.Response)
		err    string
	}{
		{"plan", func(a *ceremony.Response) { a.Plan = "AB" }, "SHA-256"},
		{"request", func(a *ceremony.Response) { a.Request = strings.ToUpper(a.Request) }, "SHA-256"},
		{"transcript", func(a *ceremony.Response) { a.Transcript = "" }, "transcript"},
		{"nothing", func(a *ceremony.Response) { a.Certificates, a.CRLs, a.Variables = nil, nil, nil }, "0 signed things"},
		{"entry twice", func(a *ceremony.Response) { a.Certificates = append(a.Certificates, a.Certificates[0]) }, "twice"},
		{"empty CRL", func(a *ceremony.Response) { a.CRLs[0].Content = nil }, "0 octets"},
		{"signer of the transcript", func(a *ceremony.Response) { a.TranscriptSigner = "" }, "transcript"},
	}
	for _, row := range rows {
		a := response()
		row.change(a)
		if err := a.Seal(); err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %v, want %q", row.name, err, row.err)
		}
	}
}

// needSeeds fails if the committed corpus of a fuzzer is gone: without it, the
// fuzzer passes and tests nothing. TestWriteSeeds makes it.
func needSeeds(f *testing.F) {
	f.Helper()
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seed corpus for %s (%v); make it with: WRITE_SEEDS=1 go test -run TestWriteSeeds ./ceremony", f.Name(), err)
	}
}

// FuzzParseRequest: what is read is written the same again.
func FuzzParseRequest(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, err := ceremony.ParseRequest(data); err == nil && !bytes.Equal(q.Marshal(), data) {
			t.Fatalf("written as %q", q.Marshal())
		}
		// Past the digest, which no mutation gets right.
		if fixed := redigest(data); fixed != nil {
			if q, err := ceremony.ParseRequest(fixed); err == nil {
				if err := q.Seal(); err != nil || !bytes.HasPrefix(fixed, q.Marshal()) {
					t.Fatalf("sealed as %q, %v", q.Marshal(), err)
				}
			}
		}
	})
}

// FuzzParseResponse is FuzzParseRequest for responses.
func FuzzParseResponse(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := ceremony.ParseResponse(data); err == nil && !bytes.Equal(a.Marshal(), data) {
			t.Fatalf("written as %q", a.Marshal())
		}
		if fixed := redigest(data); fixed != nil {
			if a, err := ceremony.ParseResponse(fixed); err == nil {
				if err := a.Seal(); err != nil || !bytes.HasPrefix(fixed, a.Marshal()) {
					t.Fatalf("sealed as %q, %v", a.Marshal(), err)
				}
			}
		}
	})
}
