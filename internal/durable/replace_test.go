package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestReplaceFileKeepsModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "old")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 5678
	}
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	old, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := ReplaceFile(path, []byte("new"), old); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "new", 0o640)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != uid || int(s.Gid) != gid {
		t.Errorf("owner is %d:%d, not %d:%d", s.Uid, s.Gid, uid, gid)
	}
}

func TestReplaceFileRefusesAnotherFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		want   error
	}{
		{"written to", func(path string) error { return os.WriteFile(path, []byte("other"), 0o644) }, ErrChanged},
		{"touched", func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, ErrChanged},
		{"replaced", func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, []byte("old"), 0o644))
		}, ErrChanged},
		{"turned into a link", func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path))
		}, ErrChanged},
		{"removed", os.Remove, fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			write(t, path, "old")
			old, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(dir)
			if err := ReplaceFile(path, []byte("new"), old); !errors.Is(err, c.want) {
				t.Errorf("error is %v, not %v", err, c.want)
			}
			if data, _ := os.ReadFile(path); string(data) == "new" {
				t.Error("replaced all the same")
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Errorf("left %d names where %d were", len(after), len(before))
			}
		})
	}
}
