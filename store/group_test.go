package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Calls that share a transaction succeed and fail each for itself.
func TestGroup(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	issue(t, db, 0, 1)
	must(t, db.Intend(ctx, record(50)))
	now := db.Now
	db.Now = nil
	second := reopen(t, db.name)
	// While another holds the lock, all of them queue.
	tx, _, err := second.backend.begin(ctx, second.sql)
	must(t, err)
	const n = 40
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			r := record(uint64(100 + i))
			r.Actor = fmt.Sprintf("actor %d", i)
			switch i % 4 {
			case 0:
				errs[i] = db.Intend(ctx, r)
			case 1:
				errs[i] = db.Intend(ctx, r, record(1)) // taken
			case 2:
				errs[i] = db.SetSetting(ctx, "me", fmt.Sprint("key", i), "value")
			case 3:
				errs[i] = db.Complete(ctx, Completed{serial(50), der(50)})
			}
		})
	}
	cancelled, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := db.SetSetting(cancelled, "me", "never", "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited too long: %v", err)
	}
	must(t, tx.Rollback())
	wg.Wait()
	completed := 0
	for i, err := range errs {
		_, duplicate := errors.AsType[*DuplicateSerialError](err)
		switch {
		case i%4 == 3 && err == nil:
			completed++
		case i%4 == 3 && !errors.Is(err, ErrIssued), i%4 == 1 && !duplicate, i%2 == 0 && err != nil:
			t.Errorf("call %d: %v", i, err)
		}
	}
	if completed != 1 {
		t.Errorf("completed %d times", completed)
	}
	if _, err := db.Setting(ctx, "never"); !errors.Is(err, ErrNotFound) {
		t.Errorf("written by a call that had given up: %v", err)
	}
	pending, err := db.Pending(ctx)
	must(t, err)
	if len(pending) != n/4 {
		t.Errorf("%d pending, want %d", len(pending), n/4)
	}
	db.Now = now
	for _, r := range pending {
		must(t, db.Complete(ctx, Completed{r.Serial, []byte("der")}))
	}
	must(t, db.Verify(ctx))
	if size, err := db.Size(ctx); err != nil || size != 2+n/4+1+n/4 {
		t.Errorf("%d entries, %v", size, err)
	}
	// Nothing of the calls that failed is left.
	var actors int
	must(t, db.sql.QueryRow("SELECT count(*) FROM actor WHERE name LIKE 'actor %'").Scan(&actors))
	if actors != n/4 {
		t.Errorf("%d actors, want %d", actors, n/4)
	}
}

func TestBulk(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	must(t, db.Bulk(ctx, func() error {
		second := reopen(t, db.name)
		must(t, issueBatch(ctx, db, 1, 300))
		// Another process sees it, and writes too.
		if r, err := second.BySerial(ctx, serial(300)); err != nil || r.State != Issued {
			t.Errorf("%v %v", r.State, err)
		}
		must(t, issueBatch(ctx, second, 1000, 3))
		must(t, second.Close())
		return issueBatch(ctx, db, 2000, 3)
	}))
	wantOneFile(t, db.name)
	must(t, db.Verify(ctx))

	// If another process has it open at the end, the log goes when that is done.
	second := reopen(t, db.name)
	must(t, db.Bulk(ctx, func() error {
		_, err := second.Size(ctx)
		must(t, err)
		return issueBatch(ctx, db, 3000, 3)
	}))
	must(t, db.Close())
	must(t, second.Verify(ctx))
	must(t, second.Close())
	wantOneFile(t, db.name)
	db = reopen(t, db.name)
	must(t, db.Verify(ctx))
	if isURL(db.name) {
		return
	}
	if mode, err := journalMode(ctx, db.sql, ""); err != nil || mode != "delete" {
		t.Errorf("journal mode %q, %v", mode, err)
	}
}
