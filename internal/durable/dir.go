package durable

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// SyncDir makes the names in the directory path survive a power cut: those
// created, renamed and removed.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Rename gives the directory oldPath the name newPath and syncs the parents of
// both. Nothing may stand in the way, not even an empty directory, which somebody
// may have locked just now: that is an error that is fs.ErrExist. It refuses an
// oldPath that is not a directory. It does not sync what is in there: write that
// with this package.
func Rename(oldPath, newPath string) error {
	info, err := os.Lstat(oldPath)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: unix.ENOTDIR}
	}
	err = unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system lacks the flag. os.Rename looks first, and rename(2)
		// refuses at least what is not empty.
		return renameSynced(os.Rename(oldPath, newPath), oldPath, newPath)
	}
	if err != nil {
		err = &os.LinkError{Op: "renameat2", Old: oldPath, New: newPath, Err: err}
	}
	return renameSynced(err, oldPath, newPath)
}

// Exchange gives the directory oldPath the name newPath, and the directory at
// newPath the name oldPath, in one step, and syncs the parents of both. Where the
// file system can't do that, there are two steps, between which newPath is not
// there.
func Exchange(oldPath, newPath string) error {
	for _, p := range []string{oldPath, newPath} {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &os.LinkError{Op: "exchange", Old: oldPath, New: newPath, Err: unix.ENOTDIR}
		}
	}
	err := unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return exchangeInSteps(oldPath, newPath)
	}
	if err != nil {
		err = &os.LinkError{Op: "exchange", Old: oldPath, New: newPath, Err: err}
	}
	return renameSynced(err, oldPath, newPath)
}

// exchangeInSteps is Exchange for a file system that lacks the flag.
func exchangeInSteps(oldPath, newPath string) error {
	aside := tempPath(filepath.Dir(filepath.Clean(newPath)), filepath.Base(newPath))
	if err := os.Rename(newPath, aside); err != nil {
		return err
	}
	if err := os.Rename(oldPath, newPath); err != nil {
		return errors.Join(err, os.Rename(aside, newPath))
	}
	return renameSynced(os.Rename(aside, oldPath), oldPath, newPath)
}

// renameSynced syncs the parents of what was renamed, unless that failed.
func renameSynced(err error, oldPath, newPath string) error {
	if err != nil {
		return err
	}
	from, to := filepath.Dir(filepath.Clean(oldPath)), filepath.Dir(filepath.Clean(newPath))
	if err := SyncDir(to); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return SyncDir(from)
}

// Sweep removes from the directory dir the temporary files that killed runs of
// this package left there, and nothing else. The caller must hold the lock on
// dir, or it may take away the file of a run that lives.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	swept := false
	for _, entry := range entries {
		if !IsStray(entry) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("removing a stray file: %w", err)
		}
		swept = true
	}
	if !swept {
		return nil
	}
	return SyncDir(dir)
}

// IsStray reports whether a directory entry is what Sweep removes: a regular file
// with a name that tempPath draws, ".BASE.tmp-" and 16 hexadecimal digits.
func IsStray(entry fs.DirEntry) bool {
	name := entry.Name()
	i := strings.LastIndex(name, ".tmp-")
	if i < 2 || name[0] != '.' || !entry.Type().IsRegular() {
		return false
	}
	random, err := hex.DecodeString(name[i+len(".tmp-"):])
	return err == nil && len(random) == 8
}
