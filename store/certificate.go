package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// maxDER limits a certificate, in octets.
	maxDER = 64 << 10
	// maxText limits a name, in octets; maxURI a key URI.
	maxText, maxURI = 256, 2048
	// page is how many certificates Certificates reads at once.
	page = 256
)

// State says how far a certificate has come. Its values are in the file.
type State int

const (
	// Intended: about to be signed, or signed by a process that died then.
	Intended State = 0
	// Issued: the store has the certificate.
	Issued State = 1
)

// String returns "intended" or "issued".
func (s State) String() string {
	switch s {
	case Intended:
		return "intended"
	case Issued:
		return "issued"
	default:
		return fmt.Sprintf("unknown state %d", int(s))
	}
}

// Record is what the store knows of a certificate. The caller fills the first
// group for Intend; the store keeps times to the second and fills the rest.
type Record struct {
	Serial       []byte    // magnitude, big-endian, 1 to 20 octets in DER
	Name         string    // what the certificate is called in the PKI
	Profile      string    // of what purpose it is
	Issuer       string    // name of the authority that signs; of a root, its own
	Actor        string    // who asked for it
	KeyURI       string    // where the private key lives, without a PIN; "" if not here
	SubjectKeyID []byte    // as in the certificate; nil if it has none
	NotBefore    time.Time // start of validity
	NotAfter     time.Time // end of validity
	TBSHash      [32]byte  // SHA-256 of the TBSCertificate that is to be signed

	State    State
	Intended time.Time // when Intend was called
	Issued   time.Time // when Complete was called; zero before
	Entry    int64     // seq of the ledger entry; -1 before Complete
	DER      []byte    // the certificate; nil before Complete
}

// DuplicateSerialError says that the store has that serial already, as a
// certificate or as an intent. Draw another.
type DuplicateSerialError struct {
	Serial []byte
}

func (e *DuplicateSerialError) Error() string {
	return fmt.Sprintf("serial %x is taken", e.Serial)
}

// ErrIssued is what Complete returns, wrapped, for a certificate that the
// store has already.
var ErrIssued = errors.New("already issued")

