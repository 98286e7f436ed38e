package plan

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/spki"
	"tmpki/store"
)

// issuingPKI is an applied PKI whose profile backend issues outside the entries.
func issuingPKI(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	text := bytes.Replace(allEC(t), []byte("  backend: {validity"), []byte("  backend: {issuer: backend_subca, key: ec:P-256, validity"), 1)
	if _, err := Generate(context.Background(), dir, spki.KeyType{}, testOptions(text)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func issueWeb(t *testing.T, dir, name string) (*Issued, error) {
	t.Helper()
	return must(Open(t.Context(), dir)).Issue(t.Context(), testOptions(nil),
		IssueRequest{Profile: "backend", Name: name, SubjectAltNames: []string{"dns:" + name + ".example"}})
}

// Several processes at once: a name has one key, whoever comes first.
func TestIssueOneNameAtOnce(t *testing.T) {
	dir := issuingPKI(t)
	const n = 6
	var wg sync.WaitGroup
	issued, errs := make([]*Issued, n), make([]error, n)
	for i := range n {
		p := must(Open(t.Context(), dir))
		wg.Go(func() {
			issued[i], errs[i] = p.Issue(t.Context(), testOptions(nil), IssueRequest{Profile: "backend", Name: "web", SubjectAltNames: []string{"dns:web.example"}})
		})
	}
	wg.Wait()
	made := 0
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if issued[i].KeyMade {
			made++
		}
		if !spki.Equal(issued[i].Certificate.Key, issued[0].Certificate.Key) {
			t.Error("the name has two keys")
		}
	}
	if made != 1 {
		t.Errorf("%d keys were made", made)
	}
	if list := must(must(Open(t.Context(), dir)).IssuedList(t.Context(), "backend")); len(list) != n {
		t.Errorf("%d certificates on record, not %d", len(list), n)
	}
	settled(t, dir, "after issuing")
}

// Whatever fails before the intent is recorded leaves no key behind.
func TestIssueTakesBackItsKey(t *testing.T) {
	dir := issuingPKI(t)
	p := must(Open(t.Context(), dir))
	before := listing(dir)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, row := range []struct {
		name, want string
		ctx        context.Context
		request    IssueRequest
	}{
		{"no host name", "no client accepts a server", t.Context(), IssueRequest{Profile: "backend", Name: "web"}},
		{"a subject that is none", "subject.country", t.Context(), IssueRequest{Profile: "backend", Name: "web", SubjectAltNames: []string{"dns:web.example"}, Subject: ca.SubjectConfig{Country: "x"}}},
		{"its issuer's subject", "has the subject of its issuer", t.Context(), IssueRequest{Profile: "backend", Name: "web", SubjectAltNames: []string{"dns:web.example"}, Subject: ca.SubjectConfig{CommonName: "GyroidOS Backend Sub CA"}}},
		{"interrupted", "context canceled", canceled, IssueRequest{Profile: "backend", Name: "web", SubjectAltNames: []string{"dns:web.example"}}},
	} {
		if _, err := p.Issue(row.ctx, testOptions(nil), row.request); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if after := listing(dir); after != before {
			t.Errorf("%s: there was\n%sand is\n%s", row.name, before, after)
		}
	}
}

// While an authority changes its key, what the old one has signed goes out with the
// old one's chain, and what the new one signs with the new one's.
func TestIssuedChainRotation(t *testing.T) {
	dir := issuingPKI(t)
	old := must(issueWeb(t, dir, "old"))
	if _, err := Rotate(t.Context(), dir, testOptions(nil), "backend_subca", spki.KeyType{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Switch(t.Context(), dir, testOptions(nil), "backend_subca", "a test"); err != nil {
		t.Fatal(err)
	}
	renewed := must(issueWeb(t, dir, "new"))
	if bytes.Equal(old.Chain[1].SubjectKeyId, renewed.Chain[1].SubjectKeyId) {
		t.Fatal("the new key does not sign")
	}
	p := must(Open(t.Context(), dir))
	for _, i := range []*Issued{old, renewed} {
		chain, err := p.IssuedChain(t.Context(), i.Name, time.Now())
		if err != nil || !slices.EqualFunc(chain, i.Chain, (*ca.Certificate).Equal) {
			t.Errorf("%s: %v", i.Name, err)
		}
	}
	if _, err := p.IssuedChain(t.Context(), old.Name, old.Certificate.NotAfter.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its end: %v", err)
	}
	if _, err := p.IssuedChain(t.Context(), "backend/none", time.Now()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
	if _, err := Retire(t.Context(), dir, testOptions(nil), "backend_subca", true, "a test"); err != nil {
		t.Fatal(err)
	}
	p = must(Open(t.Context(), dir))
	if _, err := p.IssuedChain(t.Context(), old.Name, time.Now()); err == nil || !strings.Contains(err.Error(), "not in use any more") {
		t.Errorf("below a retired key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old.key")); err != nil {
		t.Error(err)
	}
}

// Batches of devices take no lock: what they record between our look and our claim
// counts.
func TestIssueClaims(t *testing.T) {
	dir := issuingPKI(t)
	first := must(issueWeb(t, dir, "web"))
	p := must(Open(t.Context(), dir))
	db := must(p.OpenStore(t.Context()))
	defer db.Close()
	record := must(db.Latest(t.Context(), first.Name))
	next := byte(0)
	fresh := func(name string, key []byte) store.Record {
		r := record
		next++
		r.Serial, r.Name, r.SubjectKeyID = bytes.Repeat([]byte{next}, 20), name, key
		return r
	}
	other := bytes.Repeat([]byte{7}, 20)
	for _, row := range []struct {
		name     string
		record   store.Record
		replaced []store.Record
		want     string
	}{
		{"the same name and key", fresh(record.Name, record.SubjectKeyID), nil, ""},
		{"with an open intent for them", fresh(record.Name, record.SubjectKeyID), nil, ""},
		{"the key of another name", fresh("backend/other", record.SubjectKeyID), nil, "its key is that of backend/web"},
		{"another key", fresh(record.Name, other), nil, "is being issued with another key"},
		{"another key, and the intents still open", fresh(record.Name, other), []store.Record{record}, "is being issued with another key"},
	} {
		err := claim(t.Context(), db, row.record, row.replaced)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
	for _, open := range must(db.Pending(t.Context())) {
		if err := db.Revoke(t.Context(), store.Revocation{Serial: open.Serial, Issuer: open.Issuer, Reason: store.CessationOfOperation, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := claim(t.Context(), db, fresh(record.Name, other), []store.Record{record}); err != nil {
		t.Error(err)
	}
}
