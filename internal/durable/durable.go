// Package durable makes files that are still there after a power cut, and
// that are never seen half-written under their final name, whatever is killed
// and whenever.
//
// The order is that of fsync(2) and rename(2): write a file that has no name
// yet, or a temporary one, sync it, give it its name in one step, sync the
// directory. It needs Linux, and a file system that keeps the order (ext4,
// XFS, Btrfs, F2FS and tmpfs do). It does not follow a symbolic link at the
// final name: it replaces the link, or refuses it.
//
// Errors are *fs.PathError or *os.LinkError and wrap the errno, so that callers
// can test for fs.ErrExist, fs.ErrNotExist, unix.ENOSPC or unix.EROFS.
package durable

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile puts data under path with exactly the permission bits of perm,
// whatever the umask, and replaces what was there in one step. When it returns
// nil the file survives a power cut. After a crash, path holds the old content
// or the new, whole.
//
// On an error path is as it was, except that a failure to sync the directory
// comes after the replacement. A process killed between its last two steps
// leaves a temporary file, which Sweep removes.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	if err := PlaceFile(path, data, perm); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a path that must not exist yet, such as that of
// a private key: it never overwrites, and fails with an error that is
// fs.ErrExist if there is anything at path, be it a dangling link.
//
// Where the file system can hold a file without a name (O_TMPFILE), a killed
// process leaves nothing under any name but path. Elsewhere it may leave a
// temporary file, which Sweep removes.
func CreateFile(path string, data []byte, perm os.FileMode) error {
	s, err := newStage(filepath.Dir(path), filepath.Base(path), data, perm)
	if err != nil {
		return err
	}
	defer s.discard()
	if err := s.publish(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// newStage writes data to a file in dir without a name, or under a temporary
// name where the system cannot do that.
func newStage(dir, base string, data []byte, perm os.FileMode) (*stage, error) {
	s, err := stageUnnamed(dir, base, data, perm)
	// EOPNOTSUPP: the file system has no O_TMPFILE. EISDIR: nor has the
	// kernel (open(2)). EINVAL: some FUSE file systems say so. ENOENT: /proc
	// is not mounted; if it is dir that is missing, stageNamed will say so.
	for _, unsupported := range []error{unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, unsupported) {
			return stageNamed(dir, base, data, perm)
		}
	}
	return s, err
}
