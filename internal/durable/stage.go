package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A stage is a file that is written and synced, but not yet under its final
// name. The owner calls replace or publish, and then discard in any case.
type stage struct {
	f    *os.File
	dir  string
	base string // the final name, of which temporary names are made
	temp string // path of the temporary name, "" if there is none
}

// stageUnnamed makes a file that has no name at all, so that the kernel removes
// it if we die.
func stageUnnamed(dir, base string) (*stage, error) {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s := &stage{f: f, dir: dir, base: base}
	// Without /proc the file can't get a name later. Find out before the
	// secret is written.
	if _, err := os.Stat(s.procPath()); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// stageNamed makes a file under a temporary name beside its final one.
func stageNamed(dir, base string) (*stage, error) {
	temp := tempPath(dir, base)
	// O_EXCL follows no link, and 0600 stands until fill sets the mode.
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &stage{f: f, dir: dir, base: base, temp: temp}, nil
}

// fill writes data, sets the mode, and syncs both.
func (s *stage) fill(data []byte, perm os.FileMode) error {
	if _, err := s.f.Write(data); err != nil {
		return s.name(err)
	}
	return s.finish(perm)
}

// finish sets the mode and syncs what was written.
func (s *stage) finish(perm os.FileMode) error {
	// The umask has no say in fchmod(2).
	if err := s.f.Chmod(perm.Perm()); err != nil {
		return s.name(err)
	}
	return s.name(s.f.Sync())
}

// name puts the final path into an error of the file, whose own path is a
// directory or a random name.
func (s *stage) name(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return &fs.PathError{Op: pathErr.Op, Path: filepath.Join(s.dir, s.base), Err: pathErr.Err}
	}
	return err
}

// replace gives the file the name path, in place of what is there.
func (s *stage) replace(path string) error {
	if s.temp == "" {
		// linkat(2) replaces nothing, so the last step must be a rename.
		temp := tempPath(s.dir, s.base)
		if err := s.link(temp); err != nil {
			return err
		}
		s.temp = temp
	}
	if err := os.Rename(s.temp, path); err != nil {
		return err
	}
	s.temp = ""
	return nil
}

// publish gives the file the name path, which must be free.
func (s *stage) publish(path string) error {
	if s.temp == "" {
		return s.link(path)
	}
	err := unix.Renameat2(unix.AT_FDCWD, s.temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		s.temp = ""
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		// The file system lacks the flag (NFS, say): link(2) refuses an
		// existing name too, and discard removes the temporary one.
		return os.Link(s.temp, path)
	default:
		return &os.LinkError{Op: "renameat2", Old: s.temp, New: path, Err: err}
	}
}

// link gives the unnamed file its first name, which must be free.
func (s *stage) link(path string) error {
	// The other way, AT_EMPTY_PATH, wants CAP_DAC_READ_SEARCH (open(2)).
	err := unix.Linkat(unix.AT_FDCWD, s.procPath(), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &fs.PathError{Op: "linkat", Path: path, Err: err}
	}
	return nil
}

// procPath is the way to a file that has no name.
func (s *stage) procPath() string {
	return fmt.Sprintf("/proc/self/fd/%d", s.f.Fd())
}

// discard closes the file and removes its temporary name if it still has one.
// Its errors change nothing for the caller: the data was synced, and Sweep
// finds what could not be removed.
func (s *stage) discard() {
	if s.temp != "" {
		os.Remove(s.temp)
	}
	s.f.Close()
}

// tempPath draws a temporary name for base: ".BASE.tmp-RANDOM".
func tempPath(dir, base string) string {
	var random [8]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	// A name has at most 255 bytes (NAME_MAX), and ours adds 22.
	base = base[:min(len(base), 200)]
	return filepath.Join(dir, "."+base+".tmp-"+hex.EncodeToString(random[:]))
}
