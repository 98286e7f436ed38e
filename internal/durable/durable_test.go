package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play the process that is killed: see
// kill_test.go and lock_test.go.
func TestMain(m *testing.M) {
	if role := os.Getenv("DURABLE_TEST_ROLE"); role != "" {
		child(role, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// writers are both promises, each by both ways to stage a file.
func writers() map[string]func(path string, data []byte, perm os.FileMode) error {
	named := func(publish func(*stage, string) error) func(string, []byte, os.FileMode) error {
		return func(path string, data []byte, perm os.FileMode) error {
			s, err := stageNamed(filepath.Dir(path), filepath.Base(path))
			if err != nil {
				return err
			}
			defer s.discard()
			if err := s.fill(data, perm); err != nil {
				return err
			}
			return publish(s, path)
		}
	}
	inPieces := func(commit func(*File) error) func(string, []byte, os.FileMode) error {
		return func(path string, data []byte, perm os.FileMode) error {
			f, err := NewFile(path, perm)
			if err != nil {
				return err
			}
			defer f.Close()
			half := len(data) / 2
			if _, err := f.WriteAt(data[half:], int64(half)); err != nil {
				return err
			}
			if _, err := f.Write(data[:half]); err != nil {
				return err
			}
			return commit(f)
		}
	}
	return map[string]func(string, []byte, os.FileMode) error{
		"WriteFile":             WriteFile,
		"WriteFile, named":      named((*stage).replace),
		"CreateFile":            CreateFile,
		"CreateFile, named":     named((*stage).publish),
		"WriteFile, in pieces":  inPieces((*File).Commit),
		"CreateFile, in pieces": inPieces((*File).CommitNew),
	}
}

func TestContentAndMode(t *testing.T) {
	for name, write := range writers() {
		for _, umask := range []int{0, 0o077, 0o777} {
			for _, perm := range []os.FileMode{0o600, 0o644, 0o400, 0o666} {
				dir := t.TempDir()
				path := filepath.Join(dir, "file")
				old := unix.Umask(umask)
				err := write(path, []byte("data"), perm)
				unix.Umask(old)
				if err != nil {
					t.Fatalf("%s, umask %#o, mode %#o: %v", name, umask, perm, err)
				}
				wantFile(t, path, "data", perm)
				wantNames(t, dir, "file")
			}
		}
	}
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "file"), filepath.Join(dir, "target")
	write(t, target, "target")
	if err := os.Symlink("target", path); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"a", "", strings.Repeat("long", 100000)} {
		if err := WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, content, 0o640)
	}
	wantFile(t, target, "target", 0o644) // not followed
	wantNames(t, dir, "file", "target")
}

func TestCreateFileNeverOverwrites(t *testing.T) {
	inTheWay := map[string]func(path string) error{
		"file":          func(path string) error { return os.WriteFile(path, []byte("old"), 0o644) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o755) },
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
	}
	for thing, put := range inTheWay {
		for name, write := range writers() {
			if strings.HasPrefix(name, "WriteFile") {
				continue
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "key")
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s over a %s: %v, want fs.ErrExist", name, thing, err)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
				t.Errorf("%s over a %s changed it (%v)", name, thing, err)
			}
			wantNames(t, dir, "key")
		}
	}
}

func TestLongName(t *testing.T) {
	for name, write := range writers() {
		dir := t.TempDir()
		long := strings.Repeat("n", 255)
		if err := write(filepath.Join(dir, long), []byte("data"), 0o600); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantNames(t, dir, long)
	}
}

func TestErrorsNamePathAndErrno(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for name, write := range writers() {
		missing := filepath.Join(dir, "none")
		if err := write(filepath.Join(missing, "x"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s in a missing directory: %v", name, err)
		}
		if err := write(filepath.Join(dir, "file", "x"), nil, 0o600); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s below a file: %v", name, err)
		}
		if err := write(filepath.Join(dir, "."), nil, 0o600); err == nil {
			t.Errorf("%s of a directory: no error", name)
		}
	}
	wantNames(t, dir, "file")
}

func TestFullAndReadOnlyFileSystem(t *testing.T) {
	for name, write := range writers() {
		t.Run(name, func(t *testing.T) {
			dir := mountTmpfs(t, "size=64k")
			path := filepath.Join(dir, "full")
			err := write(path, bytes.Repeat([]byte("x"), 1<<20), 0o600)
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
				t.Errorf("full: %v, want ENOSPC and the path", err)
			}
			wantNames(t, dir)
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			err = write(path, nil, 0o600)
			if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) {
				t.Errorf("read-only: %v, want EROFS and the path", err)
			}
		})
	}
}

func TestRename(t *testing.T) {
	dir := t.TempDir()
	path := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, d := range []string{"a", "empty", "full", "other"} {
		if err := os.Mkdir(path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, path("full", "x"), "")
	write(t, path("file"), "")

	for _, inTheWay := range []string{"full", "empty", "file"} {
		if err := Rename(path("a"), path(inTheWay)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("onto %s: %v", inTheWay, err)
		}
	}
	if err := Rename(path("file"), path("new")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("of a file: %v", err)
	}
	if err := Rename(path("none"), path("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	if err := Rename(path("full")+"/", path("new")); err != nil {
		t.Errorf("in one parent: %v", err)
	}
	if err := Rename(path("new"), path("other", "b")); err != nil {
		t.Errorf("to another parent: %v", err)
	}
	wantNames(t, dir, "a", "empty", "file", "other")
	wantNames(t, path("other", "b"), "x")
}

func TestExchange(t *testing.T) {
	for name, exchange := range map[string]func(a, b string) error{"at once": Exchange, "in steps": exchangeInSteps} {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "sub", "b")
		for _, d := range []string{a, b} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(d, "was-"+filepath.Base(d)), "")
		}
		if err := exchange(a, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantNames(t, a, "was-b")
		wantNames(t, b, "was-a")
		wantNames(t, dir, "a", "sub")
		wantNames(t, filepath.Dir(b), "b")
		if err := exchange(filepath.Join(dir, "none"), b); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, with nothing: %v", name, err)
		}
		wantNames(t, b, "was-a")
		wantNames(t, filepath.Dir(b), "b")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	if err := Exchange(filepath.Join(dir, "file"), dir); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("with a file: %v", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	keep := []string{
		".hidden", ".key.tmp-", ".key.tmp-012345678", ".key.tmp-zzzzzzzzzzzzzzzz",
		"key.tmp-0123456789abcdef", ".tmp-0123456789abcdef", "key", ".dir.tmp-0123456789abcdef",
	}
	for _, name := range keep[:len(keep)-1] {
		write(t, filepath.Join(dir, name), "")
	}
	if err := os.Mkdir(filepath.Join(dir, keep[len(keep)-1]), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"key", "x.tmp-y", strings.Repeat("n", 255)} {
		write(t, tempPath(dir, base), "stray")
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, keep...)
	if err := Sweep(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sweeping nothing: %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, content string, perm os.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("%s holds %d bytes, want %d", path, len(got), len(content))
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != perm {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), perm)
	}
}

// wantNames fails unless dir holds exactly names.
func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, name := range names {
		want[name] = true
	}
	for _, entry := range entries {
		if !want[entry.Name()] {
			t.Errorf("%s holds %q", dir, entry.Name())
		}
		delete(want, entry.Name())
	}
	for name := range want {
		t.Errorf("%s lacks %q", dir, name)
	}
}

// mountTmpfs mounts a small file system, which takes root.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	if errors.Is(err, unix.EPERM) && os.Getenv("CI") == "" {
		t.Skip("mounting a tmpfs needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
