package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// batchMembers limits the members of one row of intents.
const batchMembers = 256

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
	err := db.write(ctx, func(ctx context.Context, tx *writing) error { return tx.intend(ctx, recs) })
	if err != nil {
		return fmt.Errorf("recording intents: %w", err)
	}
	return nil
}

// intend writes recs, which are checked.
func (tx *writing) intend(ctx context.Context, recs []Record) error {
	// 1. Is one of the serials taken? Serials are the store's over all issuers.
	fresh := make(map[string]bool, len(recs))
	serials := make([][]byte, len(recs))
	for i, r := range recs {
		if fresh[string(r.Serial)] {
			return &DuplicateSerialError{Serial: r.Serial}
		}
		fresh[string(r.Serial)], serials[i] = true, r.Serial
	}
	taken, err := tx.taken(ctx, serials)
	if err != nil {
		return err
	}
	if taken != nil {
		return &DuplicateSerialError{Serial: taken}
	}
	batches, err := tx.batches(ctx)
	if err != nil {
		return err
	}
	next := int64(1)
	for _, b := range batches {
		next = max(next, b.id+1)
		for _, m := range b.members {
			if fresh[string(m.serial)] {
				return &DuplicateSerialError{Serial: m.serial}
			}
		}
	}
	// 2. One row for many.
	for rest := recs; len(rest) > 0; {
		n := min(len(rest), batchMembers)
		members := make([]member, n)
		for i, r := range rest[:n] {
			if members[i], err = tx.member(ctx, r); err != nil {
				return fmt.Errorf("%q: %w", r.Name, err)
			}
		}
		if err := tx.insertBatch(ctx, next, tx.now.Unix(), members); err != nil {
			return err
		}
		rest, next = rest[n:], next+1
	}
	return nil
}

func (tx *writing) insertBatch(ctx context.Context, id, time int64, members []member) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO intent (id, time, open, members) VALUES ($1, $2, $3, $4)", id, time, len(members), marshalMembers(members))
	if err == nil && tx.haveBatch {
		tx.intents = append(tx.intents, batch{id, time, int64(len(members)), members})
	}
	return err
}

// batches returns the open batches, which are read once in a transaction.
func (tx *writing) batches(ctx context.Context) ([]batch, error) {
	if tx.haveBatch {
		return tx.intents, nil
	}
	batches, err := openBatches(ctx, tx)
	tx.intents, tx.haveBatch = batches, err == nil
	return batches, err
}

// taken returns one of the serials that a certificate or a revoked intent has, or
// nil.
func (tx *writing) taken(ctx context.Context, serials [][]byte) ([]byte, error) {
	for _, table := range []string{
		"SELECT serial FROM certificate WHERE serial IN (%s)",
		"SELECT serial FROM revocation WHERE superseded IS NULL AND serial IN (%s)",
	} {
		for rest := serials; len(rest) > 0; {
			n := min(len(rest), inList)
			var serial []byte
			err := tx.QueryRowContext(ctx, fmt.Sprintf(table, placeholders(n)), anys(rest[:n])...).Scan(&serial)
			if err == nil {
				return serial, nil
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return nil, err
			}
			rest = rest[n:]
		}
	}
	return nil, nil
}

