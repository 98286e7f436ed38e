package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// entry is what the archive says of a file before its content.
type entry struct {
	name string
	kind byte
	mode fs.FileMode
	size int64
	time time.Time
}

func (m *Manifest) entry(name string, kind byte, mode string, size int64) (entry, error) {
	perm, err := parseMode(mode)
	return entry{name, kind, perm, size, m.Time}, err
}

func (e entry) header() *tar.Header {
	return &tar.Header{Typeflag: e.kind, Name: e.name, Mode: int64(e.mode), Size: e.size, ModTime: e.time, Format: tar.FormatPAX}
}

// check refuses a header that header would not have given: links, devices, holes,
// owners, other names.
func (e entry) check(h *tar.Header) error {
	for record := range h.PAXRecords {
		if record != "path" && record != "size" {
			return fmt.Errorf("%.200q: a record %.80q", h.Name, record)
		}
	}
	switch {
	case h.Format != tar.FormatPAX && h.Format != tar.FormatUSTAR:
		return fmt.Errorf("%.200q: a header of format %v", h.Name, h.Format)
	case h.Name != e.name:
		return fmt.Errorf("%.200q is where %.200q should be", h.Name, e.name)
	case h.Typeflag != e.kind:
		return fmt.Errorf("%.200q is of type %q", h.Name, h.Typeflag)
	case h.Linkname != "" || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Devmajor != 0 || h.Devminor != 0:
		return fmt.Errorf("%.200q has a link, an owner or a device", h.Name)
	case h.Size != e.size:
		return fmt.Errorf("%.200q has %d octets, want %d", h.Name, h.Size, e.size)
	case h.Mode != int64(e.mode):
		return fmt.Errorf("%.200q has mode %04o, want %04o", h.Name, h.Mode, e.mode)
	case !h.ModTime.Equal(e.time):
		return fmt.Errorf("%.200q is of %v, want %v", h.Name, h.ModTime, e.time)
	}
	return nil
}

// writeArchive writes the manifest and, for each file, what open gives.
func writeArchive(w io.Writer, m *Manifest, open func(File) (io.ReadCloser, error)) error {
	text, err := m.marshal()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	head, err := m.entry(manifestName, tar.TypeReg, "0600", int64(len(text)))
	if err != nil {
		return err
	}
	if err := t.WriteHeader(head.header()); err != nil {
		return err
	}
	if _, err := t.Write(text); err != nil {
		return err
	}
	for _, d := range m.Dirs {
		e, err := m.entry(prefix+d.Path+"/", tar.TypeDir, d.Mode, 0)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(e.header()); err != nil {
			return err
		}
	}
	for _, f := range m.Files {
		if err := writeFile(t, m, f, open); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return t.Close()
}

func writeFile(t *tar.Writer, m *Manifest, f File, open func(File) (io.ReadCloser, error)) error {
	e, err := m.entry(prefix+f.Path, tar.TypeReg, f.Mode, f.Size)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(e.header()); err != nil {
		return err
	}
	content, err := open(f)
	if err != nil {
		return err
	}
	defer content.Close()
	// One octet more, to see that it grew.
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, hash), io.LimitReader(content, f.Size))
	if err != nil {
		return err
	}
	if n != f.Size || hex.EncodeToString(hash.Sum(nil)) != f.SHA256 || onlyEnd(content) != nil {
		return errChanged
	}
	return nil
}

var errChanged = errors.New("it changed while it was copied: do it again")

// reader reads an archive.
type reader struct {
	manifest *Manifest
	digest   [32]byte // of the manifest
	src      io.Reader
	tar      *tar.Reader
}

// openArchive reads as far as the manifest.
func openArchive(src io.Reader) (*reader, error) {
	r := &reader{src: src, tar: tar.NewReader(src)}
	h, err := r.tar.Next()
	if err != nil {
		return nil, noEnd(err)
	}
	if h.Size > maxManifest {
		return nil, fmt.Errorf("a manifest of %d octets, more than %d", h.Size, maxManifest)
	}
	if err := (entry{manifestName, tar.TypeReg, 0o600, h.Size, h.ModTime}).check(h); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r.tar)
	if err != nil {
		return nil, noEnd(err)
	}
	r.digest = sha256.Sum256(text)
	if r.manifest, err = parseManifest(text); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if !h.ModTime.Equal(r.manifest.Time) {
		return nil, fmt.Errorf("manifest of %v in an archive of %v", r.manifest.Time, h.ModTime)
	}
	return r, nil
}

// read hands out directories and files in their order, and fails where the archive
// is not what the manifest says. What file was given is proved only when it has
// returned. Either function may be nil.
func (r *reader) read(dir func(Directory) error, file func(File, io.Reader) error) error {
	m := r.manifest
	for _, d := range m.Dirs {
		if err := r.next(m.entry(prefix+d.Path+"/", tar.TypeDir, d.Mode, 0)); err != nil {
			return err
		}
		if dir != nil {
			if err := dir(d); err != nil {
				return err
			}
		}
	}
	for _, f := range m.Files {
		if err := r.next(m.entry(prefix+f.Path, tar.TypeReg, f.Mode, f.Size)); err != nil {
			return err
		}
		hash := sha256.New()
		content := io.TeeReader(r.tar, hash)
		if file != nil {
			if err := file(f, content); err != nil {
				return fmt.Errorf("%s: %w", f.Path, noEnd(err))
			}
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return fmt.Errorf("%s: %w", f.Path, noEnd(err))
		}
		if hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("%s does not have the digest that the manifest says", f.Path)
		}
	}
	if h, err := r.tar.Next(); err == nil {
		return fmt.Errorf("%.200q is not in the manifest", h.Name)
	} else if err != io.EOF {
		return err
	}
	return onlyEnd(r.src)
}

func (r *reader) next(want entry, err error) error {
	if err != nil {
		return err
	}
	h, err := r.tar.Next()
	if err != nil {
		return noEnd(err)
	}
	return want.check(h)
}

// noEnd is for where more must come.
func noEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
