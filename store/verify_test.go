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

// swap exchanges a column of the rows a and b.
func swap(table, key, column string, a, b int) string {
	return fmt.Sprintf(`CREATE TEMP TABLE spare AS SELECT %[2]s AS k, %[3]s AS v FROM %[1]s WHERE %[2]s IN (%[4]d, %[5]d);
		UPDATE %[1]s SET %[3]s = (SELECT v FROM spare WHERE k = %[5]d) WHERE %[2]s = %[4]d;
		UPDATE %[1]s SET %[3]s = (SELECT v FROM spare WHERE k = %[4]d) WHERE %[2]s = %[5]d`, table, key, column, a, b)
}

// fullStore returns the file of a store that has certificates in entries 0 to 4,
// objects in 5 and 6, settings in 7 and 8, a signature in 9, three certificates in
// one row from 10 on, revocations of the serials 1 (in 13), 2 (a hold in 14,
// ended in 15) and 98 (an intent, in 16), a CRL in 17; and one intent.
func fullStore(t *testing.T) []byte {
	t.Helper()
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 4)
	must(t, db.Intend(ctx, record(98), record(99)))
	for _, name := range []string{"PK.auth", "db.auth"} {
		must(t, db.PutObject(ctx, Object{Name: name, Kind: "uefi", Actor: "me", Content: []byte(name)}))
	}
	must(t, db.SetSetting(ctx, "me", "owner", "first"))
	must(t, db.SetSetting(ctx, "me", "owner", "second"))
	must(t, db.RecordSignature(ctx, Signature{Artifact: "efi", File: "f", Signer: "s", Serial: serial(0), Actor: "me"}))
	must(t, issueBatch(ctx, db, 10, 3))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(1), Reason: KeyCompromise, Actor: "me"}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(2), Reason: CertificateHold, Actor: "me"}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(2), Reason: RemoveFromCRL, Actor: "me"}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(98), Reason: CessationOfOperation, Actor: "me"}))
	must(t, db.RecordCRL(ctx, crl(1)))
	must(t, db.Close())
	image, err := os.ReadFile(db.name)
	must(t, err)
	return image
}

