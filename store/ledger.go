package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxEntries limits what Entries returns at once.
	maxEntries = 1000
	// rowEntries and rowOctets limit a row of the ledger: it ends with the entry
	// that reaches one of them.
	rowEntries, rowOctets = 256, 1 << 20
)

// A row of the ledger holds entries that were written together, from seq on:
//
//   - entries, each behind its length in two octets, big-endian, as the entry
//     bundles of C2SP tlog-tiles have them;
//   - tree, the hashes that these entries add to the tree, in the order of
//     tlog.StoredHashIndex, in which they follow each other.
//
// So a batch of certificates costs one row here, and not three for each.

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
	entries, err := db.entries(ctx, max(0, from), max(0, min(limit, maxEntries)))
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return entries, nil
}

func (db *DB) entries(ctx context.Context, from int64, limit int) ([]Entry, error) {
	if limit == 0 {
		return nil, nil
	}
	var entries []Entry
	err := eachEntry(ctx, db.sql, from, func(seq int64, data []byte) (bool, error) {
		entry, err := ParseEntry(data)
		if err != nil {
			return false, fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		entries = append(entries, entry)
		return len(entries) < limit, nil
	})
	return entries, err
}

// entryAt returns one entry, or ErrNotFound.
func entryAt(ctx context.Context, q querier, seq int64) (entry Entry, err error) {
	found := false
	err = eachEntry(ctx, q, seq, func(at int64, data []byte) (bool, error) {
		if at == seq {
			found = true
			entry, err = ParseEntry(data)
		}
		return false, err
	})
	if err == nil && !found {
		err = ErrNotFound
	}
	return entry, err
}

// eachEntry calls do with the encodings of the entries from seq from on, until it
// returns false or an error.
func eachEntry(ctx context.Context, q querier, from int64, do func(seq int64, data []byte) (bool, error)) error {
	rows, err := q.QueryContext(ctx, `SELECT seq, count, entries FROM ledger
		WHERE seq >= (SELECT coalesce(max(seq), 0) FROM ledger WHERE seq <= $1) ORDER BY seq`, from)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var count int
		var bundle []byte
		if err := rows.Scan(&seq, &count, &bundle); err != nil {
			return err
		}
		list, err := splitBundle(bundle, count)
		if err != nil {
			return fmt.Errorf("ledger entry %d: %w", seq, err)
		}
		for i, data := range list {
			if seq+int64(i) < from {
				continue
			}
			if more, err := do(seq+int64(i), data); err != nil || !more {
				return err
			}
		}
	}
	return rows.Err()
}

// splitBundle takes the entries of a row apart.
func splitBundle(bundle []byte, count int) ([][]byte, error) {
	if count < 1 || count > rowEntries {
		return nil, fmt.Errorf("row of %d entries, want 1 to %d", count, rowEntries)
	}
	list := make([][]byte, 0, count)
	for rest := bundle; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, errors.New("row is cut short")
		}
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n {
			return nil, errors.New("row is cut short")
		}
		list, rest = append(list, rest[2:2+n]), rest[2+n:]
	}
	if len(list) != count {
		return nil, fmt.Errorf("row of %d entries holds %d", count, len(list))
	}
	return list, nil
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

// RootAt returns the Merkle tree hash of the first size entries: what Root
// returned when there were no more.
func (db *DB) RootAt(ctx context.Context, size int64) (tlog.Hash, error) {
	hash, err := prove(ctx, db, size, func(r tlog.HashReader) (tlog.Hash, error) {
		return tlog.TreeHash(size, r)
	})
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("computing the root of the ledger of size %d: %w", size, err)
	}
	return hash, nil
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
		if size < 0 || size > have {
			return fmt.Errorf("the ledger has %d entries: %w", have, ErrNotFound)
		}
		proof, err = do(nodes(ctx, tx))
		return err
	})
	return proof, err
}

