package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/store/storetest"
)

// server is where newDB makes databases while TestPostgreSQL runs; else nil.
var server *storetest.Server

var update = flag.Bool("update", false, "write postgres_catalog.txt")

// TestPostgreSQL runs the tests of the store once more, on PostgreSQL.
func TestPostgreSQL(t *testing.T) {
	server = storetest.Start(t)
	defer func() { server = nil }()
	for _, test := range []func(*testing.T){
		TestIssue, TestIssueOrderAndLatest, TestIntendRefuses, TestDuplicateSerial, TestCompleteRefuses, TestObjects, TestSettings,
		TestRecordSignature, TestProofs, TestRevoke, TestHold, TestRevokeRefuses, TestCRLs, TestImport, TestRecordEvent, TestByKeyAndName,
		TestPage, TestPageRefuses, TestGroup, TestClaim, TestClaimRace, TestOneSerialForMany, TestWaitEndsWithContext,
		TestGoroutinesAndProcesses, TestKilled, TestBulk,
		testPostgresOpen, testPostgresTriggers, testPostgresTampering, testPostgresLock, testPostgresServerAway,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndex(name, ".")+1:], test)
	}
}

func testPostgresOpen(t *testing.T) {
	ctx := t.Context()
	url := server.URL(t)
	if _, err := OpenURLReadOnly(ctx, url); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store yet: %v", err)
	}
	db := reopen(t, url)
	issue(t, db, 1, 3)
	catalog, err := db.backend.(postgres).catalog(ctx, db.sql)
	must(t, err)
	if *update {
		must(t, os.WriteFile("postgres_catalog.txt", []byte(strings.Join(catalog, "\n")+"\n"), 0o644))
	}
	must(t, db.Verify(ctx))

	ro, err := OpenURLReadOnly(ctx, url)
	must(t, err)
	defer ro.Close()
	must(t, ro.Verify(ctx))
	if err := ro.Intend(ctx, record(9)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("wrote to a store that is open for reading: %v", err)
	}
	// Another schema is another store.
	other := reopen(t, url+"&schema=second_1")
	if size, err := other.Size(ctx); err != nil || size != 0 {
		t.Errorf("the other store has %d entries, %v", size, err)
	}
	must(t, other.Verify(ctx))
	for _, step := range [][2]string{
		{"UPDATE store SET version = 3", "newer tmpki: its schema has version 3"},
		{"UPDATE store SET version = 0", "unknown schema version 0"},
		{"DELETE FROM store", "not a tmpki store"},
	} {
		change, want := step[0], step[1]
		_, err := other.sql.Exec(change)
		must(t, err)
		for _, open := range []func(context.Context, string) (*DB, error){OpenURL, OpenURLReadOnly} {
			if _, err := open(ctx, url+"&schema=second_1"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", change, err)
			}
		}
	}
	if _, err := OpenURL(ctx, strings.Replace(url, "/pki", "/none", 1)); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no such database: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u@h/d": "", "postgresql://u@h:5432/d?sslmode=verify-full&sslrootcert=ca.pem&sslcert=c&sslkey=k": "",
		"postgres://u@/d?host=/run/postgresql&schema=my_pki2": "",
		"postgres://u:secret@h/d":                             "a password has no place",
		"postgres://u:@h/d":                                   "a password has no place",
		"postgres://u@h/d?password=secret":                    `unknown parameter "password"`,
		"postgres://u@h/d?passfile=secret":                    `unknown parameter "passfile"`,
		"postgres://u@h/d?options=-csecret":                   `unknown parameter "options"`,
		"postgres://u@h/d?sslmode=a&sslmode=b":                "wants one value",
		"postgres://u@h/d?sslmode=":                           "wants one value",
		"postgres://u@h/d?schema=A":                           "small letters",
		"postgres://u@h/d?schema=a;b":                         "no parameters of a URL",
		"postgres://u@h/d?schema=1a":                          "small letters",
		"postgres://u@h/d?schema=pg_x":                        "small letters",
		"postgres://u@h/d?host=/run":                          "not both",
		"postgres://u@/d":                                     "wants a host",
		"postgres://h/d":                                      "names no user",
		"postgres://u@h/":                                     "names no database",
		"postgres://u@h/d/e":                                  "names no database",
		"postgres://u@h/d#secret":                             "names no database",
		"postgres:u@h/d":                                      "names no database",
		"mysql://u@h/d":                                       "unknown kind of database",
		"postgres://u:secret@h:port/d":                        "it is no URL",
		"postgres://u@h/%zzsecret":                            "it is no URL",
	} {
		err := CheckURL(url)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func testPostgresTriggers(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 1)
	must(t, db.Intend(ctx, record(2)))
	must(t, db.PutObject(ctx, Object{Name: "n", Kind: "k", Actor: "a", Content: []byte("c")}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(1), Reason: CertificateHold, Actor: "me"}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(1), Reason: RemoveFromCRL, Actor: "me"}))
	must(t, db.RecordCRL(ctx, crl(1)))
	tables := []string{"ledger", "certificate", "revocation", "crl", "object", "class", "actor", "intent"}
	for _, table := range tables {
		statements := []string{"DELETE FROM " + table, "TRUNCATE " + table}
		column := map[string]string{"ledger": "seq", "class": "id", "actor": "id", "intent": "id"}[table]
		if column == "" {
			column = "entry"
		}
		statements = append(statements, fmt.Sprintf("UPDATE %s SET %s = %s + 100", table, column, column))
		for _, statement := range statements {
			if _, err := db.sql.Exec(statement); err == nil || !strings.Contains(err.Error(), "P0001") {
				t.Errorf("%s: %v", statement, err)
			}
		}
	}
	must(t, db.Verify(ctx))
}

