package store

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// postgresSchema writes schema() in PostgreSQL's words: so there is one list of
// tables. Texts are compared by their octets, as SQLite does. What SQLite says in
// its header stands in the table store.
func postgresSchema() []string {
	out := []string{
		"CREATE TABLE store (application text NOT NULL, version bigint NOT NULL, CHECK (application = 'tmpki'))",
		fmt.Sprintf("INSERT INTO store (application, version) VALUES ('tmpki', %d)", schemaVersion),
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''%'', TG_ARGV[0]; END'",
	}
	table := regexp.MustCompile(`\b(INTEGER PRIMARY KEY|INTEGER|TEXT|BLOB)\b`)
	trigger := regexp.MustCompile(`^CREATE TRIGGER (\w+) (BEFORE (DELETE|UPDATE)(?: OF [\w, ]+)? ON (\w+))( WHEN .*)? BEGIN SELECT RAISE\(ABORT, ('[^']*')\); END$`)
	types := map[string]string{"INTEGER PRIMARY KEY": "bigint PRIMARY KEY", "INTEGER": "bigint", "TEXT": `text COLLATE "C"`, "BLOB": "bytea"}
	for _, statement := range schema() {
		m := trigger.FindStringSubmatch(statement)
		if m == nil {
			statement = table.ReplaceAllStringFunc(statement, func(t string) string { return types[t] })
			statement, _ = strings.CutSuffix(statement, " STRICT, WITHOUT ROWID")
			statement, _ = strings.CutSuffix(statement, " STRICT")
			out = append(out, indexes(statement))
			continue
		}
		when := ""
		if m[5] != "" {
			when = " WHEN (" + strings.TrimPrefix(m[5], " WHEN ") + ")"
		}
		out = append(out, fmt.Sprintf("CREATE TRIGGER %s %s FOR EACH ROW%s EXECUTE FUNCTION refuse(%s)", m[1], m[2], when, m[6]))
		if m[3] == "DELETE" {
			out = append(out, fmt.Sprintf("CREATE TRIGGER %s_truncate BEFORE TRUNCATE ON %s EXECUTE FUNCTION refuse(%s)", m[4], m[4], m[6]))
		}
	}
	return out
}

// indexes adds the ledger entry to indexes whose rows are read in its order: those
// of SQLite end with it anyhow.
func indexes(statement string) string {
	for _, name := range []string{"certificate_name", "certificate_class", "certificate_not_after", "crl_latest"} {
		if strings.HasPrefix(statement, "CREATE INDEX "+name+" ") {
			return strings.TrimSuffix(statement, ")") + ", entry)"
		}
	}
	return statement
}

// postgresCatalog is what the catalog of PostgreSQL says of a new store; a test
// writes it.
//
//go:embed postgres_catalog.txt
var postgresCatalog string

// catalog lists what the database has in the schema: columns, constraints, indexes,
// triggers, functions.
func (p postgres) catalog(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
			|| CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
			|| coalesce(' collate ' || nullif(o.collname, 'default'), '')
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			LEFT JOIN pg_collation o ON o.oid = a.attcollation
			WHERE c.relnamespace = $1::text::regnamespace AND c.relkind NOT IN ('i', 't') AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL SELECT 'relation ' || c.relname || ' ' || c.relkind::text || ' ' || c.relpersistence::text
			|| CASE WHEN c.relrowsecurity OR c.relhasrules THEN ' has rules' ELSE '' END
			FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind NOT IN ('i', 't')
		UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = $1::text::regnamespace AND contype <> 'n'
		UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' invalid' END
			FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = $1::text::regnamespace
		UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' not enabled' END
			FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = $1::text::regnamespace AND NOT t.tgisinternal
		UNION ALL SELECT 'function ' || proname || ' ' || prosrc FROM pg_proc WHERE pronamespace = $1::text::regnamespace`, p.schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		list = append(list, strings.ReplaceAll(line, " ON "+p.schema+".", " ON SCHEMA."))
	}
	slices.Sort(list)
	return list, rows.Err()
}

// verify compares the catalog with ours, to the letter.
func (p postgres) verify(ctx context.Context, tx *sql.Tx) error {
	have, err := p.catalog(ctx, tx)
	if err != nil {
		return err
	}
	want := strings.Split(strings.TrimSuffix(postgresCatalog, "\n"), "\n")
	for _, line := range have {
		i := slices.Index(want, line)
		if i < 0 {
			return fmt.Errorf("the schema has something that is not ours: %.120q", line)
		}
		want = slices.Delete(want, i, i+1)
	}
	if len(want) > 0 {
		return fmt.Errorf("the schema lacks %.120q", want[0])
	}
	return nil
}
