package store

import (
	"bytes"
	"context"
	"fmt"
)

// Claim is the intent for a certificate that shall be the only one of its name and
// the only one of its key.
type Claim struct {
	Record
	Known [][]byte // serials of others, of that name or key, that the caller knows and doesn't mind
}

// TakenError says what stands against claims: by their place, the certificates,
// in any state, and the open intents of their names and keys.
type TakenError struct {
	Taken map[int][]Record
}

func (e *TakenError) Error() string {
	for _, list := range e.Taken {
		for _, r := range list {
			return fmt.Sprintf("%q or its key has a certificate or an intent with serial %x already, and %d more are taken", r.Name, r.Serial, len(e.Taken)-1)
		}
	}
	return "taken"
}

// Claim is Intend for certificates of which there must be no other, whoever asks
// the store at the same time. If there is one that a claim doesn't know, nothing
// is recorded, and the error is a *TakenError with all that stand against the
// claims. The claims of one call must differ in name and key.
func (db *DB) Claim(ctx context.Context, claims ...Claim) error {
	recs := make([]Record, len(claims))
	for i, c := range claims {
		recs[i] = c.Record
		if err := c.check(); err != nil {
			return fmt.Errorf("recording the intent for %q: %w", c.Name, err)
		}
	}
	err := db.write(ctx, func(ctx context.Context, tx *writing) error {
		taken, err := tx.others(ctx, claims)
		if err != nil {
			return err
		}
		if len(taken) > 0 {
			return &TakenError{taken}
		}
		return tx.intend(ctx, recs)
	})
	if err != nil {
		return fmt.Errorf("recording intents: %w", err)
	}
	return nil
}

// others returns what stands against each claim.
func (tx *writing) others(ctx context.Context, claims []Claim) (map[int][]Record, error) {
	names, ids := map[string]int{}, map[string]int{}
	var texts, numbers []any
	for i, c := range claims {
		if _, ok := names[c.Name]; ok {
			return nil, fmt.Errorf("two claims for the name %q", c.Name)
		}
		names[c.Name] = i
		texts = append(texts, c.Name)
		if c.SubjectKeyID == nil {
			continue
		}
		if _, ok := ids[string(c.SubjectKeyID)]; ok {
			return nil, fmt.Errorf("two claims for the key %x", c.SubjectKeyID)
		}
		ids[string(c.SubjectKeyID)] = i
		numbers = append(numbers, keyColumn(c.SubjectKeyID))
	}
	taken := map[int][]Record{}
	add := func(i int, r Record) {
		for _, known := range claims[i].Known {
			if bytes.Equal(known, r.Serial) {
				return
			}
		}
		for _, have := range taken[i] {
			if bytes.Equal(have.Serial, r.Serial) && have.Issuer == r.Issuer {
				return
			}
		}
		taken[i] = append(taken[i], r)
	}
	against := func(r Record) {
		if i, ok := names[r.Name]; ok {
			add(i, r)
		}
		if i, ok := ids[string(r.SubjectKeyID)]; ok && r.SubjectKeyID != nil {
			add(i, r)
		}
	}
	// 1. Certificates.
	for _, q := range []struct {
		column string
		values []any
	}{{"c.name", texts}, {"c.key", numbers}} {
		for rest := q.values; len(rest) > 0; {
			n := min(len(rest), inList)
			list, err := records(ctx, tx, fmt.Sprintf("WHERE %s IN (%s) ORDER BY c.entry DESC", q.column, placeholders(n)), rest[:n]...)
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				against(r)
			}
			rest = rest[n:]
		}
	}
	// 2. Open intents.
	batches, err := tx.batches(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range batches {
		var hit []member
		for _, m := range b.members {
			_, name := names[m.name]
			_, key := ids[string(m.subjectKeyID)]
			if name || key && m.subjectKeyID != nil {
				hit = append(hit, m)
			}
		}
		for _, m := range hit {
			if settled, err := m.settled(ctx, tx); err != nil {
				return nil, err
			} else if settled {
				continue
			}
			r, err := m.record(ctx, tx, b.time)
			if err != nil {
				return nil, err
			}
			against(r)
		}
	}
	return taken, nil
}
