package backup

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/store"
)

// Options are what backups need from outside.
type Options struct {
	Actor   string           // for the record: who asked for it
	Program string           // its version
	Now     func() time.Time // the clock
	Waiting func()           // if not nil, called once when another process holds the directory
}

// Create writes a backup of the PKI directory dir to the new file path, with mode
// 0600. Only the recipients can read it.
//
// It holds the directory's lock meanwhile, so that no apply changes files under its
// hands. Signing needs no lock and goes on: the store is copied in one piece, and
// verified in the copy.
//
// The backup is in the ledger before it is made, and so in the copy too.
func Create(ctx context.Context, dir, path string, recipients []age.Recipient, o Options) (*Manifest, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if err := checkPlace(dir, path); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	pki, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	if pki.Plan.Store != "" {
		return nil, fmt.Errorf("the store of %s is in a database: back that up with its own tools (pg_dump), and the directory, with its keys, beside it (tar, age)", dir)
	}
	// 1. Record it.
	m := &Manifest{
		Format:    Format,
		ID:        newID(),
		Time:      o.Now().UTC().Truncate(time.Second),
		Program:   o.Program,
		Directory: filepath.Base(dir),
		Plan:      pki.Plan.Name,
		Absent:    []Absent{},
		Faults:    []string{},
	}
	text, _, err := durable.ReadFile(filepath.Join(dir, planName), maxSize)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.PlanSHA256 = hex.EncodeToString(sum[:])
	err = pki.Record(ctx, store.Event{
		Kind: store.KindBackup, Name: filepath.Base(path), Actor: o.Actor, SHA256: sum,
		Detail: map[string]string{"id": m.ID, "readers": readers(recipients)},
	})
	if err != nil {
		return nil, err
	}
	// 2. Copy the store, and forget the copy's name.
	db, logKey, err := m.copyStore(ctx, pki)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	// 3. Look at the files.
	if err := m.list(ctx, dir, db); err != nil {
		return nil, err
	}
	m.absent(pki, logKey)
	for _, f := range pki.KeyFaults() {
		m.Faults = append(m.Faults, f.Name+": "+f.Text)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s can't be backed up: %w", dir, err)
	}
	// 4. Write.
	err = encrypt(path, recipients, func(w io.Writer) error {
		return writeArchive(w, m, func(f File) (io.ReadCloser, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if f.Path == storeName {
				_, err := db.Seek(0, io.SeekStart)
				return io.NopCloser(db), err
			}
			content, _, err := durable.OpenRegular(filepath.Join(dir, filepath.FromSlash(f.Path)), maxSize)
			return content, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	return m, nil
}

// checkPlace refuses a place for the backup before anything is recorded. A backup
// in the directory would be in the next one.
func checkPlace(dir, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there, and stays: name another file", path)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return err
	}
	below, err := relative(dir, parent)
	if err != nil {
		return err
	}
	if below {
		return fmt.Errorf("%s lies in the directory that it would be a backup of: name a place elsewhere, best on another disk", path)
	}
	return nil
}

// relative reports whether path is dir or lies below it.
func relative(dir, path string) (bool, error) {
	a, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	b, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(a, b)
	return err == nil && filepath.IsLocal(rel), nil
}

func newID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// readers says in the ledger who can read the backup.
func readers(recipients []age.Recipient) string {
	var list []string
	for _, r := range recipients {
		if named, ok := r.(fmt.Stringer); ok {
			list = append(list, named.String())
		} else {
			list = append(list, "passphrase")
		}
	}
	const most = 20
	if n := len(list); n > most {
		list = append(list[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(list, " ")
}

// copyStore returns a copy of the store, which was verified and has no name any
// more, and notes the state of its ledger. It also tells whether that has a key.
func (m *Manifest) copyStore(ctx context.Context, pki *plan.PKI) (_ *os.File, logKey bool, err error) {
	// A name that apply sweeps away, should we be killed.
	var random [8]byte
	rand.Read(random[:])
	path := filepath.Join(pki.Dir, "."+storeName+".tmp-"+hex.EncodeToString(random[:]))
	if err := pki.SnapshotStore(ctx, path); err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	db, err := store.OpenReadOnly(ctx, path)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Verify(ctx); err != nil {
		return nil, false, fmt.Errorf("the store is not what was written, and no backup would make it so: bring back the last good backup: %w", err)
	}
	size, root, err := db.Root(ctx)
	if err != nil {
		return nil, false, err
	}
	m.Ledger = Ledger{size, hex.EncodeToString(root[:])}
	if _, err := plan.LogKey(ctx, db); err == nil {
		logKey = true
	} else if !errors.Is(err, plan.ErrNoLogKey) {
		return nil, false, err
	}
	f, err := os.Open(path)
	return f, logKey, err
}

// list puts all files of dir into the manifest, with their digests.
func (m *Manifest) list(ctx context.Context, dir string, db *os.File) error {
	var planFile *File
	m.Dirs, m.Files = []Directory{}, []File{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if durable.IsStray(d) || isStore(name) {
			return nil
		}
		if err := checkPath(name); err != nil {
			m.Absent = append(m.Absent, Absent{fmt.Sprintf("%.200q", name), "its name is not UTF-8, or too long"})
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			m.Dirs = append(m.Dirs, Directory{name, formatMode(info.Mode())})
		case d.Type().IsRegular():
			f, err := describe(path, name)
			if err != nil {
				return err
			}
			if name == planName {
				planFile = &f
			} else {
				m.Files = append(m.Files, f)
			}
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			m.Absent = append(m.Absent, Absent{name, fmt.Sprintf("a symbolic link to %.200q", target)})
		default:
			m.Absent = append(m.Absent, Absent{name, "neither file nor directory"})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if planFile == nil {
		return fmt.Errorf("%s is not a file of the directory", planName)
	}
	if planFile.SHA256 != m.PlanSHA256 {
		return fmt.Errorf("%s: %w", planName, errChanged)
	}
	size, sum, err := digest(db)
	if err != nil {
		return err
	}
	m.Files = append(slices.Insert(m.Files, 0, *planFile), File{storeName, "0600", size, sum})
	return nil
}

// isStore reports whether a path is the store's, or of what SQLite puts beside it.
func isStore(name string) bool {
	switch name {
	case storeName, storeName + "-journal", storeName + "-wal", storeName + "-shm":
		return true
	}
	return false
}

func describe(path, name string) (File, error) {
	f, info, err := durable.OpenRegular(path, maxSize)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	size, sum, err := digest(f)
	return File{name, formatMode(info.Mode()), size, sum}, err
}

func digest(r io.Reader) (int64, string, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return n, hex.EncodeToString(hash.Sum(nil)), err
}

// absent lists the keys of the plan that are not among the files, and the ledger's
// if it has one.
func (m *Manifest) absent(pki *plan.PKI, logKey bool) {
	have := map[string]bool{}
	for _, f := range m.Files {
		have[f.Path] = true
	}
	entries := pki.Plan.Entries
	if logKey && pki.Plan.LogKey != nil {
		entries = append(slices.Clone(entries), pki.Plan.LogKey)
	}
	for _, e := range entries {
		if e.TwinOf != nil {
			continue
		}
		why := ""
		switch {
		case e.Key.Scheme != keys.SchemeFile:
			why = fmt.Sprintf("its key is in a token: %s", e.Key)
		case filepath.IsAbs(e.Key.Path):
			why = fmt.Sprintf("its key lies elsewhere: %s", e.Key)
		case !have[e.Key.Path]:
			why = fmt.Sprintf("its key is not there: %s", e.Key)
		default:
			continue
		}
		m.Absent = append(m.Absent, Absent{e.Name, why})
	}
}

// encrypt writes the new file path, whole or not at all.
func encrypt(path string, recipients []age.Recipient, write func(io.Writer) error) error {
	f, err := durable.NewFile(path, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := bufio.NewWriterSize(f, 1<<20)
	w, err := age.Encrypt(buffer, recipients...)
	if err != nil {
		return err
	}
	for _, do := range []func() error{func() error { return write(w) }, w.Close, buffer.Flush, f.CommitNew} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
