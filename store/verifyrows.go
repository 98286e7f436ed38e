package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
)

// certificateRow is a certificate beside its entry; nil if there is none.
type certificateRow struct {
	serial, der                  []byte
	name, profile, issuer, actor string
	issued                       int64
	state                        State
	reason                       sql.NullInt64 // of its newest revocation
}

// certificateRows reads the certificates with ledger entries from first to last.
func certificateRows(ctx context.Context, tx *sql.Tx, first, last int64) (map[int64]*certificateRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT c.entry, c.serial, c.name, coalesce(k.profile, ''), coalesce(k.issuer, ''), coalesce(a.name, ''),
		c.issued, c.state, c.der, r.reason
		FROM certificate c LEFT JOIN class k ON k.id = c.class LEFT JOIN actor a ON a.id = c.actor
		LEFT JOIN revocation r ON r.serial = c.serial AND r.class = c.class AND r.superseded IS NULL
		WHERE c.entry >= $1 AND c.entry <= $2`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]*certificateRow{}
	for rows.Next() {
		var seq int64
		var c certificateRow
		if err := rows.Scan(&seq, &c.serial, &c.name, &c.profile, &c.issuer, &c.actor, &c.issued, &c.state, &c.der, &c.reason); err != nil {
			return nil, err
		}
		out[seq] = &c
	}
	return out, rows.Err()
}

func (c *certificateRow) verify(e Entry) error {
	if c == nil {
		return fmt.Errorf("certificate %s has no row", e.Serial)
	}
	for _, field := range [][3]string{
		{"serial", hex.EncodeToString(c.serial), e.Serial},
		{"DER digest", digest(c.der), e.SHA256},
		{"name", c.name, e.Name},
		{"profile", c.profile, e.Profile},
		{"issuer", c.issuer, e.Issuer},
		{"actor", c.actor, e.Actor},
	} {
		if field[1] != field[2] {
			return fmt.Errorf("certificate %x has the %s %q, the ledger says %q", c.serial, field[0], field[1], field[2])
		}
	}
	if c.issued != e.Time.Unix() {
		return fmt.Errorf("certificate %x was issued %v, the ledger says %v", c.serial, utc(c.issued), e.Time)
	}
	want := Issued
	if c.reason.Valid {
		want = Reason(c.reason.Int64).state()
	}
	if c.state != want {
		return fmt.Errorf("certificate %x has state %v, and its revocations say %v", c.serial, c.state, want)
	}
	return nil
}

// revocationRow is a revocation beside its entry; nil if there is none.
type revocationRow struct {
	Revocation
	digest     string        // of the certificate, or its TBSCertificate
	superseded sql.NullInt64 // by which entry
	next       sql.NullInt64 // the next entry about the serial
}

// revocationRows reads the revocations with ledger entries from first to last.
func revocationRows(ctx context.Context, tx *sql.Tx, first, last int64) (map[int64]*revocationRow, error) {
	list, err := revocations(ctx, tx, "WHERE r.entry >= $1 AND r.entry <= $2", first, last)
	if err != nil {
		return nil, err
	}
	out := map[int64]*revocationRow{}
	for _, r := range list {
		out[r.Entry] = &revocationRow{Revocation: r, digest: hex.EncodeToString(r.tbsHash[:])}
	}
	if len(list) == 0 {
		return out, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT r.entry, r.superseded, c.der, c.serial,
		(SELECT min(n.entry) FROM revocation n WHERE n.serial = r.serial AND n.class = r.class AND n.entry > r.entry AND n.entry = r.superseded),
		(SELECT count(*) FROM revocation n WHERE n.serial = r.serial AND n.class = r.class AND n.superseded IS NULL AND n.entry < r.entry)
		FROM revocation r LEFT JOIN certificate c ON c.entry = r.certificate WHERE r.entry >= $1 AND r.entry <= $2`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, older int64
		var der, serial []byte
		var superseded, next sql.NullInt64
		if err := rows.Scan(&seq, &superseded, &der, &serial, &next, &older); err != nil {
			return nil, err
		}
		r := out[seq]
		r.superseded, r.next = superseded, next
		if r.Certificate >= 0 {
			r.digest = digest(der)
			if string(serial) != string(r.Serial) {
				return nil, fmt.Errorf("ledger entry %d: revocation of %x names the certificate %x", seq, r.Serial, serial)
			}
		}
		if older > 0 {
			return nil, fmt.Errorf("ledger entry %d: an older revocation of %x counts too", seq, r.Serial)
		}
	}
	return out, rows.Err()
}

