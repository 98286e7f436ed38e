package main

import (
	"path/filepath"
	"testing"
	"time"

	"tmpki/plan"
	"tmpki/store"
)

// What a run was about to sign is abandoned an hour later, and not before: until
// then the run may be at it.
func TestAbandoned(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "pki.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	intend := func(serial byte, name string, at time.Time) {
		db.Now = func() time.Time { return at }
		err := db.Intend(ctx, store.Record{Serial: []byte{serial}, Name: name, Profile: "p", Issuer: "i", Actor: "test", NotBefore: now, NotAfter: now.AddDate(1, 0, 0)})
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &plan.PKI{Plan: &plan.Plan{}}
	intend(1, "old", now.Add(-2*time.Hour))
	intend(2, "young", now.Add(-time.Minute))
	list, err := abandoned(ctx, db, now)
	if err != nil || len(list) != 1 || list[0].Name != "old" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := findAll(ctx, p, db, []string{"02"}, store.Superseded); err == nil {
		t.Error("what is being signed was taken for dead")
	}
	if list, err := findAll(ctx, p, db, []string{"01", "1", "0x01"}, store.Superseded); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
