package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxValue limits the value of a setting, in octets.
const maxValue = 4 << 10

// Setting returns a small value that the PKI keeps, such as the GUID of the
// owner of its UEFI keys, or an error that is ErrNotFound.
func (db *DB) Setting(ctx context.Context, key string) (string, error) {
	var value string
	err := db.sql.QueryRowContext(ctx, "SELECT value FROM setting WHERE key = $1", key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("setting %q: %w", key, err)
	}
	return value, nil
}

// SetSetting gives a setting a value of at most 4 KiB, in place of the old one.
// The ledger shows the value and all before it, so it must be no secret.
func (db *DB) SetSetting(ctx context.Context, actor, key, value string) error {
	err := db.setSetting(ctx, actor, key, value)
	if err != nil {
		return fmt.Errorf("setting %q: %w", key, err)
	}
	return nil
}

// setSetting is SetSetting without the key in its errors.
func (db *DB) setSetting(ctx context.Context, actor, key, value string) error {
	if err := checkText("key", key); err != nil {
		return err
	}
	if err := checkText("actor", actor); err != nil {
		return err
	}
	if len(value) > maxValue || !utf8.ValidString(value) {
		return fmt.Errorf("value of %d octets is longer than %d, or not UTF-8", len(value), maxValue)
	}
	entry := Entry{
		Kind:   KindSetting,
		Actor:  actor,
		Name:   key,
		SHA256: digest([]byte(value)),
		Detail: map[string]string{"value": value},
	}
	return db.write(ctx, func(ctx context.Context, tx *writing) error {
		seq, err := tx.append(ctx, entry)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO setting (key, value, entry) VALUES ($1, $2, $3)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value, entry = excluded.entry`, key, value, seq)
		return err
	})
}
