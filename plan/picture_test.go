package plan

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

func builtIn(t *testing.T, name string) *Plan {
	t.Helper()
	text, err := Template(name, spki.KeyType{Kind: spki.RSA, Bits: 2048}, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(FileName, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDrawStates(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	p := builtIn(t, Production)
	tests := []struct {
		name     string
		entry    string
		from, to time.Duration // of the certificate, from now; none: not made
		key      bool
		token    bool
		want     State
		wantKey  KeyState
	}{
		{"not made", "ssig", 0, 0, false, false, StatePlanned, KeyMissing},
		{"not made, with a key", "ssig", 0, 0, true, false, StatePlanned, KeyHere},
		{"ok", "ssig", -day, 31 * day, true, false, StateOK, KeyHere},
		{"last day but one of ok", "ssig", -day, 30 * day, true, false, StateOK, KeyHere},
		{"soon", "ssig", -day, 30*day - time.Second, true, false, StateSoon, KeyHere},
		{"the last second", "ssig", -day, 1, true, false, StateSoon, KeyHere},
		{"expired", "ssig", -day, -1, true, false, StateExpired, KeyHere},
		{"expired beats missing", "ssig", -day, -1, false, false, StateExpired, KeyMissing},
		{"the clock is wrong", "ssig", day, 31 * day, true, false, StateNotYet, KeyHere},
		{"missing", "ssig", -day, 100 * day, false, false, StateKeyMissing, KeyMissing},
		{"missing beats soon", "ssig", -day, day, false, false, StateKeyMissing, KeyMissing},
		{"in a token", "ssig", -day, 100 * day, false, true, StateOK, KeyToken},
		{"offline", "ssig_rootca", -day, 100 * day, false, false, StateKeyOffline, KeyOffline},
		{"soon beats offline", "ssig_rootca", -day, day, false, false, StateSoon, KeyOffline},
		{"offline key is here", "ssig_rootca", -day, 100 * day, true, false, StateOK, KeyHere},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			have := Inventory{Certificates: map[string]*ca.Certificate{}, Keys: map[string]KeyFile{}}
			if test.to != 0 {
				have.Certificates[test.entry] = &ca.Certificate{Certificate: &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(test.from), NotAfter: now.Add(test.to)}}
			}
			if test.key {
				have.Keys[test.entry] = KeyFile{}
			}
			if test.token {
				e := p.Entry(test.entry)
				defer func(old keys.URI) { e.Key = old }(e.Key)
				e.Key.Scheme = keys.SchemePKCS11
			}
			n := draw(p, have, now).Node(test.entry)
			if n.State != test.want || n.KeyState != test.wantKey {
				t.Errorf("state %q, key %q; want %q, %q", n.State, n.KeyState, test.want, test.wantKey)
			}
		})
	}
}

func TestDrawShape(t *testing.T) {
	d := draw(builtIn(t, Development), Inventory{}, time.Now())
	if len(d.Hierarchies) != 2 || d.Hierarchies[0].Name != "software signing" || d.Hierarchies[1].Name != "customer" {
		t.Fatalf("hierarchies: %v", d.Hierarchies)
	}
	// Every entry stands in one place: below a root, among the anchors, or in a
	// UEFI variable.
	places := map[string]int{}
	var walk func(nodes []*Node)
	walk = func(nodes []*Node) {
		for _, n := range nodes {
			places[n.Name]++
			walk(n.Children)
		}
	}
	for _, h := range d.Hierarchies {
		walk(h.Roots)
		walk(h.Anchors)
	}
	for _, v := range d.Variables {
		for _, n := range v.Certificates {
			if n.Kind == PlatformKey {
				places[n.Name]++
			}
		}
	}
	for _, e := range d.Plan.Entries {
		if places[e.Name] != 1 {
			t.Errorf("%s stands in %d places", e.Name, places[e.Name])
		}
	}
	subca := d.Node("guestos_subca")
	if len(subca.Anchors) != 1 || subca.Anchors[0] != d.Node("guestos_anchor") {
		t.Errorf("anchors of guestos_subca: %v", subca.Anchors)
	}
	if v := d.VariablesOf(d.Node("ssig_subca")); len(v) != 1 || v[0].Name != "db" || v[0].SignerNode != d.Node("KEK") {
		t.Errorf("variables of ssig_subca: %v", v)
	}
	if f := d.Files(d.Node("ssig")); len(f) != 3 {
		t.Errorf("published files of ssig: %v", f)
	}
}

func TestPicture(t *testing.T) {
	const text = `
version: 1
plan: small
targets:
  uefi: {signers: ["rsa:2048"], authorities: ["rsa:2048"]}
  kernel: {signers: ["rsa:2048"], authorities: ["rsa:2048"]}
  cmld: {signers: ["rsa:2048"], authorities: ["rsa:2048"]}
keys: {place: "file:{name}.key"}
hierarchies: {only: {}}
profiles: {root: {ca: true, validity: 100d, key_usage: [keyCertSign, cRLSign]}}
authorities: {root: {hierarchy: only, profile: root, key: ed25519, subject: {common_name: Root}}}
publish: {root.cert: {of: root, as: certificate}}
`
	ctx, dir := context.Background(), t.TempDir()
	if _, err := Picture(ctx, dir, time.Now()); !errors.Is(err, ErrNoPlan) {
		t.Errorf("without a plan: %v, want ErrNoPlan", err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	d, err := Picture(ctx, dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Node("root"); n.State != StatePlanned || n.Record != nil || n.Certificate != nil {
		t.Errorf("before apply: %+v", n)
	}
	if _, err := Apply(ctx, dir, Options{Actor: "tester", Now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	d, err = Picture(ctx, dir, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	n := d.Node("root")
	if n.State != StateOK || n.Record == nil || n.Record.Actor != "tester" || !n.Record.Issued.Equal(now) || n.Record.Entry != 0 {
		t.Errorf("after apply: %+v with record %+v", n, n.Record)
	}
	if _, err := Picture(ctx, filepath.Join(dir, "nowhere"), now); !errors.Is(err, ErrNoPlan) {
		t.Errorf("in no directory: %v", err)
	}
}
