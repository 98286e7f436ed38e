package store

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every query gives what a loop over all certificates gives, in pages of any size.
func TestPage(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	var intents []Record
	var done []Completed
	for n := range uint64(300) {
		r := record(n)
		r.Name = fmt.Sprintf("%c%d", "abä\U0010ffff"[random.IntN(3)], n/2)
		r.Profile = []string{"device", "user"}[random.IntN(2)]
		r.Issuer = []string{"ca1", "ca2"}[random.IntN(2)]
		r.IssuerKeyID = []byte{byte(1 + random.IntN(2))}
		r.NotAfter = start.AddDate(0, 0, random.IntN(20))
		intents = append(intents, r)
		done = append(done, Completed{r.Serial, der(n)})
	}
	for i, r := range intents {
		if !strings.HasPrefix(r.Name, "a") && !strings.HasPrefix(r.Name, "b") {
			intents[i].Name = "ä" + r.Name[len(r.Name)-1:]
		}
	}
	must(t, db.Intend(ctx, intents...))
	must(t, db.Complete(ctx, done...))
	for n := range uint64(300) {
		if reason := []Reason{CertificateHold, KeyCompromise, -1}[n%3]; reason >= 0 {
			must(t, db.Revoke(ctx, Revocation{Serial: serial(n), Reason: reason, Actor: "me"}))
		}
	}
	var all []Record
	for r, err := range db.Certificates(ctx) {
		must(t, err)
		all = append(all, r)
	}
	if len(all) != 300 {
		t.Fatalf("%d certificates", len(all))
	}

	match := func(q Query, r Record) bool {
		return (q.Profile == "" || q.Profile == r.Profile) && (q.Issuer == "" || q.Issuer == r.Issuer) &&
			(q.IssuerKeyID == nil || string(q.IssuerKeyID) == string(r.IssuerKeyID)) &&
			(q.States == nil || slices.Contains(q.States, r.State)) && strings.HasPrefix(r.Name, q.NamePrefix) &&
			(q.ExpiresFrom.IsZero() || !r.NotAfter.Before(q.ExpiresFrom)) && (q.ExpiresBefore.IsZero() || r.NotAfter.Before(q.ExpiresBefore))
	}
	check := func(q Query, n int) {
		t.Helper()
		var want []Record
		for _, r := range all {
			if match(q, r) {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b Record) int {
			order := cmp.Compare(a.Entry, b.Entry)
			if q.NamePrefix != "" {
				order = cmp.Or(cmp.Compare(a.Name, b.Name), order)
			} else if q.byDate() {
				order = cmp.Or(a.NotAfter.Compare(b.NotAfter), order)
			}
			if q.Newest {
				return -order
			}
			return order
		})
		var got []Record
		for after := Cursor(""); ; {
			list, next, err := db.Page(ctx, q, after, n)
			must(t, err)
			got = append(got, list...)
			if next == "" {
				break
			}
			if len(list) != n {
				t.Fatalf("%+v: page of %d, want %d", q, len(list), n)
			}
			after = next
		}
		same := slices.EqualFunc(got, want, func(a, b Record) bool { return a.Entry == b.Entry && a.Name == b.Name && a.State == b.State })
		if !same {
			t.Errorf("%+v in pages of %d: %d certificates, want %d", q, n, len(got), len(want))
		}
	}
	for _, profile := range []string{"", "device", "none"} {
		for _, issuer := range []string{"", "ca1"} {
			for _, key := range [][]byte{nil, {2}} {
				for _, states := range [][]State{nil, {Issued}, {Held, Revoked, Held}} {
					q := Query{Profile: profile, Issuer: issuer, IssuerKeyID: key, States: states, Newest: random.IntN(2) == 0}
					check(q, 7)
					q.NamePrefix = []string{"a", "a1", "ä", "z", "b"}[random.IntN(5)]
					check(q, 5)
					q.NamePrefix, q.ExpiresFrom = "", start.AddDate(0, 0, 5)
					check(q, 7)
					q.ExpiresBefore = start.AddDate(0, 0, 12)
					check(q, 1+random.IntN(40))
				}
			}
		}
	}
	check(Query{}, 1000)
	check(Query{Newest: true}, 3)
}

func TestPageRefuses(t *testing.T) {
	db := newDB(t)
	issue(t, db, 1, 3)
	for name, test := range map[string]struct {
		q     Query
		after Cursor
	}{
		"intended":        {Query{States: []State{Intended}}, ""},
		"unknown state":   {Query{States: []State{9}}, ""},
		"name and dates":  {Query{NamePrefix: "a", ExpiresFrom: time.Now()}, ""},
		"no UTF-8":        {Query{NamePrefix: "\xff"}, ""},
		"other query":     {Query{}, "d1.2"},
		"no number":       {Query{}, "ex"},
		"spelled another": {Query{}, "e01"},
		"no entry":        {Query{NamePrefix: "a"}, "n61"},
		"no hex":          {Query{NamePrefix: "a"}, "nzz.1"},
		"rubbish":         {Query{}, "'; DROP TABLE ledger"},
	} {
		if _, _, err := db.Page(t.Context(), test.q, test.after, 10); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBehindPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"a": "b", "az": "a{", "ä": "å", "a\U0010ffff": "b", "\U0010ffff": "", "\ud7ff": "\ue000", "": "",
	} {
		if got := behindPrefix(prefix); got != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}
