package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxDER limits a certificate, in octets.
	maxDER = 64 << 10
	// maxText limits a name, in octets; maxURI a key URI; maxKeyID a key
	// identifier.
	maxText, maxURI, maxKeyID = 256, 2048, 64
	// page is how many certificates Certificates reads at once.
	page = 256
)

// State says how far a certificate has come. Its values are in the file.
type State int

const (
	// Intended: about to be signed, or signed by a process that died then.
	Intended State = 0
	// Issued: the store has the certificate, and it is not revoked.
	Issued State = 1
	// Revoked: for good. The store may not have the certificate, if it was only
	// intended.
	Revoked State = 2
	// Held: revoked with the reason certificateHold, which can be lifted.
	Held State = 3
)

// String returns the state in words.
func (s State) String() string {
	switch s {
	case Intended:
		return "intended"
	case Issued:
		return "issued"
	case Revoked:
		return "revoked"
	case Held:
		return "held"
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
	IssuerKeyID  []byte    // key identifier of the key that signs; nil if not known
	Actor        string    // who asked for it
	KeyURI       string    // where the private key lives, without a PIN; "" if not here
	SubjectKeyID []byte    // as in the certificate; nil if it has none
	NotBefore    time.Time // start of validity
	NotAfter     time.Time // end of validity
	TBSHash      [32]byte  // SHA-256 of the TBSCertificate to be signed; kept until there is a certificate

	State    State
	Intended time.Time // when Intend was called; kept until there is a certificate
	Issued   time.Time // when Complete or Import was called; zero before
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

// Completed is a certificate that was intended and is now signed.
type Completed struct {
	Serial []byte
	DER    []byte // the certificate, at most 64 KiB
}

// Complete records signed certificates and their ledger entries, all of done or
// none. It refuses a serial that was not intended (ErrNotFound), one that is
// complete (ErrIssued), and one that was revoked meanwhile because its process
// seemed dead (*AlreadyRevokedError). The caller publishes a certificate only
// after that.
func (db *DB) Complete(ctx context.Context, done ...Completed) error {
	for _, c := range done {
		if len(c.DER) == 0 || len(c.DER) > maxDER {
			return fmt.Errorf("recording certificate %x: DER of %d octets, want 1 to %d", c.Serial, len(c.DER), maxDER)
		}
	}
	err := db.write(ctx, func(ctx context.Context, tx *writing) error { return tx.complete(ctx, done) })
	if err != nil {
		return fmt.Errorf("recording certificates: %w", err)
	}
	return nil
}

func (tx *writing) complete(ctx context.Context, done []Completed) error {
	// 1. Look up what was intended.
	wanted := make(map[string]bool, len(done))
	for _, c := range done {
		if wanted[string(c.Serial)] {
			return fmt.Errorf("serial %x: %w", c.Serial, ErrIssued) // twice in done
		}
		wanted[string(c.Serial)] = true
	}
	batches, err := tx.batches(ctx)
	if err != nil {
		return err
	}
	intents := find(batches, wanted)
	settled := map[int64]int64{}
	rows := make([]row, len(done))
	for i, c := range done {
		m, ok := intents[string(c.Serial)]
		if ok && m.batch.open < int64(len(m.batch.members)) {
			gone, err := m.settled(ctx, tx)
			if err != nil {
				return err
			}
			ok = !gone
		}
		if !ok {
			return tx.notPending(ctx, c.Serial)
		}
		settled[m.batch.id]++
		rows[i] = row{member: m.member, der: c.DER}
	}
	// 2. Append to the ledger, and put the rows in.
	if err := tx.insert(ctx, KindIssue, rows, nil); err != nil {
		return err
	}
	// 3. The intents are settled.
	for id, n := range settled {
		if err := tx.settle(ctx, id, n); err != nil {
			return err
		}
	}
	return nil
}

// notPending says why there is no pending intent with the serial.
func (tx *writing) notPending(ctx context.Context, serial []byte) error {
	records, err := bySerial(ctx, tx, serial)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.DER != nil {
			return fmt.Errorf("serial %x: %w", serial, ErrIssued)
		}
		revocation, err := currentRevocation(ctx, tx, r.Issuer, serial)
		if err != nil {
			return err
		}
		return &AlreadyRevokedError{revocation}
	}
	return fmt.Errorf("intent for serial %x: %w", serial, ErrNotFound)
}

// row is a certificate to be.
type row struct {
	member
	der    []byte
	entry  int64 // its ledger entry
	issued int64
}

// insert puts certificates in, with their ledger entries. details is nil, or has
// the Detail of each entry.
func (tx *writing) insert(ctx context.Context, kind Kind, rows []row, details []map[string]string) error {
	classes, actors := map[int64]class{}, map[int64]string{}
	for c, id := range tx.classes {
		classes[id] = c
	}
	for a, id := range tx.actors {
		actors[id] = a
	}
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		c, actor, err := tx.origin(ctx, classes, actors, r.member)
		if err != nil {
			return err
		}
		entries[i] = Entry{
			Kind: kind, Actor: actor, Name: r.name, Profile: c.profile, Issuer: c.issuer,
			Serial: hex.EncodeToString(r.serial), SHA256: digest(r.der),
		}
		if details != nil {
			entries[i].Detail = details[i]
		}
	}
	first, err := tx.append(ctx, entries...)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].entry, rows[i].issued = first+int64(i), tx.now.Unix()
	}
	return tx.backend.insert(ctx, tx, rows)
}

