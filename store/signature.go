package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Signature tells of an artifact that was signed. The store keeps neither the
// artifact nor its signature.
type Signature struct {
	Artifact string   // its kind, such as "efi" or "module"
	File     string   // its name
	SHA256   [32]byte // of its content, as it was before signing
	Size     int64    // of its content, in octets
	Signer   string   // name of the certificate whose key signed
	Serial   []byte   // of that certificate
	Actor    string   // who had it signed
}

// RecordSignature writes one ledger entry for each signature, all or none. The
// caller publishes a signature only after that.
func (db *DB) RecordSignature(ctx context.Context, signatures ...Signature) error {
	entries := make([]Entry, len(signatures))
	for i, s := range signatures {
		entry, err := s.entry()
		if err != nil {
			return fmt.Errorf("recording the signature of %q: %w", s.File, err)
		}
		entries[i] = entry
	}
	err := db.write(ctx, func(ctx context.Context, tx *writing) error {
		_, err := tx.append(ctx, entries...)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording signatures: %w", err)
	}
	return nil
}

// entry is the ledger entry of the signature, but for its seq and time.
func (s Signature) entry() (Entry, error) {
	for _, text := range [][2]string{{"artifact", s.Artifact}, {"signer", s.Signer}, {"actor", s.Actor}} {
		if err := checkText(text[0], text[1]); err != nil {
			return Entry{}, err
		}
	}
	if err := checkSerial(s.Serial); err != nil {
		return Entry{}, err
	}
	if s.Size < 0 {
		return Entry{}, fmt.Errorf("negative size %d", s.Size)
	}
	return Entry{
		Kind:   KindSign,
		Actor:  s.Actor,
		Name:   s.File,
		Serial: hex.EncodeToString(s.Serial),
		SHA256: hex.EncodeToString(s.SHA256[:]),
		Detail: map[string]string{
			"artifact": s.Artifact,
			"size":     strconv.FormatInt(s.Size, 10),
			"signer":   s.Signer,
		},
	}, nil
}
