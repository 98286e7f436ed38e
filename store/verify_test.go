package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tamper changes a store behind the triggers' back, and then puts them back,
// so that their absence is not what Verify finds.
func tamper(t *testing.T, db *DB, statements string) {
	t.Helper()
	var script strings.Builder
	script.WriteString("PRAGMA ignore_check_constraints = ON;\n")
	for _, statement := range schema() {
		if name, found := strings.CutPrefix(statement, "CREATE TRIGGER "); found {
			name, _, _ = strings.Cut(name, " ")
			fmt.Fprintf(&script, "DROP TRIGGER %s;\n", name)
		}
	}
	script.WriteString(statements + ";\n")
	for _, statement := range schema() {
		if strings.HasPrefix(statement, "CREATE TRIGGER ") {
			script.WriteString(statement + ";\n")
		}
	}
	script.WriteString("PRAGMA ignore_check_constraints = OFF;\n")
	if _, err := db.sql.ExecContext(t.Context(), script.String()); err != nil {
		t.Fatalf("%v in\n%s", err, script.String())
	}
}

// swap exchanges a column of the rows a and b. It first takes the entries out
// of certificates, where they are unique.
func swap(table, key, column string, a, b int) string {
	return fmt.Sprintf(`CREATE TEMP TABLE spare AS SELECT %[2]s AS k, %[3]s AS v FROM %[1]s WHERE %[2]s IN (%[4]d, %[5]d);
		UPDATE %[1]s SET %[3]s = NULL WHERE %[2]s IN (%[4]d, %[5]d) AND '%[3]s' = 'entry' AND '%[1]s' = 'certificate';
		UPDATE %[1]s SET %[3]s = (SELECT v FROM spare WHERE k = %[5]d) WHERE %[2]s = %[4]d;
		UPDATE %[1]s SET %[3]s = (SELECT v FROM spare WHERE k = %[4]d) WHERE %[2]s = %[5]d`, table, key, column, a, b)
}

// fullStore returns the file of a store that has certificates in entries 0 to 4
// (row ids 1 to 5), one intent (6), objects in 5 and 6, settings in 7 and 8, a
// signature in 9. Node ids of level 0 are 0 1 3 4 7 8 10 11 15 16.
func fullStore(t *testing.T) []byte {
	t.Helper()
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 4)
	must(t, db.Intend(ctx, record(99)))
	for _, name := range []string{"PK.auth", "db.auth"} {
		must(t, db.PutObject(ctx, Object{Name: name, Kind: "uefi", Actor: "me", Content: []byte(name)}))
	}
	must(t, db.SetSetting(ctx, "me", "owner", "first"))
	must(t, db.SetSetting(ctx, "me", "owner", "second"))
	must(t, db.RecordSignature(ctx, Signature{Artifact: "efi", File: "f", Signer: "s", Serial: serial(0), Actor: "me"}))
	must(t, db.Close())
	image, err := os.ReadFile(db.path)
	must(t, err)
	return image
}

