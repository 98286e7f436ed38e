package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Verify recomputes all that can be recomputed, on one state of the store, and
// returns the first thing that is wrong, with its row or serial:
//
//   - the file is sound and has our schema, triggers included;
//   - the ledger has no gaps, each entry is in canonical form, and the tree has
//     exactly the hashes that the entries give;
//   - each issued certificate, each object and each setting has exactly one
//     entry that tells its name and digest, and each such entry has its row.
//
// The ledger does not cover the other columns of a certificate (key URI, key
// identifier, validity, the hash of the TBSCertificate), which package ca can
// compare with the DER, nor intents.
//
// It reads the whole file, and writers wait meanwhile, up to their timeout.
func (db *DB) Verify(ctx context.Context) error {
	err := db.read(ctx, func(tx *sql.Tx) error {
		for _, check := range []func(context.Context, *sql.Tx) error{
			verifyFile, verifySchema, verifyTree, verifyEntries, verifyRows, verifySettings,
		} {
			if err := check(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("verifying the store %q: %w", db.path, err)
	}
	return nil
}

// verifyFile lets SQLite check its pages, indexes and constraints.
func verifyFile(ctx context.Context, tx *sql.Tx) error {
	var result string
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

// verifyTree recomputes the ledger's tree from the entries' octets, in one pass
// over both tables.
func verifyTree(ctx context.Context, tx *sql.Tx) error {
	entries, err := tx.QueryContext(ctx, "SELECT seq, entry FROM ledger ORDER BY seq")
	if err != nil {
		return err
	}
	defer entries.Close()
	stored, err := tx.QueryContext(ctx, "SELECT id, hash FROM node ORDER BY id")
	if err != nil {
		return err
	}
	defer stored.Close()

	// The complete subtrees on the left edge that wait for their right sibling,
	// by node id: at most one a level. Each is read once, when that comes.
	waiting := map[int64]tlog.Hash{}
	take := tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			hashes[i] = waiting[id]
			delete(waiting, id)
		}
		return hashes, nil
	})
	for want := int64(0); entries.Next(); want++ {
		var seq int64
		var data []byte
		if err := entries.Scan(&seq, &data); err != nil {
			return err
		}
		if seq != want {
			return fmt.Errorf("ledger entry %d is missing: the next is %d", want, seq)
		}
		hashes, err := tlog.StoredHashes(seq, data, take)
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		first := tlog.StoredHashIndex(0, seq)
		for level, hash := range hashes {
			if err := verifyNode(stored, first+int64(level), hash, level, seq); err != nil {
				return err
			}
		}
		// The last is the root of the subtree that this entry completes.
		top := len(hashes) - 1
		waiting[first+int64(top)] = hashes[top]
	}
	if err := entries.Err(); err != nil {
		return err
	}
	if stored.Next() {
		return errors.New("the ledger's tree has more nodes than its entries give: entries were cut off")
	}
	return stored.Err()
}

// verifyNode compares the next stored node with what it must be: the hash at
// level above entry seq.
func verifyNode(stored *sql.Rows, id int64, hash tlog.Hash, level int, seq int64) error {
	if !stored.Next() {
		if err := stored.Err(); err != nil {
			return err
		}
		return fmt.Errorf("tree node %d is missing, and all after it", id)
	}
	var storedID int64
	var storedHash []byte
	if err := stored.Scan(&storedID, &storedHash); err != nil {
		return err
	}
	switch {
	case storedID != id:
		return fmt.Errorf("tree node %d is missing: the next is %d", id, storedID)
	case bytes.Equal(storedHash, hash[:]):
		return nil
	case level == 0:
		return fmt.Errorf("ledger entry %d does not have the hash stored for it (tree node %d)", seq, id)
	default:
		return fmt.Errorf("tree node %d does not have the hash of the entries below it, up to entry %d (level %d)", id, seq, level)
	}
}

// verifyEntries parses each entry and compares it with the row it records.
func verifyEntries(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT l.seq, l.entry,
		c.serial, c.name, c.profile, c.issuer, c.actor, c.issued, c.state, c.der,
		o.name, o.kind, o.content
		FROM ledger l LEFT JOIN certificate c ON c.entry = l.seq LEFT JOIN object o ON o.entry = l.seq
		ORDER BY l.seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var data []byte
		var c certificateRow
		var o objectRow
		err := rows.Scan(&seq, &data,
			&c.serial, &c.name, &c.profile, &c.issuer, &c.actor, &c.issued, &c.state, &c.der,
			&o.name, &o.kind, &o.content)
		if err != nil {
			return err
		}
		entry, err := ParseEntry(data)
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		if entry.Seq != seq {
			return fmt.Errorf("ledger entry %d says that it is entry %d", seq, entry.Seq)
		}
		if c.name.Valid && entry.Kind != KindIssue {
			return fmt.Errorf("certificate %x names ledger entry %d, which is no issuance", c.serial, seq)
		}
		if o.name.Valid && entry.Kind != KindObject {
			return fmt.Errorf("object %q names ledger entry %d, which records no object", o.name.String, seq)
		}
		switch entry.Kind {
		case KindIssue:
			err = c.verify(entry)
		case KindObject:
			err = o.verify(entry)
		case KindSetting, KindSign:
			// See verifySettings; a signature has no row.
		default:
			err = fmt.Errorf("unknown kind %q", entry.Kind)
		}
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", seq, err)
		}
	}
	return rows.Err()
}

