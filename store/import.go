package store

import (
	"context"
	"fmt"
)

// Imported is a certificate that was signed elsewhere: by the CA that came before
// this program, or on an offline machine. The caller fills the first group of
// Record and DER; TBSHash is not needed.
type Imported struct {
	Record
	Detail map[string]string // for the ledger: where it comes from
}

// Import records certificates and their ledger entries, all or none. Serials are
// the issuer's: two authorities may have given the same one. What the issuer has
// given already is a *DuplicateSerialError.
func (db *DB) Import(ctx context.Context, list ...Imported) error {
	for _, c := range list {
		err := c.Record.check()
		if err == nil && (len(c.DER) == 0 || len(c.DER) > maxDER) {
			err = fmt.Errorf("DER of %d octets, want 1 to %d", len(c.DER), maxDER)
		}
		if err != nil {
			return fmt.Errorf("importing %q: %w", c.Name, err)
		}
	}
	err := db.write(ctx, func(ctx context.Context, tx *writing) error {
		rows := make([]row, len(list))
		details := make([]map[string]string, len(list))
		fresh := map[[2]string]bool{}
		for i, c := range list {
			all, err := bySerial(ctx, tx, c.Serial)
			if err != nil {
				return err
			}
			id := [2]string{c.Issuer, string(c.Serial)}
			if len(ofIssuer(all, c.Issuer)) > 0 || fresh[id] {
				return &DuplicateSerialError{Serial: c.Serial}
			}
			fresh[id] = true
			m, err := tx.member(ctx, c.Record)
			if err != nil {
				return err
			}
			rows[i], details[i] = row{member: m, der: c.DER}, c.Detail
		}
		return tx.insert(ctx, KindImport, rows, details)
	})
	if err != nil {
		return fmt.Errorf("importing certificates: %w", err)
	}
	return nil
}
