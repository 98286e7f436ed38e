package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// countUnderLock adds one to a number in a file, in two steps that another
// process could come between.
func countUnderLock(dir string) error {
	for range 10 {
		lock, err := LockDir(context.Background(), dir, nil)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "count")
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		if err := os.WriteFile(path, fmt.Append(nil, n+1), 0o600); err != nil {
			return err
		}
		if err := lock.Close(); err != nil {
			return err
		}
	}
	return nil
}

func TestLockAcrossProcessesAndGoroutines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "count")
	write(t, path, "0")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], dir)
			cmd.Env = append(os.Environ(), "DURABLE_TEST_ROLE=lock")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		wg.Go(func() {
			if err := countUnderLock(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantFile(t, path, "200", 0o644)
	wantNames(t, dir, "count") // no lock file
}

func TestLockCallsWaitOnce(t *testing.T) {
	dir := t.TempDir()
	first, err := LockDir(t.Context(), dir, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	second, err := LockDir(t.Context(), dir, func() {
		waits++
		first.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if waits != 1 {
		t.Errorf("wait called %d times", waits)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockFollowsTheName(t *testing.T) {
	parent := t.TempDir()
	path, moved := filepath.Join(parent, "pki"), filepath.Join(parent, "moved")
	mkdir := func() {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Error(err)
		}
	}
	mkdir()
	first, err := LockDir(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}

	// While the second waits, another directory takes the name.
	second, err := LockDir(t.Context(), path, func() {
		if err := Rename(path, moved); err != nil {
			t.Error(err)
		}
		// The lock went with the directory.
		d, err := os.Open(moved)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close()
		if err := flock(d, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("lock lost by renaming: %v", err)
		}
		mkdir()
		first.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if same, err := isStill(second.dir, path); err != nil || !same {
		t.Errorf("locked the directory that is gone (%v)", err)
	}

	// While the third waits, the directory is removed.
	_, err = LockDir(t.Context(), path, func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		second.Close()
	})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("lock of a directory that is gone: %v", err)
	}
	if _, err := LockDir(t.Context(), filepath.Join(parent, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock of nothing: %v", err)
	}
}