// certificateRow is a certificate beside its entry; all NULL if there is none.
type certificateRow struct {
	serial, der                  []byte
	name, profile, issuer, actor sql.NullString
	issued, state                sql.NullInt64
}

func (c certificateRow) verify(e Entry) error {
	if !c.name.Valid {
		return fmt.Errorf("certificate %s has no row", e.Serial)
	}
	for _, field := range [][3]string{
		{"serial", hex.EncodeToString(c.serial), e.Serial},
		{"DER digest", digest(c.der), e.SHA256},
		{"name", c.name.String, e.Name},
		{"profile", c.profile.String, e.Profile},
		{"issuer", c.issuer.String, e.Issuer},
		{"actor", c.actor.String, e.Actor},
	} {
		if field[1] != field[2] {
			return fmt.Errorf("certificate %x has the %s %q, the ledger says %q", c.serial, field[0], field[1], field[2])
		}
	}
	if c.issued.Int64 != e.Time.Unix() {
		return fmt.Errorf("certificate %x was issued %v, the ledger says %v", c.serial, utc(c.issued.Int64), e.Time)
	}
	if State(c.state.Int64) != Issued {
		return fmt.Errorf("certificate %x has state %v", c.serial, State(c.state.Int64))
	}
	return nil
}

// objectRow is an object beside its entry; all NULL if there is none.
type objectRow struct {
	name, kind sql.NullString
	content    []byte
}

func (o objectRow) verify(e Entry) error {
	if !o.name.Valid {
		return fmt.Errorf("object %q has no row", e.Name)
	}
	for _, field := range [][3]string{
		{"content digest", digest(o.content), e.SHA256},
		{"name", o.name.String, e.Name},
		{"kind", o.kind.String, e.Detail["kind"]},
	} {
		if field[1] != field[2] {
			return fmt.Errorf("object %q has the %s %q, the ledger says %q", o.name.String, field[0], field[1], field[2])
		}
	}
	return nil
}

// verifyRows finds certificates and objects whose entry the ledger lacks.
func verifyRows(ctx context.Context, tx *sql.Tx) error {
	var serial []byte
	var name string
	var seq int64
	err := tx.QueryRowContext(ctx, `SELECT serial, name, entry FROM certificate
		WHERE entry IS NOT NULL AND entry NOT IN (SELECT seq FROM ledger) LIMIT 1`).Scan(&serial, &name, &seq)
	if err == nil {
		return fmt.Errorf("certificate %x (%q) names ledger entry %d, which is not there", serial, name, seq)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	err = tx.QueryRowContext(ctx, `SELECT name, entry FROM object
		WHERE entry NOT IN (SELECT seq FROM ledger) LIMIT 1`).Scan(&name, &seq)
	if err == nil {
		return fmt.Errorf("object %q names ledger entry %d, which is not there", name, seq)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return nil
}

// verifySettings compares the settings with the last entry for each.
func verifySettings(ctx context.Context, tx *sql.Tx) error {
	// 1. What the ledger says. verifyEntries has seen that each entry has the
	// canonical form, so no setting escapes the filter.
	want := map[string]Entry{}
	rows, err := tx.QueryContext(ctx, "SELECT entry FROM ledger WHERE instr(entry, CAST(? AS BLOB)) ORDER BY seq", `"kind":"setting"`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return err
		}
		entry, err := ParseEntry(data)
		if err != nil {
			return err
		}
		if entry.Kind != KindSetting {
			continue
		}
		if digest([]byte(entry.Detail["value"])) != entry.SHA256 {
			return fmt.Errorf("ledger entry %d: digest is not that of the value of setting %q", entry.Seq, entry.Name)
		}
		want[entry.Name] = entry
	}
	if err := rows.Err(); err != nil {
		return err
	}

	// 2. What the table says.
	settings, err := tx.QueryContext(ctx, "SELECT key, value, entry FROM setting")
	if err != nil {
		return err
	}
	defer settings.Close()
	for settings.Next() {
		var key, value string
		var seq int64
		if err := settings.Scan(&key, &value, &seq); err != nil {
			return err
		}
		entry, found := want[key]
		if !found {
			return fmt.Errorf("setting %q has no ledger entry", key)
		}
		if entry.Seq != seq || entry.Detail["value"] != value {
			return fmt.Errorf("setting %q is %q by ledger entry %d, the ledger says %q by entry %d", key, value, seq, entry.Detail["value"], entry.Seq)
		}
		delete(want, key)
	}
	if err := settings.Err(); err != nil {
		return err
	}
	for key := range want {
		return fmt.Errorf("setting %q has no row", key)
	}
	return nil
}
