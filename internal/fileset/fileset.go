// Package fileset writes a few small files as one thing: a directory that appears,
// or takes the place of an older one, in one step, or a tar archive (POSIX.1-1988,
// ustar) that has the same octets whenever and wherever it is made of the same
// files. It adds a file SHA256SUMS, as sha256sum(1) reads it.
//
// Every file is readable by all: it is no place for secrets.
package fileset

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"tmpki/internal/durable"
)

// Checksums is the name of the file that is added.
const Checksums = "SHA256SUMS"

// Set is a set of files.
type Set struct {
	// Kind matches, as path.Match does, the names that files of such a set can have.
	// A directory with another file in it is no older set, and stays untouched.
	Kind []string

	files map[string][]byte
}

// Add adds a file. The name is relative, with slashes, and one that Kind matches.
func (s *Set) Add(name string, content []byte) error {
	switch {
	case !fs.ValidPath(name) || name == Checksums || !s.mine(name):
		return fmt.Errorf("%q is not the name of a file of this kind", name)
	case s.files[name] != nil:
		return fmt.Errorf("%q stands twice in one set of files", name)
	}
	if s.files == nil {
		s.files = map[string][]byte{}
	}
	s.files[name] = append([]byte{}, content...)
	return nil
}

// Names returns the names of the files in order, without that of the checksums.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.files)) }

// Content returns the content of a file, nil if it is not in the set.
func (s *Set) Content(name string) []byte { return s.files[name] }

func (s *Set) mine(name string) bool {
	return name == Checksums || slices.ContainsFunc(s.Kind, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// checksums returns the content of SHA256SUMS.
func (s *Set) checksums() []byte {
	var b bytes.Buffer
	for _, name := range s.Names() {
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(s.files[name]), name)
	}
	return b.Bytes()
}

// all returns the files with the checksums.
func (s *Set) all() map[string][]byte {
	files := maps.Clone(s.files)
	files[Checksums] = s.checksums()
	return files
}

// dirs returns the directories in which the files are, those above first.
func (s *Set) dirs() []string {
	seen := map[string]bool{}
	for name := range s.files {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			seen[d] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

var errEmpty = errors.New("no files to write")

// WriteDir makes dir a directory with exactly these files, in one step: whoever
// looks sees the old one or the new one, whole. dir may be there if it is empty or
// an older set of this kind.
func (s *Set) WriteDir(dir string) error {
	if len(s.files) == 0 {
		return errEmpty
	}
	dir = filepath.Clean(dir)
	replace, err := s.older(dir)
	if err != nil {
		return err
	}
	staging, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmpki-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging) // after an exchange, the old set
	if err := os.Chmod(staging, 0o755); err != nil {
		return err
	}
	for _, d := range s.dirs() {
		if err := os.Mkdir(filepath.Join(staging, filepath.FromSlash(d)), 0o755); err != nil {
			return err
		}
	}
	for name, content := range s.all() {
		if err := durable.PlaceFile(filepath.Join(staging, filepath.FromSlash(name)), content, 0o644); err != nil {
			return err
		}
	}
	for _, d := range append(s.dirs(), ".") {
		if err := durable.SyncDir(filepath.Join(staging, filepath.FromSlash(d))); err != nil {
			return err
		}
	}
	if replace {
		return durable.Exchange(staging, dir)
	}
	return durable.Rename(staging, dir)
}

// older reports whether there is something at dir that may be replaced. If it may
// not, that is an error.
func (s *Set) older(dir string) (bool, error) {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is not a directory, and stays untouched", dir)
	}
	empty := true
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		empty = false
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || !s.mine(filepath.ToSlash(name)) {
			return fmt.Errorf("%s holds %s, which is none of the files that would be written: it stays untouched; name another directory", dir, name)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(filepath.Join(dir, Checksums)); !empty && errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s has no %s, so it was not written by this program: it stays untouched; name another directory", dir, Checksums)
	}
	return true, nil
}

// WriteTar writes the files, sorted by name, as an archive. They belong to root,
// and all have the given time.
func (s *Set) WriteTar(w io.Writer, modified time.Time) error {
	if len(s.files) == 0 {
		return errEmpty
	}
	files := s.all()
	for _, d := range s.dirs() {
		files[d+"/"] = nil
	}
	out := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: modified.UTC().Truncate(time.Second), Format: tar.FormatUSTAR}
		if files[name] == nil {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		if _, err := out.Write(files[name]); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return out.Close()
}
