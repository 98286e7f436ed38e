package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgConnections limits the connections of one process to PostgreSQL. One of them
// writes at a time.
const pgConnections = 8

// postgres is the backend of a store in a PostgreSQL database, in a schema of its
// own.
type postgres struct {
	schema string
}

// CheckURL fails unless text is the URL of a store that OpenURL takes:
//
//	postgres://USER@HOST[:PORT]/DATABASE[?PARAMETER=VALUE&…]
//
// with the parameters host (a directory with a socket), schema (default tmpki),
// sslmode, sslrootcert, sslcert and sslkey. It has no password: that stands in the
// variable PGPASSWORD, or in the file ~/.pgpass or PGPASSFILE, and none is needed
// for peer authentication or a client certificate. The error does not show the
// text, which may hold one.
func CheckURL(text string) error {
	_, _, err := parseURL(text)
	return err
}

// parseURL reads the URL of a store.
func parseURL(text string) (u *url.URL, schema string, err error) {
	u, err = url.Parse(text)
	switch {
	case err != nil:
		return nil, "", errors.New("it is no URL: write postgres://USER@HOST/DATABASE")
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return nil, "", fmt.Errorf("unknown kind of database %q: write postgres://USER@HOST/DATABASE", u.Scheme)
	}
	if _, set := u.User.Password(); set {
		return nil, "", errors.New("a password has no place in the URL: put it into the variable PGPASSWORD or the file ~/.pgpass, or use a client certificate")
	}
	database := strings.TrimPrefix(u.Path, "/")
	if u.Opaque != "" || u.Fragment != "" || database == "" || strings.Contains(database, "/") {
		return nil, "", errors.New("it names no database: write postgres://USER@HOST/DATABASE")
	}
	if u.User.Username() == "" {
		return nil, "", errors.New("it names no user: write postgres://USER@HOST/DATABASE")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", errors.New("its parameters are no parameters of a URL")
	}
	schema = "tmpki"
	known := []string{"host", "schema", "sslmode", "sslrootcert", "sslcert", "sslkey"}
	for key, values := range query {
		if !slices.Contains(known, key) {
			return nil, "", fmt.Errorf("unknown parameter %.20q, known are %s", key, strings.Join(known, ", "))
		}
		if len(values) != 1 || values[0] == "" {
			return nil, "", fmt.Errorf("parameter %s wants one value", key)
		}
	}
	if s := query.Get("schema"); s != "" {
		schema = s
	}
	for i, c := range []byte(schema) {
		if letter := c >= 'a' && c <= 'z' || c == '_'; !letter && (i == 0 || c < '0' || c > '9') || len(schema) > 60 || strings.HasPrefix(schema, "pg_") {
			return nil, "", fmt.Errorf("schema %.60q wants small letters, digits and _, at most 60 of them, and another beginning than pg_", schema)
		}
	}
	if (u.Host == "") == (query.Get("host") == "") {
		return nil, "", errors.New("it wants a host, or the directory of a socket in the parameter host, and not both")
	}
	return u, schema, nil
}

// OpenURL opens the store in the PostgreSQL database that a URL names (see
// CheckURL), for reading and writing. If there is none in the schema, it makes one,
// in one transaction.
func OpenURL(ctx context.Context, text string) (*DB, error) {
	db, p, err := openPostgres(ctx, text, false)
	if err != nil {
		return nil, err
	}
	if err := p.create(ctx, db.sql); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the store %s: %w", db.name, p.failure(err))
	}
	return db, nil
}

// OpenURLReadOnly opens the store in the database that a URL names, and changes
// nothing. If there is no store the error is fs.ErrNotExist.
func OpenURLReadOnly(ctx context.Context, text string) (*DB, error) {
	db, p, err := openPostgres(ctx, text, true)
	if err != nil {
		return nil, err
	}
	found, err := p.version(ctx, db.sql)
	if err == nil && !found {
		err = fmt.Errorf("the database has no store in the schema %q: %w", p.schema, fs.ErrNotExist)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the store %s: %w", db.name, p.failure(err))
	}
	return db, nil
}

func openPostgres(ctx context.Context, text string, readOnly bool) (*DB, postgres, error) {
	u, schema, err := parseURL(text)
	if err != nil {
		return nil, postgres{}, fmt.Errorf("the URL of the store: %w", err)
	}
	query := u.Query()
	query.Del("schema")
	bare := *u
	bare.RawQuery = query.Encode()
	config, err := pgx.ParseConfig(bare.String())
	if err != nil {
		return nil, postgres{}, fmt.Errorf("the URL of the store %s: %w", text, err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 15 * time.Second
	}
	config.RuntimeParams["application_name"] = "tmpki"
	config.RuntimeParams["search_path"] = schema
	config.RuntimeParams["timezone"] = "UTC"
	// Every query of ours walks along an index. Of a table that grows fast
	// PostgreSQL has old statistics or none, and would rather read it whole.
	config.RuntimeParams["enable_seqscan"] = "off"
	if readOnly {
		config.RuntimeParams["default_transaction_read_only"] = "on"
	}
	// What is committed must be durable; a server that is set to confirm more than
	// that may do so.
	durably := stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')")
		return err
	})
	pool := stdlib.OpenDB(*config, durably)
	pool.SetMaxOpenConns(pgConnections)
	pool.SetMaxIdleConns(2)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	p := postgres{schema: schema}
	return &DB{name: text, sql: pool, backend: p}, p, nil
}

