package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// crl is the n-th CRL.
func crl(n uint64) CRL {
	return CRL{
		Issuer: "device_subca", Number: n, Covers: 16, Actor: "me", Size: 400, Entries: 2,
		ThisUpdate: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), NextUpdate: time.Date(2026, 1, 9, 0, 0, 0, 0, time.UTC),
	}
}

func TestRevoke(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 4)
	must(t, db.Intend(ctx, record(5), record(6)))
	lost := time.Date(2025, 12, 24, 18, 0, 0, 0, time.UTC)
	must(t, db.Revoke(ctx,
		Revocation{Serial: serial(1), Reason: KeyCompromise, Actor: "me", Invalidity: lost},
		Revocation{Serial: serial(5), Issuer: "device_subca", Reason: CessationOfOperation, Actor: "me"}))

	got, err := db.Revocation(ctx, "", serial(1))
	must(t, err)
	want := Revocation{
		Serial: serial(1), Issuer: "device_subca", Reason: KeyCompromise, Invalidity: lost, Actor: "me",
		Name: "device-1", Profile: "device", NotAfter: record(1).NotAfter, Certificate: 0, Entry: 4, Time: got.Time,
	}
	if !reflect.DeepEqual(got, want) || got.Time.Year() != 2026 {
		t.Errorf("revocation:\n%+v, want\n%+v", got, want)
	}
	if r, err := db.BySerial(ctx, serial(1)); err != nil || r.State != Revoked || r.DER == nil {
		t.Errorf("revoked certificate: %v %v", r.State, err)
	}
	// The intent: revoked, still taken, and no longer pending.
	if r, err := db.BySerial(ctx, serial(5)); err != nil || r.State != Revoked || r.DER != nil || r.TBSHash != record(5).TBSHash {
		t.Errorf("revoked intent: %+v %v", r, err)
	}
	pending, err := db.Pending(ctx)
	must(t, err)
	if len(pending) != 1 || !bytes.Equal(pending[0].Serial, serial(6)) {
		t.Errorf("pending: %+v", pending)
	}
	if err := db.Complete(ctx, Completed{serial(5), der(5)}); !isRevoked(err) {
		t.Errorf("completing a revoked intent: %v", err)
	}
	if _, ok := errors.AsType[*DuplicateSerialError](db.Intend(ctx, record(5))); !ok {
		t.Error("the serial of a revoked intent was given again")
	}
	must(t, db.Complete(ctx, Completed{serial(6), der(6)}))
	if _, ok := errors.AsType[*DuplicateSerialError](db.Intend(ctx, record(5))); !ok {
		t.Error("the serial of a revoked intent was given again, after its batch was done")
	}
	must(t, db.Verify(ctx))

	var serials []string
	for r, err := range db.Revocations(ctx, "device_subca", nil, -1) {
		must(t, err)
		serials = append(serials, fmt.Sprintf("%x", r.Serial[8:]))
	}
	if !slices.Equal(serials, []string{"01", "05"}) {
		t.Errorf("revocations: %v", serials)
	}
	for r, err := range db.Revocations(ctx, "gen_rootca", nil, -1) {
		t.Errorf("revoked by another authority: %v, %v", r, err)
	}
	entries, err := db.Entries(ctx, 5, 1)
	must(t, err)
	hash := record(5).TBSHash
	if e := entries[0]; e.Kind != KindRevoke || e.SHA256 != fmt.Sprintf("%x", hash) || e.Detail["reason"] != "cessationOfOperation" || e.Detail["intended"] != "true" {
		t.Errorf("ledger: %+v", e)
	}
}

func isRevoked(err error) bool {
	_, ok := errors.AsType[*AlreadyRevokedError](err)
	return ok
}

func TestHold(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 2)
	revoke := func(reason Reason) error {
		return db.Revoke(ctx, Revocation{Serial: serial(1), Reason: reason, Actor: "me"})
	}
	state := func(want State) {
		t.Helper()
		r, err := db.BySerial(ctx, serial(1))
		must(t, err)
		if r.State != want {
			t.Errorf("state %v, want %v", r.State, want)
		}
		must(t, db.Verify(ctx))
	}
	if err := revoke(RemoveFromCRL); err == nil || !strings.Contains(err.Error(), "not on hold") {
		t.Errorf("lifting what is not held: %v", err)
	}
	must(t, revoke(CertificateHold))
	state(Held)
	if err := revoke(CertificateHold); !isRevoked(err) {
		t.Errorf("a second hold: %v", err)
	}
	must(t, revoke(RemoveFromCRL))
	state(Issued)
	must(t, revoke(CertificateHold))
	state(Held)
	must(t, revoke(Superseded))
	state(Revoked)
	for _, reason := range []Reason{CertificateHold, RemoveFromCRL, KeyCompromise, Superseded} {
		if err := revoke(reason); !isRevoked(err) {
			t.Errorf("%v after a final one: %v", reason, err)
		}
	}
	history, err := db.History(ctx, "device_subca", serial(1))
	must(t, err)
	var reasons []Reason
	for _, r := range history {
		reasons = append(reasons, r.Reason)
	}
	if !slices.Equal(reasons, []Reason{Superseded, CertificateHold, RemoveFromCRL, CertificateHold}) {
		t.Errorf("history: %v", reasons)
	}
	// Only the newest counts, and from its entry on.
	for _, after := range []int64{-1, 4} {
		n := 0
		for r, err := range db.Revocations(ctx, "device_subca", nil, after) {
			must(t, err)
			if n++; r.Reason != Superseded || r.Entry != 5 {
				t.Errorf("revocation %+v", r)
			}
		}
		if n != 1 {
			t.Errorf("%d revocations after %d", n, after)
		}
	}
}

