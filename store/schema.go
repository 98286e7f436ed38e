package store

import (
	"fmt"
	"strings"
)

const (
	// applicationID marks our files for file(1) and for us: "tmpk".
	applicationID = 0x746d706b
	// schemaVersion grows with each change to schema.
	schemaVersion = 2
)

// schema holds the statements that make a store, in SQLite's own spelling, so
// that Verify can compare them with what the file holds.
//
// Times are Unix seconds. An entry column is the ledger's seq. The triggers
// are a belt: who can write the file can drop them, and then Verify finds it.
//
// A certificate's row is made to be small, and cheap to put in. What many rows
// have in common stands once, in class and actor. Of the indexes two grow at
// random places, name and key; the others grow at their end, if serials begin
// with a time, which those of package ca do.
func schema() []string {
	return []string{
		// Who signs what: issuer_key is the authority key identifier, empty if
		// it is not known.
		`CREATE TABLE class (
	id         INTEGER PRIMARY KEY,
	profile    TEXT NOT NULL,
	issuer     TEXT NOT NULL,
	issuer_key BLOB NOT NULL,
	UNIQUE (profile, issuer, issuer_key)
) STRICT`,
		`CREATE TRIGGER class_delete BEFORE DELETE ON class BEGIN SELECT RAISE(ABORT, 'classes are never deleted'); END`,
		`CREATE TRIGGER class_update BEFORE UPDATE ON class BEGIN SELECT RAISE(ABORT, 'classes never change'); END`,

		`CREATE TABLE actor (
	id   INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
) STRICT`,
		`CREATE TRIGGER actor_delete BEFORE DELETE ON actor BEGIN SELECT RAISE(ABORT, 'actors are never deleted'); END`,
		`CREATE TRIGGER actor_update BEFORE UPDATE ON actor BEGIN SELECT RAISE(ABORT, 'actors never change'); END`,

		// A batch of intents: see intent.go. The row goes when each of its members
		// has its certificate or is revoked.
		`CREATE TABLE intent (
	id      INTEGER PRIMARY KEY,
	time    INTEGER NOT NULL,
	open    INTEGER NOT NULL,
	members BLOB NOT NULL
) STRICT`,
		`CREATE TRIGGER intent_delete BEFORE DELETE ON intent WHEN OLD.open <> 0 BEGIN SELECT RAISE(ABORT, 'open intents are never deleted'); END`,
		`CREATE TRIGGER intent_update BEFORE UPDATE OF id, time, members ON intent BEGIN SELECT RAISE(ABORT, 'intents never change'); END`,

		// State is 1 (issued), 2 (revoked) or 3 (held), as the newest revocation
		// says. Key is the first 8 octets of the subject key identifier.
		`CREATE TABLE certificate (
	entry          INTEGER PRIMARY KEY,
	serial         BLOB NOT NULL,
	class          INTEGER NOT NULL,
	state          INTEGER NOT NULL,
	name           TEXT NOT NULL,
	actor          INTEGER NOT NULL,
	issued         INTEGER NOT NULL,
	not_before     INTEGER NOT NULL,
	not_after      INTEGER NOT NULL,
	key            INTEGER,
	subject_key_id BLOB,
	key_uri        TEXT NOT NULL,
	der            BLOB NOT NULL,
	UNIQUE (serial, class)
) STRICT`,
		`CREATE INDEX certificate_name ON certificate (name)`,
		`CREATE INDEX certificate_key ON certificate (key) WHERE key IS NOT NULL`,
		`CREATE INDEX certificate_class ON certificate (class, state)`,
		`CREATE INDEX certificate_not_after ON certificate (class, not_after)`,
		`CREATE TRIGGER certificate_delete BEFORE DELETE ON certificate BEGIN SELECT RAISE(ABORT, 'certificates are never deleted'); END`,
		`CREATE TRIGGER certificate_update BEFORE UPDATE OF entry, serial, class, name, actor, issued, not_before, not_after, key, subject_key_id, key_uri, der ON certificate BEGIN SELECT RAISE(ABORT, 'certificates never change'); END`,

		// All that was ever said of a serial; what counts is the row that no newer
		// one supersedes. Certificate is NULL if the serial was only intended.
		`CREATE TABLE revocation (
	entry       INTEGER PRIMARY KEY,
	serial      BLOB NOT NULL,
	class       INTEGER NOT NULL,
	certificate INTEGER,
	tbs_sha256  BLOB,
	name        TEXT NOT NULL,
	not_after   INTEGER NOT NULL,
	reason      INTEGER NOT NULL,
	time        INTEGER NOT NULL,
	invalidity  INTEGER,
	actor       INTEGER NOT NULL,
	superseded  INTEGER,
	CHECK ((certificate IS NULL) = (tbs_sha256 IS NOT NULL))
) STRICT`,
		`CREATE UNIQUE INDEX revocation_serial ON revocation (serial, class) WHERE superseded IS NULL`,
		`CREATE INDEX revocation_class ON revocation (class, entry) WHERE superseded IS NULL`,
		`CREATE TRIGGER revocation_delete BEFORE DELETE ON revocation BEGIN SELECT RAISE(ABORT, 'revocations are never deleted'); END`,
		`CREATE TRIGGER revocation_update BEFORE UPDATE ON revocation WHEN OLD.superseded IS NOT NULL BEGIN SELECT RAISE(ABORT, 'revocations never change'); END`,
		`CREATE TRIGGER revocation_change BEFORE UPDATE OF entry, serial, class, certificate, tbs_sha256, name, not_after, reason, time, invalidity, actor ON revocation BEGIN SELECT RAISE(ABORT, 'revocations never change'); END`,

		`CREATE TABLE crl (
	entry       INTEGER PRIMARY KEY,
	issuer      TEXT NOT NULL,
	issuer_key  BLOB NOT NULL,
	part        INTEGER NOT NULL,
	delta       INTEGER NOT NULL,
	number      INTEGER NOT NULL,
	base        INTEGER NOT NULL,
	covers      INTEGER NOT NULL,
	this_update INTEGER NOT NULL,
	next_update INTEGER NOT NULL,
	sha256      BLOB NOT NULL,
	size        INTEGER NOT NULL,
	entries     INTEGER NOT NULL
) STRICT`,
		`CREATE INDEX crl_latest ON crl (issuer, issuer_key, part, delta)`,
		`CREATE TRIGGER crl_delete BEFORE DELETE ON crl BEGIN SELECT RAISE(ABORT, 'CRLs are never deleted'); END`,
		`CREATE TRIGGER crl_update BEFORE UPDATE ON crl BEGIN SELECT RAISE(ABORT, 'CRLs never change'); END`,

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

		// A run of entries that were written together, and their part of the tree:
		// see ledger.go.
		`CREATE TABLE ledger (
	seq     INTEGER PRIMARY KEY,
	count   INTEGER NOT NULL,
	tree    BLOB NOT NULL,
	entries BLOB NOT NULL
) STRICT`,
		`CREATE TRIGGER ledger_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,
		`CREATE TRIGGER ledger_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END`,
	}
}

// schemaScript makes an empty store of an empty database.
func schemaScript() string {
	return fmt.Sprintf("BEGIN;\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\n%s;\nCOMMIT;",
		applicationID, schemaVersion, strings.Join(schema(), ";\n"))
}
