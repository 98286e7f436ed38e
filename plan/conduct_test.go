package plan

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/keys"
	"tmpki/spki"
)

// twoMachines are one PKI on a machine of every day and one of ceremonies.
type twoMachines struct {
	t               testing.TB
	online, offline string
}

// ceremonyPlan is the plan of testdata without passphrases, which take long.
func ceremonyPlan(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/ceremony-ec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(text), "    passphrase: {env: TMPKI_ROOT_PASSPHRASE}\n", "", 1)
}

func newMachines(t testing.TB, text string) *twoMachines {
	t.Helper()
	m := &twoMachines{t, filepath.Join(t.TempDir(), "online"), filepath.Join(t.TempDir(), "offline")}
	if err := os.Mkdir(m.online, 0o700); err != nil {
		t.Fatal(err)
	}
	m.plan(text)
	return m
}

func (m *twoMachines) plan(text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.online, FileName), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// apply applies, and returns the request that is open then, or nil.
func (m *twoMachines) apply() []byte {
	m.t.Helper()
	ctx := context.Background()
	if _, err := Apply(ctx, m.online, testOptions(nil)); err != nil {
		m.t.Fatal(err)
	}
	p, err := Open(ctx, m.online)
	if err != nil {
		m.t.Fatal(err)
	}
	if p.Have.Request == nil {
		return nil
	}
	return p.Have.Request.Marshal()
}

func ceremonyOptions() CeremonyOptions {
	return CeremonyOptions{Options: testOptions(nil), Confirm: func(a *Agenda) ([]Confirmation, error) {
		var list []Confirmation
		for _, name := range a.Officers {
			list = append(list, Confirmation{name, "in a test", time.Now()})
		}
		return list, nil
	}}
}

func (m *twoMachines) conduct(request []byte, newPlan bool) (*Answer, error) {
	o := ceremonyOptions()
	o.NewPlan = newPlan
	return Conduct(context.Background(), m.offline, request, o)
}

