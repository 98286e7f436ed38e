package store

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// RevokedSerial is what a CRL needs of a Revocation, in little memory: there may be
// millions. Times are Unix seconds.
type RevokedSerial struct {
	Entry      int64 // ledger entry of the revocation
	Time       int64
	Invalidity int64 // 0: not known
	NotAfter   int64
	Reason     Reason

	serial [20]byte
	length uint8
}

// Serial returns the serial number. It is a part of r.
func (r *RevokedSerial) Serial() []byte { return r.serial[:r.length] }

// RevokedSerials is Revocations with less of each, at a fraction of its cost, and
// with one difference: beside those of the key, it yields those of which the store
// does not know by which key they were signed.
func (db *DB) RevokedSerials(ctx context.Context, issuer string, issuerKeyID []byte, after int64) iter.Seq2[RevokedSerial, error] {
	return func(yield func(RevokedSerial, error) bool) {
		fail := func(err error) {
			yield(RevokedSerial{}, fmt.Errorf("listing revocations of %q: %w", issuer, err))
		}
		classes, err := classIDs(ctx, db.sql, Query{Issuer: issuer, IssuerKeyID: issuerKeyID})
		if err != nil {
			fail(err)
			return
		}
		if len(issuerKeyID) > 0 {
			unknown, err := classIDs(ctx, db.sql, Query{Issuer: issuer, IssuerKeyID: []byte{}})
			if err != nil {
				fail(err)
				return
			}
			classes = append(classes, unknown...)
		}
		page := make([]RevokedSerial, 0, revocationPage)
		for len(classes) > 0 {
			if page, err = db.revokedSerials(ctx, classes, after, page[:0]); err != nil {
				fail(err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				after = r.Entry
			}
			if len(page) < revocationPage {
				return
			}
		}
	}
}

// revokedSerials appends a page to list.
func (db *DB) revokedSerials(ctx context.Context, classes []int64, after int64, list []RevokedSerial) ([]RevokedSerial, error) {
	const columns = "entry, serial, not_after, reason, time, invalidity"
	var terms []string
	for i, class := range classes {
		terms = append(terms, fmt.Sprintf("SELECT * FROM (SELECT %s FROM revocation WHERE superseded IS NULL AND class = %d AND entry > $1 ORDER BY entry LIMIT %d) t%d",
			columns, class, revocationPage, i))
	}
	query := fmt.Sprintf("SELECT %s FROM (%s) t ORDER BY entry LIMIT %d", columns, strings.Join(terms, " UNION ALL "), revocationPage)
	rows, err := db.sql.QueryContext(ctx, query, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r RevokedSerial
		var serial []byte
		var invalidity *int64
		if err := rows.Scan(&r.Entry, &serial, &r.NotAfter, &r.Reason, &r.Time, &invalidity); err != nil {
			return nil, err
		}
		if checkSerial(serial) != nil || !r.Reason.Valid() {
			return nil, fmt.Errorf("revocation of serial %.50x is damaged", serial)
		}
		r.length = uint8(copy(r.serial[:], serial))
		if invalidity != nil {
			r.Invalidity = *invalidity
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