func TestVerifyFindsTampering(t *testing.T) {
	tests := []struct {
		name, statements, want string
	}{
		// The ledger's octets and its tree.
		{"a byte of an entry", `UPDATE ledger SET entry = CAST(replace(CAST(entry AS TEXT), 'line 1', 'line 2') AS BLOB) WHERE seq = 3`,
			"ledger entry 3 does not have the hash stored for it (tree node 4)"},
		{"two entries swapped", swap("ledger", "seq", "entry", 1, 2),
			"ledger entry 1 does not have the hash stored for it"},
		{"an entry deleted", `DELETE FROM ledger WHERE seq = 2`,
			"ledger entry 2 is missing: the next is 3"},
		{"the first entry deleted", `DELETE FROM ledger WHERE seq = 0`,
			"ledger entry 0 is missing: the next is 1"},
		{"the last entry deleted", `DELETE FROM ledger WHERE seq = 9`,
			"more nodes than its entries give"},
		{"an entry added", `INSERT INTO ledger SELECT 10, entry FROM ledger WHERE seq = 9`,
			"tree node 18 is missing, and all after it"},
		{"a negative entry added", `INSERT INTO ledger SELECT -1, entry FROM ledger WHERE seq = 9`,
			"ledger entry 0 is missing: the next is -1"},
		{"a leaf hash", `UPDATE node SET hash = zeroblob(32) WHERE id = 7`,
			"ledger entry 4 does not have the hash stored for it (tree node 7)"},
		{"an interior hash", `UPDATE node SET hash = zeroblob(32) WHERE id = 6`,
			"tree node 6 does not have the hash of the entries below it, up to entry 3 (level 2)"},
		{"a short hash", `UPDATE node SET hash = x'00' WHERE id = 2`,
			"tree node 2 does not have the hash"},
		{"a node deleted", `DELETE FROM node WHERE id = 5`,
			"tree node 5 is missing: the next is 6"},
		{"a node added", `INSERT INTO node VALUES (99, zeroblob(32))`,
			"more nodes than its entries give"},
		{"an object moved over the cut end", `DELETE FROM ledger WHERE seq = 9; DELETE FROM node WHERE id >= 16; UPDATE object SET entry = 9 WHERE entry = 6`,
			`ledger entry 6: object "db.auth" has no row`},

		// Certificates.
		{"DER", `UPDATE certificate SET der = x'00' WHERE id = 2`,
			"ledger entry 1: certificate 5a0000000000000001 has the DER digest"},
		{"DER swapped", swap("certificate", "id", "der", 1, 2),
			"ledger entry 0: certificate 5a0000000000000000 has the DER digest"},
		{"entries of certificates swapped", swap("certificate", "id", "entry", 1, 2),
			`ledger entry 0: certificate 5a0000000000000001 has the serial`},
		{"serial", `UPDATE certificate SET serial = x'77' WHERE id = 2`,
			`ledger entry 1: certificate 77 has the serial "77"`},
		{"name", `UPDATE certificate SET name = 'x' WHERE id = 2`, `has the name "x", the ledger says "device-1"`},
		{"profile", `UPDATE certificate SET profile = 'x' WHERE id = 2`, `has the profile "x"`},
		{"issuer", `UPDATE certificate SET issuer = 'x' WHERE id = 2`, `has the issuer "x"`},
		{"actor", `UPDATE certificate SET actor = 'x' WHERE id = 2`, `has the actor "x"`},
		{"time of issue", `UPDATE certificate SET issued = 1 WHERE id = 2`, "was issued 1970-01-01"},
		{"unknown state", `UPDATE certificate SET state = 7 WHERE id = 2`, "has state unknown state 7"},
		{"certificate deleted", `DELETE FROM certificate WHERE id = 2`,
			"ledger entry 1: certificate 5a0000000000000001 has no row"},
		{"certificate made an intent", `UPDATE certificate SET state = 0, der = NULL, entry = NULL, issued = NULL WHERE id = 2`,
			"ledger entry 1: certificate 5a0000000000000001 has no row"},
		{"state alone", `UPDATE certificate SET state = 0 WHERE id = 2`, "CHECK constraint failed in certificate"},
		{"certificate without entry", `UPDATE certificate SET state = 1, der = x'00', entry = 77, issued = 1 WHERE id = 6`,
			`certificate 5a0000000000000063 ("device-0") names ledger entry 77, which is not there`},
		{"certificate with another's entry", `UPDATE certificate SET state = 1, der = x'00', entry = 9, issued = 1 WHERE id = 6`,
			"certificate 5a0000000000000063 names ledger entry 9, which is no issuance"},

		// Objects.
		{"content", `UPDATE object SET content = x'00' WHERE entry = 5`, `ledger entry 5: object "PK.auth" has the content digest`},
		{"object's name", `UPDATE object SET name = 'x' WHERE entry = 5`, `object "x" has the name "x"`},
		{"object's kind", `UPDATE object SET kind = 'x' WHERE entry = 5`, `object "PK.auth" has the kind "x"`},
		{"object deleted", `DELETE FROM object WHERE entry = 5`, `ledger entry 5: object "PK.auth" has no row`},
		{"object added", `INSERT INTO object VALUES (50, 'x', 'x', x'00')`, `object "x" names ledger entry 50, which is not there`},
		{"object with another's entry", `INSERT INTO object VALUES (9, 'x', 'x', x'00')`, `object "x" names ledger entry 9, which records no object`},

		// Settings.
		{"value", `UPDATE setting SET value = 'x'`, `setting "owner" is "x" by ledger entry 8, the ledger says "second" by entry 8`},
		{"older value", `UPDATE setting SET value = 'first', entry = 7`, `setting "owner" is "first" by ledger entry 7`},
		{"setting deleted", `DELETE FROM setting`, `setting "owner" has no row`},
		{"setting added", `INSERT INTO setting VALUES ('x', 'y', 7)`, `setting "x" has no ledger entry`},

		// The schema.
		{"index dropped", `DROP INDEX certificate_not_after`, `the schema lacks "CREATE INDEX certificate_not_after`},
		{"table added", `CREATE TABLE x (y)`, `something that is not ours: "CREATE TABLE x (y)"`},
	}
	image := fullStore(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pki.db")
			must(t, os.WriteFile(path, image, 0o600))
			db := reopen(t, path)
			must(t, db.Verify(t.Context()))
			tamper(t, db, test.statements)
			err := db.Verify(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\nwant %q", err, test.want)
			}
		})
	}
}

