package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

var crlNow = time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)

func crlRequest() CRLRequest {
	return CRLRequest{Number: big.NewInt(5), ThisUpdate: crlNow, NextUpdate: crlNow.AddDate(0, 0, 7)}
}

func revoked(list ...RevokedCertificate) iter.Seq2[RevokedCertificate, error] {
	return func(yield func(RevokedCertificate, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// manyRevoked yields n entries with serials that all differ.
func manyRevoked(n int) iter.Seq2[RevokedCertificate, error] {
	return func(yield func(RevokedCertificate, error) bool) {
		serial := bytes.Repeat([]byte{0x5a}, 20)
		for k := range n {
			serial[7], serial[8], serial[9], serial[10] = byte(k>>24), byte(k>>16), byte(k>>8), byte(k)
			e := RevokedCertificate{Serial: serial, Time: crlNow.Add(-time.Duration(k%1000000) * time.Second)}
			if k%2 == 0 {
				e.Reason = KeyCompromise
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func writeCRL(t testing.TB, i *Issuer, r CRLRequest, entries iter.Seq2[RevokedCertificate, error]) []byte {
	t.Helper()
	var b bytes.Buffer
	issued, err := i.WriteCRL(&b, r, entries)
	if err != nil {
		t.Fatal(err)
	}
	if issued.Size != int64(b.Len()) {
		t.Errorf("size %d, wrote %d", issued.Size, b.Len())
	}
	l, err := ParseCRL(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignature(i.certificate.Key); err != nil {
		t.Error(err)
	}
	if int64(l.Count) != issued.Entries || l.Number.Cmp(r.Number) != 0 || !l.Issuer().Equal(i.subject) {
		t.Errorf("parsed: %d entries, number %v, issuer %v", l.Count, l.Number, l.Issuer())
	}
	return b.Bytes()
}

func pemFile(t testing.TB, kind string, blocks ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	for _, der := range blocks {
		if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// CRLs of all key types and of many shapes: openssl verifies and reads them, and
// where it can, crypto/x509 reads the same.
func TestWriteCRL(t *testing.T) {
	tooltest.Need(t, "openssl")
	entries := []RevokedCertificate{
		{Serial: []byte{1}, Time: crlNow.AddDate(0, 0, -1)},
		{Serial: []byte{0x80}, Time: crlNow, Reason: KeyCompromise},
		{Serial: bytes.Repeat([]byte{0x7f}, 20), Time: crlNow.Add(-time.Minute), Reason: CertificateHold, Invalidity: crlNow.AddDate(-1, 0, 0)},
		{Serial: []byte{2, 0}, Time: crlNow.Add(-time.Hour), Invalidity: crlNow.AddDate(-1, 0, 0)},
	}
	shapes := map[string]func(*CRLRequest){
		"plain":     func(*CRLRequest) {},
		"delta":     func(r *CRLRequest) { r.BaseNumber = big.NewInt(3) },
		"partition": func(r *CRLRequest) { r.Points = []string{"http://crl.example/3.crl", "https://b.example/3"} },
		"freshest":  func(r *CRLRequest) { r.Freshest = []string{"http://crl.example/delta.crl"} },
		"user":      func(r *CRLRequest) { r.OnlyUserCerts = true },
		"ca":        func(r *CRLRequest) { r.OnlyCACerts = true; r.Number = new(big.Int).Lsh(big.NewInt(1), 158) },
		"far":       func(r *CRLRequest) { r.NextUpdate = time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	for _, kind := range keyKinds {
		root := authority(t, nil, rootProfile(), "Root "+kind, testKey(kind+"/crl root"))
		file := pemFile(t, "CERTIFICATE", root.certificate.Raw)
		for name, change := range shapes {
			if name != "plain" && kind != "p256" && kind != "pss" {
				continue
			}
			r := crlRequest()
			change(&r)
			list := entries
			if name == "delta" {
				list = append(list[:len(list):len(list)], RevokedCertificate{Serial: []byte{9, 9}, Time: crlNow, Reason: RemoveFromCRL})
			}
			der := writeCRL(t, root, r, revoked(list...))
			out, err := exec.Command("openssl", "crl", "-in", pemFile(t, "X509 CRL", der), "-CAfile", file, "-noout", "-text").CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("verify OK")) {
				t.Errorf("%s, %s: openssl crl: %v\n%s", kind, name, err, out)
			}
			l, err := ParseCRL(der)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for e := range l.Entries() {
				w := list[n]
				if !bytes.Equal(e.Serial, w.Serial) || !e.Time.Equal(w.Time) || e.Reason != w.Reason || !e.Invalidity.Equal(w.Invalidity) {
					t.Errorf("%s, %s: entry %d is %+v, want %+v", kind, name, n, e, w)
				}
				n++
			}
			if n != len(list) || !l.ThisUpdate.Equal(r.ThisUpdate) || !l.NextUpdate.Equal(r.NextUpdate) || (l.BaseNumber == nil) != (r.BaseNumber == nil) {
				t.Errorf("%s, %s: read %d entries, %v to %v, base %v", kind, name, n, l.ThisUpdate, l.NextUpdate, l.BaseNumber)
			}
			std, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			for k, e := range std.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(new(big.Int).SetBytes(list[k].Serial)) != 0 || !e.RevocationTime.Equal(list[k].Time) || e.ReasonCode != int(list[k].Reason) {
					t.Errorf("%s, %s: crypto/x509 reads entry %d as %+v", kind, name, k, e)
				}
			}
		}
	}
}

func TestWriteEmptyCRL(t *testing.T) {
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/crl root"))
	der := writeCRL(t, root, crlRequest(), revoked())
	if l, err := x509.ParseRevocationList(der); err != nil || len(l.RevokedCertificateEntries) != 0 {
		t.Error(l, err)
	}
}

// What openssl's path validation makes of full, delta and partitioned CRLs.
func TestOpenSSLVerifyWithCRL(t *testing.T) {
	tooltest.Need(t, "openssl")
	for _, kind := range []string{"rsa", "pss", "p256"} {
		root := authority(t, nil, rootProfile(), "Root", testKey(kind+"/crl root"))
		sub := authority(t, root, subProfile(), "Sub", testKey(kind+"/crl sub"))
		const parts = 4
		profile := must(NewProfile("device", ProfileConfig{Validity: ptr("1000d"), KeyUsage: []string{"digitalSignature"},
			CRLURLs: []string{"http://crl.example/{partition}.crl"}, CRLPartitions: parts}))
		plain := must(NewProfile("device", ProfileConfig{Validity: ptr("1000d"), KeyUsage: []string{"digitalSignature"}}))
		request := func(name string) Request {
			return Request{Name: name, Subject: testName(name), PublicKey: testKey("p256/" + name).Public(), NotBefore: testFrom}
		}
		inPart := issue(t, sub, profile, request("in a partition"))
		whole := issue(t, sub, plain, request("whole"))
		gone := RevokedCertificate{Time: crlNow.Add(-time.Hour), Reason: KeyCompromise}
		entry := func(c *Certificate) RevokedCertificate {
			e := gone
			e.Serial = c.SerialNumber.Bytes()
			return e
		}
		partition := func(k int, list ...RevokedCertificate) []byte {
			r := crlRequest()
			r.Points = []string{PartitionURL("http://crl.example/{partition}.crl", k)}
			return writeCRL(t, sub, r, revoked(list...))
		}
		full := func(number int64, list ...RevokedCertificate) []byte {
			r := crlRequest()
			r.Number, r.Freshest = big.NewInt(number), []string{"http://crl.example/delta.crl"}
			return writeCRL(t, sub, r, revoked(list...))
		}
		delta := func(number, base int64, list ...RevokedCertificate) []byte {
			r := crlRequest()
			r.Number, r.BaseNumber = big.NewInt(number), big.NewInt(base)
			return writeCRL(t, sub, r, revoked(list...))
		}
		own := Partition(inPart.SerialNumber.Bytes(), parts)
		hold := entry(whole)
		hold.Reason = CertificateHold
		lift := hold
		lift.Reason = RemoveFromCRL
		rootCRL := writeCRL(t, root, crlRequest(), revoked())
		revokedSub := writeCRL(t, root, crlRequest(), revoked(entry(sub.certificate)))
		rows := []struct {
			name string
			cert *Certificate
			crls [][]byte
			flag string
			want string // "" is OK
		}{
			{"full, good", whole, [][]byte{full(5)}, "-crl_check", ""},
			{"full, revoked", whole, [][]byte{full(5, entry(whole))}, "-crl_check", "certificate revoked"},
			{"full, another one revoked", whole, [][]byte{full(5, entry(inPart))}, "-crl_check", ""},
			{"the chain's CRLs", whole, [][]byte{full(5), rootCRL}, "-crl_check_all", ""},
			{"the chain's CRLs, sub CA revoked", whole, [][]byte{full(5), revokedSub}, "-crl_check_all", "certificate revoked"},
			{"no CRL of the root", whole, [][]byte{full(5)}, "-crl_check_all", "unable to get certificate CRL"},
			{"own partition", inPart, [][]byte{partition(own)}, "-crl_check", ""},
			{"own partition, revoked", inPart, [][]byte{partition((own+1)%parts, entry(inPart)), partition(own, entry(inPart))}, "-crl_check", "certificate revoked"},
			{"another partition only", inPart, [][]byte{partition((own + 1) % parts)}, "-crl_check", "different CRL scope"},
			{"delta, good", whole, [][]byte{full(5), delta(6, 5)}, "-use_deltas", ""},
			{"delta, revoked", whole, [][]byte{full(5), delta(6, 5, entry(whole))}, "-use_deltas", "certificate revoked"},
			{"delta lifts a hold", whole, [][]byte{full(5, hold), delta(6, 5, lift)}, "-use_deltas", ""},
			{"a hold", whole, [][]byte{full(5, hold), delta(6, 5)}, "-use_deltas", "certificate revoked"},
		}
		for _, r := range rows {
			args := []string{"verify", "-attime", fmt.Sprint(crlNow.Add(time.Hour).Unix()), "-CAfile", pemFile(t, "CERTIFICATE", root.certificate.Raw),
				"-untrusted", pemFile(t, "CERTIFICATE", sub.certificate.Raw), "-CRLfile", pemFile(t, "X509 CRL", r.crls...), "-crl_check", "-extended_crl", r.flag,
				pemFile(t, "CERTIFICATE", r.cert.Raw)}
			out, err := exec.Command("openssl", args...).CombinedOutput()
			if r.want == "" && err != nil || r.want != "" && (err == nil || !strings.Contains(strings.ToLower(string(out)), strings.ToLower(r.want))) {
				t.Errorf("%s: %s: openssl verify: %v, want %q\n%s", kind, r.name, err, r.want, out)
			}
		}
	}
}

// Each row breaks one rule.
func TestWriteCRLRefuses(t *testing.T) {
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/crl root"))
	noCRL := must(NewProfile("ca", ProfileConfig{CA: ptr(true), Validity: ptr("2000d"), KeyUsage: []string{"keyCertSign"}}))
	sub := authority(t, root, noCRL, "No CRLs", testKey("p256/crl sub"))
	good := RevokedCertificate{Serial: []byte{1}, Time: crlNow.Add(-time.Hour)}
	broken := errors.New("the store is gone")
	rows := []struct {
		want   string
		issuer *Issuer
		change func(*CRLRequest, *RevokedCertificate)
	}{
		{"key_usage lacks cRLSign", sub, nil},
		{"number <nil>", root, func(r *CRLRequest, _ *RevokedCertificate) { r.Number = nil }},
		{"number -1", root, func(r *CRLRequest, _ *RevokedCertificate) { r.Number = big.NewInt(-1) }},
		{"at most 20 octets", root, func(r *CRLRequest, _ *RevokedCertificate) { r.Number = new(big.Int).Lsh(big.NewInt(1), 159) }},
		{"base number 5 is not below", root, func(r *CRLRequest, _ *RevokedCertificate) { r.BaseNumber = big.NewInt(5) }},
		{"is not after this update", root, func(r *CRLRequest, _ *RevokedCertificate) { r.NextUpdate = r.ThisUpdate.Add(time.Millisecond) }},
		{"not within the validity", root, func(r *CRLRequest, _ *RevokedCertificate) { r.ThisUpdate = testFrom.Add(-time.Second) }},
		{"not within the validity", root, func(r *CRLRequest, _ *RevokedCertificate) {
			r.ThisUpdate = testFrom.AddDate(20, 0, 0)
			r.NextUpdate = r.ThisUpdate.AddDate(0, 0, 1)
		}},
		{"only for end entities and only for CAs", root, func(r *CRLRequest, _ *RevokedCertificate) { r.OnlyCACerts, r.OnlyUserCerts = true, true }},
		{"no delta CRLs of its own", root, func(r *CRLRequest, _ *RevokedCertificate) {
			r.BaseNumber, r.Freshest = big.NewInt(1), []string{"http://a.example"}
		}},
		{"is not an http", root, func(r *CRLRequest, _ *RevokedCertificate) { r.Points = []string{"file:///etc/passwd"} }},
		{"is not an http", root, func(r *CRLRequest, _ *RevokedCertificate) { r.Freshest = []string{"x"} }},
		{"is not a positive number", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Serial = nil }},
		{"is not a positive number", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Serial = []byte{0, 1} }},
		{"is not a positive number", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Serial = bytes.Repeat([]byte{0x80}, 20) }},
		{"is not a positive number", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Serial = bytes.Repeat([]byte{1}, 21) }},
		{"after the CRL's date", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Time = crlNow.Add(time.Second) }},
		{"reason 7 is unknown", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Reason = 7 }},
		{"reason -1 is unknown", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Reason = -1 }},
		{"removeFromCRL is for delta CRLs only", root, func(_ *CRLRequest, e *RevokedCertificate) { e.Reason = RemoveFromCRL }},
	}
	for _, row := range rows {
		r, e := crlRequest(), good
		if row.change != nil {
			row.change(&r, &e)
		}
		var b bytes.Buffer
		_, err := row.issuer.WriteCRL(&b, r, revoked(e))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%v, want %q", err, row.want)
		}
		if b.Len() > 0 {
			t.Errorf("%s: wrote %d octets", row.want, b.Len())
		}
	}
	_, err := root.WriteCRL(io.Discard, crlRequest(), func(yield func(RevokedCertificate, error) bool) {
		_ = yield(good, nil) && yield(RevokedCertificate{}, broken)
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := root.WriteCRL(brokenPipe{}, crlRequest(), revoked(good)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	root.signer = faultySigner{root.signer, testKey("p256/crl sub").Sign}
	var b bytes.Buffer
	if _, err := root.WriteCRL(&b, crlRequest(), revoked(good)); !errors.Is(err, spki.ErrSignature) || b.Len() > 0 {
		t.Errorf("a bad signature: %v, %d octets", err, b.Len())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// crlDER builds a CRL around the parts that a row changes.
type crlParts struct {
	version, inner, outer, issuer, this, next, entries, extensions, signature, extra []byte
}

func goodCRLParts() crlParts {
	alg := algorithmID(oidDER(1, 2, 840, 10045, 4, 3, 2))
	return crlParts{
		version: element(cbasn1.INTEGER, []byte{1}), inner: alg, outer: alg, issuer: testName("Root"),
		this: element(cbasn1.UTCTime, []byte("270304050607Z")), next: element(cbasn1.UTCTime, []byte("270311050607Z")),
		entries:    seq(goodEntry()),
		extensions: explicit(0, seq(crlExtension(20, element(cbasn1.INTEGER, []byte{5})))),
		signature:  element(cbasn1.BIT_STRING, []byte{0, 1, 2}),
	}
}

func goodEntry(extensions ...[]byte) []byte {
	parts := [][]byte{element(cbasn1.INTEGER, []byte{7}), element(cbasn1.UTCTime, []byte("270304050607Z"))}
	if len(extensions) > 0 {
		parts = append(parts, seq(extensions...))
	}
	return seq(parts...)
}

func crlExtension(n int, value []byte) []byte { return seq(oidDER(2, 5, 29, n), octets(value)) }

func (p crlParts) build() []byte {
	return append(seq(seq(p.version, p.inner, p.issuer, p.this, p.next, p.entries, p.extensions), p.outer, p.signature), p.extra...)
}

func TestParseCRLRefuses(t *testing.T) {
	if l, err := ParseCRL(goodCRLParts().build()); err != nil || l.Count != 1 || l.Number.Int64() != 5 {
		t.Fatal(l, err)
	}
	date := func(text string) []byte {
		return crlExtension(24, element(cbasn1.GeneralizedTime, []byte(text)))
	}
	reason := func(n byte) []byte { return crlExtension(21, element(cbasn1.ENUM, []byte{n})) }
	entry := func(x ...[]byte) func(*crlParts) { return func(p *crlParts) { p.entries = seq(goodEntry(x...)) } }
	serial := func(octets ...byte) func(*crlParts) {
		return func(p *crlParts) {
			p.entries = seq(seq(element(cbasn1.INTEGER, octets), element(cbasn1.UTCTime, []byte("270304050607Z"))))
		}
	}
	this := func(tag cbasn1.Tag, text string) func(*crlParts) {
		return func(p *crlParts) { p.this = element(tag, []byte(text)) }
	}
	rows := []struct {
		want   string
		change func(*crlParts)
	}{
		{"something follows it", func(p *crlParts) { p.extra = []byte{0} }},
		{"not of version 2", func(p *crlParts) { p.version = nil }},
		{"not of version 2", func(p *crlParts) { p.version = element(cbasn1.INTEGER, []byte{0}) }},
		{"another one outside", func(p *crlParts) { p.outer = algorithmID(oidDER(1, 2, 840, 10045, 4, 3, 3)) }},
		{"issuer: malformed name", func(p *crlParts) { p.issuer = seq(seq()) }},
		{"malformed thisUpdate", func(p *crlParts) { p.this = nil; p.next = nil }},
		{"malformed thisUpdate", this(cbasn1.UTCTime, "2703040506Z")},
		{"malformed thisUpdate", this(cbasn1.UTCTime, "270304050607+")},
		{"malformed thisUpdate", this(cbasn1.UTCTime, "270230050607Z")},
		{"malformed thisUpdate", this(cbasn1.UTCTime, "271304050607Z")},
		{"malformed thisUpdate", this(cbasn1.UTCTime, "270304240607Z")},
		{"malformed thisUpdate", this(cbasn1.GeneralizedTime, "20270304050607.5Z")},
		{"malformed thisUpdate", this(cbasn1.GeneralizedTime, "270304050607Z")},
		{"malformed nextUpdate", func(p *crlParts) { p.next = element(cbasn1.UTCTime, []byte("x")) }},
		{"empty list of revoked", func(p *crlParts) { p.entries = seq() }},
		{"is not a positive number", serial()},
		{"is not a positive number", serial(0)},
		{"is not a positive number", serial(0x80)},
		{"is not a positive number", serial(0, 1)},
		{"is not a positive number", serial(bytes.Repeat([]byte{1}, 21)...)},
		{"something follows the extensions", func(p *crlParts) {
			p.entries = seq(seq(element(cbasn1.INTEGER, []byte{7}), element(cbasn1.UTCTime, []byte("270304050607Z")), seq(reason(1)), seq(reason(1))))
		}},
		{"malformed extensions", func(p *crlParts) {
			p.entries = seq(seq(element(cbasn1.INTEGER, []byte{7}), element(cbasn1.UTCTime, []byte("270304050607Z")), seq()))
		}},
		{"reason 7 is unknown", entry(reason(7))},
		{"reason 99 is unknown", entry(reason(99))},
		{"stands twice", entry(reason(1), reason(1))},
		{"malformed reason", entry(crlExtension(21, element(cbasn1.INTEGER, []byte{1})))},
		{"malformed invalidity date", entry(date("20270230050607Z"))},
		{"malformed invalidity date", entry(crlExtension(24, element(cbasn1.UTCTime, []byte("270304050607Z"))))},
		{"critical extension 2.5.29.29", entry(seq(oidDER(2, 5, 29, 29), element(cbasn1.BOOLEAN, []byte{0xff}), octets(seq())))},
		{"malformed", entry(seq(oidDER(2, 5, 29, 99), element(cbasn1.BOOLEAN, []byte{0}), octets(nil)))},
		{"malformed extensions", func(p *crlParts) { p.extensions = explicit(0, seq()) }},
		{"something follows", func(p *crlParts) { p.extensions = append(p.extensions, seq()...) }},
		{"stands twice", func(p *crlParts) {
			x := crlExtension(20, element(cbasn1.INTEGER, []byte{5}))
			p.extensions = explicit(0, seq(x, x))
		}},
		{"not a number", func(p *crlParts) {
			p.extensions = explicit(0, seq(crlExtension(20, element(cbasn1.INTEGER, []byte{0xff}))))
		}},
		{"not a number", func(p *crlParts) {
			p.extensions = explicit(0, seq(crlExtension(27, bytes.Repeat([]byte{2, 1, 1}, 2))))
		}},
		{"indirect", func(p *crlParts) { p.extensions = explicit(0, seq(crlExtension(28, seq(implicit(4, []byte{0xff}))))) }},
		{"issuing distribution point", func(p *crlParts) { p.extensions = explicit(0, seq(crlExtension(28, seq()))) }},
		{"issuing distribution point", func(p *crlParts) { p.extensions = explicit(0, seq(crlExtension(28, seq(implicit(1, []byte{0}))))) }},
		{"malformed", func(p *crlParts) { p.signature = element(cbasn1.BIT_STRING, []byte{1, 0}) }},
	}
	for i, r := range rows {
		p := goodCRLParts()
		r.change(&p)
		if _, err := ParseCRL(p.build()); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("row %d: %v, want %q", i, err, r.want)
		}
	}
	der := goodCRLParts().build()
	for n := range der {
		if _, err := ParseCRL(der[:n]); err == nil {
			t.Errorf("cut off after %d octets: taken", n)
		}
	}
	for _, text := range []string{
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})) + "x",
	} {
		if _, err := ParseCRL([]byte(text)); err == nil {
			t.Errorf("taken: %q", text)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	root := authority(f, nil, rootProfile(), "Root", testKey("p256/crl root"))
	r := crlRequest()
	f.Add(writeCRL(f, root, r, manyRevoked(3)))
	r.Points, r.OnlyUserCerts, r.BaseNumber = []string{"http://crl.example/1.crl"}, true, big.NewInt(2)
	f.Add(writeCRL(f, root, r, revoked(RevokedCertificate{Serial: []byte{1}, Time: crlNow, Reason: 6, Invalidity: crlNow})))
	f.Add(goodCRLParts().build())
	f.Fuzz(func(t *testing.T, der []byte) {
		l, err := ParseCRL(der)
		if err != nil {
			checkText(t, err.Error())
			return
		}
		checkText(t, l.Issuer().String())
		for _, x := range l.Extensions {
			for _, v := range DescribeExtension(x).Values {
				checkText(t, v)
			}
		}
		// What was understood is written again as it stood, unless an entry has
		// an extension that we don't know, or says "unspecified".
		n, request := 0, CRLRequest{BaseNumber: big.NewInt(1), ThisUpdate: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
		var again []byte
		for e := range l.Entries() {
			if again, err = appendRevoked(again, e, request); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != l.Count {
			t.Fatalf("%d entries, then %d", l.Count, n)
		}
		if len(again) > len(l.entries)+4*n {
			t.Fatalf("%d octets of entries became %d", len(l.entries), len(again))
		}
	})
}

func TestPartition(t *testing.T) {
	// The function must never change: certificates have its value in them.
	for _, row := range []struct {
		serial []byte
		n      int
		want   int
	}{{[]byte{1}, 16, 15}, {[]byte{1}, 1, 0}, {[]byte{1}, 0, 0}, {[]byte{0x5a, 1, 2, 3}, 1000, 275}} {
		if got := Partition(row.serial, row.n); got != row.want {
			t.Errorf("partition of %x among %d is %d, want %d", row.serial, row.n, got, row.want)
		}
	}
	counts := make([]int, 16)
	for e := range manyRevoked(16000) {
		counts[Partition(e.Serial, 16)]++
	}
	for k, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d has %d of 16000", k, n)
		}
	}
}

func TestParseReason(t *testing.T) {
	for i := range 12 {
		r := Reason(i)
		got, err := ParseReason(r.String())
		if valid := i != 7 && i < 11; valid != (err == nil) || valid && got != r {
			t.Errorf("%v: %v, %v", r, got, err)
		}
	}
	if r, err := ParseReason("keycompromise"); err != nil || r != KeyCompromise {
		t.Error(r, err)
	}
}

// BenchmarkCRL writes a CRL of a million entries, and beside it has crypto/x509 do
// so, from entries that it gets ready-made.
func BenchmarkCRL(b *testing.B) {
	const million = 1_000_000
	root := authority(b, nil, rootProfile(), "Root", testKey("p256/crl root"))
	b.Run("tmpki", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := root.WriteCRL(io.Discard, crlRequest(), manyRevoked(million)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		der := writeCRL(b, root, crlRequest(), manyRevoked(million))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseCRL(der); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("x509", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var list []x509.RevocationListEntry
			for e := range manyRevoked(million) {
				list = append(list, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(e.Serial), RevocationTime: e.Time, ReasonCode: int(e.Reason)})
			}
			template := &x509.RevocationList{Number: big.NewInt(5), ThisUpdate: crlNow, NextUpdate: crlNow.AddDate(0, 0, 7), RevokedCertificateEntries: list}
			if _, err := x509.CreateRevocationList(nil, template, root.certificate.Certificate, root.signer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
