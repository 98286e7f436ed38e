package plan

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// crlPKI is a PKI of EC keys whose device_subca has the given crl line.
type crlPKI struct {
	t   testing.TB
	dir string
	now time.Time
}

func newCRLPKI(t testing.TB, line string) *crlPKI {
	t.Helper()
	text := strings.Replace(string(allEC(t)), "  device_subca:\n", "  device_subca:\n    crl: "+line+"\n", 1)
	dir := filepath.Join(t.TempDir(), "pki")
	p := &crlPKI{t, dir, time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), dir, Options{Actor: "test", Now: p.clock}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *crlPKI) clock() time.Time { return p.now }

func (p *crlPKI) open() (*PKI, *store.DB) {
	p.t.Helper()
	pki := must(Open(p.t.Context(), p.dir))
	db := must(pki.OpenStore(p.t.Context()))
	db.Now = p.clock
	p.t.Cleanup(func() { db.Close() })
	return pki, db
}

// issue issues n devices, valid for so many days.
func (p *crlPKI) issue(n int, days string) []*ca.Certificate {
	p.t.Helper()
	pki, db := p.open()
	e := pki.Plan.Entry("device_subca")
	issuer := must(ca.NewIssuer(e.Name, pki.Have.Certificates[e.Name], must(pki.Signer(e)), e.Algorithm, linter()))
	c := ca.ProfileConfig{Validity: &days, KeyUsage: []string{"digitalSignature"}}
	if e.CRL.URLs != nil {
		c.CRLURLs, c.CRLPartitions = e.CRL.URLs, e.CRL.Partitions
	}
	profile := must(ca.NewProfile("device", c))
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	var out []*ca.Certificate
	for i := range n {
		name := must(ca.NewName(ca.SubjectConfig{CommonName: fmt.Sprintf("Device %d %s", i, days)}))
		prepared := must(issuer.Prepare(profile, ca.Request{Name: fmt.Sprintf("device-%d", i), Subject: name, PublicKey: key.Public(), NotBefore: p.now}))
		if err := db.Intend(p.t.Context(), prepared.Record("test")); err != nil {
			p.t.Fatal(err)
		}
		cert := must(issuer.Sign(prepared))
		if err := db.Complete(p.t.Context(), store.Completed{Serial: prepared.Serial(), DER: cert.Raw}); err != nil {
			p.t.Fatal(err)
		}
		out = append(out, cert)
	}
	return out
}

func (p *crlPKI) revoke(c *ca.Certificate, reason ca.Reason) {
	p.t.Helper()
	_, db := p.open()
	if err := db.Revoke(p.t.Context(), store.Revocation{Serial: c.SerialNumber.Bytes(), Reason: reason, Actor: "test"}); err != nil {
		p.t.Fatal(err)
	}
}

// make runs MakeCRLs for device_subca and returns what it made, such as "1 full 0".
func (p *crlPKI) make(change ...func(*CRLOptions)) string {
	p.t.Helper()
	o := CRLOptions{Authorities: []string{"device_subca"}, Actor: "test", Now: p.now}
	for _, f := range change {
		f(&o)
	}
	made, err := MakeCRLs(p.t.Context(), p.dir, o)
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, m := range made {
		kind := "full"
		if m.Delta {
			kind = fmt.Sprintf("delta to %d", m.Base)
		}
		out = append(out, fmt.Sprintf("%d %s: %d", m.Number, kind, m.Entries))
	}
	return strings.Join(out, ", ")
}

func (p *crlPKI) read(file string) *ca.RevocationList {
	p.t.Helper()
	l := must(ca.ParseCRL(must(os.ReadFile(filepath.Join(p.dir, file)))))
	pki := must(Open(p.t.Context(), p.dir))
	if err := l.CheckSignature(pki.Have.Certificates["device_subca"].Key); err != nil {
		p.t.Error(err)
	}
	return l
}

