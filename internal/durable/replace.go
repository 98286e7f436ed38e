package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrChanged is returned, wrapped, for a file that is not what it was when the
// caller read it.
var ErrChanged = errors.New("file changed since it was read")

// PlaceFile is WriteFile without its last step: until SyncDir, a power cut can
// bring back what path was before. It is for whoever writes many files into one
// directory, and then calls SyncDir once.
func PlaceFile(path string, data []byte, perm os.FileMode) error {
	s, err := filled(path, data, perm)
	if err != nil {
		return err
	}
	defer s.discard()
	return s.replace(path)
}

// ReplaceFile is PlaceFile for a file that is there, and that the caller has
// read: old is what os.File.Stat said of it then. The new file keeps its permission
// bits, owner and group, but not its extended attributes, whose signatures and
// hashes would be over the old content. Of a hard link, the other names keep
// the old content.
//
// If path is not that same file any more, as Unchanged tells, the error wraps
// ErrChanged and path stays as it is.
func ReplaceFile(path string, data []byte, old fs.FileInfo) error {
	s, err := filled(path, data, old.Mode())
	if err != nil {
		return err
	}
	defer s.discard()
	if err := s.own(old); err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !Unchanged(old, now) {
		return &fs.PathError{Op: "replace", Path: path, Err: ErrChanged}
	}
	return s.replace(path)
}

// Unchanged reports whether two looks at a file saw the same one with the same
// content, as far as inode, size and time of modification tell.
func Unchanged(before, now fs.FileInfo) bool {
	return os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

// own gives the staged file the owner and group of old, and syncs that.
func (s *stage) own(old fs.FileInfo) error {
	info, err := s.f.Stat()
	if err != nil {
		return s.name(err)
	}
	have, want := info.Sys().(*syscall.Stat_t), old.Sys().(*syscall.Stat_t)
	if have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	if err := s.f.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return s.name(err)
	}
	return s.name(s.f.Sync())
}
