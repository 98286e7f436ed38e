package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"modernc.org/sqlite"

	"tmpki/internal/durable"
)

// Snapshot copies the store into a new file at path, mode 0600, as it was at one
// moment, and without the writes of others that are under way. It copies pages and
// holds up writers no longer than that takes. The copy is a whole store, but not
// synced: it is for whoever reads it at once. If there is anything at path the
// error is fs.ErrExist.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	if err := db.snapshot(ctx, path); err != nil {
		return fmt.Errorf("copying the store %q: %w", db.name, err)
	}
	return nil
}

func (db *DB) snapshot(ctx context.Context, path string) (err error) {
	if _, ok := db.backend.(file); !ok {
		return errors.New("it is in a database: use the tools of that, such as pg_dump")
	}
	// SQLite would make the file with the mode of its own liking.
	if err := durable.CreateFile(path, nil, 0o600); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			for _, name := range []string{path, path + "-journal"} {
				if gone := os.Remove(name); !errors.Is(gone, fs.ErrNotExist) {
					err = errors.Join(err, gone)
				}
			}
		}
	}()
	source, err := dataSource(path, "rw")
	if err != nil {
		return err
	}
	conn, err := db.sql.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) (err error) {
		from, ok := c.(interface {
			driver.Conn
			NewBackup(string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("the driver can't copy")
		}
		copying, err := from.NewBackup(source)
		if err != nil {
			return err
		}
		// All pages in one step: between two, a writer could make it begin anew.
		more, err := copying.Step(-1)
		if err == nil && more {
			err = errors.New("pages are left")
		}
		return errors.Join(noSpace(err), copying.Finish())
	})
}
