package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A book is a ledger, and the places of signatures, that watch their order.
type book struct {
	mu       sync.Mutex
	recorded map[string]bool
	placed   map[string]bool
	batches  []int
	t        *testing.T
}

func newBook(t *testing.T) *book {
	return &book{recorded: map[string]bool{}, placed: map[string]bool{}, t: t}
}

func (b *book) record(results []Result) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches = append(b.batches, len(results))
	for _, r := range results {
		b.recorded[r.Path] = true
	}
	return nil
}

// prepare makes a change that holds so many octets.
func (b *book) prepare(path string, held int) *Change {
	return &Change{Result: Result{Path: path}, Held: held, Commit: func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.recorded[path] {
			b.t.Errorf("%s: in place before it is recorded", path)
		}
		if b.placed[path] {
			b.t.Errorf("%s: placed twice", path)
		}
		b.placed[path] = true
		return nil
	}}
}

func names(n int) []string {
	files := make([]string, n)
	for i := range files {
		files[i] = fmt.Sprintf("%04d", i)
	}
	return files
}

func TestRun(t *testing.T) {
	for _, n := range []int{0, 1, batchFiles, batchFiles + 1, 1000} {
		b, files := newBook(t), names(n)
		steps := 0
		results, err := Run(t.Context(), files, func(path string) (*Change, error) { return b.prepare(path, 1), nil }, Options{
			Record: b.record,
			Progress: func(done, total int) {
				if steps++; done != steps || total != n {
					t.Errorf("progress %d of %d, not %d of %d", done, total, steps, n)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range results {
			got = append(got, r.Path)
		}
		if !slices.Equal(got, files) || len(b.placed) != n || steps != n {
			t.Errorf("%d files: %d results, %d in place, %d steps", n, len(got), len(b.placed), steps)
		}
		if want := (n + batchFiles - 1) / batchFiles; len(b.batches) != want {
			t.Errorf("%d files: %d batches, not %d", n, len(b.batches), want)
		}
	}
}

func TestLargeFilesMakeSmallBatches(t *testing.T) {
	b := newBook(t)
	if _, err := Run(t.Context(), names(10), func(path string) (*Change, error) { return b.prepare(path, batchOctets/2), nil }, Options{Record: b.record}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.batches, []int{2, 2, 2, 2, 2}) {
		t.Errorf("batches of %d files", b.batches)
	}
}

func TestBadFilesStopNoOther(t *testing.T) {
	b := newBook(t)
	prepare := func(path string) (*Change, error) {
		switch path {
		case "0003":
			return nil, errors.New("not a module")
		case "0050":
			change := b.prepare(path, 1)
			change.Commit = func() error { return unix.ENOSPC }
			return change, nil
		default:
			return b.prepare(path, 1), nil
		}
	}
	results, err := Run(t.Context(), names(100), prepare, Options{Record: b.record})
	if len(results) != 98 || len(b.placed) != 98 {
		t.Errorf("%d results, %d in place, not 98", len(results), len(b.placed))
	}
	if want := "0003: not a module\n0050: no space left on device"; err == nil || err.Error() != want {
		t.Errorf("error is %v, not %q", err, want)
	}
	var fileError *FileError
	if !errors.As(err, &fileError) || fileError.Path != "0003" || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error does not unwrap: %#v", err)
	}
	if b.recorded["0003"] || !b.recorded["0050"] {
		t.Error("recorded what was never signed, or not what was")
	}
}

func TestLedgerFails(t *testing.T) {
	b := newBook(t)
	full := errors.New("ledger is full")
	calls := 0
	results, err := Run(t.Context(), names(1000), func(path string) (*Change, error) { return b.prepare(path, 1), nil }, Options{
		Record: func(results []Result) error {
			if calls++; calls == 3 {
				return full
			}
			return b.record(results)
		},
	})
	if calls != 3 || len(results) != 2*batchFiles || len(b.placed) != 2*batchFiles {
		t.Errorf("%d calls, %d results, %d in place", calls, len(results), len(b.placed))
	}
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "stopped with 936 of 1000 files untouched") {
		t.Errorf("error is %v", err)
	}
}

func TestNoLedger(t *testing.T) {
	_, err := Run(t.Context(), names(1), nil, Options{})
	if err == nil {
		t.Error("signs without a ledger")
	}
}

func TestCancel(t *testing.T) {
	b := newBook(t)
	ctx, cancel := context.WithCancel(t.Context())
	results, err := Run(ctx, names(1000), func(path string) (*Change, error) {
		if path == "0500" {
			cancel()
		}
		return b.prepare(path, 1), nil
	}, Options{Record: b.record})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if len(results) != len(b.recorded) || len(b.placed) != len(b.recorded) || len(results) == 0 || len(results) > 501 {
		t.Errorf("%d results, %d recorded, %d in place", len(results), len(b.recorded), len(b.placed))
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"a.ko", "b.txt", "d/c.ko", "d/e/f.ko", "d/g.txt"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir("empty", 0o755), os.Symlink("a.ko", "link.ko"), os.Symlink("../..", "d/e/up"), unix.Mkfifo("d/fifo.ko", 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		paths []string
		want  []string
		err   string
	}{
		{[]string{"."}, []string{"a.ko", "d/c.ko", "d/e/f.ko"}, ""},
		{[]string{"d"}, []string{"d/c.ko", "d/e/f.ko"}, ""},
		{[]string{"./d/", "d/e", "b.txt", "d//c.ko"}, []string{"b.txt", "d/c.ko", "d/e/f.ko"}, ""},
		{[]string{"link.ko"}, nil, "link.ko: is a symbolic link"},
		{[]string{"d/e/up"}, nil, "d/e/up: is a symbolic link"},
		{[]string{"d/fifo.ko"}, nil, "d/fifo.ko: is not a regular file"},
		{[]string{"none"}, nil, "lstat none: no such file or directory"},
		{[]string{"empty"}, nil, `nothing to sign in ["empty"]`},
	} {
		got, err := Find(c.paths, func(path string) bool { return strings.HasSuffix(path, ".ko") })
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.paths, got, err)
		}
	}
	for path, want := range map[string]string{
		"link.ko":   "too many levels of symbolic links",
		"d/fifo.ko": "is not a regular file",
		"d":         "is not a regular file",
		"none":      "no such file",
	} {
		if f, _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open %s: %v, %v", path, f, err)
		}
	}
}