func TestVerifyFindsTampering(t *testing.T) {
	tests := []struct {
		name, statements, want string
	}{
		// The ledger's octets and its tree.
		{"a byte of an entry", `UPDATE ledger SET entries = CAST(replace(CAST(entries AS TEXT), 'line 1', 'line 2') AS BLOB) WHERE seq = 3`,
			"ledger entry 3 does not have the hash stored for it"},
		{"a byte of an entry among others", `UPDATE ledger SET entries = CAST(replace(CAST(entries AS TEXT), '000b', '000c') AS BLOB) WHERE seq = 10`,
			"ledger entry 11 does not have the hash stored for it"},
		{"two entries swapped", swap("ledger", "seq", "entries", 1, 2),
			"ledger entry 1 does not have the hash stored for it"},
		{"an entry deleted", `DELETE FROM ledger WHERE seq = 2`,
			"ledger entry 2 is missing: the next is 3"},
		{"the first entry deleted", `DELETE FROM ledger WHERE seq = 0`,
			"ledger entry 0 is missing: the next is 1"},
		{"the last entry deleted", `DELETE FROM ledger WHERE seq = 17`,
			"a row of crl names ledger entry 17, which is not there"},
		{"an entry added", `INSERT INTO ledger SELECT 18, count, tree, entries FROM ledger WHERE seq = 9`,
			"ledger entry 18 says that it is entry 9"},
		{"a negative entry added", `INSERT INTO ledger SELECT -1, count, tree, entries FROM ledger WHERE seq = 9; DELETE FROM ledger WHERE seq = 0`,
			"ledger entry 0 is missing: the next is 1"},
		{"a leaf hash", `UPDATE ledger SET tree = zeroblob(32) WHERE seq = 4`,
			"ledger entry 4 does not have the hash stored for it"},
		{"an interior hash", `UPDATE ledger SET tree = CAST(substr(tree, 1, 64) || zeroblob(32) AS BLOB) WHERE seq = 3`,
			"the tree does not have the hash of the entries up to 3 at level 2"},
		{"a short hash", `UPDATE ledger SET tree = x'00' WHERE seq = 2`,
			"ledger entry 2: its part of the tree is cut short"},
		{"a hash added", `UPDATE ledger SET tree = CAST(tree || zeroblob(32) AS BLOB) WHERE seq = 2`,
			"ledger entry 2: the tree has more hashes than the entries give"},
		{"a wrong count", `UPDATE ledger SET count = 2 WHERE seq = 10`,
			"ledger entry 10: row of 2 entries holds 3"},
		{"a row cut short", `UPDATE ledger SET entries = substr(entries, 1, 700) WHERE seq = 10`,
			"ledger entry 10: row is cut short"},

		// Certificates.
		{"DER", `UPDATE certificate SET der = x'00' WHERE entry = 1`,
			"ledger entry 1: certificate 5a0000000000000001 has the DER digest"},
		{"DER swapped", swap("certificate", "entry", "der", 0, 1),
			"ledger entry 0: certificate 5a0000000000000000 has the DER digest"},
		{"serial", `UPDATE certificate SET serial = x'77' WHERE entry = 3`,
			`ledger entry 3: certificate 77 has the serial "77"`},
		{"name", `UPDATE certificate SET name = 'x' WHERE entry = 1`, `has the name "x", the ledger says "device-1"`},
		{"profile", `UPDATE class SET profile = 'x'`, `has the profile "x"`},
		{"issuer", `UPDATE class SET issuer = 'x'`, `has the issuer "x"`},
		{"class", `UPDATE certificate SET class = 77 WHERE entry = 1`, `has the profile ""`},
		{"actor", `UPDATE certificate SET actor = 2 WHERE entry = 1`, `has the actor "me"`},
		{"time of issue", `UPDATE certificate SET issued = 1 WHERE entry = 1`, "was issued 1970-01-01"},
		{"unknown state", `UPDATE certificate SET state = 7 WHERE entry = 1`, "has state unknown state 7"},
		{"revoked made good", `UPDATE certificate SET state = 1 WHERE entry = 1`, "has state issued, and its revocations say revoked"},
		{"good made revoked", `UPDATE certificate SET state = 2 WHERE entry = 2`, "has state revoked, and its revocations say issued"},
		{"certificate deleted", `DELETE FROM certificate WHERE entry = 3`,
			"ledger entry 3: certificate 5a0000000000000003 has no row"},
		{"certificate without entry", `UPDATE certificate SET entry = 77 WHERE entry = 12`,
			`ledger entry 12: certificate 5a000000000000000c has no row`},
		{"certificate added", `INSERT INTO certificate SELECT 77, x'77', class, state, name, actor, issued, not_before, not_after, key, subject_key_id, key_uri, der FROM certificate WHERE entry = 1`,
			`a row of certificate names ledger entry 77, which is not there`},
		{"certificate with another's entry", `UPDATE certificate SET entry = 9 WHERE entry = 12`,
			"certificate 5a000000000000000c names ledger entry 9, which is no issuance"},

		// Revocations and CRLs.
		{"reason", `UPDATE revocation SET reason = 4 WHERE entry = 13`, "revocation of 5a0000000000000001 says map[reason:superseded"},
		{"time", `UPDATE revocation SET time = 1 WHERE entry = 13`, "revocation of 5a0000000000000001 says map[reason:keyCompromise time:1970"},
		{"invalidity", `UPDATE revocation SET invalidity = 1 WHERE entry = 13`, "says map[invalidity:1970"},
		{"revocation deleted", `DELETE FROM revocation WHERE entry = 13; UPDATE certificate SET state = 1 WHERE entry = 1`, "ledger entry 13: revocation of 5a0000000000000001 has no row"},
		{"revocation of another", `UPDATE revocation SET serial = x'77' WHERE entry = 16`, `revocation of 77 has the serial "77"`},
		{"revocation of another certificate", `UPDATE revocation SET certificate = 3 WHERE entry = 13`, "revocation of 5a0000000000000001 names the certificate 5a0000000000000003"},
		{"hash of the intent", `UPDATE revocation SET tbs_sha256 = zeroblob(32) WHERE entry = 16`, "revocation of 5a0000000000000062 has the digest"},
		{"a hold revived", `UPDATE revocation SET superseded = 77 WHERE entry = 15; UPDATE revocation SET superseded = NULL WHERE entry = 14; UPDATE certificate SET state = 3 WHERE entry = 2`,
			"ledger entry 15: an older revocation of 5a0000000000000002 counts too"},
		{"an end of a hold hidden", `UPDATE revocation SET superseded = 77 WHERE entry = 15`,
			"revocation of 5a0000000000000002 is superseded by entry 77, which is none of that serial"},
		{"revocation added", `INSERT INTO revocation SELECT 70, x'77', class, certificate, tbs_sha256, name, not_after, reason, time, invalidity, actor, superseded FROM revocation WHERE entry = 13`,
			"a row of revocation names ledger entry 70"},
		{"revocation with another's entry", `UPDATE revocation SET entry = 9 WHERE entry = 13`, "revocation of 5a0000000000000001 names ledger entry 9"},
		{"CRL number", `UPDATE crl SET number = 7`, "says " + strings.Repeat("0", 64) + " map[covers:16"},
		{"CRL digest", `UPDATE crl SET sha256 = x'01'`, "CRL of"},
		{"CRL deleted", `DELETE FROM crl`, `ledger entry 17: CRL 1 of "device_subca" has no row`},
		{"CRL added", `INSERT INTO crl SELECT 9, issuer, issuer_key, part, delta, number, base, covers, this_update, next_update, sha256, size, entries FROM crl`,
			`CRL of "device_subca" names ledger entry 9, which records no CRL`},

		// Objects.
		{"content", `UPDATE object SET content = x'00' WHERE entry = 5`, `ledger entry 5: object "PK.auth" has the content digest`},
		{"object's name", `UPDATE object SET name = 'x' WHERE entry = 5`, `object "x" has the name "x"`},
		{"object's kind", `UPDATE object SET kind = 'x' WHERE entry = 5`, `object "PK.auth" has the kind "x"`},
		{"object deleted", `DELETE FROM object WHERE entry = 5`, `ledger entry 5: object "PK.auth" has no row`},
		{"object added", `INSERT INTO object VALUES (50, 'x', 'x', x'00')`, `a row of object names ledger entry 50, which is not there`},
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
		tamper(t, db, rehash(data))
		if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	data := []byte(`{"kind":"issue" }`)
	tamper(t, db, rehash(data))
	if err := db.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "ledger entry 0: ") {
		t.Errorf("entry that is no entry: %v", err)
	}
}

