package plan

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/spki"
)

// TestCheckClock looks at one PKI with clocks of the future.
func TestCheckClock(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "pki")
	made := time.Now()
	if _, err := Generate(ctx, dir, spki.KeyType{}, testOptions(allEC(t))); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	leaves := []string{"ssig", "ssig_cml", "guestos_debos", "backend", "ocsp_server"}
	subCAs := []string{"ssig_subca", "ssig_subca_cml", "guestos_subca", "guestos_anchor", "device_subca", "backend_subca", "user_subca"}
	roots := []string{"ssig_rootca", "gen_rootca"}
	issuing := []string{"ssig_subca", "ssig_subca_cml", "guestos_subca", "backend_subca"}
	for _, tt := range []struct {
		name      string
		later     time.Duration
		warn, bad []string
		due       []string // authorities that end before what they should issue
	}{
		{"new", 0, nil, nil, nil},
		{"before it began", -day, nil, slices.Concat(leaves, subCAs, roots), nil},
		{"31 days before the first end", (1095 - 31) * day, nil, nil, nil},
		{"29 days before the first end", (1095 - 29) * day, leaves, nil, nil},
		{"an hour before the first end", 1095*day - time.Hour, leaves, nil, nil},
		{"after the first end", 1095*day + time.Hour, nil, leaves, issuing},
		{"29 days before the sub CAs end", (2190 - 29) * day, subCAs, leaves, slices.Concat(issuing, roots)},
		{"after the sub CAs ended", 2190*day + time.Hour, nil, slices.Concat(leaves, subCAs), roots},
		{"29 days before all ends", (3650 - 29) * day, roots, slices.Concat(leaves, subCAs), roots},
		{"after all ended", 3650*day + time.Hour, nil, slices.Concat(leaves, subCAs, roots), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := Check(ctx, dir, made.Add(tt.later))
			if err != nil {
				t.Fatal(err)
			}
			got := map[Level]map[string]string{Warn: {}, Bad: {}}
			var due []string
			for _, f := range list {
				if strings.Contains(f.Text, "no more: tmpki renew") {
					due = append(due, f.Name)
				} else if f.Level != Note {
					got[f.Level][f.Name] = f.Text
				}
			}
			want := slices.Clone(tt.due)
			slices.Sort(due)
			slices.Sort(want)
			if !slices.Equal(due, want) {
				t.Errorf("to be renewed or rotated: %v, want %v", due, want)
			}
			for level, want := range map[Level][]string{Warn: tt.warn, Bad: tt.bad} {
				for _, name := range want {
					text, ok := got[level][name]
					if !ok {
						t.Errorf("no %s about %s", level, name)
					}
					if level == Warn && !strings.Contains(text, "expires on ") {
						t.Errorf("%s of %s: %s", level, name, text)
					}
					delete(got[level], name)
				}
				for name, text := range got[level] {
					t.Errorf("unexpected %s: %s: %s", level, name, text)
				}
			}
		})
	}
}
