package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"time"
)

// maxContent limits an object, in octets.
const maxContent = 4 << 20

// Object is a signed blob that is no certificate, such as an authenticated
// UEFI variable. Each PutObject of a name makes a new version of it.
type Object struct {
	Name    string
	Kind    string
	Actor   string            // who had it made
	Serial  []byte            // of the certificate whose key signed it; nil if none
	Content []byte            // at most 4 MiB
	Detail  map[string]string // for the ledger; "kind" is taken

	Time  time.Time // when PutObject was called; the store sets it
	Entry int64     // seq of the ledger entry; the store sets it
}

// PutObject records a version of an object and its ledger entry. The older
// versions stay in the file.
func (db *DB) PutObject(ctx context.Context, o Object) error {
	entry, err := o.entry()
	if err != nil {
		return fmt.Errorf("recording object %q: %w", o.Name, err)
	}
	err = db.write(ctx, func(ctx context.Context, tx *writing) error {
		seq, err := tx.append(ctx, entry)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO object (entry, name, kind, content) VALUES ($1, $2, $3, $4)", seq, o.Name, o.Kind, o.Content)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording object %q: %w", o.Name, err)
	}
	return nil
}

// Object returns the newest version of the object, or an error that is
// ErrNotFound.
func (db *DB) Object(ctx context.Context, name string) (Object, error) {
	objects, err := db.objects(ctx, "WHERE o.name = $1 ORDER BY o.entry DESC LIMIT 1", name)
	if err == nil && len(objects) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Object{}, fmt.Errorf("object %q: %w", name, err)
	}
	return objects[0], nil
}

// Versions yields the versions of an object, newest first, or an error and then
// no more. It reads them one by one, so that the loop may use the store.
func (db *DB) Versions(ctx context.Context, name string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		before := int64(math.MaxInt64)
		for {
			objects, err := db.objects(ctx, "WHERE o.name = $1 AND o.entry < $2 ORDER BY o.entry DESC LIMIT 1", name, before)
			if err != nil {
				yield(Object{}, fmt.Errorf("versions of object %q: %w", name, err))
				return
			}
			if len(objects) == 0 || !yield(objects[0], nil) {
				return
			}
			before = objects[0].Entry
		}
	}
}

// Objects returns the newest version of each object, in the order of their
// names.
func (db *DB) Objects(ctx context.Context) ([]Object, error) {
	objects, err := db.objects(ctx, "WHERE o.entry IN (SELECT max(entry) FROM object GROUP BY name) ORDER BY o.name")
	if err != nil {
		return nil, fmt.Errorf("listing objects: %w", err)
	}
	return objects, nil
}

// objects returns the objects that where selects, as the ledger tells of them.
func (db *DB) objects(ctx context.Context, where string, args ...any) (objects []Object, err error) {
	err = db.read(ctx, func(tx *sql.Tx) error {
		objects, err = readObjects(ctx, tx, where, args...)
		return err
	})
	return objects, err
}

func readObjects(ctx context.Context, tx *sql.Tx, where string, args ...any) ([]Object, error) {
	rows, err := tx.QueryContext(ctx, "SELECT o.entry, o.name, o.kind, o.content FROM object o "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var objects []Object
	for rows.Next() {
		var o Object
		if err := rows.Scan(&o.Entry, &o.Name, &o.Kind, &o.Content); err != nil {
			return nil, err
		}
		if len(o.Content) > maxContent {
			return nil, fmt.Errorf("object %q has %d octets, more than %d", o.Name, len(o.Content), maxContent)
		}
		objects = append(objects, o)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i := range objects {
		o := &objects[i]
		entry, err := entryAt(ctx, tx, o.Entry)
		if err != nil {
			return nil, fmt.Errorf("ledger entry %d: %w", o.Entry, err)
		}
		if entry.Serial != "" {
			if o.Serial, err = hex.DecodeString(entry.Serial); err != nil {
				return nil, fmt.Errorf("ledger entry %d: %w", o.Entry, err)
			}
		}
		o.Actor, o.Time, o.Detail = entry.Actor, entry.Time, entry.Detail
		delete(o.Detail, "kind")
	}
	return objects, nil
}

// entry is the ledger entry of a new version, but for its seq and time.
func (o Object) entry() (Entry, error) {
	for _, text := range [][2]string{{"name", o.Name}, {"kind", o.Kind}, {"actor", o.Actor}} {
		if err := checkText(text[0], text[1]); err != nil {
			return Entry{}, err
		}
	}
	if len(o.Content) == 0 || len(o.Content) > maxContent {
		return Entry{}, fmt.Errorf("content of %d octets, want 1 to %d", len(o.Content), maxContent)
	}
	if _, taken := o.Detail["kind"]; taken {
		return Entry{}, errors.New(`detail "kind" is the store's own`)
	}
	detail := map[string]string{"kind": o.Kind}
	maps.Copy(detail, o.Detail)
	return Entry{
		Kind:   KindObject,
		Actor:  o.Actor,
		Name:   o.Name,
		Serial: hex.EncodeToString(o.Serial),
		SHA256: digest(o.Content),
		Detail: detail,
	}, nil
}
