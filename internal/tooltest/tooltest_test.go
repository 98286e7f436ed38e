package tooltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verdict is a T that notes what became of the test.
type verdict string

func (v *verdict) Fatal(args ...any) { *v = verdict("fatal: " + fmt.Sprint(args...)) }
func (v *verdict) Skip(args ...any)  { *v = verdict("skip: " + fmt.Sprint(args...)) }

func TestPath(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"openssl", "sign-file-1", "sign-file-2"} {
		if err := os.WriteFile(at(name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	debian["tool"], elsewhere["tool"] = "a-package", []string{at("nothing-*"), at("sign-file-*")}
	debian["other"] = "b-package"
	t.Cleanup(func() {
		delete(debian, "tool")
		delete(elsewhere, "tool")
		delete(debian, "other")
	})
	for _, r := range []struct{ name, ci, path, verdict string }{
		{"openssl", "true", at("openssl"), ""},
		{"tool", "true", at("sign-file-2"), ""},
		{"other", "", "", "skip: other is missing: apt-get install b-package"},
		{"other", "true", "", "fatal: other is missing: apt-get install b-package"},
		{"unknown", "", "", `fatal: unknown tool "unknown": add its package to tooltest and scripts/deps`},
	} {
		t.Setenv("CI", r.ci)
		var v verdict
		if path := Path(&v, r.name); path != r.path || string(v) != r.verdict {
			t.Errorf("%s, CI=%s: %q, %q", r.name, r.ci, path, v)
		}
	}
}

// In CI nothing may lack, so scripts/deps must install it all.
func TestDeps(t *testing.T) {
	deps, err := os.ReadFile("../../scripts/deps")
	if err != nil {
		t.Fatal(err)
	}
	for name, pkg := range debian {
		switch pkg {
		case "coreutils", "gzip", "tar", "util-linux": // essential: each Debian has them
		default:
			if !strings.Contains(string(deps), ":"+pkg) {
				t.Errorf("scripts/deps does not install %s, which has %s", pkg, name)
			}
		}
	}
}
