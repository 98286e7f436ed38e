package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// claim is a claim for a name and a key, with a serial of its own.
func claim(serial byte, name, key string, known ...byte) Claim {
	r := record(uint64(serial))
	r.Name, r.SubjectKeyID = name, []byte(key)
	c := Claim{Record: r}
	for _, k := range known {
		c.Known = append(c.Known, record(uint64(k)).Serial)
	}
	return c
}

func TestClaim(t *testing.T) {
	ctx := context.Background()
	db := newDB(t)
	taken := func(err error) map[int][]Record {
		t.Helper()
		var e *TakenError
		if !errors.As(err, &e) {
			t.Fatalf("not taken: %v", err)
		}
		return e.Taken
	}
	a := claim(1, "device/a", "key of device a.....")
	if err := db.Claim(ctx, a, claim(2, "device/b", "key of device b.....")); err != nil {
		t.Fatal(err)
	}
	// 1. An open intent stands in the way, by its name or its key, of all of a call.
	for _, c := range []Claim{claim(3, "device/a", "another key........."), claim(3, "device/c", "key of device a.....")} {
		list := taken(db.Claim(ctx, claim(4, "device/d", "key of device d....."), c))
		if len(list) != 1 || len(list[1]) != 1 || list[1][0].State != Intended || string(list[1][0].Serial) != string(a.Serial) {
			t.Errorf("taken by %+v", list)
		}
	}
	if list, err := db.Pending(ctx); err != nil || len(list) != 2 {
		t.Errorf("%d intents, %v", len(list), err)
	}
	// 2. A certificate does, in any state, unless it is known.
	if err := db.Complete(ctx, Completed{Serial: a.Serial, DER: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	if list := taken(db.Claim(ctx, claim(3, "device/a", "another key........."))); list[0][0].State != Issued || string(list[0][0].DER) != "a" {
		t.Errorf("taken by %+v", list)
	}
	if err := db.Revoke(ctx, Revocation{Serial: a.Serial, Reason: Superseded, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	if list := taken(db.Claim(ctx, claim(3, "device/a", "another key........."))); list[0][0].State != Revoked {
		t.Errorf("taken by %+v", list)
	}
	if err := db.Claim(ctx, claim(3, "device/a", "another key.........", 1)); err != nil {
		t.Errorf("a known certificate: %v", err)
	}
	// 3. A revoked intent doesn't.
	if err := db.Revoke(ctx, Revocation{Serial: record(2).Serial, Reason: Superseded, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Claim(ctx, claim(5, "device/b", "key of device b.....")); err != nil {
		t.Errorf("after a revoked intent: %v", err)
	}
	// 4. Two claims of one call must differ.
	for _, c := range []Claim{claim(7, "device/e", "yet another key....."), claim(7, "device/f", "key of device e.....")} {
		if err := db.Claim(ctx, claim(6, "device/e", "key of device e....."), c); err == nil || errors.As(err, new(*TakenError)) {
			t.Errorf("two claims for one: %v", err)
		}
	}
}

// Of many who claim one name at once, in several stores open on one file, one gets it.
func TestClaimRace(t *testing.T) {
	ctx := context.Background()
	path := newPlace(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for process := range 4 {
		db, err := openAny(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		wg.Go(func() {
			for n := range 8 {
				name := fmt.Sprintf("device/%d", n)
				err := db.Claim(ctx, claim(byte(1+8*process+n), name, fmt.Sprintf("key of %-13s", name)))
				if err == nil {
					mu.Lock()
					won[name]++
					mu.Unlock()
				} else if !errors.As(err, new(*TakenError)) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for name, n := range won {
		if n != 1 {
			t.Errorf("%s was claimed by %d", name, n)
		}
	}
	if len(won) != 8 {
		t.Errorf("%d names were claimed", len(won))
	}
}
