package store

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// version1 returns a store that version 1 of the schema made: see testdata/README.
func version1(t *testing.T) (path string, image []byte) {
	t.Helper()
	f, err := os.Open("testdata/v1.db.gz")
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	image, err = io.ReadAll(z)
	must(t, err)
	path = filepath.Join(t.TempDir(), "pki.db")
	must(t, os.WriteFile(path, image, 0o600))
	return path, image
}

// wantVersion1 checks what the store of testdata must bring along.
func wantVersion1(t *testing.T, db *DB) {
	t.Helper()
	ctx := t.Context()
	must(t, db.Verify(ctx))
	size, root, err := db.Root(ctx)
	must(t, err)
	if size != 310 || root.String() != version1Root {
		t.Errorf("size %d, root %v", size, root)
	}
	for _, n := range []uint64{0, 4, 1000, 1299} {
		r, err := db.BySerial(ctx, serial(n))
		must(t, err)
		if r.State != Issued || !bytes.Equal(r.DER, der(n)) || r.Name != record(n).Name || r.Issuer != "device_subca" || r.IssuerKeyID != nil {
			t.Errorf("certificate %d: %+v", n, r)
		}
	}
	pending, err := db.Pending(ctx)
	must(t, err)
	if len(pending) != 1 || !bytes.Equal(pending[0].Serial, serial(99)) || pending[0].TBSHash != record(99).TBSHash {
		t.Errorf("pending: %+v", pending)
	}
	if value, err := db.Setting(ctx, "owner"); err != nil || value != "second" {
		t.Errorf("setting %q, %v", value, err)
	}
	if o, err := db.Object(ctx, "db.auth"); err != nil || string(o.Content) != "db.auth" || o.Kind != "uefi" {
		t.Errorf("object %+v, %v", o, err)
	}
}

const version1Root = "zWLTgbhQ0uRGokitzzqiYRCB1B8BKXQo2aAk6qd2lgE="

func TestOpenMigratesVersion1(t *testing.T) {
	path, _ := version1(t)
	db := reopen(t, path)
	wantVersion1(t, db)
	must(t, db.Complete(t.Context(), Completed{serial(99), der(99)}))
	issue(t, db, 2000, 2001)
	must(t, db.Verify(t.Context()))
	must(t, db.Close())
	wantOneFile(t, path)
	db = reopen(t, path)
	must(t, db.Verify(t.Context()))
}

func TestReadOnlyReadsVersion1(t *testing.T) {
	path, image := version1(t)
	db, err := OpenReadOnly(t.Context(), path)
	must(t, err)
	defer db.Close()
	wantVersion1(t, db)
	if err := db.Intend(t.Context(), record(5000)); err == nil {
		t.Error("wrote to a copy in memory")
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(after, image) {
		t.Error("the file changed")
	}
	wantOneFile(t, path)
}

// A migration that fails leaves the store as it was.
func TestFailedMigration(t *testing.T) {
	path, _ := version1(t)
	pool, _, err := open(t.Context(), path, "rw")
	must(t, err)
	_, err = pool.sql.Exec("DROP TRIGGER ledger_delete; DELETE FROM ledger WHERE seq = 7")
	must(t, err)
	must(t, pool.Close())
	image, err := os.ReadFile(path)
	must(t, err)
	if _, err := Open(t.Context(), path); err == nil {
		t.Error("no error")
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(after, image) {
		t.Error("the file changed")
	}
	wantOneFile(t, path)
}
