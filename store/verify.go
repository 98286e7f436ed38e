package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Verify recomputes all that can be recomputed and returns the first thing that is
// wrong, with its row or serial:
//
//   - the file is sound and has our schema, triggers included;
//   - the ledger has no gaps, each entry is in canonical form, and the tree has
//     exactly the hashes that the entries give;
//   - each certificate, revocation, CRL, object and setting has exactly one entry
//     that tells of it, and each such entry has its row;
//   - a certificate's state is what its newest revocation says.
//
// The ledger does not cover the other columns of a certificate (key URI, key
// identifiers, validity), which package ca can compare with the DER, nor intents.
//
// It looks at what the ledger has when it begins, in bounded memory and page by
// page, so that writers wait no longer than a page takes.
func (db *DB) Verify(ctx context.Context) error {
	if err := db.verify(ctx); err != nil {
		return fmt.Errorf("verifying the store %q: %w", db.name, err)
	}
	return nil
}

func (db *DB) verify(ctx context.Context) error {
	var size int64
	err := db.read(ctx, func(tx *sql.Tx) (err error) {
		if err := db.backend.verify(ctx, tx); err != nil {
			return err
		}
		size, err = ledgerSize(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	v := verifier{size: size, settings: map[string]Entry{}}
	for v.tree.size < size {
		if err := db.read(ctx, func(tx *sql.Tx) error { return v.page(ctx, tx) }); err != nil {
			return err
		}
	}
	return db.read(ctx, func(tx *sql.Tx) error { return v.rest(ctx, tx) })
}

// verifyRows is how many rows of the ledger a page of Verify has: up to 4096
// entries.
const verifyRows = 16

// verifier walks along the ledger.
type verifier struct {
	size     int64 // of the ledger, when it began
	tree     tree  // of the entries so far
	settings map[string]Entry
	counts   [4]int64 // entries that have a row, by table: see ledgerTables
}

// ledgerTables are the tables whose rows have one ledger entry each.
func ledgerTables() []string { return []string{"certificate", "revocation", "crl", "object"} }

// page checks the next rows of the ledger, and the rows of other tables that their
// entries tell of.
func (v *verifier) page(ctx context.Context, tx *sql.Tx) error {
	first := v.tree.size
	entries, err := v.ledger(ctx, tx)
	if err != nil {
		return err
	}
	last := v.tree.size - 1
	certificates, err := certificateRows(ctx, tx, first, last)
	if err != nil {
		return err
	}
	revocations, err := revocationRows(ctx, tx, first, last)
	if err != nil {
		return err
	}
	crls, err := crlRows(ctx, tx, first, last)
	if err != nil {
		return err
	}
	objects, err := objectRows(ctx, tx, first, last)
	if err != nil {
		return err
	}
	for _, e := range entries {
		certificate, isCertificate := certificates[e.Seq]
		revocation, isRevocation := revocations[e.Seq]
		crl, isCRL := crls[e.Seq]
		object, isObject := objects[e.Seq]
		switch {
		case isCertificate && e.Kind != KindIssue && e.Kind != KindImport:
			return fmt.Errorf("certificate %x names ledger entry %d, which is no issuance", certificate.serial, e.Seq)
		case isRevocation && e.Kind != KindRevoke:
			return fmt.Errorf("revocation of %x names ledger entry %d, which records no revocation", revocation.Serial, e.Seq)
		case isCRL && e.Kind != KindCRL:
			return fmt.Errorf("CRL of %q names ledger entry %d, which records no CRL", crl.Issuer, e.Seq)
		case isObject && e.Kind != KindObject:
			return fmt.Errorf("object %q names ledger entry %d, which records no object", object.name, e.Seq)
		}
		err = nil
		switch e.Kind {
		case KindIssue, KindImport:
			v.counts[0]++
			err = certificate.verify(e)
		case KindRevoke:
			v.counts[1]++
			err = revocation.verify(e)
		case KindCRL:
			v.counts[2]++
			err = verifyCRL(crl, isCRL, e)
		case KindObject:
			v.counts[3]++
			err = object.verify(e)
		case KindSetting:
			if digest([]byte(e.Detail["value"])) != e.SHA256 {
				err = fmt.Errorf("digest is not that of the value of setting %q", e.Name)
			}
			v.settings[e.Name] = e
		default:
			// A signature or an event, which has no row. ParseEntry knows the kind.
		}
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", e.Seq, err)
		}
	}
	return nil
}

// ledger reads the next rows of the ledger, grows the tree by their entries and
// compares its hashes with the stored ones.
func (v *verifier) ledger(ctx context.Context, tx *sql.Tx) ([]Entry, error) {
	rows, err := tx.QueryContext(ctx, "SELECT seq, count, tree, entries FROM ledger WHERE seq >= $1 ORDER BY seq LIMIT $2", v.tree.size, verifyRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var entries []Entry
	for v.tree.size < v.size && rows.Next() {
		var seq int64
		var count int
		var stored, bundle []byte
		if err := rows.Scan(&seq, &count, &stored, &bundle); err != nil {
			return nil, err
		}
		if seq != v.tree.size {
			return nil, fmt.Errorf("ledger entry %d is missing: the next is %d", v.tree.size, seq)
		}
		list, err := splitBundle(bundle, count)
		if err != nil {
			return nil, fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		for _, data := range list {
			seq := v.tree.size
			if err := v.tree.add(data); err != nil {
				return nil, fmt.Errorf("ledger entry %d: %w", seq, err)
			}
			hashes := v.tree.take()
			if len(stored) < len(hashes) {
				return nil, fmt.Errorf("ledger entry %d: its part of the tree is cut short", seq)
			}
			for level := 0; level*tlog.HashSize < len(hashes); level++ {
				at := level * tlog.HashSize
				if bytes.Equal(hashes[at:at+tlog.HashSize], stored[at:at+tlog.HashSize]) {
					continue
				}
				if level == 0 {
					return nil, fmt.Errorf("ledger entry %d does not have the hash stored for it", seq)
				}
				return nil, fmt.Errorf("the tree does not have the hash of the entries up to %d at level %d", seq, level)
			}
			stored = stored[len(hashes):]
			entry, err := ParseEntry(data)
			if err != nil {
				return nil, fmt.Errorf("ledger entry %d: %w", seq, err)
			}
			if entry.Seq != seq {
				return nil, fmt.Errorf("ledger entry %d says that it is entry %d", seq, entry.Seq)
			}
			entries = append(entries, entry)
		}
		if len(stored) > 0 {
			return nil, fmt.Errorf("ledger entry %d: the tree has more hashes than the entries give", seq)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("ledger entry %d is missing", v.tree.size)
	}
	return entries, nil
}

// rest checks that no row names an entry that is not there, and the settings.
// Rows that came after the walk began are not looked at.
func (v *verifier) rest(ctx context.Context, tx *sql.Tx) error {
	size, err := ledgerSize(ctx, tx)
	if err != nil {
		return err
	}
	for i, table := range ledgerTables() {
		var entry int64
		err := tx.QueryRowContext(ctx, "SELECT entry FROM "+table+" WHERE entry < 0 OR entry >= $1 ORDER BY entry LIMIT 1", size).Scan(&entry)
		if err == nil {
			return fmt.Errorf("a row of %s names ledger entry %d, which is not there", table, entry)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var n int64
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+table+" WHERE entry < $1", v.size).Scan(&n); err != nil {
			return err
		}
		if n != v.counts[i] {
			return fmt.Errorf("table %s has %d rows, the ledger tells of %d", table, n, v.counts[i])
		}
	}
	return v.verifySettings(ctx, tx)
}

// verifySettings compares the settings with the last entry for each.
func (v *verifier) verifySettings(ctx context.Context, tx *sql.Tx) error {
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
		if seq >= v.size {
			delete(v.settings, key) // set meanwhile
			continue
		}
		entry, found := v.settings[key]
		if !found {
			return fmt.Errorf("setting %q has no ledger entry", key)
		}
		if entry.Seq != seq || entry.Detail["value"] != value {
			return fmt.Errorf("setting %q is %q by ledger entry %d, the ledger says %q by entry %d", key, value, seq, entry.Detail["value"], entry.Seq)
		}
		delete(v.settings, key)
	}
	if err := settings.Err(); err != nil {
		return err
	}
	for key := range v.settings {
		return fmt.Errorf("setting %q has no row", key)
	}
	return nil
}
