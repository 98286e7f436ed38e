package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Version 1 had a row for each entry of the ledger, for each hash of its tree and
// for each intent, and knew no revocations.

// upgrade migrates a store of version 1 that is open for writing, unless another
// process has done it.
func (db *DB) upgrade(ctx context.Context) error {
	return db.write(ctx, func(ctx context.Context, tx *writing) error {
		version, err := schemaOf(ctx, tx)
		if err != nil || version == schemaVersion {
			return err
		}
		return tx.migrate(ctx)
	})
}

// copyInMemory returns the store as it is, in memory and of our version: so that
// one of version 1 can be read where it can't be written.
func (db *DB) copyInMemory(ctx context.Context) (*DB, error) {
	image, err := serialize(ctx, db.sql)
	if err != nil {
		return nil, err
	}
	mem, err := sql.Open("sqlite", "file::memory:?_txlock=immediate&_pragma=trusted_schema(OFF)")
	if err != nil {
		return nil, err
	}
	mem.SetMaxOpenConns(1) // another one would have a memory of its own
	mem.SetMaxIdleConns(1)
	out := &DB{name: db.name, sql: mem, backend: file{path: db.name}}
	if err := deserialize(ctx, mem, image); err != nil {
		mem.Close()
		return nil, err
	}
	if err := out.upgrade(ctx); err != nil {
		mem.Close()
		return nil, err
	}
	if _, err := mem.ExecContext(ctx, "PRAGMA query_only = ON"); err != nil {
		mem.Close()
		return nil, err
	}
	return out, nil
}

// image is what the driver's connections do beside SQL.
type image interface {
	Serialize() ([]byte, error)
	Deserialize([]byte) error
}

// raw lends the driver's connection.
func raw(ctx context.Context, pool *sql.DB, do func(image) error) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(image)
		if !ok {
			return fmt.Errorf("SQLite driver %T cannot serialize", driverConn)
		}
		return do(c)
	})
}

// serialize returns the octets that the file of a database has, or would have.
func serialize(ctx context.Context, pool *sql.DB) (out []byte, err error) {
	err = raw(ctx, pool, func(c image) error {
		out, err = c.Serialize()
		return err
	})
	return out, err
}

// deserialize fills a database in memory.
func deserialize(ctx context.Context, pool *sql.DB, octets []byte) error {
	return raw(ctx, pool, func(c image) error { return c.Deserialize(octets) })
}

// migrate turns a store of version 1 into one of ours, within tx. The octets of
// the ledger stay as they are, so that its root does.
func (tx *writing) migrate(ctx context.Context) error {
	// 1. The old tables make room. Their triggers and indexes go with them.
	const old = "certificate ledger object setting"
	rows, err := tx.QueryContext(ctx, "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'index') AND sql IS NOT NULL")
	if err != nil {
		return err
	}
	var statements []string
	for rows.Next() {
		var kind, name string
		if err := rows.Scan(&kind, &name); err != nil {
			rows.Close()
			return err
		}
		statements = append(statements, fmt.Sprintf(`DROP %s "%s"`, kind, strings.ReplaceAll(name, `"`, `""`)))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for table := range strings.FieldsSeq(old) {
		statements = append(statements, "ALTER TABLE "+table+" RENAME TO old_"+table)
	}
	statements = append(statements, schema()...)
	statements = append(statements, "INSERT INTO object SELECT * FROM old_object", "INSERT INTO setting SELECT * FROM old_setting")
	if err := tx.execAll(ctx, statements); err != nil {
		return err
	}
	// 2. What is in them.
	if err := tx.migrateLedger(ctx); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := tx.migrateCertificates(ctx); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	// 3. They go.
	statements = []string{"DROP TABLE node", fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)}
	for table := range strings.FieldsSeq(old) {
		statements = append(statements, "DROP TABLE old_"+table)
	}
	return tx.execAll(ctx, statements)
}

func (tx *writing) execAll(ctx context.Context, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}

