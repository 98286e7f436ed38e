package plan

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/spki"
)

// editText is the development plan, and an edit of it.
func editText(t *testing.T, change func(string) string, name string) (before, after string, err error) {
	t.Helper()
	text, err := Template(Development, spki.KeyType{Kind: spki.RSA, Bits: 2048}, "")
	if err != nil {
		t.Fatal(err)
	}
	before = change(string(text))
	p, err := Load(FileName, []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	out, err := AddGuestOS(name)(p, []byte(before))
	return before, string(out), err
}

func same(s string) string { return s }

// TestAddGuestOSText holds that lines are added, and none is changed.
func TestAddGuestOSText(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"as it ships":        same,
		"comment behind":     func(s string) string { return strings.Replace(s, "\ncertificates:\n", "\ncertificates: # mine\n", 1) },
		"comments of my own": func(s string) string { return "# first\n" + s + "# last\n" },
		"CRLF":               func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			before, after, err := editText(t, change, "my-os_2")
			if err != nil {
				t.Fatal(err)
			}
			rest := strings.SplitAfter(before, "\n")
			added := 0
			for _, line := range strings.SplitAfter(after, "\n") {
				if len(rest) > 0 && line == rest[0] {
					rest = rest[1:]
				} else {
					added++
				}
			}
			if len(rest) > 0 || added != 7 {
				t.Errorf("%d lines added, %d lost, from %q", added, len(rest), rest)
			}
			p, err := Load(FileName, []byte(after))
			if err != nil {
				t.Fatal(err)
			}
			e := p.Entry("guestos_my-os_2")
			if e == nil || e.Issuer.Name != "guestos_subca" || e.MaySign("guestos") != nil || e.MaySign("container") == nil || e.KeyType != p.Entry("guestos_debos").KeyType {
				t.Errorf("%+v", e)
			}
			// Once more changes nothing.
			again, err := AddGuestOS("my-os_2")(p, []byte(after))
			if err != nil || string(again) != after {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

func TestAddGuestOSRefuses(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("no %q in the plan", old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	const notAName = "is not a name of letters, digits, _ and -"
	for _, row := range []struct {
		name, guestOS string
		change        func(string) string
		want          string
	}{
		{"empty", "", same, notAName},
		{"path", "../x", same, notAName},
		{"dot", "a.b", same, notAName},
		{"space", "a b", same, notAName},
		{"newline", "a\n  evil: {}", same, notAName},
		{"colon", "a: b", same, notAName},
		{"umlaut", "ä", same, notAName},
		{"long", strings.Repeat("a", 57), same, notAName},
		{"the sub CA", "subca", same, "guestos_subca signs no artifacts"},
		{"the anchor", "anchor", same, "guestos_anchor signs no artifacts"},
		{"certificates in one line", "x", replace("\ncertificates:\n", "\n\"certificates\":\n"), `no line "certificates:" to put an entry below: add it by hand`},
		{"publish in one line", "x", replace("\npublish:\n", "\n\"publish\":\n"), `no line "publish:" to put an entry below: add it by hand`},
		{"no anchor twin", "x", func(s string) string {
			s = replace("\nanchors:\n  guestos_anchor: {twin_of: guestos_subca}\n", "\nanchors: {}\n")(s)
			return replace("  guestos_anchor.cert: {of: guestos_anchor, as: certificate}\n", "")(s)
		}, "no sub CA with an anchor twin and a GuestOS below it: add the entry by hand"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := editText(t, row.change, row.guestOS)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v, want %q", err, row.want)
			}
		})
	}
}

// TestEdit holds that an edit is applied, that a bad one changes nothing, and that
// one without a change writes nothing.
func TestEdit(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "pki")
	o := Options{Actor: "tester", Now: func() time.Time { return time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC) }}
	if _, err := Generate(ctx, dir, spki.KeyType{Kind: spki.RSA, Bits: 2048}, o); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	spoil := func(_ *Plan, text []byte) ([]byte, error) { return append(text, "nonsense: 1\n"...), nil }
	if _, err := Edit(ctx, dir, o, spoil); err == nil || !strings.Contains(err.Error(), "the change would spoil the plan") {
		t.Errorf("a bad edit: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
		t.Errorf("a bad edit changed the plan: %v", err)
	}
	steps, err := Edit(ctx, dir, o, AddGuestOS("mine"))
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, s := range steps {
		did = append(did, fmt.Sprint(s.Kind))
	}
	if len(steps) != 3 { // key, certificate, file
		t.Errorf("steps: %v", did)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, name := range []string{"guestos_mine.key", "guestos_mine.cert"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if steps, err := Edit(ctx, dir, o, AddGuestOS("mine")); err != nil || len(steps) != 0 {
		t.Errorf("the second time: %d steps, %v", len(steps), err)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(info, again) {
		t.Errorf("written again: %v", err)
	}
}
