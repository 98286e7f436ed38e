package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// CRL tells of a CRL that was signed. The store does not keep its content.
type CRL struct {
	Issuer      string // name of the authority
	IssuerKeyID []byte // key identifier of the key that signed; nil if not known
	Partition   int    // of the population; 0 if there is one CRL for all
	Delta       bool
	Number      uint64 // CRL number, at most 2⁶³-1
	Base        uint64 // Delta: number of the CRL that it builds on
	Covers      int64  // the last ledger entry whose revocation it knows; -1: none
	ThisUpdate  time.Time
	NextUpdate  time.Time
	SHA256      [32]byte // of its DER
	Size        int64    // of its DER, in octets
	Entries     int64    // revoked certificates in it
	Actor       string   // who had it made

	Entry int64 // seq of the ledger entry; the store sets it
}

// ErrStaleCRL is what RecordCRL returns, wrapped, for a CRL whose number is not
// above those before: another process has made one meanwhile. Read LatestCRL and
// make it again.
var ErrStaleCRL = errors.New("the CRL number was given meanwhile")

// RecordCRL records a CRL and its ledger entry. The caller publishes it only after
// that. Numbers grow within one partition of an authority's key; a full CRL and a
// delta CRL that are made together share theirs (RFC 5280, Section 5.2.3).
func (db *DB) RecordCRL(ctx context.Context, c CRL) error {
	entry, err := c.entry()
	if err == nil {
		err = db.write(ctx, func(ctx context.Context, tx *writing) error {
			for _, delta := range []bool{false, true} {
				latest, err := latestCRL(ctx, tx, c.Issuer, c.IssuerKeyID, c.Partition, delta)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if c.Number < latest.Number || delta == c.Delta && c.Number == latest.Number {
					return fmt.Errorf("number %d after %d: %w", c.Number, latest.Number, ErrStaleCRL)
				}
			}
			seq, err := tx.append(ctx, entry)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO crl (entry, issuer, issuer_key, part, delta, number, base, covers, this_update, next_update, sha256, size, entries)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
				seq, c.Issuer, octets(string(c.IssuerKeyID)), c.Partition, bit(c.Delta), int64(c.Number), int64(c.Base), c.Covers,
				c.ThisUpdate.Unix(), c.NextUpdate.Unix(), c.SHA256[:], c.Size, c.Entries)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("recording a CRL of %q: %w", c.Issuer, err)
	}
	return nil
}

// LatestCRL returns the newest CRL of a partition of an authority's key, or an
// error that is ErrNotFound.
func (db *DB) LatestCRL(ctx context.Context, issuer string, issuerKeyID []byte, partition int, delta bool) (c CRL, err error) {
	err = db.read(ctx, func(tx *sql.Tx) error {
		if c, err = latestCRL(ctx, tx, issuer, issuerKeyID, partition, delta); err != nil {
			return err
		}
		entry, err := entryAt(ctx, tx, c.Entry)
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", c.Entry, err)
		}
		c.Actor = entry.Actor
		return nil
	})
	if err != nil {
		return CRL{}, fmt.Errorf("latest CRL of %q: %w", issuer, err)
	}
	return c, nil
}

// latestCRL is LatestCRL without the actor, who stands in the ledger only.
func latestCRL(ctx context.Context, q querier, issuer string, issuerKeyID []byte, partition int, delta bool) (CRL, error) {
	c := CRL{Issuer: issuer, IssuerKeyID: orNil(issuerKeyID), Partition: partition, Delta: delta}
	var number, base, thisUpdate, nextUpdate int64
	var sum []byte
	err := q.QueryRowContext(ctx, `SELECT entry, number, base, covers, this_update, next_update, sha256, size, entries FROM crl
		WHERE issuer = $1 AND issuer_key = $2 AND part = $3 AND delta = $4 ORDER BY entry DESC LIMIT 1`,
		issuer, octets(string(issuerKeyID)), partition, bit(delta)).
		Scan(&c.Entry, &number, &base, &c.Covers, &thisUpdate, &nextUpdate, &sum, &c.Size, &c.Entries)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return CRL{}, err
	}
	if number < 0 || base < 0 || len(sum) != len(c.SHA256) {
		return CRL{}, fmt.Errorf("row of ledger entry %d is damaged", c.Entry)
	}
	c.Number, c.Base, c.ThisUpdate, c.NextUpdate, c.SHA256 = uint64(number), uint64(base), utc(thisUpdate), utc(nextUpdate), [32]byte(sum)
	return c, nil
}

// entry is the ledger entry of the CRL, but for its seq and time.
func (c CRL) entry() (Entry, error) {
	for _, text := range [][2]string{{"issuer", c.Issuer}, {"actor", c.Actor}} {
		if err := checkText(text[0], text[1]); err != nil {
			return Entry{}, err
		}
	}
	switch {
	case c.Number > math.MaxInt64:
		return Entry{}, fmt.Errorf("CRL number %d is above 2⁶³-1", c.Number)
	case c.Delta && c.Base > c.Number, !c.Delta && c.Base != 0:
		return Entry{}, fmt.Errorf("CRL number %d does not go with base %d", c.Number, c.Base)
	case len(c.IssuerKeyID) > maxKeyID:
		return Entry{}, fmt.Errorf("authority key identifier of %d octets, more than %d", len(c.IssuerKeyID), maxKeyID)
	case c.Partition < 0, c.Size < 1, c.Entries < 0, c.Covers < -1:
		return Entry{}, fmt.Errorf("partition %d, size %d, %d entries or covered ledger entry %d is out of range", c.Partition, c.Size, c.Entries, c.Covers)
	case c.NextUpdate.Before(c.ThisUpdate):
		return Entry{}, fmt.Errorf("next update %v is before this update %v", c.NextUpdate, c.ThisUpdate)
	}
	detail := map[string]string{
		"number":      strconv.FormatUint(c.Number, 10),
		"covers":      strconv.FormatInt(c.Covers, 10),
		"partition":   strconv.Itoa(c.Partition),
		"this_update": c.ThisUpdate.UTC().Truncate(time.Second).Format(time.RFC3339),
		"next_update": c.NextUpdate.UTC().Truncate(time.Second).Format(time.RFC3339),
		"size":        strconv.FormatInt(c.Size, 10),
		"entries":     strconv.FormatInt(c.Entries, 10),
	}
	if c.Delta {
		detail["base"] = strconv.FormatUint(c.Base, 10)
	}
	if len(c.IssuerKeyID) > 0 {
		detail["issuer_key"] = hex.EncodeToString(c.IssuerKeyID)
	}
	return Entry{Kind: KindCRL, Actor: c.Actor, Name: c.Issuer, SHA256: hex.EncodeToString(c.SHA256[:]), Detail: detail}, nil
}

// bit is b as a column has it.
func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