func (r *revocationRow) verify(e Entry) error {
	if r == nil {
		return fmt.Errorf("revocation of %s has no row", e.Serial)
	}
	want := r.Revocation.entry()
	if r.Certificate < 0 {
		want.Detail["intended"] = "true"
	}
	for _, field := range [][3]string{
		{"serial", want.Serial, e.Serial},
		{"digest", r.digest, e.SHA256},
		{"name", r.Name, e.Name},
		{"profile", r.Profile, e.Profile},
		{"issuer", r.Issuer, e.Issuer},
		{"actor", r.Actor, e.Actor},
	} {
		if field[1] != field[2] {
			return fmt.Errorf("revocation of %x has the %s %q, the ledger says %q", r.Serial, field[0], field[1], field[2])
		}
	}
	if !maps.Equal(want.Detail, e.Detail) {
		return fmt.Errorf("revocation of %x says %v, the ledger %v", r.Serial, want.Detail, e.Detail)
	}
	if r.superseded != r.next {
		return fmt.Errorf("revocation of %x is superseded by entry %d, which is none of that serial", r.Serial, r.superseded.Int64)
	}
	return nil
}

// crlRows reads the CRLs with ledger entries from first to last.
func crlRows(ctx context.Context, tx *sql.Tx, first, last int64) (map[int64]CRL, error) {
	rows, err := tx.QueryContext(ctx, `SELECT entry, issuer, issuer_key, part, delta, number, base, covers, this_update, next_update, sha256, size, entries
		FROM crl WHERE entry >= $1 AND entry <= $2`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]CRL{}
	for rows.Next() {
		var c CRL
		var number, base, thisUpdate, nextUpdate, delta int64
		var sum []byte
		err := rows.Scan(&c.Entry, &c.Issuer, &c.IssuerKeyID, &c.Partition, &delta, &number, &base, &c.Covers, &thisUpdate, &nextUpdate, &sum, &c.Size, &c.Entries)
		if err != nil {
			return nil, err
		}
		c.Delta, c.Number, c.Base, c.ThisUpdate, c.NextUpdate = delta != 0, uint64(number), uint64(base), utc(thisUpdate), utc(nextUpdate)
		copy(c.SHA256[:], sum)
		out[c.Entry] = c
	}
	return out, rows.Err()
}

func verifyCRL(c CRL, found bool, e Entry) error {
	if !found {
		return fmt.Errorf("CRL %s of %q has no row", e.Detail["number"], e.Name)
	}
	c.Actor = e.Actor // which has no column
	want, err := c.entry()
	if err != nil {
		return fmt.Errorf("CRL of %q: %w", c.Issuer, err)
	}
	if want.Name != e.Name || want.SHA256 != e.SHA256 || !maps.Equal(want.Detail, e.Detail) {
		return fmt.Errorf("CRL of %q says %s %v, the ledger %q %s %v", c.Issuer, want.SHA256, want.Detail, e.Name, e.SHA256, e.Detail)
	}
	return nil
}

// objectRow is an object beside its entry; nil if there is none.
type objectRow struct {
	name, kind string
	content    []byte
}

// objectRows reads the objects with ledger entries from first to last.
func objectRows(ctx context.Context, tx *sql.Tx, first, last int64) (map[int64]*objectRow, error) {
	rows, err := tx.QueryContext(ctx, "SELECT entry, name, kind, content FROM object WHERE entry >= $1 AND entry <= $2", first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int64]*objectRow{}
	for rows.Next() {
		var seq int64
		var o objectRow
		if err := rows.Scan(&seq, &o.name, &o.kind, &o.content); err != nil {
			return nil, err
		}
		out[seq] = &o
	}
	return out, rows.Err()
}

func (o *objectRow) verify(e Entry) error {
	if o == nil {
		return fmt.Errorf("object %q has no row", e.Name)
	}
	for _, field := range [][3]string{
		{"content digest", digest(o.content), e.SHA256},
		{"name", o.name, e.Name},
		{"kind", o.kind, e.Detail["kind"]},
	} {
		if field[1] != field[2] {
			return fmt.Errorf("object %q has the %s %q, the ledger says %q", o.name, field[0], field[1], field[2])
		}
	}
	return nil
}