// origin returns the class and the actor of a member, and remembers them.
func (tx *writing) origin(ctx context.Context, classes map[int64]class, actors map[int64]string, m member) (class, string, error) {
	c, ok := classes[m.class]
	if !ok {
		var key []byte
		err := tx.QueryRowContext(ctx, "SELECT profile, issuer, issuer_key FROM class WHERE id = $1", m.class).Scan(&c.profile, &c.issuer, &key)
		if err != nil {
			return class{}, "", fmt.Errorf("class %d: %w", m.class, err)
		}
		c.issuerKey = string(key)
		classes[m.class], tx.classes[c] = c, m.class
	}
	actor, ok := actors[m.actor]
	if !ok {
		if err := tx.QueryRowContext(ctx, "SELECT name FROM actor WHERE id = $1", m.actor).Scan(&actor); err != nil {
			return class{}, "", fmt.Errorf("actor %d: %w", m.actor, err)
		}
		actors[m.actor], tx.actors[actor] = actor, m.actor
	}
	return c, actor, nil
}

// keyColumn is the number under which a key identifier is found: its first 8
// octets. The caller compares the rest.
func keyColumn(keyID []byte) any {
	if keyID == nil {
		return nil
	}
	var first [8]byte
	copy(first[:], keyID)
	return int64(binary.BigEndian.Uint64(first[:]))
}

