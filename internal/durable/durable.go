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
	s, err := filled(path, data, perm)
	if err != nil {
		return err
	}
	defer s.discard()
	if err := s.publish(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// filled returns a stage that holds data, with the mode, on the disk.
func filled(path string, data []byte, perm os.FileMode) (*stage, error) {
	s, err := newStage(path)
	if err != nil {
		return nil, err
	}
	if err := s.fill(data, perm); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// newStage makes a file in the directory of path without a name, or under a
// temporary name where the system cannot do that.
func newStage(path string) (*stage, error) {
	dir, base := filepath.Dir(path), filepath.Base(path)
	s, err := stageUnnamed(dir, base)
	// EOPNOTSUPP: the file system has no O_TMPFILE. EISDIR: nor has the
	// kernel (open(2)). EINVAL: some FUSE file systems say so. ENOENT: /proc
	// is not mounted; if it is dir that is missing, stageNamed will say so.
	for _, unsupported := range []error{unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, unsupported) {
			return stageNamed(dir, base)
		}
	}
	return s, err
}

// A File is WriteFile for what is too large to have in memory: it is written
// piece by piece, and nobody sees it under its name before Commit.
type File struct {
	s    *stage
	path string
	perm os.FileMode
}

// NewFile begins a file that Commit will put under path, with the permission
// bits of perm. Close it in any case.
func NewFile(path string, perm os.FileMode) (*File, error) {
	s, err := newStage(path)
	if err != nil {
		return nil, err
	}
	return &File{s, path, perm}, nil
}

// Write appends data.
func (f *File) Write(data []byte) (int, error) {
	n, err := f.s.f.Write(data)
	return n, f.s.name(err)
}

// WriteAt writes data at an offset, as io.WriterAt.
func (f *File) WriteAt(data []byte, offset int64) (int, error) {
	n, err := f.s.f.WriteAt(data, offset)
	return n, f.s.name(err)
}

// Clone makes the file share the blocks of another one, where the file system can
// do that (ioctl_ficlone(2)): a copy that costs neither time nor room. On an error
// the file is as it was.
func (f *File) Clone(from *os.File) error {
	return f.s.name(unix.IoctlFileClone(int(f.s.f.Fd()), int(from.Fd())))
}

// ReadAt reads back what was written, as io.ReaderAt.
func (f *File) ReadAt(data []byte, offset int64) (int, error) {
	n, err := f.s.f.ReadAt(data, offset)
	return n, f.s.name(err)
}

// Size returns how long the file is so far, in octets.
func (f *File) Size() (int64, error) {
	info, err := f.s.f.Stat()
	if err != nil {
		return 0, f.s.name(err)
	}
	return info.Size(), nil
}

// Sync brings what was written to the disk, so that Commit has little left to do
// and, above all, little that can fail.
func (f *File) Sync() error { return f.s.finish(f.perm) }

// Commit syncs the file and puts it under its name, like WriteFile.
func (f *File) Commit() error {
	if err := f.s.finish(f.perm); err != nil {
		return err
	}
	if err := f.s.replace(f.path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// CommitNew is Commit for a path where nothing may be, as CreateFile has it.
func (f *File) CommitNew() error {
	if err := f.s.finish(f.perm); err != nil {
		return err
	}
	if err := f.s.publish(f.path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// Close throws away what was not committed.
func (f *File) Close() error {
	f.s.discard()
	return nil
}
