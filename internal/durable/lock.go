package durable

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Lock is the sole right to change a directory. It lasts until Close or the
// end of the process, however that ends, and follows the directory when it is
// renamed.
type Lock struct {
	dir *os.File
}

// LockDir takes the lock of the directory path, and waits until it is free. If
// it is not free at once it calls wait first, once, so that the caller can say
// so; wait may be nil. The wait ends with ctx, and with its error.
//
// The lock is flock(2) on the directory itself, so it leaves no lock file, and
// binds only those who ask for it. NFS can't lock a directory (EBADF). If the
// directory is gone, or was removed while we waited, the error is
// fs.ErrNotExist; if another took its place, LockDir waits for that one.
func LockDir(ctx context.Context, path string, wait func()) (*Lock, error) {
	for {
		dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		err = flock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			if wait != nil {
				wait()
				wait = nil
			}
			err = poll(ctx, dir)
		}
		if err != nil {
			dir.Close()
			return nil, err
		}
		// We hold the lock of what path was when we opened it. Is it still?
		same, err := isStill(dir, path)
		if err == nil && same {
			return &Lock{dir: dir}, nil
		}
		dir.Close()
		if err != nil {
			return nil, err
		}
	}
}

// poll asks for the lock until it is ours or ctx ends: a flock(2) that blocks
// would not notice that.
func poll(ctx context.Context, dir *os.File) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := flock(dir, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
	}
}

// Close gives the lock back. Close it once.
func (l *Lock) Close() error {
	return l.dir.Close()
}

// flock calls flock(2) until no signal interrupts it.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// isStill tells whether path names the open directory dir.
func isStill(dir *os.File, path string) (bool, error) {
	held, err := dir.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(held, now), nil
}