// Intend records that certificates are about to be signed, all of recs or
// none. Only when it has returned nil may the caller sign: so that no crash
// leaves a certificate that the store does not know. If the store has one of
// the serials, the error is a *DuplicateSerialError. Intents have no ledger
// entry; Complete makes it.
func (db *DB) Intend(ctx context.Context, recs ...Record) error {
	for _, r := range recs {
		if err := r.check(); err != nil {
			return fmt.Errorf("recording the intent for %q: %w", r.Name, err)
		}
	}
	err := db.write(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO certificate (serial, name, profile, issuer, actor,
			key_uri, subject_key_id, not_before, not_after, tbs_sha256, intended, state)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		now := db.Now().Unix()
		for _, r := range recs {
			_, err := insert.ExecContext(ctx, r.Serial, r.Name, r.Profile, r.Issuer, r.Actor,
				r.KeyURI, r.SubjectKeyID, r.NotBefore.Unix(), r.NotAfter.Unix(), r.TBSHash[:], now, Intended)
			if sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
				return &DuplicateSerialError{Serial: r.Serial}
			}
			if err != nil {
				return fmt.Errorf("%q: %w", r.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording intents: %w", err)
	}
	return nil
}

// Completed is a certificate that was intended and is now signed.
type Completed struct {
	Serial []byte
	DER    []byte // the certificate, at most 64 KiB
}

// Complete records signed certificates and their ledger entries, all of done or
// none. It refuses a serial that was not intended (ErrNotFound) and one that is
// complete (ErrIssued). The caller publishes a certificate only after that.
func (db *DB) Complete(ctx context.Context, done ...Completed) error {
	for _, c := range done {
		if len(c.DER) == 0 || len(c.DER) > maxDER {
			return fmt.Errorf("recording certificate %x: DER of %d octets, want 1 to %d", c.Serial, len(c.DER), maxDER)
		}
	}
	err := db.write(ctx, func(tx *sql.Tx) error {
		// 1. Look up what was intended.
		intent, err := tx.PrepareContext(ctx, "SELECT name, profile, issuer, actor, state FROM certificate WHERE serial = ?")
		if err != nil {
			return err
		}
		defer intent.Close()
		now := db.Now()
		entries := make([]Entry, len(done))
		for i, c := range done {
			e := Entry{Kind: KindIssue, Serial: hex.EncodeToString(c.Serial), SHA256: digest(c.DER)}
			var state State
			err := intent.QueryRowContext(ctx, c.Serial).Scan(&e.Name, &e.Profile, &e.Issuer, &e.Actor, &state)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return fmt.Errorf("intent for serial %x: %w", c.Serial, ErrNotFound)
			case err != nil:
				return fmt.Errorf("intent for serial %x: %w", c.Serial, err)
			case state != Intended:
				return fmt.Errorf("serial %x: %w", c.Serial, ErrIssued)
			}
			entries[i] = e
		}
		// 2. Append to the ledger.
		first, err := appendEntries(ctx, tx, now, entries...)
		if err != nil {
			return err
		}
		// 3. Complete the rows.
		update, err := tx.PrepareContext(ctx, "UPDATE certificate SET state = ?, issued = ?, entry = ?, der = ? WHERE serial = ? AND state = ?")
		if err != nil {
			return err
		}
		defer update.Close()
		for i, c := range done {
			result, err := update.ExecContext(ctx, Issued, now.Unix(), first+int64(i), c.DER, c.Serial, Intended)
			if err != nil {
				return fmt.Errorf("serial %x: %w", c.Serial, err)
			}
			if n, err := result.RowsAffected(); err != nil || n != 1 {
				// Twice in done.
				return errors.Join(fmt.Errorf("serial %x: %w", c.Serial, ErrIssued), err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording certificates: %w", err)
	}
	return nil
}

// Certificates yields the issued certificates in the order of their issuance,
// or an error and then no more. It reads in pages, so that the loop may use the
// store; certificates issued meanwhile come last.
func (db *DB) Certificates(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		next := int64(0)
		for {
			records, err := db.records(ctx, "WHERE entry >= ? ORDER BY entry LIMIT ?", next, page)
			if err != nil {
				yield(Record{}, fmt.Errorf("listing certificates: %w", err))
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			if len(records) < page {
				return
			}
			next = records[page-1].Entry + 1
		}
	}
}

// Latest returns the certificate that was issued last under name, or an error
// that is ErrNotFound.
func (db *DB) Latest(ctx context.Context, name string) (Record, error) {
	return db.record(ctx, fmt.Sprintf("certificate %q", name),
		"WHERE name = ? AND entry IS NOT NULL ORDER BY entry DESC LIMIT 1", name)
}

// BySerial returns the certificate or intent with the serial, or an error that
// is ErrNotFound.
func (db *DB) BySerial(ctx context.Context, serial []byte) (Record, error) {
	return db.record(ctx, fmt.Sprintf("certificate with serial %x", serial), "WHERE serial = ?", serial)
}

// Pending returns the intents without a certificate, oldest first: those being
// signed now, and those of processes that died over it.
func (db *DB) Pending(ctx context.Context) ([]Record, error) {
	records, err := db.records(ctx, "WHERE state = 0 ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("listing intents: %w", err)
	}
	return records, nil
}

// record returns the one row that where selects; what says what that is.
func (db *DB) record(ctx context.Context, what, where string, args ...any) (Record, error) {
	records, err := db.records(ctx, where, args...)
	if err != nil {
		return Record{}, fmt.Errorf("%s: %w", what, err)
	}
	if len(records) == 0 {
		return Record{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return records[0], nil
}

// records returns the rows that where selects.
func (db *DB) records(ctx context.Context, where string, args ...any) ([]Record, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT serial, name, profile, issuer, actor, key_uri, subject_key_id,
		not_before, not_after, tbs_sha256, state, intended, issued, coalesce(entry, -1), der FROM certificate `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []Record
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// scanRecord reads a row of records.
func scanRecord(rows *sql.Rows) (Record, error) {
	var r Record
	var tbsHash []byte
	var notBefore, notAfter, intended int64
	var issued sql.NullInt64
	err := rows.Scan(&r.Serial, &r.Name, &r.Profile, &r.Issuer, &r.Actor, &r.KeyURI, &r.SubjectKeyID,
		&notBefore, &notAfter, &tbsHash, &r.State, &intended, &issued, &r.Entry, &r.DER)
	if err != nil {
		return Record{}, err
	}
	if len(tbsHash) != len(r.TBSHash) || len(r.DER) > maxDER || r.State != Intended && r.State != Issued {
		return Record{}, fmt.Errorf("row of serial %x is damaged", r.Serial)
	}
	r.TBSHash = [32]byte(tbsHash)
	r.NotBefore, r.NotAfter, r.Intended = utc(notBefore), utc(notAfter), utc(intended)
	if issued.Valid {
		r.Issued = utc(issued.Int64)
	}
	return r, nil
}

// check fails on a record that can't be an intent.
func (r Record) check() error {
	if err := checkSerial(r.Serial); err != nil {
		return err
	}
	for _, text := range [][2]string{{"name", r.Name}, {"profile", r.Profile}, {"issuer", r.Issuer}, {"actor", r.Actor}} {
		if err := checkText(text[0], text[1]); err != nil {
			return err
		}
	}
	if !utf8.ValidString(r.KeyURI) || len(r.KeyURI) > maxURI {
		return fmt.Errorf("key URI of %d octets is longer than %d, or not UTF-8", len(r.KeyURI), maxURI)
	}
	// RFC 7512, Section 2.3. The value stays out of the error too.
	if strings.Contains(r.KeyURI, "pin-value=") {
		return errors.New("key URI holds a PIN")
	}
	if len(r.SubjectKeyID) > 64 {
		return fmt.Errorf("subject key identifier of %d octets, more than 64", len(r.SubjectKeyID))
	}
	if r.NotAfter.Before(r.NotBefore) {
		return fmt.Errorf("validity ends %v, before it starts %v", r.NotAfter, r.NotBefore)
	}
	return nil
}

// checkText fails unless value may be a name of any kind.
func checkText(field, value string) error {
	if value == "" || len(value) > maxText || !utf8.ValidString(value) {
		return fmt.Errorf("%s %.300q is empty, longer than %d octets, or not UTF-8", field, value, maxText)
	}
	return nil
}

// digest is the SHA-256 of data as ledger entries have it.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// utc is the time of a column.
func utc(seconds int64) time.Time {
	return time.Unix(seconds, 0).UTC()
}
