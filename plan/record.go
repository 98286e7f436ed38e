package plan

import (
	"context"
	"errors"
	"io/fs"

	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
)

// Record writes an act into the ledger of a PKI that has one.
func (p *PKI) Record(ctx context.Context, events ...store.Event) (err error) {
	db, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.RecordEvent(ctx, events...)
}

// SnapshotStore copies the store into a new file: see store.DB.Snapshot.
func (p *PKI) SnapshotStore(ctx context.Context, path string) (err error) {
	db, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Snapshot(ctx, path)
}

// openStore opens the store for writing and never makes one.
func (p *PKI) openStore(ctx context.Context) (*store.DB, error) {
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return p.OpenStore(ctx)
}

// KeyFaults returns what is wrong with the keys that are here: they don't open, or
// are not those of their certificates. Nobody is asked for a passphrase; keys whose
// passphrase is not at hand are passed over.
func (p *PKI) KeyFaults() []Finding {
	var out findings
	for _, e := range p.Plan.Entries {
		cert := p.Have.Certificates[e.Name]
		if _, ok := p.Have.Keys[e.Name]; !ok || e.TwinOf != nil || cert == nil {
			continue
		}
		quiet := *e
		quiet.Passphrase.Prompt, quiet.Passphrase.Optional = false, true
		signer, err := p.ring.signer(&quiet)
		switch {
		case errors.Is(err, keys.ErrPassphraseNeeded), errors.Is(err, fs.ErrNotExist):
		case err != nil:
			out.add(Bad, e.Name, "%v", err)
		case !spki.Equal(signer.Public(), cert.Key):
			out.add(Bad, e.Name, "the key at %s is not the key of its certificate", e.Key)
		}
	}
	return out.list
}
