package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "12345")
	if err := os.Symlink("file", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link"} {
		if content, info, err := ReadFile(at(name), 5); err != nil || string(content) != "12345" || info.Size() != 5 {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	if _, _, err := ReadFile(at("none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	for name, want := range map[string]string{
		at("file"):  "is larger than 4 octets",
		at("pipe"):  "is not a regular file",
		dir:         "is not a regular file",
		"/dev/zero": "is not a regular file",
	} {
		if _, _, err := ReadFile(name, 4); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