func (m *twoMachines) mustConduct(request []byte) *Answer {
	m.t.Helper()
	a, err := m.conduct(request, true)
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

func (m *twoMachines) take(response []byte) error {
	_, err := TakeResponse(context.Background(), m.online, response, testOptions(nil), func(*UnconfirmedError) error { return nil })
	return err
}

// key returns a private key of one of the machines.
func key(t testing.TB, dir, name string) (crypto.Signer, *Entry) {
	t.Helper()
	p, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.ring.signer(p.Plan.Entry(name))
	if err != nil {
		t.Fatal(err)
	}
	return s, p.Plan.Entry(name)
}

// verify checks the record of a machine, and that no serial or key was certified
// twice under one name.
func (m *twoMachines) verify(dir string, count int) {
	m.t.Helper()
	ctx := context.Background()
	db, err := ReadStore(ctx, dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	if err := db.Verify(ctx); err != nil {
		m.t.Error(err)
	}
	n, names := 0, map[string]bool{}
	for r, err := range db.Certificates(ctx) {
		if err != nil {
			m.t.Fatal(err)
		}
		if names[r.Name] {
			m.t.Errorf("%s has two certificates", r.Name)
		}
		names[r.Name] = true
		n++
	}
	if n != count {
		m.t.Errorf("%d certificates in %s, want %d", n, dir, count)
	}
}

const more = `  boot_subca:
    issuer: ssig_rootca
    profile: subca
    key: ec:P-256
    subject: {common_name: Boot Loader Sub CA}
certificates:
`

func withMore(text string) string { return strings.Replace(text, "certificates:\n", more, 1) }

func TestTwoCeremonies(t *testing.T) {
	t.Parallel()
	text := ceremonyPlan(t)
	m := newMachines(t, text)
	first := m.apply()
	a := m.mustConduct(first)
	again := m.mustConduct(first)
	if !again.Again || !bytes.Equal(again.Marshal(), a.Marshal()) {
		t.Error("the same request got another response")
	}
	if err := m.take(a.Marshal()); err != nil {
		t.Fatal(err)
	}
	if m.apply() != nil {
		t.Error("a request is left")
	}
	m.verify(m.online, 7)
	m.verify(m.offline, 4)
	for _, dir := range []string{m.online, m.offline} {
		list, err := Check(context.Background(), dir, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Level != Note {
				t.Errorf("%s: %v", dir, f)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(m.online, "offline")); err == nil {
		t.Error("a place of offline keys on the online machine")
	}
	// A second ceremony: one more sub CA, known by its signature.
	m.plan(withMore(text))
	second := m.apply()
	if _, err := m.conduct(second, false); !errors.Is(err, ErrOtherPlan) {
		t.Errorf("another plan: %v", err)
	}
	b := m.mustConduct(second)
	if len(b.Certificates) != 1 || !strings.Contains(b.Response.Transcript, "The plan changes:") || !strings.Contains(b.Response.Transcript, "with the key of ssig_subca, which was certified here") {
		t.Errorf("second ceremony:\n%s", b.Response.Transcript)
	}
	asked := false
	if _, err := TakeResponse(context.Background(), m.online, b.Marshal(), testOptions(nil), func(*UnconfirmedError) error { asked = true; return nil }); err != nil || asked {
		t.Errorf("a response by a known root: %v, asked %v", err, asked)
	}
	// Replays, on either side.
	if err := m.take(b.Marshal()); !errors.Is(err, ErrReplayed) {
		t.Errorf("second response again: %v", err)
	}
	if err := m.take(a.Marshal()); !errors.Is(err, ErrReplayed) {
		t.Errorf("first response again: %v", err)
	}
	if m.apply() != nil {
		t.Error("a request is left")
	}
	m.verify(m.online, 8)
	m.verify(m.offline, 5)
}

// TestNotConfirmed: nothing is signed, and nothing is left behind.
func TestNotConfirmed(t *testing.T) {
	t.Parallel()
	m := newMachines(t, ceremonyPlan(t))
	request := m.apply()
	rows := map[string]func(a *Agenda) ([]Confirmation, error){
		"nobody": func(*Agenda) ([]Confirmation, error) { return nil, nil },
		"one":    func(a *Agenda) ([]Confirmation, error) { return []Confirmation{{Officer: a.Officers[0]}}, nil },
		"one twice": func(a *Agenda) ([]Confirmation, error) {
			return []Confirmation{{Officer: a.Officers[0]}, {Officer: a.Officers[0]}}, nil
		},
		"a stranger": func(a *Agenda) ([]Confirmation, error) {
			return []Confirmation{{Officer: a.Officers[0]}, {Officer: "Mallory"}}, nil
		},
		"a refusal": func(*Agenda) ([]Confirmation, error) { return nil, ErrUnconfirmed },
	}
	for name, confirm := range rows {
		_, err := Conduct(context.Background(), m.offline, request, CeremonyOptions{Options: testOptions(nil), Confirm: confirm})
		if !errors.Is(err, ErrUnconfirmed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(m.offline); err == nil {
			t.Errorf("%s: something is left in %s", name, m.offline)
		}
	}
}

// TestRequestsRefused changes one thing of a second request, and asks for the
// error. Most are signed again, as by somebody who has the online machine.
func TestRequestsRefused(t *testing.T) {
	t.Parallel()
	text := ceremonyPlan(t)
	m := newMachines(t, text)
	first := m.apply()
	a := m.mustConduct(first)
	if err := m.take(a.Marshal()); err != nil {
		t.Fatal(err)
	}
	m.apply()
	m.plan(withMore(text))
	good := m.apply()
	sub, subEntry := key(t, m.online, "ssig_subca")
	boot, bootEntry := key(t, m.online, "boot_subca")
	other := must(keys.Generate(spki.KeyType{Kind: spki.EC, Curve: "P-256"}))
	large := must(keys.Generate(spki.KeyType{Kind: spki.EC, Curve: "P-384"}))
	resign := func(q *ceremony.Request) []byte {
		if err := errors.Join(q.Seal(), q.Sign("ssig_subca", sub, subEntry.Algorithm)); err != nil {
			t.Fatal(err)
		}
		return q.Marshal()
	}
	csr := func(subject ca.Name, key crypto.Signer) []byte {
		return must(ca.NewRequest(subject, key, must(spki.DefaultAlgorithm(must(spki.KeyTypeOf(key.Public())), 0))))
	}
	rows := []struct {
		name   string
		change func(q *ceremony.Request) []byte
		err    error
		text   string
	}{
		{"altered", func(q *ceremony.Request) []byte { return bytes.Replace(good, []byte("Boot"), []byte("Root"), 1) }, ceremony.ErrAltered, ""},
		{"unsigned", func(q *ceremony.Request) []byte { q.Seal(); return q.Marshal() }, ErrNotSigned, ""},
		{"signed by a stranger", func(q *ceremony.Request) []byte {
			q.Seal()
			q.Sign("ssig_subca", other, subEntry.Algorithm)
			return q.Marshal()
		}, ErrNotSigned, ""},
		{"signed by a key that was never certified", func(q *ceremony.Request) []byte {
			q.Seal()
			q.Sign("boot_subca", boot, bootEntry.Algorithm)
			return q.Marshal()
		}, ErrNotSigned, ""},
		{"another PKI", func(q *ceremony.Request) []byte { q.PKI = strings.Repeat("0", 32); return resign(q) }, ErrOtherPKI, ""},
		{"a number that was used", func(q *ceremony.Request) []byte { q.Number = 1; return resign(q) }, ErrReplayed, ""},
		{"a bad plan", func(q *ceremony.Request) []byte { q.Plan = "version: 2\n"; return resign(q) }, nil, "the plan in the request"},
		{"a plan without ceremonies", func(q *ceremony.Request) []byte {
			q.Plan, _, _ = strings.Cut(q.Plan, "ceremony:")
			return resign(q)
		}, nil, "no section ceremony"},
		{"an entry that is not in the plan", func(q *ceremony.Request) []byte { q.Certificates[0].Entry = "evil"; return resign(q) }, nil, "not an entry of the plan"},
		{"an entry below an online CA", func(q *ceremony.Request) []byte { q.Certificates[0].Entry = "ssig"; return resign(q) }, nil, "whose key is not one of ceremonies"},
		{"a key in the place of a root's", func(q *ceremony.Request) []byte {
			q.Certificates[0].Entry = "ssig_rootca"
			return resign(q)
		}, nil, "its key is one of ceremonies, but the request has a key for it"},
		{"no proof", func(q *ceremony.Request) []byte { q.Certificates[0].CSR = nil; return resign(q) }, nil, "no proof that its key is there"},
		{"a bad proof", func(q *ceremony.Request) []byte {
			q.Certificates[0].CSR[len(q.Certificates[0].CSR)-1] ^= 1
			return resign(q)
		}, spki.ErrSignature, ""},
		{"no CSR", func(q *ceremony.Request) []byte { q.Certificates[0].CSR = []byte{0x30, 0}; return resign(q) }, nil, "certificate request"},
		{"another subject", func(q *ceremony.Request) []byte {
			q.Certificates[0].CSR = csr(subEntry.Subject, boot)
			return resign(q)
		}, nil, "asks for the subject"},
		{"another type of key", func(q *ceremony.Request) []byte {
			q.Certificates[0].CSR = csr(bootEntry.Subject, large)
			return resign(q)
		}, nil, "key of type ec:P-384, but the plan wants ec:P-256"},
		{"the key of another sub CA", func(q *ceremony.Request) []byte {
			q.Certificates[0].CSR = csr(bootEntry.Subject, sub)
			return resign(q)
		}, nil, "has the key of ssig_subca too"},
		{"a variable without a UEFI part", func(q *ceremony.Request) []byte {
			q.Variables = []ceremony.VariableItem{{ID: "PK", Owner: "6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11"}}
			return resign(q)
		}, nil, "not one of the plan"},
		{"a CRL of an online CA", func(q *ceremony.Request) []byte {
			q.CRLs = []ceremony.CRLItem{{Authority: "ssig_subca", Number: 1, Covers: -1, Validity: 180 * 24 * 3600}}
			return resign(q)
		}, nil, "no authority of the plan whose CRLs a ceremony makes"},
		{"a CRL for longer than the plan says", func(q *ceremony.Request) []byte {
			q.CRLs = []ceremony.CRLItem{{Authority: "ssig_rootca", Number: 1, Covers: -1, Validity: 181 * 24 * 3600}}
			return resign(q)
		}, nil, "but the plan wants"},
		{"a known certificate that is not of the plan", func(q *ceremony.Request) []byte {
			q.Known = []ceremony.Known{{Entry: "ssig", Certificate: a.Certificates[0].Certificate}}
			return resign(q)
		}, nil, "not one of the plan"},
	}
	before := must(os.ReadFile(StorePath(m.offline)))
	for _, r := range rows {
		_, err := m.conduct(r.change(must(ceremony.ParseRequest(good))), true)
		if err == nil || r.err != nil && !errors.Is(err, r.err) || !strings.Contains(err.Error(), r.text) {
			t.Errorf("%s: %v, want %v %q", r.name, err, r.err, r.text)
		}
	}
	if !bytes.Equal(before, must(os.ReadFile(StorePath(m.offline)))) {
		t.Error("a refused request changed the record")
	}
	// A bundle of this PKI has no business in a directory of another, or of every day.
	if _, err := Conduct(context.Background(), m.online, good, ceremonyOptions()); err == nil || !strings.Contains(err.Error(), "used every day") {
		t.Errorf("in the online directory: %v", err)
	}
	o := newMachines(t, text)
	foreign := o.apply()
	if _, err := m.conduct(foreign, true); !errors.Is(err, ErrOtherPKI) {
		t.Errorf("a request of another PKI: %v", err)
	}
	// And the good one goes through.
	m.mustConduct(good)
}

// TestResponsesRefused changes one thing of a response and signs it again with the
// offline keys, as nobody could.
func TestResponsesRefused(t *testing.T) {
	t.Parallel()
	text := strings.Replace(ceremonyPlan(t), "    subject: {common_name: General Root CA}\n", "    subject: {common_name: General Root CA}\n    crl: {validity: 30d}\n", 1)
	m := newMachines(t, text)
	request := must(ceremony.ParseRequest(m.apply()))
	good := m.mustConduct(request.Marshal()).Marshal()
	ssig, ssigEntry := key(t, m.offline, "ssig_rootca")
	gen, genEntry := key(t, m.offline, "gen_rootca")
	resign := func(r *ceremony.Response) []byte {
		if err := errors.Join(r.Seal(), r.Sign("ssig_rootca", ssig, ssigEntry.Algorithm), r.Sign("gen_rootca", gen, genEntry.Algorithm)); err != nil {
			t.Fatal(err)
		}
		return r.Marshal()
	}
	index := func(r *ceremony.Response, name string) *ceremony.Issued {
		return &r.Certificates[slices.IndexFunc(r.Certificates, func(c ceremony.Issued) bool { return c.Entry == name })]
	}
	// issue makes a certificate of ssig_rootca with something else in it.
	issue := func(r *ceremony.Response, change func(e *Entry, q *ca.Request)) []byte {
		root := must(ca.ParseCertificate(index(r, "ssig_rootca").Certificate))
		e := *must(Load("pki.yaml", []byte(text))).Entry("ssig_subca")
		q := ca.Request{Name: e.Name, Subject: e.Subject, PublicKey: must(ca.ParseCertificate(index(r, "ssig_subca").Certificate)).Key, NotBefore: time.Now()}
		change(&e, &q)
		issuer := must(ca.NewIssuer("ssig_rootca", root, ssig, ssigEntry.Algorithm, linter()))
		return must(issuer.Sign(must(issuer.Prepare(e.Profile, q)))).Raw
	}
	// crl makes one of gen_rootca.
	crl := func(r *ceremony.Response, days int, number int64, revoked ...ca.RevokedCertificate) []byte {
		issuer := must(ca.NewIssuer("gen_rootca", must(ca.ParseCertificate(index(r, "gen_rootca").Certificate)), gen, genEntry.Algorithm, linter()))
		now := time.Now().UTC().Truncate(time.Second)
		var out bytes.Buffer
		must(issuer.WriteCRL(&out, ca.CRLRequest{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, days)},
			func(yield func(ca.RevokedCertificate, error) bool) {
				for _, x := range revoked {
					if !yield(x, nil) {
						return
					}
				}
			}))
		return out.Bytes()
	}
	rows := []struct {
		name   string
		change func(r *ceremony.Response) []byte
		err    error
		text   string
	}{
		{"altered", func(r *ceremony.Response) []byte { return bytes.Replace(good, []byte("Ledger"), []byte("ledger"), 1) }, ceremony.ErrAltered, ""},
		{"altered, with a new digest", func(r *ceremony.Response) []byte {
			signatures := r.Signatures()
			r.Transcript += "Carol Example confirmed too\n"
			r.Seal()
			out := r.Marshal()
			for _, s := range signatures {
				out = append(out, "signature "+s.Entry+" "...)
				out = append(append(out, base64of(s.Value)...), '\n')
			}
			return out
		}, ErrNotSigned, ""},
		{"unsigned", func(r *ceremony.Response) []byte { r.Seal(); return r.Marshal() }, ErrNotSigned, ""},
		{"signed by one root of two", func(r *ceremony.Response) []byte {
			r.Seal()
			r.Sign("ssig_rootca", ssig, ssigEntry.Algorithm)
			return r.Marshal()
		}, ErrNotSigned, ""},
		{"signed by one root twice", func(r *ceremony.Response) []byte {
			r.Seal()
			r.Sign("ssig_rootca", ssig, ssigEntry.Algorithm)
			r.Sign("ssig_rootca", ssig, ssigEntry.Algorithm)
			return r.Marshal()
		}, ErrNotSigned, "gen_rootca"},
		{"another PKI", func(r *ceremony.Response) []byte { r.PKI = strings.Repeat("0", 32); return resign(r) }, ErrOtherPKI, ""},
		{"another request", func(r *ceremony.Response) []byte { r.Request = strings.Repeat("0", 64); return resign(r) }, ErrUnknown, ""},
		{"another number", func(r *ceremony.Response) []byte { r.Number = 2; return resign(r) }, ErrNotAsked, ""},
		{"another plan", func(r *ceremony.Response) []byte { r.Plan = strings.Repeat("0", 64); return resign(r) }, ErrNotAsked, ""},
		{"a certificate less", func(r *ceremony.Response) []byte { r.Certificates = r.Certificates[:3]; return resign(r) }, ErrNotAsked, "3 certificates"},
		{"a certificate of an entry that nobody asked for", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Entry = "ssig"
			return resign(r)
		}, ErrNotAsked, "certificate ssig"},
		{"two certificates exchanged", func(r *ceremony.Response) []byte {
			a, b := index(r, "ssig_subca"), index(r, "guestos_subca")
			a.Certificate, b.Certificate = b.Certificate, a.Certificate
			return resign(r)
		}, ErrNotAsked, "another key"},
		{"another key", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = issue(r, func(_ *Entry, q *ca.Request) { q.PublicKey = gen.Public() })
			return resign(r)
		}, ErrNotAsked, "another key"},
		{"another subject", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = issue(r, func(_ *Entry, q *ca.Request) { q.Subject = genEntry.Subject })
			return resign(r)
		}, ErrNotAsked, "its subject is"},
		{"another profile", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = issue(r, func(e *Entry, _ *ca.Request) {
				e.Profile = must(Load("pki.yaml", []byte(text))).Entry("ssig").Profile
			})
			return resign(r)
		}, ErrNotAsked, "validity was"},
		{"a name more", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = issue(r, func(_ *Entry, q *ca.Request) { q.SubjectAltNames = []string{"dns:evil.example"} })
			return resign(r)
		}, ErrNotAsked, "extensions that the profile no longer has"},
		{"not valid yet", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = issue(r, func(_ *Entry, q *ca.Request) { q.NotBefore = time.Now().AddDate(1, 0, 0) })
			return resign(r)
		}, ErrNotAsked, "not valid"},
		{"a bad signature", func(r *ceremony.Response) []byte {
			c := index(r, "ssig_subca").Certificate
			c[len(c)-1] ^= 1
			return resign(r)
		}, ErrNotAsked, ""},
		{"signed by the other root", func(r *ceremony.Response) []byte {
			e := must(Load("pki.yaml", []byte(text))).Entry("ssig_subca")
			issuer := must(ca.NewIssuer("gen_rootca", must(ca.ParseCertificate(index(r, "gen_rootca").Certificate)), gen, genEntry.Algorithm, linter()))
			c := must(issuer.Sign(must(issuer.Prepare(e.Profile, ca.Request{Name: e.Name, Subject: e.Subject, NotBefore: time.Now(),
				PublicKey: must(ca.ParseCertificate(index(r, "ssig_subca").Certificate)).Key}))))
			index(r, "ssig_subca").Certificate = c.Raw
			return resign(r)
		}, ErrNotAsked, ""},
		{"no CRL", func(r *ceremony.Response) []byte { r.CRLs = nil; return resign(r) }, ErrNotAsked, "0 CRLs"},
		{"a CRL of another authority", func(r *ceremony.Response) []byte { r.CRLs[0].Authority = "ssig_rootca"; return resign(r) }, ErrNotAsked, "CRL of ssig_rootca"},
		{"a CRL with a bad signature", func(r *ceremony.Response) []byte {
			c := r.CRLs[0].Content
			c[len(c)-1] ^= 1
			return resign(r)
		}, nil, "CRL of gen_rootca"},
		{"a CRL that revokes more", func(r *ceremony.Response) []byte {
			r.CRLs[0].Content = crl(r, 30, 1, ca.RevokedCertificate{Serial: []byte{1}, Time: time.Now()})
			return resign(r)
		}, ErrNotAsked, "1 revocations, of 0"},
		{"a CRL that is valid for longer", func(r *ceremony.Response) []byte { r.CRLs[0].Content = crl(r, 31, 1); return resign(r) }, ErrNotAsked, "another validity"},
		{"a CRL with a number that is too small", func(r *ceremony.Response) []byte { r.CRLs[0].Content = crl(r, 30, 0); return resign(r) }, ErrNotAsked, "its number is below"},
		{"no certificate at all", func(r *ceremony.Response) []byte {
			index(r, "ssig_subca").Certificate = []byte{0x30, 0}
			return resign(r)
		}, nil, "certificate ssig_subca"},
		{"a transcript that was signed otherwise", func(r *ceremony.Response) []byte { r.Transcript += "x\n"; return resign(r) }, nil, "transcript"},
		{"a transcript signed by an online key", func(r *ceremony.Response) []byte { r.TranscriptSigner = "ssig_subca"; return resign(r) }, ErrNotSigned, "transcript"},
		{"a variable", func(r *ceremony.Response) []byte {
			r.Variables = []ceremony.Variable{{ID: "PK", Content: []byte("x")}}
			return resign(r)
		}, ErrNotAsked, "1 variables"},
	}
	before := must(os.ReadFile(StorePath(m.online)))
	for _, r := range rows {
		err := m.take(r.change(must(ceremony.ParseResponse(good))))
		if err == nil || r.err != nil && !errors.Is(err, r.err) || !strings.Contains(err.Error(), r.text) {
			t.Errorf("%s: %v, want %v %q", r.name, err, r.err, r.text)
		}
	}
	refused := errors.New("not the one")
	if _, err := TakeResponse(context.Background(), m.online, good, testOptions(nil), func(e *UnconfirmedError) error {
		if len(e.New) != 2 || e.Digest != must(ceremony.ParseResponse(good)).Digest() {
			t.Errorf("unconfirmed: %v", e)
		}
		return refused
	}); !errors.Is(err, refused) {
		t.Errorf("unconfirmed: %v", err)
	}
	if !bytes.Equal(before, must(os.ReadFile(StorePath(m.online)))) {
		t.Error("a refused response changed the record")
	}
	// For a plan that has changed since: refused, until it is put back.
	m.plan(withMore(text))
	if err := m.take(good); !errors.Is(err, ErrOtherPlan) {
		t.Errorf("another plan: %v", err)
	}
	m.plan(text)
	if err := m.take(good); err != nil {
		t.Error(err)
	}
	// A PKI that never asked.
	o := newMachines(t, strings.Replace(text, "ceremony:\n  officers: [Alice Example, Bob Example]\n", "", 1))
	o.apply()
	if err := o.take(good); !errors.Is(err, ErrUnknown) {
		t.Errorf("a PKI that never asked: %v", err)
	}
}