// Pending returns the intents without a certificate that are not revoked, oldest
// first: those being signed now, and those of processes that died over it. To
// settle one of the dead, revoke its serial: whoever may have signed it was not
// able to record it.
func (db *DB) Pending(ctx context.Context) (records []Record, err error) {
	err = db.read(ctx, func(tx *sql.Tx) error {
		batches, err := openBatches(ctx, tx)
		if err != nil {
			return err
		}
		for _, b := range batches {
			open, err := b.pending(ctx, tx)
			if err != nil {
				return err
			}
			for _, m := range open {
				r, err := m.record(ctx, tx, b.time)
				if err != nil {
					return err
				}
				records = append(records, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing intents: %w", err)
	}
	return records, nil
}

// batch is a row of intents.
type batch struct {
	id, time, open int64
	members        []member
}

// openBatches reads the batches with members that are not settled, oldest first.
func openBatches(ctx context.Context, q querier) ([]batch, error) {
	rows, err := q.QueryContext(ctx, "SELECT id, time, open, members FROM intent ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var batches []batch
	for rows.Next() {
		var b batch
		var members []byte
		if err := rows.Scan(&b.id, &b.time, &b.open, &members); err != nil {
			return nil, err
		}
		if b.members, err = parseMembers(members); err != nil {
			return nil, fmt.Errorf("intents %d: %w", b.id, err)
		}
		if b.open < 1 || b.open > int64(len(b.members)) {
			return nil, fmt.Errorf("intents %d: %d of %d members are open", b.id, b.open, len(b.members))
		}
		batches = append(batches, b)
	}
	return batches, rows.Err()
}

// pending returns the members that are not settled.
func (b batch) pending(ctx context.Context, q querier) ([]member, error) {
	if b.open == int64(len(b.members)) {
		return b.members, nil
	}
	var open []member
	for _, m := range b.members {
		settled, err := m.settled(ctx, q)
		if err != nil {
			return nil, err
		}
		if !settled {
			open = append(open, m)
		}
	}
	if int64(len(open)) != b.open {
		return nil, fmt.Errorf("intents %d: %d members are open, and the row says %d", b.id, len(open), b.open)
	}
	return open, nil
}

// settled reports whether the member has its certificate or is revoked.
func (m member) settled(ctx context.Context, q querier) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM certificate WHERE serial = $1 AND class = $2)
		+ (SELECT count(*) FROM revocation WHERE serial = $1 AND class = $2 AND certificate IS NULL AND superseded IS NULL)`, m.serial, m.class).Scan(&n)
	return n > 0, err
}

// settle counts n members of a batch as settled; with the last the row goes.
func (tx *writing) settle(ctx context.Context, id, n int64) error {
	tx.intents = slices.DeleteFunc(tx.intents, func(b batch) bool { return b.id == id && b.open == n })
	for i := range tx.intents {
		if tx.intents[i].id == id {
			tx.intents[i].open -= n
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE intent SET open = open - $1 WHERE id = $2", n, id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM intent WHERE id = $1 AND open = 0", id)
	return err
}

// member is one intent of a batch. Texts that many have in common are rows of
// class and actor.
type member struct {
	serial       []byte
	name         string
	class, actor int64
	keyURI       string
	subjectKeyID []byte
	notBefore    int64
	notAfter     int64
	tbsHash      [32]byte
}

// member turns a record into a member.
func (tx *writing) member(ctx context.Context, r Record) (m member, err error) {
	m = member{
		serial: r.Serial, name: r.Name, keyURI: r.KeyURI, subjectKeyID: r.SubjectKeyID,
		notBefore: r.NotBefore.Unix(), notAfter: r.NotAfter.Unix(), tbsHash: r.TBSHash,
	}
	if m.class, err = tx.class(ctx, class{r.Profile, r.Issuer, string(r.IssuerKeyID)}); err != nil {
		return member{}, err
	}
	m.actor, err = tx.actor(ctx, r.Actor)
	return m, err
}

// record turns a member of a batch of some time into a record.
func (m member) record(ctx context.Context, q querier, time int64) (Record, error) {
	r := Record{
		Serial: m.serial, Name: m.name, KeyURI: m.keyURI, SubjectKeyID: m.subjectKeyID,
		NotBefore: utc(m.notBefore), NotAfter: utc(m.notAfter), TBSHash: m.tbsHash,
		State: Intended, Intended: utc(time), Entry: -1,
	}
	err := q.QueryRowContext(ctx, "SELECT c.profile, c.issuer, c.issuer_key, a.name FROM class c, actor a WHERE c.id = $1 AND a.id = $2", m.class, m.actor).
		Scan(&r.Profile, &r.Issuer, &r.IssuerKeyID, &r.Actor)
	if err != nil {
		return Record{}, fmt.Errorf("intent for %x: class %d, actor %d: %w", m.serial, m.class, m.actor, err)
	}
	r.IssuerKeyID = orNil(r.IssuerKeyID)
	return r, nil
}

// marshalMembers encodes members: octet strings behind their length, numbers,
// and lengths too, as varints (encoding/binary), the hash as it is.
func marshalMembers(members []member) []byte {
	out := make([]byte, 0, len(members)*160)
	str := func(s string) { out = append(binary.AppendUvarint(out, uint64(len(s))), s...) }
	for _, m := range members {
		str(string(m.serial))
		str(m.name)
		out = binary.AppendUvarint(out, uint64(m.class))
		out = binary.AppendUvarint(out, uint64(m.actor))
		str(m.keyURI)
		str(string(m.subjectKeyID))
		out = binary.AppendVarint(out, m.notBefore)
		out = binary.AppendVarint(out, m.notAfter)
		out = append(out, m.tbsHash[:]...)
	}
	return out
}

// parseMembers reads what marshalMembers writes, and nothing else.
func parseMembers(data []byte) ([]member, error) {
	rest, ok := data, true
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 || n > 1 && rest[n-1] == 0 { // cut short, too large, or not the shortest form
			ok = false
			return 0
		}
		rest = rest[n:]
		return v
	}
	str := func(limit uint64) []byte {
		n := number()
		if !ok || n > limit || n > uint64(len(rest)) {
			ok = false
			return nil
		}
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	seconds := func() int64 {
		v := number()
		return int64(v>>1) ^ -int64(v&1)
	}
	id := func() int64 {
		v := number()
		ok = ok && v > 0 && v < 1<<62
		return int64(v)
	}
	var members []member
	for len(rest) > 0 {
		var m member
		m.serial = str(20)
		name := str(maxText)
		m.class, m.actor = id(), id()
		uri := str(maxURI)
		m.subjectKeyID = orNil(str(maxKeyID))
		m.notBefore, m.notAfter = seconds(), seconds()
		if !ok || len(rest) < len(m.tbsHash) || checkSerial(m.serial) != nil || !utf8.Valid(name) || !utf8.Valid(uri) {
			return nil, errors.New("damaged")
		}
		m.name, m.keyURI, m.tbsHash = string(name), string(uri), [32]byte(rest)
		rest = rest[len(m.tbsHash):]
		members = append(members, m)
	}
	if len(members) == 0 || len(members) > batchMembers {
		return nil, fmt.Errorf("%d members, want 1 to %d", len(members), batchMembers)
	}
	return members, nil
}

// find returns the members with the serials in wanted, which it takes out of
// there, and the batches that they are in.
func find(batches []batch, wanted map[string]bool) map[string]intended {
	found := make(map[string]intended, len(wanted))
	// The newest first: what is completed was intended a moment ago.
	for i := len(batches) - 1; i >= 0 && len(wanted) > 0; i-- {
		for _, m := range batches[i].members {
			if wanted[string(m.serial)] {
				found[string(m.serial)] = intended{m, batches[i]}
				delete(wanted, string(m.serial))
			}
		}
	}
	return found
}

// intended is a member with its batch.
type intended struct {
	member
	batch batch
}

// bySerial returns the intent with the serial, as a record.
func intentBySerial(ctx context.Context, q querier, serial []byte) (Record, error) {
	batches, err := openBatches(ctx, q)
	if err != nil {
		return Record{}, err
	}
	for _, b := range batches {
		for _, m := range b.members {
			if bytes.Equal(m.serial, serial) {
				return m.record(ctx, q, b.time)
			}
		}
	}
	return Record{}, ErrNotFound
}

// utc is the time of a column.
func utc(seconds int64) time.Time {
	return time.Unix(seconds, 0).UTC()
}

// orNil is b, or nil if it is empty.
func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