// Who rehashes the tree over a changed entry is found by the row it records.
func TestVerifyFindsRehashedEntry(t *testing.T) {
	db := newDB(t)
	issue(t, db, 0, 0)
	entries, err := db.Entries(t.Context(), 0, 1)
	must(t, err)
	for _, test := range []struct {
		change func(*Entry)
		want   string
	}{
		{func(e *Entry) { e.Actor = "x" }, `the ledger says "x"`},
		{func(e *Entry) { e.Seq = 1 }, "ledger entry 0 says that it is entry 1"},
		{func(e *Entry) { e.Kind = KindSign }, "names ledger entry 0, which is no issuance"},
	} {
		entry := entries[0]
		test.change(&entry)
		data, err := entry.Marshal()
		must(t, err)
		tamper(t, db, fmt.Sprintf("UPDATE ledger SET entry = x'%x'; UPDATE node SET hash = x'%x'", data, leafHash(data)))
		if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	data := []byte(`{"kind":"issue" }`)
	tamper(t, db, fmt.Sprintf("UPDATE ledger SET entry = x'%x'; UPDATE node SET hash = x'%x'", data, leafHash(data)))
	if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "ledger entry 0: ") {
		t.Errorf("entry that is no entry: %v", err)
	}
}

// What Verify says it can't find: only who kept the root sees that the end of the
// store is gone.
func TestCutStoreTakesACheckpointToFind(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 3)
	size, root, err := db.Root(ctx)
	must(t, err)
	tamper(t, db, `DELETE FROM ledger WHERE seq = 3; DELETE FROM node WHERE id >= 4; DELETE FROM certificate WHERE entry = 3`)
	must(t, db.Verify(ctx))
	if _, err := db.ConsistencyProof(ctx, size, size); !errors.Is(err, ErrNotFound) {
		t.Errorf("the checkpoint's size is still there: %v", err)
	}
	// Another certificate in its place makes the size right, but not the root.
	issue(t, db, 4, 4)
	must(t, db.Verify(ctx))
	if newSize, newRoot, err := db.Root(ctx); err != nil || newSize != size || newRoot == root {
		t.Errorf("size %d, root %v, %v", newSize, newRoot, err)
	}
}

func TestVerifyFindsDroppedTrigger(t *testing.T) {
	db := newDB(t)
	_, err := db.sql.Exec("DROP TRIGGER ledger_update")
	must(t, err)
	if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), `the schema lacks "CREATE TRIGGER ledger_update`) {
		t.Error(err)
	}
}

func TestTriggersRefuse(t *testing.T) {
	db := newDB(t)
	issue(t, db, 1, 1)
	must(t, db.Intend(t.Context(), record(2)))
	must(t, db.PutObject(t.Context(), Object{Name: "n", Kind: "k", Actor: "a", Content: []byte("c")}))
	for statement, want := range map[string]string{
		"UPDATE ledger SET entry = x'00'":               "the ledger only grows",
		"DELETE FROM ledger":                            "the ledger only grows",
		"UPDATE node SET hash = x'00'":                  "the ledger only grows",
		"DELETE FROM node":                              "the ledger only grows",
		"UPDATE certificate SET der = x'00'":            "issued certificates never change",
		"UPDATE certificate SET name = '' WHERE id = 2": "intents never change",
		"DELETE FROM certificate WHERE id = 2":          "certificates are never deleted",
		"UPDATE object SET content = x'00'":             "objects never change",
		"DELETE FROM object":                            "objects are never deleted",
	} {
		if _, err := db.sql.Exec(statement); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", statement, err, want)
		}
	}
	must(t, db.Verify(t.Context()))
}