func lists(l *ca.RevocationList, c *ca.Certificate) (ca.Reason, bool) {
	for e := range l.Entries() {
		if bytes.Equal(e.Serial, c.SerialNumber.Bytes()) {
			return e.Reason, true
		}
	}
	return 0, false
}

func TestFullCRLs(t *testing.T) {
	p := newCRLPKI(t, "{validity: 7d, renew_before: 2d}")
	certs := p.issue(3, "10d")
	step := func(want string, change ...func(*CRLOptions)) {
		t.Helper()
		if got := p.make(change...); got != want {
			t.Errorf("%s: made %q, want %q", p.now.Format(time.DateTime), got, want)
		}
	}
	step("1 full: 0")
	step("")
	step("2 full: 0", func(o *CRLOptions) { o.Force = true })
	p.revoke(certs[0], ca.KeyCompromise)
	p.revoke(certs[1], ca.CertificateHold)
	step("3 full: 2")
	l := p.read("crl/device_subca.crl")
	if r, ok := lists(l, certs[1]); !ok || r != ca.CertificateHold || l.Number.Int64() != 3 || !l.NextUpdate.Equal(p.now.AddDate(0, 0, 7)) {
		t.Errorf("%v %v, number %v, next %v", r, ok, l.Number, l.NextUpdate)
	}
	p.revoke(certs[1], ca.RemoveFromCRL)
	step("4 full: 1")
	p.now = p.now.AddDate(0, 0, 4)
	step("")
	p.now = p.now.AddDate(0, 0, 1) // 2 days left
	step("5 full: 1")
	p.now = p.now.AddDate(0, 0, 6) // the certificate expired yesterday, and is listed once more
	step("6 full: 1")
	step("7 full: 0", func(o *CRLOptions) { o.Force = true })
	// A file that is gone, or not what was recorded.
	path := filepath.Join(p.dir, "crl/device_subca.crl")
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	step("8 full: 0")
	step("9 full: 0", func(o *CRLOptions) { o.Force, o.PEM = true, true })
	step("", func(o *CRLOptions) { o.PEM = true })
	step("10 full: 0", func(o *CRLOptions) { o.Dir = filepath.Join(p.dir, "..", "elsewhere") })
	// At the end of the authority's own certificate its CRLs end too.
	end := must(Open(t.Context(), p.dir)).Have.Certificates["device_subca"].NotAfter
	p.now = end.AddDate(0, 0, -1)
	step("11 full: 0")
	if l := p.read("crl/device_subca.crl"); !l.NextUpdate.Equal(end) {
		t.Errorf("next update %v, the CA ends %v", l.NextUpdate, end)
	}
	p.now = end
	if _, err := MakeCRLs(t.Context(), p.dir, CRLOptions{Authorities: []string{"device_subca"}, Actor: "test", Now: p.now}); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Error(err)
	}
	_, db := p.open()
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDeltaCRLs(t *testing.T) {
	p := newCRLPKI(t, "{validity: 7d, delta: 1d, delta_urls: ['http://crl.example/{name}-delta.crl'], urls: ['http://crl.example/{name}.crl']}")
	certs := p.issue(3, "100d")
	step := func(want string, change ...func(*CRLOptions)) {
		t.Helper()
		if got := p.make(change...); got != want {
			t.Errorf("%s: made %q, want %q", p.now.Format(time.DateTime), got, want)
		}
	}
	p.revoke(certs[0], ca.CertificateHold)
	step("1 full: 1")
	step("2 delta to 1: 0")
	step("")
	p.revoke(certs[1], ca.Superseded)
	p.revoke(certs[0], ca.RemoveFromCRL)
	step("3 delta to 1: 2")
	delta := p.read("crl/device_subca-delta.crl")
	if r, ok := lists(delta, certs[0]); !ok || r != ca.RemoveFromCRL || delta.BaseNumber.Int64() != 1 {
		t.Errorf("%v, %v, base %v", r, ok, delta.BaseNumber)
	}
	p.now = p.now.Add(13 * time.Hour)
	step("4 delta to 1: 2")
	p.now = p.now.AddDate(0, 0, 5)
	// Made together they have one number, and the delta builds on the full CRL before.
	step("5 full: 1, 5 delta to 1: 2")
	step("")
	p.revoke(certs[2], ca.KeyCompromise)
	step("6 delta to 5: 1", func(o *CRLOptions) { o.Delta = true })
	full := p.read("crl/device_subca.crl")
	found := false
	for _, x := range full.Extensions {
		found = found || slices.Contains(ca.DescribeExtension(x).Values, "http://crl.example/device_subca-delta.crl")
	}
	if !found {
		t.Error("the full CRL does not name its deltas")
	}
	if urls := certs[0].CRLDistributionPoints; len(urls) != 1 || urls[0] != "http://crl.example/device_subca.crl" {
		t.Errorf("distribution points %q", urls)
	}
}

