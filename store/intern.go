package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"sync"
)

// class is what the certificates of one profile from one key of an authority have
// in common.
type class struct {
	profile, issuer string
	issuerKey       string // octets; "" if not known
}

// known holds ids of the tables class and actor, whose rows never change.
type known struct {
	mu      sync.Mutex
	classes map[class]int64
	actors  map[string]int64
}

// class returns the id of c, which gets a row if it has none.
func (tx *writing) class(ctx context.Context, c class) (int64, error) {
	if id, ok := tx.classes[c]; ok {
		return id, nil
	}
	var id int64
	err := tx.QueryRowContext(ctx, "SELECT id FROM class WHERE profile = $1 AND issuer = $2 AND issuer_key = $3", c.profile, c.issuer, octets(c.issuerKey)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if id, err = tx.nextID(ctx, "class"); err == nil {
			_, err = tx.ExecContext(ctx, "INSERT INTO class (id, profile, issuer, issuer_key) VALUES ($1, $2, $3, $4)", id, c.profile, c.issuer, octets(c.issuerKey))
		}
	}
	if err != nil {
		return 0, fmt.Errorf("class %q of %q: %w", c.profile, c.issuer, err)
	}
	tx.classes[c] = id
	return id, nil
}

// actor returns the id of an actor, who gets a row if there is none.
func (tx *writing) actor(ctx context.Context, name string) (int64, error) {
	if id, ok := tx.actors[name]; ok {
		return id, nil
	}
	var id int64
	err := tx.QueryRowContext(ctx, "SELECT id FROM actor WHERE name = $1", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if id, err = tx.nextID(ctx, "actor"); err == nil {
			_, err = tx.ExecContext(ctx, "INSERT INTO actor (id, name) VALUES ($1, $2)", id, name)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("actor %q: %w", name, err)
	}
	tx.actors[name] = id
	return id, nil
}

// nextID is the id of the next row of a table.
func (tx *writing) nextID(ctx context.Context, table string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) + 1 FROM "+table).Scan(&id)
	return id, err
}

// begin lends a transaction what is known.
func (k *known) begin(tx *writing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	tx.classes, tx.actors = maps.Clone(k.classes), maps.Clone(k.actors)
	if tx.classes == nil {
		tx.classes, tx.actors = map[class]int64{}, map[string]int64{}
	}
}

// commit keeps what a transaction has learnt, now that it is durable.
func (k *known) commit(tx *writing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.classes, k.actors = tx.classes, tx.actors
}

// octets is s as an octet string that is not NULL.
func octets(s string) []byte {
	return append([]byte{}, s...)
}
