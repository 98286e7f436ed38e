package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"filippo.io/age"

	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
)

// Verify reads a whole backup, checks every octet of it against its manifest, and
// writes nothing. The store in it was verified when the backup was made.
func Verify(ctx context.Context, src io.Reader, identities []age.Identity) (*Manifest, error) {
	r, err := open(ctx, src, identities)
	if err != nil {
		return nil, err
	}
	return r.manifest, r.read(nil, nil)
}

// Restore makes the PKI directory dir of a backup. Nothing may be at dir. What
// comes out of the backup is verified in a place of its own first: each file, the
// store, that its ledger is the one that was copied, and that keys belong to their
// certificates. Then dir appears by one rename.
//
// That it was restored is the last entry of its ledger.
func Restore(ctx context.Context, src io.Reader, dir string, identities []age.Identity, o Options) (*Manifest, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("%s is there, and stays: restore under another name", dir)
	}
	r, err := open(ctx, src, identities)
	if err != nil {
		return nil, err
	}
	m := r.manifest
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	const perFile = 8 << 10 // for the blocks that files don't fill, and directories
	n := int64(len(m.Files) + len(m.Dirs))
	if err := durable.CheckSpace(parent, m.size()+n*perFile, n); err != nil {
		return nil, fmt.Errorf("restoring %d octets: %w", m.size(), err)
	}
	err = plan.Create(ctx, dir, o.Waiting, func(staging string) error {
		if err := r.extract(ctx, staging); err != nil {
			return err
		}
		return m.prove(ctx, staging, r.digest, o)
	})
	return m, err
}

// open decrypts and reads the manifest.
func open(ctx context.Context, src io.Reader, identities []age.Identity) (*reader, error) {
	plain, err := age.Decrypt(bufio.NewReaderSize(stopping{ctx, src}, 1<<20), identities...)
	if none := new(age.NoIdentityMatchError); errors.As(err, &none) {
		return nil, fmt.Errorf("the backup does not open: it was made for others: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("the backup does not open: %w", err)
	}
	r, err := openArchive(plain)
	if err != nil {
		return nil, fmt.Errorf("not a backup of this program: %w", err)
	}
	return r, nil
}

// stopping ends a read when its context ends.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// extract writes what is in the archive below dir, which is new and ours alone.
func (r *reader) extract(ctx context.Context, dir string) error {
	place := func(p string) string { return filepath.Join(dir, filepath.FromSlash(p)) }
	var made []Directory
	// The plan is the first file, by which the next run knows the directory for ours
	// if this one is killed: so directories wait for it.
	dirs := func(d Directory) error {
		made = append(made, d)
		return nil
	}
	err := r.read(dirs, func(f File, content io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		mode, err := parseMode(f.Mode)
		if err != nil {
			return err
		}
		out, err := durable.NewFile(place(f.Path), mode)
		if err != nil {
			return err
		}
		defer out.Close()
		if _, err := io.Copy(out, content); err != nil {
			return err
		}
		if err := out.CommitNew(); err != nil {
			return err
		}
		if f.Path != planName {
			return nil
		}
		for _, d := range made {
			if err := os.Mkdir(place(d.Path), 0o700); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	// Modes last, and from below: one that forbids writing would be in the way.
	for _, d := range slices.Backward(made) {
		mode, err := parseMode(d.Mode)
		if err != nil {
			return err
		}
		if err := durable.SyncDir(place(d.Path)); err != nil {
			return err
		}
		if err := os.Chmod(place(d.Path), mode); err != nil {
			return err
		}
	}
	return nil
}

// prove holds the directory against the manifest, and records that it was restored.
func (m *Manifest) prove(ctx context.Context, dir string, digest [32]byte, o Options) error {
	pki, err := plan.Open(ctx, dir)
	if err != nil {
		return fmt.Errorf("what is in the backup is no PKI: %w", err)
	}
	if err := m.proveStore(ctx, dir); err != nil {
		return err
	}
	for _, f := range pki.KeyFaults() {
		if text := f.Name + ": " + f.Text; !slices.Contains(m.Faults, text) {
			return fmt.Errorf("what is in the backup does not belong together: %s", text)
		}
	}
	return pki.Record(ctx, store.Event{
		Kind: store.KindRestore, Name: m.Directory, Actor: o.Actor, SHA256: digest,
		Detail: map[string]string{"id": m.ID},
	})
}

func (m *Manifest) proveStore(ctx context.Context, dir string) error {
	db, err := plan.ReadStore(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no store in the backup: %w", err)
	}
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Verify(ctx); err != nil {
		return err
	}
	size, root, err := db.Root(ctx)
	if err != nil {
		return err
	}
	if is := (Ledger{size, fmt.Sprintf("%x", root[:])}); is != m.Ledger {
		return fmt.Errorf("the store's ledger has %d entries and root %s, the backup says %d and %s", is.Size, is.Root, m.Ledger.Size, m.Ledger.Root)
	}
	return nil
}