func TestRevokeRefuses(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 2)
	must(t, db.Intend(ctx, record(3)))
	good := Revocation{Serial: serial(1), Reason: KeyCompromise, Actor: "me"}
	for name, test := range map[string]struct {
		change func(*Revocation)
		want   string
	}{
		"unknown serial": {func(r *Revocation) { r.Serial = serial(9) }, "not in the store"},
		"other issuer":   {func(r *Revocation) { r.Issuer = "gen_rootca" }, "not in the store"},
		"no serial":      {func(r *Revocation) { r.Serial = nil }, "is empty"},
		"no actor":       {func(r *Revocation) { r.Actor = "" }, `actor ""`},
		"reason 7":       {func(r *Revocation) { r.Reason = 7 }, "reason 7"},
		"reason 11":      {func(r *Revocation) { r.Reason = 11 }, "reason 11"},
		"reason -1":      {func(r *Revocation) { r.Reason = -1 }, "reason -1"},
		"intent on hold": {func(r *Revocation) { r.Serial, r.Reason = serial(3), CertificateHold }, "can't be put on hold"},
		"old time":       {func(r *Revocation) { r.Time = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) }, "outside of 1970"},
		"twice":          {func(r *Revocation) { r.Serial = serial(2) }, "is revoked since"},
	} {
		bad := good
		test.change(&bad)
		err := db.Revoke(ctx, Revocation{Serial: serial(2), Reason: KeyCompromise, Actor: "me"}, bad)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		// All or none.
		if _, err := db.Revocation(ctx, "", serial(2)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, db.Verify(ctx))
}

func TestReasons(t *testing.T) {
	for r := Reason(-1); r < 12; r++ {
		back, err := ParseReason(r.String())
		if known := err == nil; known != r.Valid() || known && back != r {
			t.Errorf("%d: %v, %v", int(r), back, err)
		}
	}
}

