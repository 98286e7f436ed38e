// Package store keeps what a PKI has done in one SQLite file: certificates and
// the intents before them, signed objects, small settings, and the ledger, an
// append-only Merkle tree (RFC 6962) over all of it. What is recorded and its
// ledger entry are one transaction, which is durable when the call returns.
//
// It knows bytes, serials and dates, and not X.509: that a row tells the truth
// about its DER is for package ca to check. Keys and PINs never come here.
//
// Verify finds any change to what the ledger covers. It can't find a store that
// was cut at its end, or rewritten as a whole: for that keep a checkpoint (Root)
// elsewhere and ask for a ConsistencyProof.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"tmpki/internal/durable"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// DB is an open store. Any number of goroutines and processes may use one file
// at once; writers wait for each other, up to half a minute or the end of their
// context.
type DB struct {
	// Now is the clock for what is recorded. Open sets it to time.Now; set
	// another before the first use. It is called by one goroutine at a time.
	Now func() time.Time

	path  string
	sql   *sql.DB
	known known
}

// ErrNotFound is what a look-up returns, wrapped, if the store has no such row.
var ErrNotFound = errors.New("not in the store")

// Open opens the store at path for reading and writing. If nothing is there it
// makes a new one, with mode 0600, which appears under path whole or not at all.
// It refuses a file that is no store, and one that a newer program wrote. One of
// an older program it brings up to date, in one transaction.
func Open(ctx context.Context, path string) (*DB, error) {
	err := checkFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = create(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	db, version, err := open(ctx, path, "rw")
	if err != nil {
		return nil, err
	}
	if err := db.sweep(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the store %q: sweeping its journal: %w", path, err)
	}
	if version != schemaVersion {
		if err := db.upgrade(ctx); err != nil {
			db.Close()
			return nil, fmt.Errorf("opening the store %q: taking it from version %d to %d: %w", path, version, schemaVersion, err)
		}
	}
	return db, nil
}

// OpenReadOnly opens the store at path, creates and changes nothing, and works
// in a directory that can't be written. If there is no store the error is
// fs.ErrNotExist. After a crash in mid-transaction it may fail until Open has
// rolled that back. A store of an older program is brought up to date in memory.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	if err := checkFile(path); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	db, version, err := open(ctx, path, "ro")
	if err != nil || version == schemaVersion {
		return db, err
	}
	defer db.Close()
	mem, err := db.copyInMemory(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the store %q: reading its version %d as %d: %w", path, version, schemaVersion, err)
	}
	return mem, nil
}

// checkFile refuses what is not a file: SQLite would wait for the other end of a
// pipe, and its driver doesn't let us interrupt that.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return nil
}

// Close closes the store, after which its directory holds nothing of it but
// the one file.
func (db *DB) Close() error {
	return db.sql.Close()
}

// create makes an empty store at path, or finds that another process did.
func create(ctx context.Context, path string) error {
	// Made in memory and put in place in one step: so a store never lacks half
	// of its schema, and an empty file is known to be damage.
	mem, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer mem.Close()
	mem.SetMaxOpenConns(1) // another one would have a memory of its own
	if _, err := mem.ExecContext(ctx, schemaScript()); err != nil {
		return fmt.Errorf("making the schema: %w", err)
	}
	image, err := serialize(ctx, mem)
	if err != nil {
		return err
	}
	err = durable.CreateFile(path, image, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// open opens the store at path, which exists, with SQLite's mode "rw" or "ro".
// It returns the version of its schema too.
func open(ctx context.Context, path, mode string) (*DB, int64, error) {
	name, err := dataSource(path, mode)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the store: %w", err)
	}
	// POSIX locks are lost as soon as anything in the process closes any
	// descriptor of the file, to copy it, say. OFD locks are not. It fails only
	// where there are none, or if SQLite runs already.
	sqlite.OFDLocking(true)
	// fdatasync(2) is what SQLite uses wherever its own build script runs.
	sqlite.Fdatasync(true)

	pool, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the store %q: %w", path, err)
	}
	// SQLite has one writer at a time anyhow. With one connection callers queue
	// in order, where many would poll for the lock.
	pool.SetMaxOpenConns(1)
	version, err := schemaOf(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, 0, fmt.Errorf("opening the store %q: %w", path, err)
	}
	return &DB{Now: time.Now, path: path, sql: pool}, version, nil
}