// migrateLedger packs the entries into rows.
func (tx *writing) migrateLedger(ctx context.Context) error {
	p := packer{tree: tree{stored: nodes(ctx, tx)}}
	for {
		list, err := oldEntries(ctx, tx, p.tree.size)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, data := range list {
			if err := p.add(data); err != nil {
				return fmt.Errorf("entry %d: %w", p.tree.size, err)
			}
			if p.full() {
				if err := p.write(ctx, tx); err != nil {
					return err
				}
			}
		}
		if err := p.write(ctx, tx); err != nil {
			return err
		}
	}
}

// oldEntries returns a row's worth of entries of version 1.
func oldEntries(ctx context.Context, q querier, from int64) ([][]byte, error) {
	rows, err := q.QueryContext(ctx, "SELECT seq, entry FROM old_ledger WHERE seq >= $1 ORDER BY seq LIMIT $2", from, rowEntries)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list [][]byte
	for rows.Next() {
		var seq int64
		var data []byte
		if err := rows.Scan(&seq, &data); err != nil {
			return nil, err
		}
		if seq != from+int64(len(list)) || len(data) > maxEntry {
			return nil, fmt.Errorf("entry %d is missing or damaged", from+int64(len(list)))
		}
		list = append(list, data)
	}
	return list, rows.Err()
}

// migrateCertificates brings certificates and intents over.
func (tx *writing) migrateCertificates(ctx context.Context) error {
	last := int64(0)
	for {
		rows, err := tx.QueryContext(ctx, `SELECT id, serial, name, profile, issuer, actor, key_uri, subject_key_id, not_before, not_after,
			tbs_sha256, intended, issued, coalesce(entry, -1), der FROM old_certificate WHERE id > $1 ORDER BY id LIMIT $2`, last, batchMembers)
		if err != nil {
			return err
		}
		list, ids, err := scanOld(rows)
		if err != nil || len(list) == 0 {
			return err
		}
		last = ids[len(ids)-1]
		intents := map[int64][]member{}
		for _, r := range list {
			if err := r.check(); err != nil {
				return fmt.Errorf("%x: %w", r.Serial, err)
			}
			m, err := tx.member(ctx, r)
			if err != nil {
				return err
			}
			if r.State == Intended {
				intents[r.Intended.Unix()] = append(intents[r.Intended.Unix()], m)
				continue
			}
			if err := (file{}).insert(ctx, tx, []row{{m, r.DER, r.Entry, r.Issued.Unix()}}); err != nil {
				return err
			}
		}
		for time, members := range intents {
			id, err := tx.nextID(ctx, "intent")
			if err != nil {
				return err
			}
			if err := tx.insertBatch(ctx, id, time, members); err != nil {
				return err
			}
		}
	}
}

// scanOld reads rows of version 1, and closes them.
func scanOld(rows *sql.Rows) (list []Record, ids []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var r Record
		var id, notBefore, notAfter, intended int64
		var issued sql.NullInt64
		var tbsHash []byte
		err := rows.Scan(&id, &r.Serial, &r.Name, &r.Profile, &r.Issuer, &r.Actor, &r.KeyURI, &r.SubjectKeyID, &notBefore, &notAfter,
			&tbsHash, &intended, &issued, &r.Entry, &r.DER)
		if err != nil {
			return nil, nil, err
		}
		if len(tbsHash) != len(r.TBSHash) || issued.Valid != (r.Entry >= 0) || len(r.DER) > maxDER {
			return nil, nil, fmt.Errorf("row %d is damaged", id)
		}
		r.TBSHash, r.NotBefore, r.NotAfter, r.Intended = [32]byte(tbsHash), utc(notBefore), utc(notAfter), utc(intended)
		if issued.Valid {
			r.State, r.Issued = Issued, utc(issued.Int64)
		}
		list, ids = append(list, r), append(ids, id)
	}
	return list, ids, rows.Err()
}
