package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tmpki/plan"
	"tmpki/spki"
)

var update = flag.Bool("update", false, "write the golden files")

// issuedAt is noon, so that the day is the same in most time zones.
var issuedAt = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// samplePKI makes the PKI of testdata/sample.yaml, with the roots' keys taken
// away as they should be, and another key lost.
func samplePKI(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := plannedPKI(t, text)
	if _, err := plan.Apply(context.Background(), dir, plan.Options{Actor: "tester", Now: func() time.Time { return issuedAt }}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "offline")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "device_subca.key")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// plannedPKI makes a PKI directory with nothing but a plan.
func plannedPKI(t *testing.T, text []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, plan.FileName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// builtInPKI is plannedPKI with a plan of the program's own.
func builtInPKI(t *testing.T, name string) string {
	t.Helper()
	text, err := plan.Template(name, spki.KeyType{Kind: spki.RSA, Bits: 4096}, "")
	if err != nil {
		t.Fatal(err)
	}
	return plannedPKI(t, text)
}

func picture(t *testing.T, dir string, now time.Time) *plan.Drawing {
	t.Helper()
	d, err := plan.Picture(context.Background(), dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// call runs the program and returns its standard output.
func call(t *testing.T, stdin io.Reader, args ...string) (string, error) {
	t.Helper()
	a := newRoot()
	var out bytes.Buffer
	a.cmd.SetOut(&out)
	a.cmd.SetIn(stdin)
	a.cmd.SetArgs(args)
	err := a.cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func TestTreeGolden(t *testing.T) {
	sample := samplePKI(t)
	tests := []struct {
		golden string
		dir    string
		after  time.Duration // since the PKI was made
		width  int
	}{
		{"tree_development.txt", builtInPKI(t, plan.Development), 0, 0},
		{"tree_production.txt", builtInPKI(t, plan.Production), 0, 0},
		{"tree_sample.txt", sample, 85 * 24 * time.Hour, 0},
		{"tree_sample_100.txt", sample, 85 * 24 * time.Hour, 100},
		{"tree_sample_40.txt", sample, 85 * 24 * time.Hour, 40},
	}
	for _, test := range tests {
		t.Run(test.golden, func(t *testing.T) {
			var got bytes.Buffer
			if err := printTree(&got, picture(t, test.dir, issuedAt.Add(test.after)), test.width, false); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", test.golden)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
			for _, line := range strings.Split(got.String(), "\n") {
				if n := utf8.RuneCountInString(line); test.width >= 100 && n > test.width {
					t.Errorf("%d columns: %q", n, line)
				}
				if strings.TrimRight(line, " ") != line {
					t.Errorf("spaces at the end: %q", line)
				}
			}
		})
	}
	// Colours are on a terminal only.
	d := picture(t, sample, issuedAt.Add(85*24*time.Hour))
	var plain, coloured bytes.Buffer
	if err := errors.Join(printTree(&plain, d, 0, false), printTree(&coloured, d, 0, true)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
	for _, want := range []string{"\x1b[1mcustomer\x1b[0m", "\x1b[31mexpired\x1b[0m", "\x1b[33mexpires soon\x1b[0m", "\x1b[36mkey offline\x1b[0m", "\x1b[32mok\x1b[0m"} {
		if !strings.Contains(coloured.String(), want) {
			t.Errorf("no %q in the coloured tree", want)
		}
	}
}

func TestTreeVerb(t *testing.T) {
	dir := builtInPKI(t, plan.Development)
	out, err := call(t, nil, "tree", "--json", dir)
	if err != nil {
		t.Fatal(err)
	}
	var facts treeFacts
	if err := json.Unmarshal([]byte(out), &facts); err != nil {
		t.Fatal(err)
	}
	root := facts.Hierarchies[0].Roots[0]
	if root.Name != "ssig_rootca" || root.Children[0].Children[0].Name != "ssig" || facts.UEFI.Variables[2].Certificates[1].Name != "ssig_subca" ||
		root.NotAfter != nil || root.State != "not made yet" {
		t.Errorf("JSON: %s", out)
	}
	if _, err := call(t, nil, "tree", t.TempDir()); !errors.Is(err, plan.ErrNoPlan) {
		t.Errorf("without a plan: %v", err)
	}
	if _, err := call(t, nil, "tree", filepath.Join(dir, "nowhere")); !errors.Is(err, errNoPKI) {
		t.Errorf("without a directory: %v", err)
	}
	if out, err := call(t, nil, "tree", "--quiet", dir); err != nil || out != "" {
		t.Errorf("--quiet: %q, %v", out, err)
	}
}

func TestSVG(t *testing.T) {
	for name, dir := range map[string]string{
		"development": builtInPKI(t, plan.Development), "production": builtInPKI(t, plan.Production), "sample": samplePKI(t),
	} {
		t.Run(name, func(t *testing.T) {
			d := picture(t, dir, issuedAt)
			svg := drawSVG(d, issuedAt)
			texts := checkSVG(t, svg)
			for _, e := range d.Plan.Entries {
				if !texts[e.Name] || !texts[e.KeyType.String()] {
					t.Errorf("%s with %v is not in the picture", e.Name, e.KeyType)
				}
			}
			if name == "sample" && (!bytes.Contains(svg, []byte("O=Sample &amp; \\&lt;Sons\\&gt;")) || !texts["key offline"]) {
				t.Errorf("subject or state is missing in\n%s", svg)
			}
		})
	}
}

// checkSVG fails unless svg is well-formed and needs nothing from outside. It
// returns the texts in it.
func checkSVG(t *testing.T, svg []byte) map[string]bool {
	t.Helper()
	texts := map[string]bool{}
	ids := map[string]bool{}
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if slices.Contains([]string{"script", "image", "use", "a", "foreignObject", "link"}, token.Name.Local) {
				t.Errorf("element %s", token.Name.Local)
			}
			for _, a := range token.Attr {
				if a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "url(") {
					t.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
				if a.Name.Local == "id" {
					if ids[a.Value] {
						t.Errorf("id %q stands twice", a.Value)
					}
					ids[a.Value] = true
				}
			}
		case xml.CharData:
			texts[string(token)] = true
		}
	}
	if !ids["title"] || !ids["desc"] || bytes.Contains(svg, []byte("@import")) {
		t.Error("no title, no description, or a style from elsewhere")
	}
	return texts
}

func TestSVGFile(t *testing.T) {
	dir := builtInPKI(t, plan.Development)
	path := filepath.Join(dir, "pki.svg")
	for range 2 { // the second one replaces the first
		if out, err := call(t, nil, "tree", "--svg", path, dir); err != nil || out != path+": written\n" {
			t.Fatalf("%q, %v", out, err)
		}
		written, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkSVG(t, written)
	}
	out, err := call(t, nil, "tree", "--svg", "-", dir)
	if err != nil {
		t.Fatal(err)
	}
	checkSVG(t, []byte(out))
	// Anything else stays as it is.
	key := filepath.Join(dir, "other.key")
	if err := os.WriteFile(key, []byte("a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.svg")
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{key, link, dir} {
		if _, err := call(t, nil, "tree", "--svg", path, dir); err == nil || !strings.Contains(err.Error(), "exists and is no") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if content, err := os.ReadFile(key); err != nil || string(content) != "a key" {
		t.Errorf("the key became %q, %v", content, err)
	}
}