func TestPartitionedCRLs(t *testing.T) {
	p := newCRLPKI(t, "{partitions: 4, urls: ['http://crl.example/{name}/{partition}.crl']}")
	certs := p.issue(12, "100d")
	if got := strings.Count(p.make(), "1 full: 0"); got != 4 {
		t.Errorf("%d empty CRLs", got)
	}
	for _, c := range certs {
		p.revoke(c, ca.Superseded)
	}
	p.make()
	for _, c := range certs {
		k := ca.Partition(c.SerialNumber.Bytes(), 4)
		want := fmt.Sprintf("http://crl.example/device_subca/%d.crl", k)
		for i := range 4 {
			l := p.read(fmt.Sprintf("crl/device_subca-%d.crl", i))
			if _, ok := lists(l, c); ok != (i == k) {
				t.Errorf("serial %x of partition %d is in CRL %d: %v", c.SerialNumber, k, i, ok)
			}
		}
		if len(c.CRLDistributionPoints) != 1 || c.CRLDistributionPoints[0] != want {
			t.Errorf("distribution points %q, want %q", c.CRLDistributionPoints, want)
		}
	}
	if got := p.make(); got != "" {
		t.Errorf("again: %q", got)
	}
	// Another number of partitions would leave certificates without a CRL.
	path := filepath.Join(p.dir, FileName)
	text := bytes.Replace(must(os.ReadFile(path)), []byte("partitions: 4"), []byte("partitions: 8"), 1)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := MakeCRLs(t.Context(), p.dir, CRLOptions{Authorities: []string{"device_subca"}, Actor: "test", Now: p.now})
	if err == nil || !strings.Contains(err.Error(), "crl.partitions: the plan has 8, but CRLs of this key were made with 4") {
		t.Error(err)
	}
}