// Certificates yields all certificates in the order of their ledger entries, or an
// error and then no more. It reads in pages, so that the loop may use the
// store; certificates recorded meanwhile come last.
func (db *DB) Certificates(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		next := int64(0)
		for {
			records, err := records(ctx, db.sql, "WHERE c.entry >= $1 ORDER BY c.entry LIMIT $2", next, page)
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

// Latest returns the certificate that was recorded last under name, or an error
// that is ErrNotFound.
func (db *DB) Latest(ctx context.Context, name string) (Record, error) {
	return one(fmt.Sprintf("certificate %q", name))(records(ctx, db.sql, "WHERE c.name = $1 ORDER BY c.entry DESC LIMIT 1", name))
}

// ByName returns the certificates that were recorded under name, newest first.
func (db *DB) ByName(ctx context.Context, name string) ([]Record, error) {
	list, err := records(ctx, db.sql, "WHERE c.name = $1 ORDER BY c.entry DESC", name)
	if err != nil {
		return nil, fmt.Errorf("certificates %q: %w", name, err)
	}
	return list, nil
}

// ByKey returns the certificates of a key by its subject key identifier, newest
// first.
func (db *DB) ByKey(ctx context.Context, subjectKeyID []byte) ([]Record, error) {
	list, err := records(ctx, db.sql, "WHERE c.key = $1 AND c.subject_key_id = $2 ORDER BY c.entry DESC", keyColumn(subjectKeyID), subjectKeyID)
	if err != nil {
		return nil, fmt.Errorf("certificates of key %x: %w", subjectKeyID, err)
	}
	return list, nil
}

// BySerial returns the certificate or intent with the serial, or an error that
// is ErrNotFound. If imported certificates of several issuers have it, that is an
// error too: see ByIssuerSerial.
func (db *DB) BySerial(ctx context.Context, serial []byte) (Record, error) {
	return db.ByIssuerSerial(ctx, "", serial)
}

// ByIssuerSerial returns the certificate or intent that an authority gave the
// serial, "" being any.
func (db *DB) ByIssuerSerial(ctx context.Context, issuer string, serial []byte) (Record, error) {
	what := fmt.Sprintf("certificate with serial %x", serial)
	if issuer != "" {
		what += fmt.Sprintf(" of %q", issuer)
	}
	var list []Record
	err := db.read(ctx, func(tx *sql.Tx) error {
		all, err := bySerial(ctx, tx, serial)
		list = ofIssuer(all, issuer)
		return err
	})
	if err == nil && len(list) > 1 {
		err = fmt.Errorf("both %q and %q have given it: name the issuer", list[0].Issuer, list[1].Issuer)
	}
	return one(what)(list, err)
}

// bySerial returns everything that has the serial: certificates, revoked intents,
// intents.
func bySerial(ctx context.Context, q querier, serial []byte) ([]Record, error) {
	list, err := records(ctx, q, "WHERE c.serial = $1 ORDER BY c.entry", serial)
	if err != nil {
		return nil, err
	}
	revoked, err := revocations(ctx, q, "WHERE r.serial = $1 AND r.superseded IS NULL AND r.certificate IS NULL", serial)
	if err != nil {
		return nil, err
	}
	for _, r := range revoked {
		list = append(list, Record{
			Serial: serial, Name: r.Name, Profile: r.Profile, Issuer: r.Issuer, IssuerKeyID: r.IssuerKeyID, Actor: r.Actor,
			NotAfter: r.NotAfter, TBSHash: r.tbsHash, State: Revoked, Entry: -1,
		})
	}
	if len(list) > 0 {
		return list, nil
	}
	r, err := intentBySerial(ctx, q, serial)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return []Record{r}, err
}

// ofIssuer keeps the records of an issuer, "" being any.
func ofIssuer(list []Record, issuer string) []Record {
	var out []Record
	for _, r := range list {
		if issuer == "" || r.Issuer == issuer {
			out = append(out, r)
		}
	}
	return out
}

// one makes a look-up for one row of what records returns; what says what it is.
func one(what string) func([]Record, error) (Record, error) {
	return func(list []Record, err error) (Record, error) {
		if err == nil && len(list) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return Record{}, fmt.Errorf("%s: %w", what, err)
		}
		return list[0], nil
	}
}

// records returns the certificates c that where selects, of class k.
func records(ctx context.Context, q querier, where string, args ...any) ([]Record, error) {
	rows, err := q.QueryContext(ctx, `SELECT c.entry, c.serial, k.profile, k.issuer, k.issuer_key, c.state, c.name, a.name, c.issued,
		c.not_before, c.not_after, c.subject_key_id, c.key_uri, c.der
		FROM certificate c JOIN class k ON k.id = c.class JOIN actor a ON a.id = c.actor `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []Record
	for rows.Next() {
		var r Record
		var issued, notBefore, notAfter int64
		err := rows.Scan(&r.Entry, &r.Serial, &r.Profile, &r.Issuer, &r.IssuerKeyID, &r.State, &r.Name, &r.Actor, &issued,
			&notBefore, &notAfter, &r.SubjectKeyID, &r.KeyURI, &r.DER)
		if err != nil {
			return nil, err
		}
		if len(r.DER) > maxDER || r.State < Issued || r.State > Held {
			return nil, fmt.Errorf("row of serial %x is damaged", r.Serial)
		}
		r.IssuerKeyID, r.SubjectKeyID = orNil(r.IssuerKeyID), orNil(r.SubjectKeyID)
		r.Issued, r.NotBefore, r.NotAfter = utc(issued), utc(notBefore), utc(notAfter)
		records = append(records, r)
	}
	return records, rows.Err()
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
	if len(r.SubjectKeyID) > maxKeyID {
		return fmt.Errorf("subject key identifier of %d octets, more than %d", len(r.SubjectKeyID), maxKeyID)
	}
	if len(r.IssuerKeyID) > maxKeyID {
		return fmt.Errorf("authority key identifier of %d octets, more than %d", len(r.IssuerKeyID), maxKeyID)
	}
	if r.NotAfter.Before(r.NotBefore) {
		return fmt.Errorf("validity ends %v, before it starts %v", r.NotAfter, r.NotBefore)
	}
	return nil
}

// checkText fails unless value may be a name of any kind.
func checkText(field, value string) error {
	// PostgreSQL keeps no text with a zero octet.
	if value == "" || len(value) > maxText || !utf8.ValidString(value) || strings.Contains(value, "\x00") {
		return fmt.Errorf("%s %.300q is empty, longer than %d octets, not UTF-8, or has a zero octet", field, value, maxText)
	}
	return nil
}

// digest is the SHA-256 of data as ledger entries have it.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
