package store

import (
	"fmt"
	"strings"
)

const (
	// applicationID marks our files for file(1) and for us: "tmpk".
	applicationID = 0x746d706b
	// schemaVersion grows with each change to schema.
	schemaVersion = 1
)

// schema holds the statements that make a store, in SQLite's own spelling, so
// that Verify can compare them with what the file holds.
//
// Times are Unix seconds. An entry column is the ledger's seq. The triggers
// are a belt: who can write the file can drop them, and then Verify finds it.
func schema() []string {
	return []string{
		// A row is an intent (state 0) until it gets its certificate.
		`CREATE TABLE certificate (
	id             INTEGER PRIMARY KEY,
	serial         BLOB NOT NULL UNIQUE,
	name           TEXT NOT NULL,
	profile        TEXT NOT NULL,
	issuer         TEXT NOT NULL,
	actor          TEXT NOT NULL,
	key_uri        TEXT NOT NULL,
	subject_key_id BLOB,
	not_before     INTEGER NOT NULL,
	not_after      INTEGER NOT NULL,
	tbs_sha256     BLOB NOT NULL,
	intended       INTEGER NOT NULL,
	state          INTEGER NOT NULL,
	issued         INTEGER,
	entry          INTEGER UNIQUE,
	der            BLOB,
	CHECK ((state = 0) = (issued IS NULL) AND (state = 0) = (entry IS NULL) AND (state = 0) = (der IS NULL))
) STRICT`,
		`CREATE INDEX certificate_name ON certificate (name, entry) WHERE entry IS NOT NULL`,
		`CREATE INDEX certificate_pending ON certificate (id) WHERE state = 0`,
		`CREATE INDEX certificate_not_after ON certificate (not_after)`,
		// A serial once intended stays taken, so no row ever goes.
		`CREATE TRIGGER certificate_delete BEFORE DELETE ON certificate BEGIN SELECT RAISE(ABORT, 'certificates are never deleted'); END`,
		`CREATE TRIGGER certificate_update BEFORE UPDATE ON certificate WHEN OLD.state <> 0 BEGIN SELECT RAISE(ABORT, 'issued certificates never change'); END`,
		`CREATE TRIGGER certificate_intent BEFORE UPDATE OF id, serial, name, profile, issuer, actor, key_uri, subject_key_id, not_before, not_after, tbs_sha256, intended ON certificate BEGIN SELECT RAISE(ABORT, 'intents never change'); END`,

		`CREATE TABLE object (
	entry   INTEGER PRIMARY KEY,
	name    TEXT NOT NULL,
	kind    TEXT NOT NULL,
	content BLOB NOT NULL
) STRICT`,
		`CREATE INDEX object_name ON object (name, entry)`,
		`CREATE TRIGGER object_delete BEFORE DELETE ON object BEGIN SELECT RAISE(ABORT, 'objects are never deleted'); END`,
		`CREATE TRIGGER object_update BEFORE UPDATE ON object BEGIN SELECT RAISE(ABORT, 'objects never change'); END`,

		`CREATE TABLE setting (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL,
	entry INTEGER NOT NULL
) STRICT, WITHOUT ROWID`,

		`CREATE TABLE ledger (
	seq   INTEGER PRIMARY KEY,
	entry BLOB NOT NULL
) STRICT`,
		`CREATE TRIGGER ledger_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,
		`CREATE TRIGGER ledger_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,

		// The ledger's tree, numbered as tlog.StoredHashIndex does.
		`CREATE TABLE node (
	id   INTEGER PRIMARY KEY,
	hash BLOB NOT NULL
) STRICT`,
		`CREATE TRIGGER node_delete BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,
		`CREATE TRIGGER node_update BEFORE UPDATE ON node BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,
	}
}

// schemaScript makes an empty store of an empty database.
func schemaScript() string {
	return fmt.Sprintf("BEGIN;\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\n%s;\nCOMMIT;",
		applicationID, schemaVersion, strings.Join(schema(), ";\n"))
}
