// Package store keeps what a PKI has done, in one SQLite file or in a PostgreSQL
// database: certificates and the intents before them, revocations, signed objects,
// small settings, and the ledger, an append-only Merkle tree (RFC 6962) over all of
// it. What is recorded and its
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
	"time"
)

// DB is an open store. Any number of goroutines and processes may use one store at
// once. One of them writes at a time: the others wait for it, with SQLite up to
// half a minute, or until their context ends.
type DB struct {
	// Now is the clock for what is recorded. If it is nil, that is the clock of
	// the machine that keeps the store; set another before the first use. It is
	// called by one goroutine at a time.
	Now func() time.Time

	name    string // for people: a path, or a URL
	sql     *sql.DB
	backend backend
	known   known
	group   group
}

// backend is what SQLite and PostgreSQL do in ways of their own. All else is the
// same SQL for both.
type backend interface {
	// begin begins a transaction that excludes other writers, and waits for its
	// turn as long as ctx lasts; when ctx ends later, the transaction does too. It
	// returns the time of the machine that keeps the store.
	begin(ctx context.Context, pool *sql.DB) (*sql.Tx, time.Time, error)
	// reading is how a transaction begins that sees one state of the store.
	reading() *sql.TxOptions
	// insert puts certificates in.
	insert(ctx context.Context, tx *writing, rows []row) error
	// verify checks what lies below the rows: the file, and the schema.
	verify(ctx context.Context, tx *sql.Tx) error
	// bulk runs do, which is going to write a lot: see DB.Bulk.
	bulk(ctx context.Context, pool *sql.DB, do func() error) error
	// lock is DB.Lock.
	lock(ctx context.Context, pool *sql.DB, waiting func()) (unlock func() error, err error)
	// failure gives an error of the driver the form that callers test for.
	failure(err error) error
	// close closes the pool.
	close(pool *sql.DB) error
}

// ErrNotFound is what a look-up returns, wrapped, if the store has no such row.
var ErrNotFound = errors.New("not in the store")

// Close closes the store. Of a SQLite store, its directory then holds nothing but
// the one file, unless another process has it open.
func (db *DB) Close() error {
	if err := db.backend.close(db.sql); err != nil {
		return fmt.Errorf("closing the store %q: %w", db.name, err)
	}
	return nil
}

// read runs do on one state of the store. With SQLite, writers wait meanwhile.
func (db *DB) read(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, db.backend.reading())
	if err != nil {
		return db.backend.failure(err)
	}
	defer tx.Rollback()
	return db.backend.failure(do(tx))
}

// Bulk runs do, which is going to write a lot: many batches of certificates, say.
// Nothing that do writes is less durable for it, or less there for others. But a
// SQLite store appends to a log meanwhile, and brings its pages into the file from
// time to time, which takes one sync for a transaction and not four; and it keeps
// more of the file in memory.
//
// At rest the store is one file, which can be read where nothing can be written:
// so the log goes away at the end of do, or as soon as no other process uses the
// store. What a killed process leaves of it, the next Open takes in.
func (db *DB) Bulk(ctx context.Context, do func() error) error {
	return db.backend.bulk(ctx, db.sql, do)
}

// Lock makes this process the only one, of those that ask for it, that changes the
// PKI of a store which several machines share. It waits for its turn as long as ctx
// lasts; waiting is called first if it has to, and may be nil. A store in a file
// needs none: whoever has the directory has the store. The lock is lost if the
// server goes away.
func (db *DB) Lock(ctx context.Context, waiting func()) (unlock func() error, err error) {
	unlock, err = db.backend.lock(ctx, db.sql, waiting)
	if err != nil {
		return nil, fmt.Errorf("locking the store %q: %w", db.name, err)
	}
	return unlock, nil
}
