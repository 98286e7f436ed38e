package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// maxEntries limits what Entries returns at once.
const maxEntries = 1000

// Size is the number of ledger entries.
func (db *DB) Size(ctx context.Context) (int64, error) {
	size, err := ledgerSize(ctx, db.sql)
	if err != nil {
		return 0, fmt.Errorf("reading the ledger's size: %w", err)
	}
	return size, nil
}

// Entries returns the ledger entries from seq from on, at most limit and at
// most 1000 of them; none if from is the ledger's size or beyond.
func (db *DB) Entries(ctx context.Context, from int64, limit int) ([]Entry, error) {
	rows, err := db.sql.QueryContext(ctx, "SELECT seq, entry FROM ledger WHERE seq >= ? ORDER BY seq LIMIT ?", from, max(0, min(limit, maxEntries)))
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	defer rows.Close()
	var entries []Entry
	for rows.Next() {
		var seq int64
		var data []byte
		if err := rows.Scan(&seq, &data); err != nil {
			return nil, fmt.Errorf("reading the ledger: %w", err)
		}
		entry, err := ParseEntry(data)
		if err != nil {
			return nil, fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		entries = append(entries, entry)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return entries, nil
}

// Root returns the ledger's size and the Merkle tree hash of its entries (RFC
// 6962, Section 2.1): what a checkpoint signs.
func (db *DB) Root(ctx context.Context) (size int64, hash tlog.Hash, err error) {
	err = db.read(ctx, func(tx *sql.Tx) error {
		if size, err = ledgerSize(ctx, tx); err != nil {
			return err
		}
		hash, err = tlog.TreeHash(size, nodes(ctx, tx))
		return err
	})
	if err != nil {
		return 0, tlog.Hash{}, fmt.Errorf("computing the ledger's root: %w", err)
	}
	return size, hash, nil
}

// InclusionProof proves that entry seq is in the ledger of the first size
// entries. tlog.CheckRecord checks it.
func (db *DB) InclusionProof(ctx context.Context, size, seq int64) (tlog.RecordProof, error) {
	proof, err := prove(ctx, db, size, func(r tlog.HashReader) (tlog.RecordProof, error) {
		return tlog.ProveRecord(size, seq, r)
	})
	if err != nil {
		return nil, fmt.Errorf("proving that entry %d is in the ledger of size %d: %w", seq, size, err)
	}
	return proof, nil
}

// ConsistencyProof proves that the ledger of the first old entries is a prefix
// of that of the first size entries; 1 ≤ old ≤ size. tlog.CheckTree checks it.
func (db *DB) ConsistencyProof(ctx context.Context, old, size int64) (tlog.TreeProof, error) {
	proof, err := prove(ctx, db, size, func(r tlog.HashReader) (tlog.TreeProof, error) {
		return tlog.ProveTree(size, old, r)
	})
	if err != nil {
		return nil, fmt.Errorf("proving that the ledger of size %d continues that of size %d: %w", size, old, err)
	}
	return proof, nil
}

// prove runs a proof about the first size entries on one state of the ledger.
func prove[P any](ctx context.Context, db *DB, size int64, do func(tlog.HashReader) (P, error)) (proof P, err error) {
	err = db.read(ctx, func(tx *sql.Tx) error {
		have, err := ledgerSize(ctx, tx)
		if err != nil {
			return err
		}
		if size > have {
			return fmt.Errorf("the ledger has %d entries: %w", have, ErrNotFound)
		}
		proof, err = do(nodes(ctx, tx))
		return err
	})
	return proof, err
}

// appendEntries gives the entries their seq and the time now, and writes them
// and their part of the tree. It returns the seq of the first. Now must be read
// within tx, so that times in the ledger go the way the clock goes.
func appendEntries(ctx context.Context, tx *sql.Tx, now time.Time, entries ...Entry) (int64, error) {
	first, err := ledgerSize(ctx, tx)
	if err != nil {
		return 0, err
	}
	insertEntry, err := tx.PrepareContext(ctx, "INSERT INTO ledger (seq, entry) VALUES (?, ?)")
	if err != nil {
		return 0, err
	}
	defer insertEntry.Close()
	insertNode, err := tx.PrepareContext(ctx, "INSERT INTO node (id, hash) VALUES (?, ?)")
	if err != nil {
		return 0, err
	}
	defer insertNode.Close()

	for i, entry := range entries {
		entry.Seq, entry.Time = first+int64(i), now
		data, err := entry.Marshal()
		if err != nil {
			return 0, err
		}
		if _, err := insertEntry.ExecContext(ctx, entry.Seq, data); err != nil {
			return 0, fmt.Errorf("ledger entry %d: %w", entry.Seq, err)
		}
		hashes, err := tlog.StoredHashes(entry.Seq, data, nodes(ctx, tx))
		if err != nil {
			return 0, fmt.Errorf("ledger entry %d: %w", entry.Seq, err)
		}
		id := tlog.StoredHashIndex(0, entry.Seq)
		for j, hash := range hashes {
			if _, err := insertNode.ExecContext(ctx, id+int64(j), hash[:]); err != nil {
				return 0, fmt.Errorf("tree node %d: %w", id+int64(j), err)
			}
		}
	}
	return first, nil
}

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// ledgerSize is the number of entries, which have no gaps (see Verify).
func ledgerSize(ctx context.Context, q querier) (size int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(seq) + 1, 0) FROM ledger").Scan(&size)
	return size, err
}

// nodes reads the hashes of the ledger's tree.
func nodes(ctx context.Context, q querier) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, id := range indexes {
			var hash []byte
			err := q.QueryRowContext(ctx, "SELECT hash FROM node WHERE id = ?", id).Scan(&hash)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, fmt.Errorf("tree node %d is missing", id)
			}
			if err != nil {
				return nil, fmt.Errorf("tree node %d: %w", id, err)
			}
			if len(hash) != tlog.HashSize {
				return nil, fmt.Errorf("tree node %d has %d octets, want %d", id, len(hash), tlog.HashSize)
			}
			hashes[i] = tlog.Hash(hash)
		}
		return hashes, nil
	})
}
