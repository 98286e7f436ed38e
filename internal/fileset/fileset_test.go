package fileset

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

func newSet(t *testing.T, files map[string]string) *Set {
	t.Helper()
	s := &Set{Kind: []string{"*.cert", "ca/*"}}
	for name, content := range files {
		if err := s.Add(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// contents lists a directory's files with what is in them, as a tree.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		b.WriteString(name + " " + info.Mode().String())
		if info.Mode().IsRegular() && d.Name() != Checksums {
			c, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + string(c))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAddRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"a.cert":     "stands twice",
		"/a.cert":    "not the name",
		"../a.cert":  "not the name",
		"ca/../x":    "not the name",
		"ca/b/c":     "not the name",
		"":           "not the name",
		".":          "not the name",
		"a.key":      "not the name",
		"SHA256SUMS": "not the name",
	} {
		s := newSet(t, map[string]string{"a.cert": ""})
		if err := s.Add(name, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestWriteDir(t *testing.T) {
	tooltest.Need(t, "sha256sum")
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	for _, step := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"a.cert": "1", "ca/x": "2"}, ". drwxr-xr-x\nSHA256SUMS -rw-r--r--\na.cert -rw-r--r-- 1\nca drwxr-xr-x\nca/x -rw-r--r-- 2\n"},
		// What is in the old set only, is gone.
		{map[string]string{"a.cert": "3", "b.cert": "4"}, ". drwxr-xr-x\nSHA256SUMS -rw-r--r--\na.cert -rw-r--r-- 3\nb.cert -rw-r--r-- 4\n"},
		{map[string]string{"ca/y": ""}, ". drwxr-xr-x\nSHA256SUMS -rw-r--r--\nca drwxr-xr-x\nca/y -rw-r--r-- \n"},
	} {
		if err := newSet(t, step.files).WriteDir(dir + "/"); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, dir); got != step.want {
			t.Errorf("got\n%swant\n%s", got, step.want)
		}
		check := exec.Command("sha256sum", "--strict", "-c", Checksums)
		check.Dir = dir
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("sha256sum: %v\n%s", err, out)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
			t.Errorf("beside it: %v, %v", left, err)
		}
	}
	if err := newSet(t, nil).WriteDir(dir); err == nil {
		t.Error("an empty set took the place of another")
	}
}

// TestWriteDirKeeps puts something at the place that is no older set.
func TestWriteDirKeeps(t *testing.T) {
	file := func(names ...string) func(dir string) error {
		return func(dir string) error {
			for _, n := range names {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, n), []byte("precious"), 0o600); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, row := range []struct {
		name, want string
		put        func(dir string) error
	}{
		{"a foreign file", "holds device.key, which is none", file("a.cert", Checksums, "device.key")},
		{"a foreign file below", "holds ca/b/c, which is none", file(Checksums, "ca/b/c")},
		{"no checksums", "has no SHA256SUMS", file("a.cert")},
		{"a file", "is not a directory", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"a link", "is not a directory", func(dir string) error { return os.Symlink(".", dir) }},
		{"a link in it", "holds a.cert, which is none", func(dir string) error {
			if err := file(Checksums)(dir); err != nil {
				return err
			}
			return os.Symlink("/etc/passwd", filepath.Join(dir, "a.cert"))
		}},
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "out")
		if err := row.put(dir); err != nil {
			t.Fatal(err)
		}
		before := contents(t, parent)
		if err := newSet(t, map[string]string{"a.cert": "1"}).WriteDir(dir); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if after := contents(t, parent); after != before {
			t.Errorf("%s: changed\n%sto\n%s", row.name, before, after)
		}
	}
	empty := t.TempDir()
	if err := newSet(t, map[string]string{"a.cert": "1"}).WriteDir(empty); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if err := newSet(t, map[string]string{"a.cert": "1"}).WriteDir(filepath.Join(empty, "none", "out")); err == nil {
		t.Error("a missing parent: no error")
	}
}

func TestWriteTar(t *testing.T) {
	tooltest.Need(t, "tar")
	when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	s := newSet(t, map[string]string{"a.cert": "1", "ca/x": "2"})
	var one, two bytes.Buffer
	if err := s.WriteTar(&one, when); err != nil {
		t.Fatal(err)
	}
	if err := newSet(t, map[string]string{"ca/x": "2", "a.cert": "1"}).WriteTar(&two, when.UTC()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same files give two archives")
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, one.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "--utc", "--numeric-owner", "-tvf", file)
	out, err := cmd.CombinedOutput()
	want := `-rw-r--r-- 0/0             144 2026-01-02 02:04 SHA256SUMS
-rw-r--r-- 0/0               1 2026-01-02 02:04 a.cert
drwxr-xr-x 0/0               0 2026-01-02 02:04 ca/
-rw-r--r-- 0/0               1 2026-01-02 02:04 ca/x
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
}
