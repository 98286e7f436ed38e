package keys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSource(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("TMPKI_TEST_SET", secret)
	t.Setenv("TMPKI_TEST_EMPTY", "")
	good := file("good", secret+"\n", 0o600)
	missing := filepath.Join(dir, "missing")
	const none = "-"
	for _, tt := range []struct {
		name   string
		source Source
		secret string // none for nil
		want   string
	}{
		{"environment", Source{Env: "TMPKI_TEST_SET"}, secret, ""},
		{"environment before file", Source{Env: "TMPKI_TEST_SET", File: file("other", "other", 0o600)}, secret, ""},
		{"file after environment", Source{Env: "TMPKI_TEST_UNSET", File: good}, secret, ""},
		{"file", Source{File: good}, secret, ""},
		{"no newline", Source{File: file("bare", secret, 0o600)}, secret, ""},
		{"CRLF", Source{File: file("crlf", secret+"\r\n", 0o400)}, secret, ""},
		{"white space stays", Source{File: file("space", " x \n", 0o600)}, " x ", ""},
		{"one newline only", Source{File: file("two", "x\r\r\n\n", 0o600)}, "x\r", ""},
		{"CR without LF stays", Source{File: file("cr", "x\r", 0o600)}, "x\r", ""},
		{"first line", Source{File: file("lines", secret+"\nother\n", 0o600)}, secret, ""},
		{"the group may read", Source{File: file("group", secret, 0o640)}, secret, ""},
		{"optional and set", Source{Env: "TMPKI_TEST_SET", Optional: true}, secret, ""},
		{"optional and unset", Source{Env: "TMPKI_TEST_UNSET", File: missing, Optional: true}, none, ""},
		{"optional and nothing", Source{Optional: true}, none, ""},

		{"nothing", Source{}, none, "no source of passphrases"},
		{"unset", Source{Env: "TMPKI_TEST_UNSET"}, none, "TMPKI_TEST_UNSET is not set"},
		{"missing", Source{File: missing}, none, "no such file"},
		{"empty variable", Source{Env: "TMPKI_TEST_EMPTY", File: good, Optional: true}, none, "TMPKI_TEST_EMPTY: passphrase: it is empty"},
		{"empty file", Source{File: file("empty", "", 0o600), Optional: true}, none, "it is empty"},
		{"empty first line", Source{File: file("line", "\n"+secret, 0o600)}, none, "it is empty"},
		{"the world may read", Source{File: file("world", secret, 0o644), Optional: true}, none, "chmod o="},
		{"too long", Source{File: file("long", strings.Repeat("x", 1025), 0o600)}, none, "more than 1024"},
		{"far too long", Source{File: file("longer", strings.Repeat("x", MaxFileSize+1), 0o600)}, none, "larger than"},
		{"directory", Source{File: dir, Optional: true}, none, "not a regular file"},
		{"device", Source{File: "/dev/zero"}, none, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, read := range []func(string) (*Passphrase, error){tt.source.Read, tt.source.ReadNew} {
				p, err := read("root.key")
				checkError(t, err, tt.want)
				if (p == nil) != (tt.secret == none) {
					t.Fatalf("passphrase %v", p)
				}
				if p != nil && string(p.state().secret) != tt.secret {
					t.Error("another passphrase is read")
				}
			}
		})
	}
}
