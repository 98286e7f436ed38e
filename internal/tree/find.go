package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Find returns the regular files under paths, sorted, each once. Of a
// directory, it takes those that match takes by their path, at any depth. A
// file that is named itself is taken as it is, so that nobody believes it was
// done when it was not. Symbolic links are left alone in a directory, and
// refused when named. Finding nothing at all is an error.
func Find(paths []string, match func(path string) bool) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if err := checkRegular(path, info); err != nil {
				return nil, err
			}
			files = append(files, filepath.Clean(path))
			continue
		}
		err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() && match(path) {
				files = append(files, filepath.Clean(path))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("nothing to sign in %q", paths)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// Open opens a regular file for reading, and tells what it is. It follows no
// symbolic link at the end of path, and does not wait for a FIFO's writer.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkRegular(path, info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// CheckWritable tells why nothing can be put beside path, or in its place, so
// that no signature is recorded that then has no place. What only trying can
// show, such as a full disk, it does not see.
func CheckWritable(path string) error {
	dir := filepath.Dir(path)
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write to directory", Path: dir, Err: err}
	}
	return nil
}

func checkRegular(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s: is a symbolic link, which is not followed", path)
	default:
		return fmt.Errorf("%s: is not a regular file", path)
	}
}
