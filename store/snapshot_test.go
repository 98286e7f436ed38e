package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestSnapshotWhileOthersWrite(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	db, err := Open(ctx, filepath.Join(dir, "pki.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := db.SetSetting(ctx, "tester", "counter", "value"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	last := int64(-1)
	for _, name := range []string{"a", "b", "c"} {
		path := filepath.Join(dir, name)
		if err := db.Snapshot(ctx, path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("snapshot: %v, %v", info, err)
		}
		copied, err := OpenReadOnly(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := copied.Verify(ctx); err != nil {
			t.Error(err)
		}
		size, _, err := copied.Root(ctx)
		if err != nil || size < last {
			t.Errorf("size %d after %d: %v", size, last, err)
		}
		last = size
		if now, _, err := db.Root(ctx); err != nil || now < size {
			t.Errorf("the copy has %d entries, the store %d: %v", size, now, err)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writers.Wait()
}

func TestSnapshotKeepsWhatIsThere(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "pki.db")
	db, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Snapshot(ctx, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto the store itself: %v", err)
	}
	if err := db.Verify(ctx); err != nil {
		t.Error(err)
	}
	if err := db.Snapshot(ctx, filepath.Join(filepath.Dir(path), "missing", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
}