func TestCRLs(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	latest := func(partition int, delta bool) (CRL, error) {
		return db.LatestCRL(ctx, "device_subca", nil, partition, delta)
	}
	if _, err := latest(0, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("no CRL yet: %v", err)
	}
	full := crl(1)
	full.SHA256 = sha256.Sum256([]byte("crl"))
	must(t, db.RecordCRL(ctx, full))
	delta := crl(1)
	delta.Delta, delta.Base = true, 1
	must(t, db.RecordCRL(ctx, delta)) // together with the full one
	delta.Number = 2
	must(t, db.RecordCRL(ctx, delta))
	part := crl(1)
	part.Partition = 3
	must(t, db.RecordCRL(ctx, part))
	rotated := crl(1)
	rotated.IssuerKeyID = []byte{1, 2}
	must(t, db.RecordCRL(ctx, rotated))

	got, err := latest(0, false)
	must(t, err)
	if full.Entry = 0; !reflect.DeepEqual(got, full) {
		t.Errorf("latest full CRL:\n%+v, want\n%+v", got, full)
	}
	if got, err := latest(0, true); err != nil || got.Number != 2 || !got.Delta || got.Base != 1 {
		t.Errorf("latest delta CRL: %+v, %v", got, err)
	}
	if got, err := latest(3, false); err != nil || got.Number != 1 || got.Partition != 3 {
		t.Errorf("latest CRL of a partition: %+v, %v", got, err)
	}
	for _, number := range []uint64{0, 1} {
		if err := db.RecordCRL(ctx, crl(number)); !errors.Is(err, ErrStaleCRL) {
			t.Errorf("number %d again: %v", number, err)
		}
	}
	must(t, db.RecordCRL(ctx, crl(2)))
	must(t, db.Verify(ctx))

	for name, change := range map[string]func(*CRL){
		"no issuer":       func(c *CRL) { c.Issuer = "" },
		"no actor":        func(c *CRL) { c.Actor = "" },
		"large number":    func(c *CRL) { c.Number = 1 << 63 },
		"base of a full":  func(c *CRL) { c.Base = 1 },
		"base above":      func(c *CRL) { c.Delta, c.Base = true, 10 },
		"partition":       func(c *CRL) { c.Partition = -1 },
		"size":            func(c *CRL) { c.Size = 0 },
		"entries":         func(c *CRL) { c.Entries = -1 },
		"backward":        func(c *CRL) { c.NextUpdate = c.ThisUpdate.Add(-1) },
		"long identifier": func(c *CRL) { c.IssuerKeyID = make([]byte, 65) },
	} {
		bad := crl(9)
		change(&bad)
		if err := db.RecordCRL(ctx, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestImport(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 1, 1)
	imported := func(issuer string, serial []byte) Imported {
		r := record(7)
		r.Serial, r.Issuer, r.DER = serial, issuer, []byte("der of "+issuer)
		return Imported{Record: r, Detail: map[string]string{"file": "index.txt"}}
	}
	// Both old CAs began to count at 1.
	must(t, db.Import(ctx, imported("old_a", []byte{1}), imported("old_b", []byte{1})))
	for _, issuer := range []string{"old_a", "old_b"} {
		r, err := db.ByIssuerSerial(ctx, issuer, []byte{1})
		if err != nil || r.Issuer != issuer || string(r.DER) != "der of "+issuer || r.State != Issued {
			t.Errorf("%s: %+v, %v", issuer, r, err)
		}
	}
	if _, err := db.BySerial(ctx, []byte{1}); err == nil || !strings.Contains(err.Error(), `both "old_a" and "old_b"`) {
		t.Errorf("serial of two issuers: %v", err)
	}
	if err := db.Revoke(ctx, Revocation{Serial: []byte{1}, Actor: "me"}); err == nil || !strings.Contains(err.Error(), `both "old_a" and "old_b"`) {
		t.Errorf("revoked a serial of two issuers: %v", err)
	}
	must(t, db.Revoke(ctx, Revocation{Serial: []byte{1}, Issuer: "old_b", Actor: "me"}))
	must(t, db.Revoke(ctx, Revocation{Serial: []byte{1}, Issuer: "old_a", Actor: "me"}))
	for name, batch := range map[string][]Imported{
		"imported already":  {imported("old_c", []byte{1}), imported("old_a", []byte{1})},
		"issued here":       {imported("old_c", []byte{1}), imported("device_subca", serial(1))},
		"twice in one call": {imported("old_c", []byte{1}), imported("old_c", []byte{1})},
	} {
		if _, ok := errors.AsType[*DuplicateSerialError](db.Import(ctx, batch...)); !ok {
			t.Errorf("%s: no error", name)
		}
		if _, err := db.ByIssuerSerial(ctx, "old_c", []byte{1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: not all or none: %v", name, err)
		}
	}
	bad := imported("old_c", []byte{2})
	bad.DER = nil
	if err := db.Import(ctx, bad); err == nil {
		t.Error("imported without DER")
	}
	entries, err := db.Entries(ctx, 1, 1)
	must(t, err)
	if e := entries[0]; e.Kind != KindImport || e.Issuer != "old_a" || e.Detail["file"] != "index.txt" {
		t.Errorf("ledger: %+v", e)
	}
	must(t, db.Verify(ctx))
}

func TestRecordEvent(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	good := Event{Kind: KindCeremony, Name: "gen_rootca", Actor: "me", SHA256: sha256.Sum256(nil), Detail: map[string]string{"officers": "2"}}
	must(t, db.RecordEvent(ctx, good))
	for name, change := range map[string]func(*Event){
		"no kind":    func(e *Event) { e.Kind = "" },
		"issue":      func(e *Event) { e.Kind = KindIssue },
		"unknown":    func(e *Event) { e.Kind = "party" },
		"no name":    func(e *Event) { e.Name = "" },
		"no actor":   func(e *Event) { e.Actor = "" },
		"bad serial": func(e *Event) { e.Serial = []byte{0} },
		"no UTF-8":   func(e *Event) { e.Detail = map[string]string{"x": "\xff"} },
	} {
		bad := good
		change(&bad)
		if err := db.RecordEvent(ctx, good, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if size, err := db.Size(ctx); err != nil || size != 1 {
		t.Errorf("ledger has %d entries, %v", size, err)
	}
	must(t, db.Verify(ctx))
}

func TestByKeyAndName(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 6)
	other := record(7)
	other.SubjectKeyID = []byte{1, 2, 3, 4}
	zeros := record(8) // the same first 8 octets
	zeros.SubjectKeyID = []byte{1, 2, 3, 0, 0, 0, 0, 0, 0}
	for i, r := range []Record{other, zeros} {
		must(t, db.Intend(ctx, r))
		must(t, db.Complete(ctx, Completed{r.Serial, der(uint64(7 + i))}))
	}
	entries := func(list []Record, err error) []int64 {
		t.Helper()
		must(t, err)
		var out []int64
		for _, r := range list {
			out = append(out, r.Entry)
		}
		return out
	}
	for key, want := range map[string][]int64{
		"\x01\x02\x03":                         {6, 5, 4, 3, 2, 1, 0},
		"\x01\x02\x03\x04":                     {7},
		"\x01\x02\x03\x00\x00\x00\x00\x00\x00": {8},
		"\x01\x02\x03\x00":                     nil,
	} {
		if got := entries(db.ByKey(ctx, []byte(key))); !slices.Equal(got, want) {
			t.Errorf("key %x: %v, want %v", key, got, want)
		}
	}
	if got := entries(db.ByName(ctx, "device-1")); !slices.Equal(got, []int64{7, 4, 1}) {
		t.Errorf("name: %v", got)
	}
}