// TestMakeCRLsChild is not a test, but the process that TestKilledCRLs kills.
func TestMakeCRLsChild(t *testing.T) {
	dir := os.Getenv("PLAN_TEST_CRL")
	if dir == "" {
		t.Skip("only as a child of TestKilledCRLs")
	}
	for {
		_, err := MakeCRLs(context.Background(), dir, CRLOptions{Authorities: []string{"device_subca"}, Force: true, Actor: "test", Now: time.Now(),
			Made: func(m MadeCRL) { fmt.Println("made") }})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever is killed and whenever: no number is given twice, and the file under
// its name is whole, and one that the store knows.
func TestKilledCRLs(t *testing.T) {
	p := newCRLPKI(t, "{}")
	p.now = time.Now()
	p.revoke(p.issue(1, "100d")[0], ca.KeyCompromise)
	last := int64(0)
	seen := map[int64][]byte{}
	rounds := 12
	for round := 0; round < rounds || last == 0 && round < 60; round++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMakeCRLsChild$")
		cmd.Env = append(os.Environ(), "PLAN_TEST_CRL="+p.dir, "GORACE=atexit_sleep_ms=0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+37*round%200) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		data, err := os.ReadFile(filepath.Join(p.dir, "crl/device_subca.crl"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		l := must(ca.ParseCRL(data))
		n := l.Number.Int64()
		if n < last || seen[n] != nil && !bytes.Equal(seen[n], data) {
			t.Fatalf("round %d: number %d after %d, or a second CRL of that number", round, n, last)
		}
		last, seen[n] = n, data
		pki, db := p.open()
		latest := must(db.LatestCRL(t.Context(), "device_subca", pki.Have.Certificates["device_subca"].SubjectKeyId, 0, false))
		if latest.Number < uint64(n) {
			t.Fatalf("round %d: the file has number %d, the store knows %d", round, n, latest.Number)
		}
		db.Close()
	}
	if last == 0 {
		t.Fatal("no run made a CRL: the test shows nothing")
	}
	_, db := p.open()
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCheckCRLs(t *testing.T) {
	p := newCRLPKI(t, "{validity: 7d}")
	find := func(want string) {
		t.Helper()
		list := must(Check(t.Context(), p.dir, p.now))
		for _, f := range list {
			if strings.Contains(string(f.Level)+" "+f.Name+" "+f.Text, want) {
				return
			}
		}
		t.Errorf("%s: no finding %q in %v", p.now.Format(time.DateOnly), want, list)
	}
	find("bad device_subca its CRL crl/device_subca.crl was never made")
	p.make()
	for _, f := range must(Check(t.Context(), p.dir, p.now)) {
		if strings.Contains(f.Text, "CRL") {
			t.Errorf("%+v", f)
		}
	}
	p.now = p.now.AddDate(0, 0, 6)
	find("warning device_subca its CRL crl/device_subca.crl is due: the last one expires soon")
	p.now = p.now.AddDate(0, 0, 1)
	find("bad device_subca its CRL crl/device_subca.crl has expired")
	pki := must(Open(t.Context(), p.dir))
	p.revoke(pki.Have.Certificates["backend"], ca.Superseded)
	p.revoke(pki.Have.Certificates["guestos_subca"], ca.KeyCompromise)
	find("bad backend its certificate")
	find("bad guestos_anchor is the anchor twin of guestos_subca, which is revoked")
	find("bad backend_subca its CRL crl/backend_subca.crl was never made")
}

func TestCRLSettingsRefuse(t *testing.T) {
	rows := []struct{ want, line string }{
		{"validity: \"7\" is not a number of days or hours", "{validity: '7'}"},
		{"validity: \"0d\" is not", "{validity: 0d}"},
		{"validity: \"07d\" is not", "{validity: 07d}"},
		{"validity: \"3661d\" is not", "{validity: 3661d}"},
		{"renew_before: 7d leaves nothing", "{validity: 7d, renew_before: 7d}"},
		{"delta: 7d is not shorter", "{delta: 7d, delta_urls: ['http://a.example/d']}"},
		{"delta_urls: missing", "{delta: 1d}"},
		{"delta: missing", "{delta_urls: ['http://a.example/d']}"},
		{"partitions: 1 is outside 2 to 4096", "{partitions: 1}"},
		{"partitions: 4097 is outside", "{partitions: 4097}"},
		{"urls: missing", "{partitions: 2}"},
		{"put {partition} into it", "{partitions: 2, urls: ['http://a.example/x.crl']}"},
		{"has {partition} in it", "{urls: ['http://a.example/{partition}.crl']}"},
		{"is not an http, https or ldap URL", "{urls: ['file:///etc/passwd']}"},
		{"file: \"../x.crl\" is not a path inside", "{file: ../x.crl}"},
		{"file: \"x\" is without an ending", "{file: x}"},
		{"is the place of", "{file: ssig_rootca.cert}"},
		{"crls", "{validity: 7d}, crls: 1"},
	}
	for _, r := range rows {
		text := strings.Replace(string(allEC(t)), "  device_subca:\n", "  device_subca:\n    crl: "+r.line+"\n", 1)
		if _, err := Load("pki.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v, want %q", r.line, err, r.want)
		}
	}
	text := strings.Replace(string(allEC(t)), "  backend:\n", "  backend:\n    crl: {}\n", 2)
	if _, err := Load("pki.yaml", []byte(text)); err == nil {
		t.Error("an end entity with CRLs")
	}
	text = strings.Replace(string(allEC(t)), "  backend_subca:\n", "  backend_subca:\n    crl: {partitions: 2, urls: ['http://a.example/{partition}']}\n", 1)
	text = strings.Replace(text, "extended_key_usage: [serverAuth]", "extended_key_usage: [serverAuth], crl_urls: ['http://b.example/']", 1)
	if _, err := Load("pki.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "crl_urls: not those of its issuer's partitioned CRLs") {
		t.Error(err)
	}
}

// Answers to requests: what the store knows, and no more.
func TestOCSPAnswers(t *testing.T) {
	p := newCRLPKI(t, "{}")
	certs := p.issue(3, "100d")
	p.revoke(certs[1], ca.KeyCompromise)
	p.revoke(certs[2], ca.CertificateHold)
	pki, db := p.open()
	sub := pki.Have.Certificates["device_subca"]
	o, err := pki.NewOCSP(db, pki.Plan.Entry("device_subca"), 24*time.Hour, p.now)
	if err != nil {
		t.Fatal(err)
	}
	if o.Signer.Name != "device_subca" {
		t.Errorf("signed by %s", o.Signer.Name)
	}
	ids := []ca.CertID{}
	for _, serial := range [][]byte{certs[0].SerialNumber.Bytes(), certs[1].SerialNumber.Bytes(), certs[2].SerialNumber.Bytes(), {9}} {
		ids = append(ids, must(ca.NewCertID(sub, serial, crypto.SHA256)))
	}
	ids = append(ids, must(ca.NewCertID(pki.Have.Certificates["user_subca"], certs[0].SerialNumber.Bytes(), crypto.SHA1)))
	r := must(ca.ParseOCSPResponse(must(o.Answer(t.Context(), &ca.OCSPRequest{CertIDs: ids, Nonce: []byte("nonce")}, p.now))))
	got := []string{}
	for _, a := range r.Responses {
		got = append(got, fmt.Sprint(a.Status, a.Reason))
	}
	if want := "[good unspecified revoked keyCompromise revoked certificateHold unknown unspecified unknown unspecified]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if err := r.CheckSignature(sub.Key); err != nil || string(r.Nonce) != "nonce" {
		t.Error(err, r.Nonce)
	}
	dir := t.TempDir()
	n, err := o.Pregenerate(t.Context(), dir, p.now, nil)
	if err != nil || n != 3 {
		t.Errorf("%d answers, %v", n, err)
	}
	for i, c := range certs {
		name, _, err := PregeneratedName(sub, c.SerialNumber.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		r := must(ca.ParseOCSPResponse(must(os.ReadFile(filepath.Join(dir, name)))))
		if want := []ca.OCSPStatus{ca.OCSPGood, ca.OCSPRevoked, ca.OCSPRevoked}[i]; r.Responses[0].Status != want {
			t.Errorf("certificate %d is %v, want %v", i, r.Responses[0].Status, want)
		}
	}
}

// BenchmarkCRLFromStore makes the CRL of a million revocations in the store. The
// store is made once, which takes minutes: set CRL_BENCH to a number for fewer.
func BenchmarkCRLFromStore(b *testing.B) {
	n := 20000
	if s := os.Getenv("CRL_BENCH"); s != "" {
		fmt.Sscan(s, &n)
	}
	p := newCRLPKI(b, "{}")
	pki, db := p.open()
	e := pki.Plan.Entry("device_subca")
	cert := pki.Have.Certificates[e.Name]
	const batch = 5000
	for from := 0; from < n; from += batch {
		var intents []store.Record
		var revoked []store.Revocation
		for i := from; i < min(n, from+batch); i++ {
			serial := make([]byte, 20)
			rand.Read(serial)
			serial[0] = 0x11
			intents = append(intents, store.Record{Serial: serial, Name: fmt.Sprintf("device-%d", i), Profile: "device", Issuer: e.Name, IssuerKeyID: cert.SubjectKeyId,
				Actor: "test", NotBefore: p.now, NotAfter: p.now.AddDate(1, 0, 0)})
			revoked = append(revoked, store.Revocation{Serial: serial, Issuer: e.Name, Reason: ca.KeyCompromise, Actor: "test"})
		}
		if err := db.Intend(b.Context(), intents...); err != nil {
			b.Fatal(err)
		}
		var done []store.Completed
		for _, r := range intents {
			done = append(done, store.Completed{Serial: r.Serial, DER: r.Serial})
		}
		if err := db.Complete(b.Context(), done...); err != nil {
			b.Fatal(err)
		}
		if err := db.Revoke(b.Context(), revoked...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		made, err := MakeCRLs(b.Context(), p.dir, CRLOptions{Authorities: []string{e.Name}, Force: true, Actor: "test", Now: p.now})
		if err != nil || len(made) != 1 || made[0].Entries != int64(n) {
			b.Fatal(made, err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "entries/s")
}

func TestFindCertificate(t *testing.T) {
	p := newCRLPKI(t, "{}")
	certs := p.issue(2, "100d")
	again := p.issue(1, "50d") // a second device-0
	pki, db := p.open()
	ctx := t.Context()
	find := func(what string, states ...store.State) (string, error) {
		r, err := FindCertificate(ctx, db, what, states...)
		return fmt.Sprintf("%x", r.Serial), err
	}
	serial := fmt.Sprintf("%x", certs[1].SerialNumber)
	colons := strings.ToUpper(ca.ColonHex(certs[1].SerialNumber.Bytes()))
	for _, what := range []string{serial, "0x" + serial, colons, "device-1"} {
		if got, err := find(what, store.Issued); err != nil || got != serial {
			t.Errorf("%q: %s, %v", what, got, err)
		}
	}
	_, err := find("device-0", store.Issued)
	var ambiguous *AmbiguousError
	if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 2 || !strings.Contains(err.Error(), fmt.Sprintf("%x", again[0].SerialNumber)) {
		t.Errorf("two certificates of one name: %v", err)
	}
	// With one of them on hold, a hold can only be put on the other, and lifted here.
	p.revoke(certs[0], ca.CertificateHold)
	for state, want := range map[store.State]*ca.Certificate{store.Issued: again[0], store.Held: certs[0]} {
		if got, err := find("device-0", state); err != nil || got != fmt.Sprintf("%x", want.SerialNumber) {
			t.Errorf("%v: %s, %v", state, got, err)
		}
	}
	for _, what := range []string{"", "device-2", "00", "0x", strings.Repeat("f", 41), "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "../pki.yaml", "a\x00b"} {
		if _, err := find(what, store.Issued); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v", what, err)
		}
	}
	// What is at hand in a file.
	for name, data := range map[string][]byte{"DER": certs[1].Raw, "PEM": ca.MarshalPEM(certs[1], pki.Have.Certificates["device_subca"])} {
		if r, err := FindFile(ctx, db, data); err != nil || fmt.Sprintf("%x", r.Serial) != serial {
			t.Errorf("%s: %x, %v", name, r.Serial, err)
		}
	}
	// The same serial and key in another certificate are not it.
	bent := bytes.Clone(certs[1].Raw)
	bent[len(bent)-1] ^= 1
	if _, err := FindFile(ctx, db, bent); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another signature: %v", err)
	}
}
