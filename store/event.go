package store

import (
	"context"
	"encoding/hex"
	"fmt"
)

// Event is an act that leaves no row but its ledger entry.
type Event struct {
	Kind   Kind              // KindCeremony or one of those after it
	Name   string            // what it was done to
	Actor  string            // who did it
	SHA256 [32]byte          // of the document that tells of it
	Serial []byte            // of the certificate that it is about; nil if none
	Detail map[string]string // no secrets: the ledger shows it for ever
}

// RecordEvent writes one ledger entry for each event, all or none.
func (db *DB) RecordEvent(ctx context.Context, events ...Event) error {
	entries := make([]Entry, len(events))
	for i, e := range events {
		entry, err := e.entry()
		if err != nil {
			return fmt.Errorf("recording %s %.300q: %w", e.Kind, e.Name, err)
		}
		entries[i] = entry
	}
	err := db.write(ctx, func(ctx context.Context, tx *writing) error {
		_, err := tx.append(ctx, entries...)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording events: %w", err)
	}
	return nil
}

// entry is the ledger entry of the event, but for its seq and time.
func (e Event) entry() (Entry, error) {
	if !kinds[e.Kind] {
		return Entry{}, fmt.Errorf("%q is no kind of event", e.Kind)
	}
	for _, text := range [][2]string{{"name", e.Name}, {"actor", e.Actor}} {
		if err := checkText(text[0], text[1]); err != nil {
			return Entry{}, err
		}
	}
	if e.Serial != nil {
		if err := checkSerial(e.Serial); err != nil {
			return Entry{}, err
		}
	}
	return Entry{
		Kind:   e.Kind,
		Actor:  e.Actor,
		Name:   e.Name,
		Serial: hex.EncodeToString(e.Serial),
		SHA256: hex.EncodeToString(e.SHA256[:]),
		Detail: e.Detail,
	}, nil
}
