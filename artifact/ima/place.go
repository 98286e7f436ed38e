package ima

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"tmpki/internal/durable"
	"tmpki/internal/tree"
)

// Place is where a file's signature is kept.
type Place int

// The places of signatures.
const (
	Xattr   Place = iota + 1 // the extended attribute security.ima, where the kernel looks
	SigFile                  // FILE.sig, for whoever sets the attribute later
)

const xattrName = "security.ima"

// ErrUnsigned is returned, wrapped, for a file without a signature in the place.
var ErrUnsigned = errors.New("file is not signed")

// Load returns the signature of the file at path, for Verify. Of what is longer
// than any signature it reads no more than Verify needs to refuse it.
func Load(path string, place Place) ([]byte, error) {
	switch place {
	case Xattr:
		return getXattr(path)
	case SigFile:
		// O_NONBLOCK: to open a FIFO must not wait for its writer.
		f, err := os.OpenFile(sigPath(path), os.O_RDONLY|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %v", ErrUnsigned, err)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", f.Name())
		}
		return io.ReadAll(io.LimitReader(f, maxSize+1))
	default:
		return nil, fmt.Errorf("unknown place %d of signatures", place)
	}
}

// checkPlace tells, before a signature is recorded, why it can't be put into its
// place beside or into the open file.
func checkPlace(f *os.File, place Place) error {
	switch place {
	case Xattr:
		// The right to set an attribute is asked for before the attribute to be
		// replaced is looked for, and this one is never there.
		err := unix.Fsetxattr(int(f.Fd()), "security.tmpki-probe", nil, unix.XATTR_REPLACE)
		if errors.Is(err, unix.ENODATA) {
			return nil
		}
		return xattrError("setting", err)
	case SigFile:
		return tree.CheckWritable(f.Name())
	default:
		return fmt.Errorf("unknown place %d of signatures", place)
	}
}

// store puts a signature into its place, in one step. A FILE.sig is durable when
// its directory is synced. The file must still be what info says.
func store(path string, place Place, signature []byte, info fs.FileInfo) error {
	f, now, err := tree.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !durable.Unchanged(info, now) {
		return durable.ErrChanged
	}
	switch place {
	case Xattr:
		if err := unix.Fsetxattr(int(f.Fd()), xattrName, signature, 0); err != nil {
			return xattrError("setting", err)
		}
		return f.Sync()
	case SigFile:
		return durable.PlaceFile(sigPath(path), signature, 0o644)
	default:
		return fmt.Errorf("unknown place %d of signatures", place)
	}
}

func sigPath(path string) string { return path + ".sig" }

func getXattr(path string) ([]byte, error) {
	signature := make([]byte, maxSize)
	n, err := unix.Lgetxattr(path, xattrName, signature)
	if errors.Is(err, unix.ENODATA) {
		return nil, fmt.Errorf("%w: no attribute %s", ErrUnsigned, xattrName)
	}
	if err != nil {
		return nil, xattrError("reading", err)
	}
	return signature[:n], nil
}

// xattrError says what the errno means, and what to do about it.
func xattrError(doing string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		hint = ": its file system has no such attributes; keep the signature in FILE.sig"
	case errors.Is(err, unix.EPERM):
		hint = ": only root (CAP_SYS_ADMIN) may; keep the signature in FILE.sig"
	case errors.Is(err, unix.ERANGE):
		hint = ": it is longer than any signature"
	}
	return fmt.Errorf("%s %s%s: %w", doing, xattrName, hint, err)
}