// create makes the tables, if they are not there.
func (p postgres) create(ctx context.Context, pool *sql.DB) error {
	if found, err := p.version(ctx, pool); err != nil || found {
		return err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Others may be at it: one makes it, and the rest find it.
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", lockCreate, p.schema); err != nil {
		return err
	}
	if found, err := p.version(ctx, tx); err != nil || found {
		return err
	}
	if _, err := tx.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+p.schema); err != nil {
		return fmt.Errorf("making the schema %q: %w", p.schema, err)
	}
	for _, statement := range postgresSchema() {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("making the schema %q: %.60s: %w", p.schema, statement, err)
		}
	}
	return tx.Commit()
}

// version reports whether there is a store, of our version.
func (p postgres) version(ctx context.Context, q querier) (found bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'store')", p.schema).Scan(&found)
	if err != nil || !found {
		return false, err
	}
	var application string
	var version int64
	if err := q.QueryRowContext(ctx, "SELECT application, version FROM store").Scan(&application, &version); err != nil {
		return false, fmt.Errorf("the schema %q is not a tmpki store: %w", p.schema, err)
	}
	switch {
	case application != "tmpki":
		return false, fmt.Errorf("the schema %q is not a tmpki store: its application is %.60q", p.schema, application)
	case version > schemaVersion:
		return false, fmt.Errorf("written by a newer tmpki: its schema has version %d, this program knows %d", version, schemaVersion)
	case version != schemaVersion:
		return false, fmt.Errorf("unknown schema version %d, want %d", version, schemaVersion)
	}
	return true, nil
}

// The first keys of our advisory locks; the second tells the schema.
const (
	lockWrite  = 0x746d706b // a transaction that writes
	lockCreate = 0x746d706c // making the tables
	lockPKI    = 0x746d706d // DB.Lock
)

func (p postgres) begin(ctx context.Context, pool *sql.DB) (*sql.Tx, time.Time, error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, time.Time{}, p.failure(err)
	}
	// The lock comes first, so that each statement after it sees what the writer
	// before has committed (READ COMMITTED takes a snapshot for each).
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", lockWrite, p.schema); err != nil {
		tx.Rollback()
		return nil, time.Time{}, p.failure(err)
	}
	var now time.Time
	if err := tx.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		tx.Rollback()
		return nil, time.Time{}, p.failure(err)
	}
	return tx, now, nil
}

func (p postgres) reading() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (p postgres) insert(ctx context.Context, tx *writing, rows []row) error {
	n := len(rows)
	entries, classes, actors, issued := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	notBefore, notAfter, keys := make([]int64, n), make([]int64, n), make([]*int64, n)
	serials, keyIDs, ders := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	names, uris := make([]string, n), make([]string, n)
	for i, r := range rows {
		entries[i], serials[i], classes[i], names[i], actors[i], issued[i] = r.entry, r.serial, r.class, r.name, r.actor, r.issued
		notBefore[i], notAfter[i], keyIDs[i], uris[i], ders[i] = r.notBefore, r.notAfter, r.subjectKeyID, r.keyURI, r.der
		if key, ok := keyColumn(r.subjectKeyID).(int64); ok {
			keys[i] = &key
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO certificate (entry, serial, class, state, name, actor, issued, not_before, not_after, key, subject_key_id, key_uri, der)
		SELECT e, s, c, 1, n, a, i, b, f, k, d, u, x FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
		$7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[], $11::text[], $12::bytea[]) AS t (e, s, c, n, a, i, b, f, k, d, u, x)`,
		entries, serials, classes, names, actors, issued, notBefore, notAfter, keys, keyIDs, uris, ders)
	return err
}

func (p postgres) bulk(_ context.Context, _ *sql.DB, do func() error) error { return do() }

func (p postgres) close(pool *sql.DB) error { return pool.Close() }

func (p postgres) lock(ctx context.Context, pool *sql.DB, waiting func()) (func() error, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, p.failure(err)
	}
	var got bool
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", lockPKI, p.schema).Scan(&got)
	if err == nil && !got {
		if waiting != nil {
			waiting()
		}
		_, err = conn.ExecContext(ctx, "SELECT pg_advisory_lock($1, hashtext($2))", lockPKI, p.schema)
	}
	if err != nil {
		conn.Close()
		return nil, p.failure(err)
	}
	return func() error {
		_, err := conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock($1, hashtext($2))", lockPKI, p.schema)
		return errors.Join(p.failure(err), conn.Close())
	}, nil
}

// failure tells in words what people can mend, and gives a full disk its errno.
func (p postgres) failure(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "53100": // disk_full
			return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
		case "25006": // read_only_sql_transaction
			return fmt.Errorf("%w: %w", err, fs.ErrPermission)
		}
		return err
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("the database server does not answer: %w", err)
	}
	return err
}