func testPostgresTampering(t *testing.T) {
	ctx := t.Context()
	for _, test := range []struct{ statements, want string }{
		{`UPDATE ledger SET entries = set_byte(entries, 10, 0) WHERE seq = 3`, "ledger entry 3 does not have the hash"},
		{`DELETE FROM ledger WHERE seq = 2`, "ledger entry 2 is missing"},
		{`UPDATE certificate SET der = '\x00' WHERE entry = 1`, "has the DER digest"},
		{`UPDATE certificate SET state = 2 WHERE entry = 1`, "its revocations say issued"},
		{`DELETE FROM certificate WHERE entry = 1`, "has no row"},
		{`DROP INDEX certificate_key`, "the schema lacks"},
		{`ALTER TABLE ledger DISABLE TRIGGER ledger_update`, "something that is not ours"},
		{`CREATE TABLE x (y int)`, "something that is not ours"},
		{`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`, "something that is not ours"},
		{`CREATE RULE r AS ON DELETE TO ledger DO INSTEAD NOTHING`, "something that is not ours"},
	} {
		db := newDB(t)
		issue(t, db, 0, 4)
		must(t, db.Verify(ctx))
		tx, err := db.sql.Begin()
		must(t, err)
		_, err = tx.Exec("SET LOCAL session_replication_role = replica") // no triggers
		must(t, err)
		_, err = tx.Exec(test.statements)
		must(t, err)
		must(t, tx.Commit())
		if err := db.Verify(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.statements, err, test.want)
		}
		must(t, db.Close())
	}
}

func testPostgresLock(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	second := reopen(t, db.name)
	unlock, err := db.Lock(ctx, nil)
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := second.Lock(short, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("a second lock: %v, waited %v", err, waited)
	}
	must(t, second.SetSetting(ctx, "me", "k", "v")) // writes go on
	must(t, unlock())
	unlock, err = second.Lock(ctx, func() { t.Error("waited for nothing") })
	must(t, err)
	must(t, unlock())
}

// The server goes away, and comes back: errors say so, and the store is usable
// again without being opened again.
func testPostgresServerAway(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 2)
	server.Stop()
	if err := db.Intend(ctx, record(3)); err == nil {
		t.Error("wrote without a server")
	}
	if err := db.Intend(ctx, record(3)); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("no server: %v", err)
	}
	if _, err := OpenURL(ctx, db.name); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("opening without a server: %v", err)
	}
	server.Restart(t)
	must(t, db.Intend(ctx, record(3)))
	must(t, db.Complete(ctx, Completed{serial(3), der(3)}))
	must(t, db.Verify(ctx))
	var serials []uint64
	for r, err := range db.Certificates(ctx) {
		must(t, err)
		serials = append(serials, uint64(r.Serial[8]))
	}
	if !slices.Equal(serials, []uint64{1, 2, 3}) {
		t.Errorf("certificates %v", serials)
	}
}