// rehash makes data the only entry.
func rehash(data []byte) string {
	return fmt.Sprintf("UPDATE ledger SET entries = x'%04x%x', tree = x'%x'", len(data), data, leafHash(data))
}

// What Verify says it can't find: only who kept the root sees that the end of the
// store is gone.
func TestCutStoreTakesACheckpointToFind(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 3)
	size, root, err := db.Root(ctx)
	must(t, err)
	tamper(t, db, `DELETE FROM ledger WHERE seq = 3; DELETE FROM certificate WHERE entry = 3`)
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
	must(t, db.Revoke(t.Context(), Revocation{Serial: serial(1), Reason: CertificateHold, Actor: "me"}))
	must(t, db.Revoke(t.Context(), Revocation{Serial: serial(1), Reason: RemoveFromCRL, Actor: "me"}))
	must(t, db.RecordCRL(t.Context(), crl(1)))
	for statement, want := range map[string]string{
		"UPDATE ledger SET entries = x'00'":                            "the ledger only grows",
		"UPDATE ledger SET tree = x'00'":                               "the ledger only grows",
		"DELETE FROM ledger":                                           "the ledger only grows",
		"UPDATE certificate SET der = x'00'":                           "certificates never change",
		"UPDATE certificate SET name = ''":                             "certificates never change",
		"DELETE FROM certificate":                                      "certificates are never deleted",
		"UPDATE intent SET members = x'00'":                            "intents never change",
		"DELETE FROM intent":                                           "open intents are never deleted",
		"UPDATE class SET issuer = ''":                                 "classes never change",
		"DELETE FROM class":                                            "classes are never deleted",
		"UPDATE actor SET name = ''":                                   "actors never change",
		"DELETE FROM actor":                                            "actors are never deleted",
		"UPDATE revocation SET reason = 1 WHERE superseded IS NULL":    "revocations never change",
		"UPDATE revocation SET superseded = NULL WHERE superseded > 0": "revocations never change",
		"DELETE FROM revocation":                                       "revocations are never deleted",
		"UPDATE crl SET number = 2":                                    "CRLs never change",
		"DELETE FROM crl":                                              "CRLs are never deleted",
		"UPDATE object SET content = x'00'":                            "objects never change",
		"DELETE FROM object":                                           "objects are never deleted",
	} {
		if _, err := db.sql.Exec(statement); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", statement, err, want)
		}
	}
	must(t, db.Verify(t.Context()))
}
