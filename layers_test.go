package tmpki_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// ladder says who may know whom: a package imports from lower rungs only, and
// packages on one rung don't know each other. The formats below artifact are one
// room; guestos stands on verity, whose trees are part of a GuestOS.
var ladder = map[string]int{
	"internal/calendar": 0,
	"internal/durable":  0,
	"internal/tooltest": 0,
	"internal/tree":     1,
	"internal/fileset":  1,
	"spki":              10,
	"keys":              20,
	"keys/keytest":      21,
	"cms":               20,
	"store":             20,
	"ledger":            25,
	"store/storetest":   21,
	"artifact/verity":   30,
	"artifact/guestos":  31,
	"artifact/efi":      31,
	"artifact/module":   31,
	"artifact/ima":      31,
	"ca":                30,
	"ceremony":          30,
	"uefi":              30,
	"plan":              40,
	"enroll":            45,
	"backup":            45,
	"takeover":          45,
	"signing":           50,
	"cmd/tmpki":         60,
	"e2e/secboot":       60,
}

func TestLadder(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(path))
		rung, ok := ladder[room]
		if !ok {
			t.Errorf("%s: package %s has no rung: add it to the ladder", path, room)
			return nil
		}
		seen++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if name == "C" && room != "keys" {
				t.Errorf("%s: cgo stands in package keys only", path)
			}
			below, ok := strings.CutPrefix(name, "tmpki/")
			if !ok {
				continue
			}
			if r, ok := ladder[below]; !ok || r >= rung {
				t.Errorf("%s (rung %d) imports %s (rung %d): import from lower rungs only", path, rung, below, r)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no Go file seen")
	}
}
