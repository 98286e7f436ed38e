package durable

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// CheckSpace reports, as an error that is unix.ENOSPC, that the file system of
// the directory has less than need octets or files left for us. It is a courtesy
// before long work: only a write tells for sure.
func CheckSpace(dir string, need, files int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// Some file systems, such as Btrfs, count no files and say 0 of 0.
	noFiles := s.Files > 0 && s.Ffree < uint64(files)
	if s.Bavail < uint64(need)/uint64(s.Bsize)+1 || noFiles {
		return &fs.PathError{Op: "write", Path: dir, Err: unix.ENOSPC}
	}
	return nil
}
