package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TestMain lets the test binary play other processes: see crash_test.go.
func TestMain(m *testing.M) {
	if role := os.Getenv("STORE_TEST_ROLE"); role != "" {
		child(role, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// newDB opens a new store with a clock that ticks.
func newDB(t testing.TB) *DB {
	t.Helper()
	db := reopen(t, newPlace(t))
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600))
	db.Now = func() time.Time {
		now = now.Add(1500 * time.Millisecond)
		return now
	}
	return db
}

// newPlace is where there is no store yet.
func newPlace(t testing.TB) string {
	t.Helper()
	if server != nil {
		return server.URL(t)
	}
	return filepath.Join(t.TempDir(), "pki.db")
}

// openAny opens the store at a place of either kind.
func openAny(ctx context.Context, place string) (*DB, error) {
	if isURL(place) {
		return OpenURL(ctx, place)
	}
	return Open(ctx, place)
}

func reopen(t testing.TB, path string) *DB {
	t.Helper()
	db, err := openAny(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// record is the n-th intent, der its certificate.
func record(n uint64) Record {
	notBefore := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return Record{
		Serial:       serial(n),
		Name:         fmt.Sprintf("device-%d", n%3),
		Profile:      "device",
		Issuer:       "device_subca",
		Actor:        "factory line 1",
		KeyURI:       "file:device.key",
		SubjectKeyID: []byte{1, 2, 3},
		NotBefore:    notBefore,
		NotAfter:     notBefore.AddDate(10, 0, 0),
		TBSHash:      sha256.Sum256(serial(n)),
	}
}

func serial(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0x5a}, n)
}

func der(n uint64) []byte {
	return fmt.Appendf(nil, "certificate %d", n)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue takes certificates first to last down the whole road.
func issue(t testing.TB, db *DB, first, last uint64) {
	t.Helper()
	for n := first; n <= last; n++ {
		must(t, db.Intend(t.Context(), record(n)))
		must(t, db.Complete(t.Context(), Completed{serial(n), der(n)}))
	}
}

// wantOneFile fails unless the store left nothing but its file.
func wantOneFile(t testing.TB, path string) {
	t.Helper()
	if isURL(path) {
		return
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("directory of the store holds %v", entries)
	}
}

func TestIssue(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	want := record(7)
	must(t, db.Intend(ctx, want))
	want.Intended, want.Entry = time.Date(2026, 1, 2, 2, 4, 7, 0, time.UTC), -1

	got, err := db.BySerial(ctx, want.Serial)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("intent:\n%+v, want\n%+v", got, want)
	}
	pending, err := db.Pending(ctx)
	must(t, err)
	if len(pending) != 1 || !reflect.DeepEqual(pending[0], want) {
		t.Errorf("pending: %+v", pending)
	}
	if _, err := db.Latest(ctx, want.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("an intent is no certificate: %v", err)
	}

	must(t, db.Complete(ctx, Completed{want.Serial, []byte("der")}))
	want.State, want.Entry, want.DER = Issued, 0, []byte("der")
	want.TBSHash, want.Intended = [32]byte{}, time.Time{}
	want.Issued = time.Date(2026, 1, 2, 2, 4, 8, 0, time.UTC)
	got, err = db.Latest(ctx, want.Name)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("certificate:\n%+v, want\n%+v", got, want)
	}
	pending, err = db.Pending(ctx)
	must(t, err)
	if len(pending) != 0 {
		t.Errorf("still pending: %+v", pending)
	}

	entries, err := db.Entries(ctx, 0, 10)
	must(t, err)
	wantEntry := Entry{
		Seq: 0, Time: time.Date(2026, 1, 2, 2, 4, 8, 678_900_000, time.UTC), Actor: "factory line 1", Kind: KindIssue,
		Name: "device-1", Serial: "5a0000000000000007", Issuer: "device_subca", Profile: "device",
		SHA256: digest([]byte("der")),
	}
	if len(entries) != 1 || !reflect.DeepEqual(entries[0], wantEntry) {
		t.Errorf("ledger: %+v, want %+v", entries, wantEntry)
	}
	must(t, db.Verify(ctx))
}