// append gives the entries their seq and the time of the transaction, and writes
// them and their part of the tree, at the latest when the transaction commits. It
// returns the seq of the first.
func (tx *writing) append(ctx context.Context, entries ...Entry) (int64, error) {
	if tx.ledger == nil {
		size, err := ledgerSize(ctx, tx)
		if err != nil {
			return 0, err
		}
		tx.ledger = &packer{tree: tree{size: size, stored: nodes(ctx, tx)}}
	}
	p := tx.ledger
	first := p.tree.size
	for _, entry := range entries {
		entry.Seq, entry.Time = p.tree.size, tx.now
		data, err := entry.Marshal()
		if err != nil {
			return 0, err
		}
		if err := p.add(data); err != nil {
			return 0, fmt.Errorf("ledger entry %d: %w", entry.Seq, err)
		}
		if p.full() {
			if err := p.write(ctx, tx); err != nil {
				return 0, err
			}
		}
	}
	return first, nil
}

// packer makes rows of the ledger.
type packer struct {
	tree   tree
	count  int64
	bundle []byte
}

func (p *packer) add(entry []byte) error {
	p.bundle = binary.BigEndian.AppendUint16(p.bundle, uint16(len(entry)))
	p.bundle = append(p.bundle, entry...)
	p.count++
	return p.tree.add(entry)
}

// clone returns a packer that goes on from the same place.
func (p *packer) clone() *packer {
	c := *p
	c.bundle = slices.Clone(p.bundle)
	c.tree.edge, c.tree.fresh = maps.Clone(p.tree.edge), slices.Clone(p.tree.fresh)
	return &c
}

func (p *packer) full() bool { return p.count == rowEntries || len(p.bundle) >= rowOctets }

// write puts the row in, if it holds anything, and begins the next.
func (p *packer) write(ctx context.Context, tx *writing) error {
	if p.count == 0 {
		return nil
	}
	seq := p.tree.size - p.count
	_, err := tx.ExecContext(ctx, "INSERT INTO ledger (seq, count, tree, entries) VALUES ($1, $2, $3, $4)", seq, p.count, p.tree.take(), p.bundle)
	if err != nil {
		return fmt.Errorf("ledger entry %d: %w", seq, err)
	}
	p.count, p.bundle = 0, nil
	return nil
}

// tree grows the ledger's tree.
type tree struct {
	size   int64               // in entries
	stored tlog.HashReader     // of the hashes that were there before
	edge   map[int64]tlog.Hash // the subtrees that wait for their right sibling, by node id, as far as known
	fresh  []byte              // the hashes since the last take
}

// add puts an entry at the end.
func (t *tree) add(entry []byte) error {
	if t.edge == nil {
		t.edge = map[int64]tlog.Hash{}
	}
	hashes, err := tlog.StoredHashes(t.size, entry, tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			hash, ok := t.edge[id]
			if !ok {
				list, err := t.stored.ReadHashes([]int64{id})
				if err != nil {
					return nil, err
				}
				hash = list[0]
			}
			delete(t.edge, id) // each is needed once, when its sibling comes
			out[i] = hash
		}
		return out, nil
	}))
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		t.fresh = append(t.fresh, hash[:]...)
	}
	top := len(hashes) - 1
	t.edge[tlog.StoredHashIndex(0, t.size)+int64(top)] = hashes[top]
	t.size++
	return nil
}

// take returns the hashes that were added since the last call.
func (t *tree) take() []byte {
	out := t.fresh
	t.fresh = nil
	return out
}

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ledgerSize is the number of entries, which have no gaps (see Verify).
func ledgerSize(ctx context.Context, q querier) (size int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT seq + count FROM ledger ORDER BY seq DESC LIMIT 1").Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return size, err
}

// nodes reads the hashes of the ledger's tree.
func nodes(ctx context.Context, q querier) tlog.HashReader {
	return tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			// The entry that completes the subtree added its hash.
			level, n := tlog.SplitStoredHashIndex(id)
			var seq int64
			var row []byte
			err := q.QueryRowContext(ctx, "SELECT seq, tree FROM ledger WHERE seq <= $1 ORDER BY seq DESC LIMIT 1", (n+1)<<level-1).Scan(&seq, &row)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, fmt.Errorf("tree node %d is missing", id)
			}
			if err != nil {
				return nil, fmt.Errorf("tree node %d: %w", id, err)
			}
			at := (id - tlog.StoredHashIndex(0, seq)) * tlog.HashSize
			if int64(len(row)) < at+tlog.HashSize {
				return nil, fmt.Errorf("tree node %d is missing", id)
			}
			hashes[i] = tlog.Hash(row[at:])
		}
		return hashes, nil
	})
}
