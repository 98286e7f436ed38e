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
	"slices"
	"strings"
	"syscall"
	"time"

	"tmpki/internal/durable"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// file is the backend of a store in a SQLite file.
type file struct {
	path  string
	write bool
}

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
	return &DB{name: path, sql: pool, backend: file{path: path, write: mode == "rw"}}, version, nil
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
	journal := db.name + "-journal"
	if _, err := os.Lstat(journal); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return db.write(ctx, func(context.Context, *writing) error {
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

// noSpace gives SQLite's complaint of a full disk the errno that callers test for.
func noSpace(err error) error {
	if sqliteCode(err)&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	}
	return err
}

// isBusy reports whether another connection holds a lock that was needed.
func isBusy(err error) bool {
	return sqliteCode(err)&0xff == sqlite3.SQLITE_BUSY || sqliteCode(err)&0xff == sqlite3.SQLITE_LOCKED
}

// sqliteCode is SQLite's extended result code for err, 0 if it has none.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

func (f file) begin(ctx context.Context, pool *sql.DB) (*sql.Tx, time.Time, error) {
	tx, err := pool.BeginTx(ctx, nil) // BEGIN IMMEDIATE: see dataSource
	return tx, time.Now(), err
}

func (f file) reading() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

func (f file) failure(err error) error { return noSpace(err) }

// lock does nothing: there is a lock for the directory.
func (f file) lock(context.Context, *sql.DB, func()) (func() error, error) {
	return func() error { return nil }, nil
}

func (f file) close(pool *sql.DB) error {
	var err error
	if f.write {
		err = settleJournal(context.Background(), pool)
	}
	return errors.Join(err, pool.Close())
}

func (f file) insert(ctx context.Context, tx *writing, rows []row) error {
	insert, err := tx.prepared(ctx, `INSERT INTO certificate (entry, serial, class, state, name, actor, issued,
		not_before, not_after, key, subject_key_id, key_uri, der) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		_, err = insert.ExecContext(ctx, r.entry, r.serial, r.class, int64(Issued), r.name, r.actor, r.issued,
			r.notBefore, r.notAfter, keyColumn(r.subjectKeyID), r.subjectKeyID, r.keyURI, r.der)
		if err != nil {
			return fmt.Errorf("serial %x: %w", r.serial, err)
		}
	}
	return nil
}

func (f file) bulk(ctx context.Context, pool *sql.DB, do func() error) error {
	if err := pragma(ctx, pool, fmt.Sprintf("cache_size = -%d", bulkCache)); err != nil {
		return err
	}
	// Others who read at the moment stand in the way. It works without, slower.
	mode, err := journalMode(ctx, pool, "WAL")
	if err != nil && !isBusy(err) {
		return fmt.Errorf("preparing the store for many writes: %w", noSpace(err))
	}
	if mode == "wal" {
		if err := pragma(ctx, pool, fmt.Sprintf("wal_autocheckpoint = %d", bulkLog)); err != nil {
			return err
		}
	}
	err = do()
	return errors.Join(err, settleJournal(context.WithoutCancel(ctx), pool))
}

const (
	// bulkCache is how much of the file Bulk keeps in memory, in KiB.
	bulkCache = 96 << 10
	// bulkLog is the size that the log grows to, in pages of 4 KiB.
	bulkLog = 32768
)

// settleJournal takes the store back to its rollback journal, if it is not there
// and nobody else needs it otherwise.
func settleJournal(ctx context.Context, pool *sql.DB) error {
	mode, err := journalMode(ctx, pool, "")
	if err != nil || mode != "wal" {
		return err
	}
	if _, err := journalMode(ctx, pool, "DELETE"); err != nil && !isBusy(err) {
		return fmt.Errorf("bringing the log into the store: %w", noSpace(err))
	}
	return nil
}

// journalMode sets the journal mode, "" leaving it, and returns what it is.
func journalMode(ctx context.Context, pool *sql.DB, mode string) (string, error) {
	statement := "PRAGMA journal_mode"
	if mode != "" {
		statement += " = " + mode
	}
	var is string
	err := pool.QueryRowContext(ctx, statement).Scan(&is)
	return strings.ToLower(is), err
}

func pragma(ctx context.Context, pool *sql.DB, pragma string) error {
	_, err := pool.ExecContext(ctx, "PRAGMA "+pragma)
	return err
}

func (f file) verify(ctx context.Context, tx *sql.Tx) error {
	if err := verifyFile(ctx, tx); err != nil {
		return err
	}
	return verifySchema(ctx, tx)
}

// maxIntegrityCheck is the size up to which a file is checked by SQLite itself,
// which holds up writers for as long as that takes, some seconds for each GiB.
const maxIntegrityCheck = 1 << 30

// verifyFile lets SQLite check its pages, indexes and constraints.
func verifyFile(ctx context.Context, tx *sql.Tx) error {
	var result string
	var size int64
	if err := tx.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&size); err != nil {
		return err
	}
	if size > maxIntegrityCheck {
		return nil
	}
	if err := tx.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("the file is damaged: %s", result)
	}
	return nil
}

// verifySchema compares the schema with ours, to the letter.
func verifySchema(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
	if err != nil {
		return err
	}
	defer rows.Close()
	missing := schema()
	for rows.Next() {
		var statement string
		if err := rows.Scan(&statement); err != nil {
			return err
		}
		i := slices.Index(missing, statement)
		if i < 0 {
			return fmt.Errorf("the schema has something that is not ours: %.80q", statement)
		}
		missing = slices.Delete(missing, i, i+1)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("the schema lacks %.80q", missing[0])
	}
	return nil
}