func TestIssueOrderAndLatest(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	// Completed in another order than intended, and over several pages.
	const n = page*2 + 3
	var intents []Record
	var done []Completed
	for i := range uint64(n) {
		intents = append(intents, record(i))
		done = append(done, Completed{serial(n - 1 - i), der(n - 1 - i)})
	}
	must(t, db.Intend(ctx, intents...))
	must(t, db.Complete(ctx, done...))
	i := 0
	for r, err := range db.Certificates(ctx) {
		must(t, err)
		if r.Entry != int64(i) || !bytes.Equal(r.Serial, done[i].Serial) || !bytes.Equal(r.DER, done[i].DER) {
			t.Fatalf("certificate %d is %x, entry %d", i, r.Serial, r.Entry)
		}
		// The loop may use the store.
		if _, err := db.BySerial(ctx, r.Serial); err != nil {
			t.Fatal(err)
		}
		i++
	}
	if i != n {
		t.Errorf("%d certificates, want %d", i, n)
	}
	latest, err := db.Latest(ctx, "device-1")
	must(t, err)
	if !bytes.Equal(latest.Serial, serial(1)) {
		t.Errorf("latest device-1 is %x", latest.Serial)
	}
	must(t, db.Verify(ctx))
}

func TestIntendRefuses(t *testing.T) {
	db := newDB(t)
	tests := []struct {
		name   string
		change func(*Record)
		want   string
	}{
		{"no serial", func(r *Record) { r.Serial = nil }, "is empty, zero"},
		{"serial zero", func(r *Record) { r.Serial = []byte{0} }, "is empty, zero"},
		{"leading zero", func(r *Record) { r.Serial = []byte{0, 1} }, "leading zero"},
		{"21 octets", func(r *Record) { r.Serial = bytes.Repeat([]byte{1}, 21) }, "more than 20 octets"},
		{"top bit at 20 octets", func(r *Record) { r.Serial = bytes.Repeat([]byte{0x80}, 20) }, "more than 20 octets"},
		{"no name", func(r *Record) { r.Name = "" }, `name ""`},
		{"no profile", func(r *Record) { r.Profile = "" }, `profile ""`},
		{"no issuer", func(r *Record) { r.Issuer = "" }, `issuer ""`},
		{"no actor", func(r *Record) { r.Actor = "" }, `actor ""`},
		{"long name", func(r *Record) { r.Name = strings.Repeat("n", 257) }, "longer than 256"},
		{"zero octet", func(r *Record) { r.Name = "a\x00b" }, "has a zero octet"},
		{"long issuer's key identifier", func(r *Record) { r.IssuerKeyID = make([]byte, 65) }, "of 65 octets"},
		{"no UTF-8", func(r *Record) { r.Name = "\xff" }, `name "\xff"`},
		{"PIN", func(r *Record) { r.KeyURI = "pkcs11:token=t?pin-value=1234" }, "key URI holds a PIN"},
		{"long key identifier", func(r *Record) { r.SubjectKeyID = make([]byte, 65) }, "of 65 octets"},
		{"backward validity", func(r *Record) { r.NotAfter = r.NotBefore.Add(-1) }, "before it starts"},
	}
	for _, test := range tests {
		bad := record(2)
		test.change(&bad)
		err := db.Intend(t.Context(), record(1), bad)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	pending, err := db.Pending(t.Context())
	must(t, err)
	if len(pending) != 0 {
		t.Errorf("refused, but recorded: %+v", pending)
	}
}

func TestDuplicateSerial(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 1)
	must(t, db.Intend(ctx, record(2)))
	for name, batch := range map[string][]Record{
		"of a certificate":  {record(3), record(1)},
		"of an intent":      {record(3), record(2)},
		"of another issuer": {{Serial: serial(1), Name: "x", Profile: "x", Issuer: "other", Actor: "x"}},
		"within the batch":  {record(3), record(3)},
	} {
		err := db.Intend(ctx, batch...)
		duplicate, ok := errors.AsType[*DuplicateSerialError](err)
		if !ok || !bytes.Equal(duplicate.Serial, batch[len(batch)-1].Serial) {
			t.Errorf("%s: %v", name, err)
		}
		// All or none.
		if _, err := db.BySerial(ctx, serial(3)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCompleteRefuses(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 1)
	must(t, db.Intend(ctx, record(2)))
	for name, test := range map[string]struct {
		bad  Completed
		want error
	}{
		"not intended":     {Completed{serial(3), der(3)}, ErrNotFound},
		"complete":         {Completed{serial(1), der(1)}, ErrIssued},
		"within the batch": {Completed{serial(2), der(2)}, ErrIssued},
		"no DER":           {Completed{serial(3), nil}, nil},
		"large DER":        {Completed{serial(3), make([]byte, maxDER+1)}, nil},
	} {
		err := db.Complete(ctx, Completed{serial(2), der(2)}, test.bad)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		// All or none: rows and ledger.
		if r, err := db.BySerial(ctx, serial(2)); err != nil || r.State != Intended {
			t.Errorf("%s: intent is %v (%v)", name, r.State, err)
		}
		if size, err := db.Size(ctx); err != nil || size != 1 {
			t.Errorf("%s: ledger has %d entries (%v)", name, size, err)
		}
	}
	must(t, db.Verify(ctx))
}

// Fail before it persists: the ledger, or the last step of the transaction.
func TestFailedCompleteLeavesTheIntent(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 3)
	must(t, db.Intend(ctx, record(4)))
	for _, step := range []string{"INSERT ON ledger", "INSERT ON certificate", "UPDATE ON intent", "DELETE ON intent"} {
		_, err := db.sql.Exec("CREATE TRIGGER fail BEFORE " + step + " BEGIN SELECT RAISE(ABORT, 'injected'); END")
		must(t, err)
		if err := db.Complete(ctx, Completed{serial(4), der(4)}); err == nil || !strings.Contains(err.Error(), "injected") {
			t.Errorf("%s: %v", step, err)
		}
		_, err = db.sql.Exec("DROP TRIGGER fail")
		must(t, err)
		if r, err := db.BySerial(ctx, serial(4)); err != nil || r.State != Intended {
			t.Errorf("%s: %v %v", step, r.State, err)
		}
		must(t, db.Verify(ctx))
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.Complete(cancelled, Completed{serial(4), der(4)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	must(t, db.Complete(ctx, Completed{serial(4), der(4)}))
	must(t, db.Verify(ctx))
}

func TestObjects(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	if _, err := db.Object(ctx, "PK.auth"); !errors.Is(err, ErrNotFound) {
		t.Errorf("object that is not there: %v", err)
	}
	put := func(name, content string, serial []byte, detail map[string]string) {
		t.Helper()
		must(t, db.PutObject(ctx, Object{Name: name, Kind: "uefi-auth", Actor: "apply", Serial: serial, Content: []byte(content), Detail: detail}))
	}
	put("db.auth", "old", serial(1), nil)
	put("PK.auth", "pk", nil, map[string]string{"owner": "<guid>"})
	put("db.auth", "new", serial(2), nil)

	want := []Object{
		{Name: "PK.auth", Kind: "uefi-auth", Actor: "apply", Content: []byte("pk"), Detail: map[string]string{"owner": "<guid>"}, Entry: 1,
			Time: time.Date(2026, 1, 2, 2, 4, 8, 678_900_000, time.UTC)},
		{Name: "db.auth", Kind: "uefi-auth", Actor: "apply", Serial: serial(2), Content: []byte("new"), Detail: map[string]string{}, Entry: 2,
			Time: time.Date(2026, 1, 2, 2, 4, 10, 178_900_000, time.UTC)},
	}
	objects, err := db.Objects(ctx)
	must(t, err)
	if !reflect.DeepEqual(objects, want) {
		t.Errorf("objects:\n%+v, want\n%+v", objects, want)
	}
	object, err := db.Object(ctx, "db.auth")
	must(t, err)
	if !reflect.DeepEqual(object, want[1]) {
		t.Errorf("object:\n%+v, want\n%+v", object, want[1])
	}
	var versions []string
	for o, err := range db.Versions(ctx, "db.auth") {
		must(t, err)
		versions = append(versions, string(o.Content))
	}
	if !slices.Equal(versions, []string{"new", "old"}) {
		t.Errorf("versions: %q", versions)
	}
	for o, err := range db.Versions(ctx, "KEK.auth") {
		t.Errorf("a version of an object that is not there: %v, %v", o, err)
	}
	must(t, db.Verify(ctx))

	for name, bad := range map[string]Object{
		"no name":         {Kind: "k", Actor: "a", Content: []byte("c")},
		"no kind":         {Name: "n", Actor: "a", Content: []byte("c")},
		"no actor":        {Name: "n", Kind: "k", Content: []byte("c")},
		"no content":      {Name: "n", Kind: "k", Actor: "a"},
		"large content":   {Name: "n", Kind: "k", Actor: "a", Content: make([]byte, maxContent+1)},
		"kind in detail":  {Name: "n", Kind: "k", Actor: "a", Content: []byte("c"), Detail: map[string]string{"kind": "k"}},
		"large detail":    {Name: "n", Kind: "k", Actor: "a", Content: []byte("c"), Detail: map[string]string{"x": strings.Repeat("x", maxEntry)}},
		"serial too long": {Name: "n", Kind: "k", Actor: "a", Content: []byte("c"), Serial: make([]byte, 21)},
	} {
		if err := db.PutObject(ctx, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSettings(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	if _, err := db.Setting(ctx, "uefi.owner"); !errors.Is(err, ErrNotFound) {
		t.Errorf("setting that is not there: %v", err)
	}
	for _, value := range []string{"a", "", "<b> \u2028"} {
		must(t, db.SetSetting(ctx, "me", "uefi.owner", value))
		got, err := db.Setting(ctx, "uefi.owner")
		must(t, err)
		if got != value {
			t.Errorf("setting is %q, want %q", got, value)
		}
	}
	for _, bad := range [][3]string{{"", "k", "v"}, {"me", "", "v"}, {"me", "k", "\xff"}, {"me", "k", strings.Repeat("v", maxValue+1)}} {
		if err := db.SetSetting(ctx, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%.20q: no error", bad)
		}
	}
	size, err := db.Size(ctx)
	must(t, err)
	if size != 3 {
		t.Errorf("ledger has %d entries, want 3", size)
	}
	must(t, db.Verify(ctx))
}

func TestRecordSignature(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	good := Signature{Artifact: "efi", File: "linux.efi", SHA256: sha256.Sum256(nil), Size: 12, Signer: "ssig", Serial: serial(1), Actor: "ci"}
	must(t, db.RecordSignature(ctx, good, good))
	entries, err := db.Entries(ctx, 1, 10)
	must(t, err)
	want := []Entry{{
		Actor: "ci", Kind: KindSign, Name: "linux.efi", Seq: 1, Serial: "5a0000000000000001", SHA256: digest(nil),
		Detail: map[string]string{"artifact": "efi", "size": "12", "signer": "ssig"},
		Time:   time.Date(2026, 1, 2, 2, 4, 7, 178_900_000, time.UTC),
	}}
	if !reflect.DeepEqual(entries, want) {
		t.Errorf("ledger: %+v, want %+v", entries, want)
	}
	for name, change := range map[string]func(*Signature){
		"no artifact":   func(s *Signature) { s.Artifact = "" },
		"no file":       func(s *Signature) { s.File = "" },
		"no signer":     func(s *Signature) { s.Signer = "" },
		"no serial":     func(s *Signature) { s.Serial = nil },
		"no actor":      func(s *Signature) { s.Actor = "" },
		"negative size": func(s *Signature) { s.Size = -1 },
	} {
		bad := good
		change(&bad)
		if err := db.RecordSignature(ctx, good, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	must(t, db.Verify(ctx))
}

func TestProofs(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	size, hash, err := db.Root(ctx)
	must(t, err)
	if size != 0 || hash != tlog.Hash(sha256.Sum256(nil)) {
		t.Errorf("empty ledger: size %d, root %v", size, hash)
	}
	roots := []tlog.Hash{hash}
	for n := range uint64(9) {
		issue(t, db, n, n)
		size, hash, err := db.Root(ctx)
		must(t, err)
		if size != int64(n)+1 {
			t.Fatalf("size %d, want %d", size, n+1)
		}
		roots = append(roots, hash)
	}
	entries, err := db.Entries(ctx, 0, 100)
	must(t, err)
	for size := int64(1); size <= 9; size++ {
		for seq := range size {
			leaf, err := entries[seq].Marshal()
			must(t, err)
			proof, err := db.InclusionProof(ctx, size, seq)
			must(t, err)
			must(t, tlog.CheckRecord(proof, size, roots[size], seq, tlog.RecordHash(leaf)))
		}
		for old := int64(1); old <= size; old++ {
			proof, err := db.ConsistencyProof(ctx, old, size)
			must(t, err)
			must(t, tlog.CheckTree(proof, size, roots[size], old, roots[old]))
		}
	}
	if _, err := db.InclusionProof(ctx, 10, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("inclusion beyond the ledger: %v", err)
	}
	if _, err := db.ConsistencyProof(ctx, 1, 10); !errors.Is(err, ErrNotFound) {
		t.Errorf("consistency beyond the ledger: %v", err)
	}
	if _, err := db.InclusionProof(ctx, 3, -1); err == nil {
		t.Error("proof of entry -1")
	}
	if entries, err := db.Entries(ctx, 4, 2); err != nil || len(entries) != 2 || entries[0].Seq != 4 {
		t.Errorf("entries from 4: %v %v", entries, err)
	}
	if entries, err := db.Entries(ctx, 9, 2); err != nil || len(entries) != 0 {
		t.Errorf("entries from the end: %v %v", entries, err)
	}
}

func TestOpen(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "a b?c#d%20")
	must(t, os.Mkdir(dir, 0o755))
	path := filepath.Join(dir, "pki.db")
	if _, err := OpenReadOnly(ctx, path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "pki.db") {
		t.Errorf("read-only, nothing there: %v", err)
	}
	if _, err := Open(ctx, filepath.Join(dir, "none", "pki.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}

	old := syscall.Umask(0)
	db := reopen(t, path)
	syscall.Umask(old)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	must(t, db.Verify(ctx))
	issue(t, db, 1, 2)
	must(t, db.Close())
	wantOneFile(t, path)

	db = reopen(t, path)
	if size, err := db.Size(ctx); err != nil || size != 2 {
		t.Errorf("reopened: size %d, %v", size, err)
	}
	must(t, db.Close())
}

func TestOpenReadOnlyChangesNothing(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 5)
	must(t, db.Close())
	before, err := os.ReadFile(db.name)
	must(t, err)
	// Root may write where the mode forbids it; the last lines look anyway.
	must(t, os.Chmod(db.name, 0o400))
	must(t, os.Chmod(filepath.Dir(db.name), 0o500))
	t.Cleanup(func() { os.Chmod(filepath.Dir(db.name), 0o700) })

	ro, err := OpenReadOnly(ctx, db.name)
	must(t, err)
	must(t, ro.Verify(ctx))
	if _, err := ro.Latest(ctx, "device-1"); err != nil {
		t.Error(err)
	}
	if err := ro.Intend(ctx, record(9)); err == nil {
		t.Error("intended in a read-only store")
	}
	must(t, ro.Close())
	wantOneFile(t, db.name)
	after, err := os.ReadFile(db.name)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
}

func TestOpenReadOnlyOnReadOnlyFileSystem(t *testing.T) {
	db := newDB(t)
	issue(t, db, 1, 5)
	must(t, db.Close())
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("mounting a tmpfs needs root")
	}
	must(t, err)
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	image, err := os.ReadFile(db.name)
	must(t, err)
	path := filepath.Join(dir, "pki.db")
	must(t, os.WriteFile(path, image, 0o600))
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	ro, err := OpenReadOnly(t.Context(), path)
	must(t, err)
	must(t, ro.Verify(t.Context()))
	must(t, ro.Close())
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 50)
	must(t, db.Close())
	image, err := os.ReadFile(db.name)
	must(t, err)
	patched := func(offset int, value uint32) []byte {
		data := bytes.Clone(image)
		binary.BigEndian.PutUint32(data[offset:], value)
		return data
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "application id is 0x0"},
		{"text", bytes.Repeat([]byte("not a database\n"), 100), "nor any SQLite file"},
		{"another application", patched(68, 1), "application id is 0x1"}, // header offsets: sqlite.org/fileformat.html
		{"newer", patched(60, 3), "newer tmpki: its schema has version 3"},
		{"no version", patched(60, 0), "unknown schema version 0"},
		{"cut short", image[:len(image)/4096/2*4096], "damaged or cut short"},
	}
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), "pki.db")
		must(t, os.WriteFile(path, test.data, 0o600))
		for name, open := range map[string]func(context.Context, string) (*DB, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
			_, err := open(ctx, path)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %s: %v, want %q", name, test.name, err, test.want)
			}
		}
		after, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(after, test.data) {
			t.Errorf("%s: changed", test.name)
		}
		wantOneFile(t, path)
	}
	if _, err := Open(ctx, t.TempDir()); err == nil {
		t.Error("opened a directory")
	}
}

// isURL reports whether the place of a store is a database, and not a file.
func isURL(place string) bool { return strings.Contains(place, "://") }
