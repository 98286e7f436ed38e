package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// child is the other process: it issues certificates in the store args[0],
// from number args[1] on, and prints each number once it is durable.
func child(role string, args []string) {
	err := func() error {
		ctx := context.Background()
		first, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return err
		}
		db, err := openAny(ctx, args[0])
		if err != nil {
			return err
		}
		defer db.Close()
		switch role {
		case "forever":
			for n := first; ; n += 3 {
				if err := issueBatch(ctx, db, n, 3); err != nil {
					return err
				}
				fmt.Println(n)
			}
		case "bulk":
			return db.Bulk(ctx, func() error {
				for n := first; ; n += 3 {
					if err := issueBatch(ctx, db, n, 3); err != nil {
						return err
					}
					fmt.Println(n)
				}
			})
		case "crowd":
			return crowd(ctx, db, first)
		default:
			return fmt.Errorf("unknown role %q", role)
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// issueBatch issues count certificates from number first on.
func issueBatch(ctx context.Context, db *DB, first, count uint64) error {
	var intents []Record
	var done []Completed
	for n := first; n < first+count; n++ {
		intents = append(intents, record(n))
		done = append(done, Completed{serial(n), der(n)})
	}
	if err := db.Intend(ctx, intents...); err != nil {
		return err
	}
	return db.Complete(ctx, done...)
}

// crowd has 8 goroutines issue 10 certificates each.
func crowd(ctx context.Context, db *DB, first uint64) error {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for i := range uint64(10) {
				n := first + uint64(g)*10 + i
				errs[g] = errors.Join(errs[g], issueBatch(ctx, db, n, 1))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// command is the test binary in role.
func command(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "STORE_TEST_ROLE="+role)
	return cmd
}

func TestKilled(t *testing.T) {
	ctx := t.Context()
	path := newPlace(t)
	durable := map[uint64]bool{}
	// The first rounds are killed while they make the store; on a slow machine it
	// takes more of them until one issues a certificate.
	for round := uint64(0); round < 15 || len(durable) == 0 && round < 60; round++ {
		var stdout, stderr bytes.Buffer
		cmd := command([]string{"forever", "bulk"}[round%2], path, strconv.FormatUint(round<<32, 10))
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		must(t, cmd.Start())
		time.Sleep(time.Duration(uint64(rand.IntN(20))+round*8) * time.Millisecond)
		must(t, cmd.Process.Kill())
		cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatal(stderr.String())
		}

		for lines := bufio.NewScanner(&stdout); lines.Scan(); {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			must(t, err)
			durable[n], durable[n+1], durable[n+2] = true, true, true
		}
		db, err := openAny(ctx, path)
		must(t, err)
		must(t, db.Verify(ctx))
		for n := range durable {
			r, err := db.BySerial(ctx, serial(n))
			must(t, err)
			if r.State != Issued || !bytes.Equal(r.DER, der(n)) {
				t.Fatalf("certificate %x was lost: %v", r.Serial, r.State)
			}
		}
		pending, err := db.Pending(ctx)
		must(t, err)
		if len(pending)%3 != 0 || uint64(len(pending)) > 3*(round+1) {
			t.Fatalf("%d intents pending: not whole batches, at most one a round", len(pending))
		}
		must(t, db.Close())
		wantOneFile(t, path)
	}
	if len(durable) == 0 {
		t.Fatal("no run issued a certificate: the test shows nothing")
	}
}

func TestGoroutinesAndProcesses(t *testing.T) {
	ctx := t.Context()
	path := newPlace(t)
	// They race to make the store, too.
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Go(func() {
			if out, err := command("crowd", path, strconv.Itoa(1000*(p+1))).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	db := reopen(t, path)
	if err := crowd(ctx, db, 0); err != nil {
		t.Error(err)
	}
	wg.Wait()
	must(t, db.Verify(ctx))
	if size, err := db.Size(ctx); err != nil || size != 3*80 {
		t.Errorf("%d ledger entries, want 240 (%v)", size, err)
	}
	must(t, db.Close())
	wantOneFile(t, path)
}

func TestOneSerialForMany(t *testing.T) {
	db := newDB(t)
	second := reopen(t, db.name)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = []*DB{db, second}[i%2].Intend(t.Context(), record(1))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if _, ok := errors.AsType[*DuplicateSerialError](err); !ok {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d got the serial", won)
	}
}

// A writer waits for its turn no longer than its context lasts.
func TestWaitEndsWithContext(t *testing.T) {
	db := newDB(t)
	second := reopen(t, db.name)
	tx, _, err := db.backend.begin(t.Context(), db.sql)
	must(t, err)
	defer tx.Rollback()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := second.Intend(ctx, record(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the other writer: %v", err)
	}
	if waited := time.Since(start); waited > 5*time.Second {
		t.Errorf("waited %v", waited)
	}
	must(t, tx.Rollback())
	must(t, second.Intend(t.Context(), record(1)))
}

func BenchmarkOpenNew(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		db, err := Open(b.Context(), filepath.Join(dir, strconv.Itoa(i)))
		must(b, err)
		must(b, db.Close())
	}
}

func BenchmarkIssue(b *testing.B) { benchmarkIssue(b, 1) }

func BenchmarkIssueBatch100(b *testing.B) { benchmarkIssue(b, 100) }

// benchmarkIssue issues certificates of 1 KiB in batches and reports their rate.
func benchmarkIssue(b *testing.B, count uint64) {
	db := newDB(b)
	body := []byte(strings.Repeat("x", 1024))
	n := uint64(0)
	for b.Loop() {
		var intents []Record
		var done []Completed
		for range count {
			n++
			// Real serials are random, and so are their places in the index.
			r := record(n)
			r.Serial = r.TBSHash[:19]
			r.Serial[0] = 1
			intents = append(intents, r)
			done = append(done, Completed{r.Serial, body})
		}
		must(b, db.Intend(b.Context(), intents...))
		must(b, db.Complete(b.Context(), done...))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "certificates/s")
}
