package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"tmpki/internal/durable"
	"tmpki/store"
)

// OpenStore opens the store of the PKI for reading and writing, and makes it if
// there is none.
func (p *PKI) OpenStore(ctx context.Context) (*store.DB, error) {
	if p.Plan.Store != "" {
		return store.OpenURL(ctx, p.Plan.Store)
	}
	return store.Open(ctx, StorePath(p.Dir))
}

// OpenStoreReadOnly opens the store of the PKI for reading. If there is none, the
// error is fs.ErrNotExist.
func (p *PKI) OpenStoreReadOnly(ctx context.Context) (*store.DB, error) {
	return readStore(ctx, p.Dir, p.Plan.Store)
}

// ReadStore opens the store of a PKI directory for reading, whatever else is wrong
// with its plan. If there is none, the error is fs.ErrNotExist.
func ReadStore(ctx context.Context, dir string) (*store.DB, error) {
	url, err := storeURL(ctx, dir)
	if err != nil {
		return nil, err
	}
	return readStore(ctx, dir, url)
}

// readStore opens the store at a URL, or that of the directory. If a process was
// killed in a transaction, its journal or log is in the way: then opening for
// writing takes that in first.
func readStore(ctx context.Context, dir, url string) (*store.DB, error) {
	if url != "" {
		return store.OpenURLReadOnly(ctx, url)
	}
	path := StorePath(dir)
	db, err := store.OpenReadOnly(ctx, path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return db, err
	}
	_, journal := os.Lstat(path + "-journal")
	_, log := os.Lstat(path + "-wal")
	if journal != nil && log != nil {
		return nil, err
	}
	rw, err := store.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := rw.Close(); err != nil {
		return nil, err
	}
	return store.OpenReadOnly(ctx, path)
}

// StorePath returns the path of the store of a PKI directory, if it is a file.
func StorePath(dir string) string { return filepath.Join(dir, StoreName) }

// HasStore reports whether a directory is that of a PKI which has a record, in a
// file or in a database.
func HasStore(dir string) (bool, error) {
	_, err := os.Stat(StorePath(dir))
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	url, err := storeURL(context.Background(), dir) // no file: nothing to wait for
	return url != "", err
}

// namesStore finds the line of a plan that names a database.
var namesStore = regexp.MustCompile(`(?m)^store\s*:`)

// storeURL returns the URL of the store that the plan in a directory names; "" if it
// names none, or if there is no plan.
func storeURL(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, FileName)
	f, err := readFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !namesStore.Match(f.Content) {
		return "", nil
	}
	var c fileConfig
	doc, err := decodeStrict(path, f.Content, &c)
	if err != nil {
		return "", err
	}
	if err := store.CheckURL(c.Store); err != nil {
		return "", doc.fail("store", err)
	}
	if c.Store != "" && ofCeremonies(ctx, dir) {
		return "", nil
	}
	return c.Store, nil
}

// ofCeremonies reports whether a directory is that of the offline machine. Its plan
// is the online one's to the letter, but its record is in a file of its own: there is
// no network to a database.
func ofCeremonies(ctx context.Context, dir string) bool {
	db, err := readStore(ctx, dir, "")
	if err != nil {
		return false
	}
	defer db.Close()
	use, err := db.Setting(ctx, useSetting)
	return err == nil && use == ceremonyUse
}

// Lock excludes others who change a PKI, until Close.
type Lock struct {
	dir    *durable.Lock
	db     *store.DB
	unlock func() error
}

// LockPKI locks a PKI directory, and if its record is in a database, which other
// machines use with directories of their own, that too. It waits for its turn as
// long as ctx lasts; waiting, which may be nil, is called if it has to.
func LockPKI(ctx context.Context, dir string, waiting func()) (_ *Lock, err error) {
	l := &Lock{}
	if l.dir, err = durable.LockDir(ctx, dir, waiting); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	url, err := storeURL(ctx, dir)
	if err != nil || url == "" {
		return l, err
	}
	if l.db, err = store.OpenURL(ctx, url); err != nil {
		return nil, err
	}
	l.unlock, err = l.db.Lock(ctx, waiting)
	return l, err
}

// Close gives the lock back.
func (l *Lock) Close() error {
	var errs []error
	if l.unlock != nil {
		errs = append(errs, l.unlock())
	}
	if l.db != nil {
		errs = append(errs, l.db.Close())
	}
	if err := errors.Join(append(errs, l.dir.Close())...); err != nil {
		return fmt.Errorf("giving back the lock of a PKI: %w", err)
	}
	return nil
}
