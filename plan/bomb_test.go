package plan

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// bombMemory is what loading a hostile pki.yaml may allocate in all, in octets. It
// stands for the work, too: time is no measure on a busy machine.
const bombMemory = 256 << 20

// fillFile repeats s nearly up to the largest file that is read.
func fillFile(s string) string { return strings.Repeat(s, (maxFile-4<<10)/len(s)) }

func bombs() map[string]string {
	count := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < maxFile-4<<10; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	laughs := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	staircase := ""
	for i := 0; i < 600; i++ {
		staircase += strings.Repeat(" ", i) + "a:\n"
	}
	m := map[string]string{
		"billion laughs":                   laughs,
		"merge key":                        small + "x: {<<: {a: b}}\n",
		"anchor":                           strings.Replace(small, "version: 1", "version: &v 1", 1),
		"alias of itself":                  "a: &a [*a]\n",
		"tag":                              strings.Replace(small, "version: 1", "version: !!int 1", 1),
		"tag of Go":                        strings.Replace(small, "plan: small", "plan: !!binary c21hbGw=", 1),
		"directive":                        "%YAML 1.1\n---\n" + small,
		"two documents":                    small + "---\n" + small,
		"a document behind the end":        small + "...\n---\nversion: 1\n",
		"empty second document":            small + "---\n",
		"NUL":                              strings.Replace(small, "Test", "Te\x00st", 1),
		"NUL at the end":                   small + "\x00",
		"invalid UTF-8":                    strings.Replace(small, "Test", "Te\xffst", 1),
		"UTF-16":                           "\xff\xfe" + strings.Join(strings.Split(small, ""), "\x00"),
		"tabs for indentation":             strings.ReplaceAll(small, "  ", "\t"),
		"complex key":                      "? [a, b]\n: c\n",
		"over-long file":                   small + strings.Repeat("#\n", maxFile),
		"staircase":                        staircase,
		"quoted closing brackets":          "a: " + fillFile(`["]]",`),
		"quoted closing brackets in lines": fillFile("[\"]]\",\n"),
		"closing brackets behind #":        "a: " + fillFile("[ # ]\n"),
		"open lists in lines":              fillFile("a: [\n"),
		"open mapping in lines":            "a: {" + fillFile("b: {\n"),
		"huge scalar":                      "plan: " + fillFile("x"),
		"huge quoted scalar":               `plan: "` + fillFile("x") + `"`,
		"huge escaped scalar":              `plan: "` + fillFile(`\n`) + `"`,
		"huge block scalar":                "plan: |\n" + fillFile("  x\n"),
		"huge folded scalar":               "plan: >\n" + fillFile("  x\n"),
		"huge plain scalar in lines":       "plan: x\n" + fillFile("  x\n"),
		"huge number":                      "version: " + fillFile("9"),
		"huge list":                        "plan: [" + fillFile("a,") + "]",
		"huge list in block":               "plan:\n" + fillFile("- a\n"),
		"huge list of lists":               "plan: [" + fillFile("[],") + "]",
		"many keys":                        count("k%d: v\n"),
		"many keys in flow":                "a: {" + count("k%d: v, ") + "}",
		"many keys in a list":              count("- k%d: v\n"),
		"many keys below":                  "a:\n" + count("  k%d: v\n"),
		"many equal keys":                  fillFile("k: v\n"),
		"many authorities":                 strings.Split(small, "authorities:\n")[0] + "authorities:\n" + count("  a%d: {hierarchy: software, profile: root, key: ed25519, subject: {common_name: x}}\n"),
		"many profiles":                    strings.Split(small, "authorities:\n")[0] + count("  p%d: {validity: 1d}\n"),
		"many comments":                    fillFile("# x\n"),
		"one long comment":                 "a: b #" + fillFile("x"),
	}
	chain := strings.Split(small, "authorities:\n")[0] + "authorities:\n  a0: {hierarchy: software, profile: root, key: ed25519, subject: {common_name: A}}\n"
	for i := 1; len(chain) < maxFile-200; i++ {
		chain += fmt.Sprintf("  a%d: {issuer: a%d, profile: subca, key: ed25519, subject: {common_name: A%d}}\n", i, i-1, i)
	}
	m["a long chain of authorities"] = chain
	for _, s := range []string{"[", "{", "]", "}", "- ", "-", "? ", ": ", ":", "a: ", "a:\n ", "- a:\n  ", "&a ", "*a ", "!a ", "<<: ", "'", "\"", "\\", "|\n", ">\n", "%", "%a\n", "#",
		"---\n", "...\n", "\t", "\n", "\r", ",", "`", "@", "\x00", "\xff", "\ufeff", "\u2028", "\u0085", "[{", "{[", "[[]", "{a: ", "{a: [", "- [", "[- ", "[? ", "{? ", "[a: ", "\"\\u", "'\n", "\"\n", "a: |\n", "a: >-\n"} {
		m["full of "+fmt.Sprintf("%q", s)] = fillFile(s)
	}
	return m
}

func TestLoadBombs(t *testing.T) {
	for name, text := range bombs() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Load("pki.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		var place *Error
		if !errors.As(err, &place) {
			t.Errorf("%s: error %v", name, err)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d octets: %.200s…", name, len(err.Error()), err)
		}
		if allocated > bombMemory {
			t.Errorf("%s: %d MiB: %.200v", name, allocated>>20, err)
		}
	}
}

// Files that editors on other systems write are the same plan.
func TestLoadOtherEditors(t *testing.T) {
	want, err := Load("pki.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(small, "\n", "\r\n"),
		"byte order mark": "\ufeff" + small,
		"no newline":      strings.TrimSuffix(small, "\n"),
		"header":          "# a comment\n---\n" + small,
		"end":             small + "...\n",
		"comments":        strings.ReplaceAll(small, "\n", " # see [1, {2\n"),
	} {
		got, err := Load("pki.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, e := range got.Entries {
			w := want.Entries[i]
			if e.Name != w.Name || !bytes.Equal(e.Subject, w.Subject) || e.Key != w.Key || !reflect.DeepEqual(e.Signs, w.Signs) || e.Algorithm != w.Algorithm {
				t.Errorf("%s: %s is %+v", name, w.Name, e)
			}
		}
	}
}

// FuzzLoad asks for no panic, and for an error that says where.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{Development, Production} {
		text, err := os.ReadFile(filepath.Join("plans", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(small))
	for _, r := range refusals {
		if r.old != "" {
			f.Add([]byte(strings.Replace(small, r.old, r.new, 1)))
		}
	}
	for name, text := range bombs() {
		if !strings.HasPrefix(name, "huge") {
			f.Add([]byte(text[:min(len(text), 300)]))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Load("pki.yaml", data)
		if err != nil {
			var place *Error
			if !errors.As(err, &place) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if len(p.Entries) == 0 || len(p.Targets) != 3 {
			t.Fatalf("an empty plan: %+v", p)
		}
		for _, e := range p.Entries {
			if p.Entry(e.Name) != e || e.Profile == nil || len(e.Chain()) > maxLevels+1 || strings.ContainsFunc(e.Subject.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("entry %+v", e)
			}
		}
		if _, err := p.Steps(Inventory{}, Demand{PlatformKeys: true}); err != nil {
			t.Fatalf("no steps: %v", err)
		}
	})
}

func TestFuzzCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/FuzzLoad/*")
	if err != nil || len(files) == 0 {
		t.Errorf("the seed corpus of FuzzLoad is empty (%v)", err)
	}
}
