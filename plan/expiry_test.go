package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/spki"
	"tmpki/store"
)

func TestExpiriesOfDevices(t *testing.T) {
	const day = 24 * time.Hour
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "pki")
	if _, err := Generate(ctx, dir, spki.KeyType{}, testOptions(allEC(t))); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	p, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	serial := byte(0)
	issue := func(profile, name string, ends time.Duration) []byte {
		serial++
		err := db.Import(ctx, store.Imported{Record: store.Record{
			Serial: []byte{1, serial}, Name: name, Profile: profile, Issuer: "device_subca", Actor: "tester",
			NotBefore: now.Add(-day), NotAfter: now.Add(ends), DER: []byte{1, serial},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return []byte{1, serial}
	}
	issue("device", "ended", -time.Hour)
	issue("device", "PC\n SN 1", 20*day)
	issue("device", "renewed", 10*day)
	issue("device", "renewed", 900*day)
	issue("device", "later", 91*day)
	for i := range 12 {
		issue("user", fmt.Sprint("user", i), time.Duration(30+i)*day)
	}
	gone := issue("device", "revoked", 15*day)
	if err := db.Revoke(ctx, store.Revocation{Serial: gone, Issuer: "device_subca", Name: "revoked", Reason: store.KeyCompromise, Time: now, Actor: "tester"}); err != nil {
		t.Fatal(err)
	}

	list, err := Expiries(ctx, dir, now, 90*day)
	if err != nil {
		t.Fatal(err)
	}
	var issued []string
	kinds := map[string]int{}
	for _, x := range list {
		kinds[x.Kind]++
		if x.Kind == ExpiryIssued {
			issued = append(issued, fmt.Sprintf("%q %s %d", x.Name, x.Profile, x.Count))
		}
	}
	want := []string{`"PC\n SN 1" device 1`, `"" user 12`}
	if !slices.Equal(issued, want) {
		t.Errorf("issued %q, want %q", issued, want)
	}
	if kinds[ExpiryCertificate] != 13 || kinds[ExpiryAnchor] != 1 {
		t.Errorf("kinds %v", kinds)
	}
	if !slices.IsSortedFunc(list, func(a, b Expiry) int { return a.NotAfter.Compare(b.NotAfter) }) {
		t.Error("not by date")
	}

	// check tells the same, and of the plan what ends in the time.
	for _, tt := range []struct {
		within time.Duration
		want   []string
	}{
		{7 * day, nil},
		{25 * day, []string{"PC\n SN 1"}},
		{90 * day, []string{"PC\n SN 1", "user"}},
		{1096 * day, []string{"ssig", "ssig_cml", "guestos_debos", "backend", "ocsp_server", "PC\n SN 1", "later", "renewed", "user"}},
	} {
		found, err := CheckWithin(ctx, dir, now, tt.within)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			if f.Ends {
				got = append(got, f.Name)
				if !strings.Contains(f.Text, "expires on ") {
					t.Errorf("%s: %s", f.Name, f.Text)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("within %v: %q, want %q", tt.within, got, tt.want)
		}
	}
}