// dataSource is the name under which the driver opens path.
func dataSource(path, mode string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	query := url.Values{
		"mode": {mode},
		// A write takes the lock when it begins: one that read first and
		// upgraded could deadlock with its like, and SQLite would fail it.
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(30000)", // milliseconds
			// We keep SQLite's default, the rollback journal: WAL is faster, but
			// leaves -wal and -shm files when killed, and can't be read in a
			// read-only directory. People copy PKI directories. A commit is
			// the unlinking of the journal, which FULL does not sync: after a
			// power cut the journal may be back, and undo an intent whose
			// certificate is signed. EXTRA syncs it.
			"synchronous(EXTRA)",
			"temp_store(MEMORY)",
			// The file may come from elsewhere: run no functions in its schema.
			"trusted_schema(OFF)",
		},
	}
	// The driver would take a '?' or '%' in path for syntax; url escapes them.
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: query.Encode()}).String(), nil
}

// sweep removes the journal of a killed process that had not touched the file
// yet. SQLite leaves such a journal until the next write.
func (db *DB) sweep(ctx context.Context) error {
	journal := db.path + "-journal"
	if _, err := os.Lstat(journal); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return db.write(ctx, func(*writing) error {
		// We have the write lock, so this is no living writer's journal. We
		// could read, so SQLite has rolled back what there was to roll back.
		err := os.Remove(journal)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// schemaOf returns the version of a store's schema; it fails on what is no store,
// and on one that we don't know.
func schemaOf(ctx context.Context, q querier) (version int64, err error) {
	var id int64
	err = q.QueryRowContext(ctx, "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version").Scan(&id, &version)
	switch code := sqliteCode(err); {
	case code&0xff == sqlite3.SQLITE_NOTADB:
		return 0, errors.New("not a tmpki store, nor any SQLite file")
	case code&0xff == sqlite3.SQLITE_CORRUPT:
		return 0, fmt.Errorf("the file is damaged or cut short: %v", err)
	case err != nil:
		return 0, err
	case id != applicationID:
		return 0, fmt.Errorf("not a tmpki store: its application id is %#x, want %#x", id, applicationID)
	case version > schemaVersion:
		return 0, fmt.Errorf("written by a newer tmpki: its schema has version %d, this program knows %d", version, schemaVersion)
	case version < 1:
		return 0, fmt.Errorf("unknown schema version %d, want %d", version, schemaVersion)
	}
	return version, nil
}

// writing is a transaction that excludes other writers.
type writing struct {
	*sql.Tx
	db  *DB
	now time.Time // of all that it records: read within, so that the ledger's times go the way the clock goes

	classes map[class]int64
	actors  map[string]int64

	statements map[string]*sql.Stmt
}

// prepared returns the statement, which is prepared once in a transaction and
// closed with it.
func (tx *writing) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := tx.statements[query]; ok {
		return stmt, nil
	}
	stmt, err := tx.PrepareContext(ctx, query)
	if err == nil {
		tx.statements[query] = stmt
	}
	return stmt, err
}

// write runs do in a transaction that excludes other writers. When it returns
// nil, what do wrote is durable; else nothing of it is there.
func (db *DB) write(ctx context.Context, do func(*writing) error) error {
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := &writing{Tx: tx, db: db, now: db.Now(), statements: map[string]*sql.Stmt{}}
	db.known.begin(w)
	if err := do(w); err != nil {
		return noSpace(err)
	}
	if err := tx.Commit(); err != nil {
		return noSpace(err)
	}
	db.known.commit(w)
	return nil
}

// noSpace gives SQLite's complaint of a full disk the errno that callers test for.
func noSpace(err error) error {
	if sqliteCode(err)&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	}
	return err
}

// read runs do on one state of the store. Writers wait meanwhile.
func (db *DB) read(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return do(tx)
}

// sqliteCode is SQLite's extended result code for err, 0 if it has none.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}
