package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"tmpki/internal/durable"
)

// ErrAppeared is what Create returns, wrapped, if there is something at the place
// of the new directory.
var ErrAppeared = errors.New("it is there already")

// StagingName returns the name beside dir under which Create builds it. Only a
// killed run leaves it there, and the next one for dir takes it away.
func StagingName(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".tmpki")
}

// Create makes the PKI directory dir, an absolute path, whole or not at all: build
// fills a directory of another name beside it, and what it made is then renamed.
// The first that build writes there must be pki.yaml, by which a later run knows
// what was left by a run that was killed. The parent of dir must be there; waiting,
// if not nil, is called once if another process is at work on dir.
//
// The lock is on the staging directory, which becomes the PKI directory, lock and
// all: so whoever waited for it finds the result, and no lock file stays behind.
func Create(ctx context.Context, dir string, waiting func(), build func(staging string) error) (err error) {
	appeared := fmt.Errorf("%s: %w", dir, ErrAppeared)
	if _, err := os.Lstat(dir); err == nil {
		return appeared
	}
	staging := StagingName(dir)
	if err := os.Mkdir(staging, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Somebody else's must not make us wait for their lock.
	err = owned(staging)
	var lock *durable.Lock
	if err == nil {
		lock, err = durable.LockDir(ctx, staging, waiting)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return appeared // renamed by the one who held it
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := ours(staging); err != nil {
		return err
	}
	if _, err := os.Lstat(dir); err == nil {
		discard(staging)
		return appeared
	}
	defer func() {
		if err != nil {
			discard(staging)
		}
	}()
	// What is in it is of a run that died: its keys have signed nothing that
	// anybody has seen.
	if err := empty(staging); err != nil {
		return err
	}
	if err := build(staging); err != nil {
		return err
	}
	err = durable.Rename(staging, dir)
	if errors.Is(err, fs.ErrExist) {
		return appeared // somebody made it, and another process filled it
	}
	return err
}

// Fill is Apply for a build of Create, which has the lock.
func Fill(ctx context.Context, staging string, o Options) ([]Step, error) {
	return apply(ctx, staging, o)
}

// owned refuses a staging directory that somebody else has put there: keys will
// be written into it.
func owned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is in the way and not ours: remove it", dir)
	}
	return nil
}

// ours refuses a staging directory that is not owned, or that no run of ours has
// left.
func ours(dir string) error {
	if err := owned(dir); err != nil {
		return err
	}
	// A run that was killed has left its plan there, or nothing yet.
	names, err := entryNames(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 && !names[FileName] {
		return fmt.Errorf("%s is in the way: it holds %s, which no run of ours left there; remove it", dir, some(names))
	}
	return os.Chmod(dir, 0o700)
}

// empty takes everything out of a staging directory. The plan comes last: killed
// before, the next run still knows the directory for one of ours.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == FileName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(dir, FileName))
}

// discard takes a staging directory away, as far as it can.
func discard(dir string) {
	if empty(dir) == nil {
		os.Remove(dir)
	}
}
