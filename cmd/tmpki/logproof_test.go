package main

import (
	"database/sql"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTamperedStore changes rows behind the program's back, one thing each.
func TestTamperedStore(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	pki := filepath.Join(home, "pki")
	mustFixture(t, "ec", pki)
	must(t, home, "tmpki", "log", "checkpoint", "-o", "checkpoint", pki)
	for name, row := range map[string]struct{ statement, want string }{
		"entry":   {`UPDATE ledger SET entries = CAST(replace(CAST(entries AS TEXT), 'device_subca', 'devise_subca') AS BLOB)`, "ledger"},
		"row":     {`UPDATE certificate SET name = 'evil' WHERE name = 'backend'`, "the ledger says"},
		"setting": {`UPDATE setting SET value = 'x' WHERE key = 'log.key'`, "the ledger says"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(home, name)
			if out, err := exec.Command("cp", "-a", pki, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			tamper(t, filepath.Join(dir, "pki.db"), row.statement)
			r := runIn(t, home, nil, "tmpki", "log", "verify", dir)
			if r.code != exitNo || !strings.Contains(r.stdout, "refused: ") || !strings.Contains(r.stdout, row.want) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", r.code, exitNo, row.want, r.stdout, r.stderr)
			}
			if r := runIn(t, home, nil, "tmpki", "log", "checkpoint", dir); r.code == 0 {
				t.Error("signed a checkpoint of it")
			}
		})
	}
}

// tamper runs a statement on a store without its triggers, which stand there again
// afterwards.
func tamper(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
	if err != nil {
		t.Fatal(err)
	}
	var drop, create []string
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			t.Fatal(err)
		}
		drop, create = append(drop, "DROP TRIGGER "+name), append(create, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range append(append(drop, statement), create...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