// TestTakenInPart: a run that died while it took a response is finished by the
// next, and so is one that died in a ceremony.
func TestTakenInPart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := newMachines(t, ceremonyPlan(t))
	request := m.apply()
	a := m.mustConduct(request)
	p := must(Open(ctx, m.online))
	taken := &taking{PKI: p, o: testOptions(nil), response: a.Response, issued: map[string]*ca.Certificate{}}
	// Half of the certificates are there, but not the response.
	db := must(p.OpenStore(ctx))
	for i, c := range a.Certificates {
		taken.issued[c.Entry] = must(ca.ParseCertificate(c.Certificate))
		if i%2 == 0 {
			if err := db.Import(ctx, taken.imported(p.Plan.Entry(c.Entry), taken.issued[c.Entry])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.take(a.Marshal()); err != nil {
		t.Fatal(err)
	}
	if m.apply() != nil {
		t.Error("a request is left")
	}
	m.verify(m.online, 7)
}

// TestAskedAgain: an older request that was answered but never taken is no reason
// to sign anew.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	text := ceremonyPlan(t)
	m := newMachines(t, text)
	a := m.mustConduct(m.apply())
	// The response is lost, the plan grows: a second request asks for all.
	m.plan(withMore(text))
	second := must(ceremony.ParseRequest(m.apply()))
	if len(second.Certificates) != 5 || second.Number != 2 {
		t.Fatalf("%d certificates in request %d", len(second.Certificates), second.Number)
	}
	// It can't be signed by a certified key, since none came back.
	if _, err := m.conduct(second.Marshal(), true); !errors.Is(err, ErrNotSigned) {
		t.Fatalf("unsigned second request: %v", err)
	}
	// With the first response found and taken under its plan, it goes on.
	m.plan(text)
	if err := m.take(a.Marshal()); err != nil {
		t.Fatal(err)
	}
	m.plan(withMore(text))
	third := must(ceremony.ParseRequest(m.apply()))
	if len(third.Certificates) != 1 || third.Number != 3 {
		t.Fatalf("%d certificates in request %d", len(third.Certificates), third.Number)
	}
	b := m.mustConduct(third.Marshal())
	if err := m.take(b.Marshal()); err != nil {
		t.Fatal(err)
	}
	m.apply()
	m.verify(m.online, 8)
	m.verify(m.offline, 5)
}

func base64of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
