package store

import (
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"tmpki/store/storetest"
)

// factory makes intents and certificates as a factory line does: a UUID, a random
// key, a serial that begins with the time, a certificate of 700 octets.
type factory struct {
	random *rand.ChaCha8
	now    time.Time
	n      uint32
}

func newFactory(seed byte) *factory {
	return &factory{random: rand.NewChaCha8([32]byte{seed}), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (f *factory) batch(count int) ([]Record, []Completed) {
	intents, done := make([]Record, count), make([]Completed, count)
	for i := range intents {
		f.n++
		octets := make([]byte, 16+20+700)
		f.random.Read(octets)
		u, skid, der := octets[:16], octets[16:36], octets[36:]
		serial := make([]byte, 20)
		binary.BigEndian.PutUint32(serial, uint32(f.now.Unix())+f.n/8000)
		copy(serial[4:], der)
		intents[i] = Record{
			Serial: serial, Name: fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), Profile: "device",
			Issuer: "device_subca", IssuerKeyID: []byte("01234567890123456789"), Actor: "factory line 1", SubjectKeyID: skid,
			NotBefore: f.now, NotAfter: f.now.AddDate(3, 0, int(f.n/8000)), TBSHash: sha256.Sum256(serial),
		}
		done[i] = Completed{serial, der}
	}
	return intents, done
}

// cpu is the time that the process has computed for.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkBatch records certificates in batches of 256, durably. µs-cpu is what one
// certificate costs, Intend and Complete together; x_fsync is the time of a batch
// as a multiple of its least: the two syncs that make it durable, of a file on the
// same disk.
func BenchmarkBatch(b *testing.B) {
	db := newDB(b)
	benchmarkBatch(b, db)
	info, err := os.Stat(db.name)
	must(b, err)
	b.ReportMetric(float64(info.Size())/float64(b.N)/256, "octets/certificate")
}

// BenchmarkBatchPostgreSQL does the same on PostgreSQL, which does not sync here.
// µs-cpu is this program's part.
func BenchmarkBatchPostgreSQL(b *testing.B) {
	server = storetest.Start(b)
	defer func() { server = nil }()
	benchmarkBatch(b, newDB(b))
}

// BenchmarkCrowd has 64 goroutines record one certificate each at a time, durably.
// certificates/sync is how many share a transaction.
func BenchmarkCrowd(b *testing.B) {
	db := newDB(b)
	db.Now = nil
	var mu sync.Mutex
	f := newFactory(3)
	must(b, db.Bulk(b.Context(), func() error {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mu.Lock()
				intents, done := f.batch(1)
				mu.Unlock()
				if err := errors.Join(db.Intend(b.Context(), intents...), db.Complete(b.Context(), done...)); err != nil {
					b.Error(err)
				}
			}
		})
		return nil
	}))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
	b.ReportMetric(float64(b.N)*float64(syncTime(b))/float64(b.Elapsed()), "certificates/sync")
}

func benchmarkBatch(b *testing.B, db *DB) {
	f := newFactory(1)
	const count = 256
	start := cpu()
	var busy time.Duration
	must(b, db.Bulk(b.Context(), func() error {
		for b.Loop() {
			b.StopTimer()
			before := cpu()
			intents, done := f.batch(count)
			start += cpu() - before
			b.StartTimer()
			must(b, db.Intend(b.Context(), intents...))
			must(b, db.Complete(b.Context(), done...))
		}
		return nil
	}))
	busy = cpu() - start
	n := float64(b.N) * count
	b.ReportMetric(float64(busy.Microseconds())/n, "µs-cpu/certificate")
	b.ReportMetric(n/b.Elapsed().Seconds(), "certificates/s")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(2*syncTime(b)), "x_fsync")
}

// syncTime measures how long the disk of the test takes to keep 256 certificates.
func syncTime(b *testing.B) time.Duration {
	f, err := os.CreateTemp(b.TempDir(), "")
	must(b, err)
	defer f.Close()
	data := make([]byte, 256<<10)
	crand.Read(data)
	const rounds = 20
	start := time.Now()
	for range rounds {
		_, err := f.Write(data)
		must(b, err)
		must(b, f.Sync())
	}
	return time.Since(start) / rounds
}

// BenchmarkMillion fills a store with 1,000,000 certificates (with
// TMPKI_BENCH_MILLION=1; else 20,000) and reports what one costs at its end as a
// multiple of what one cost at its beginning, what a certificate takes in the file,
// the slowest page of 100 of several queries, and the time of Verify.
func BenchmarkMillion(b *testing.B) {
	total := 20_000
	if os.Getenv("TMPKI_BENCH_MILLION") != "" {
		total = 1_000_000
	}
	const batch = 500
	for range b.N {
		db := newDB(b)
		f := newFactory(2)
		var first, last time.Duration
		var names []string
		window := total / 20 / batch * batch
		must(b, db.Bulk(b.Context(), func() error {
			for n := 0; n < total; n += batch {
				intents, done := f.batch(batch)
				if n%(total/10) == 0 {
					names = append(names, intents[0].Name)
				}
				before := cpu()
				must(b, db.Intend(b.Context(), intents...))
				must(b, db.Complete(b.Context(), done...))
				switch spent := cpu() - before; {
				case n < window:
					first += spent
				case n >= total-window:
					last += spent
				}
			}
			return nil
		}))
		b.ReportMetric(float64(first.Microseconds())/float64(window), "µs-cpu/first")
		b.ReportMetric(float64(last.Microseconds())/float64(window), "µs-cpu/last")
		b.ReportMetric(float64(last)/float64(first), "x_first")
		info, err := os.Stat(db.name)
		must(b, err)
		b.ReportMetric(float64(info.Size())/float64(total), "octets/certificate")
		b.ReportMetric(float64(slowestPage(b, db, names).Microseconds())/1000, "ms/page")
		start := time.Now()
		must(b, db.Verify(b.Context()))
		b.ReportMetric(time.Since(start).Seconds(), "s/verify")
		must(b, db.Close())
	}
}

// slowestPage asks for pages at the beginning, in the middle and at the end.
func slowestPage(b *testing.B, db *DB, names []string) time.Duration {
	ctx := b.Context()
	size, err := db.Size(ctx)
	must(b, err)
	var slowest time.Duration
	for name, q := range map[string]Query{
		"all": {}, "newest": {Newest: true}, "profile": {Profile: "device"}, "revoked": {States: []State{Revoked}},
		"good":  {Issuer: "device_subca", States: []State{Issued}, Newest: true},
		"dates": {ExpiresFrom: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC), ExpiresBefore: time.Date(2029, 2, 1, 0, 0, 0, 0, time.UTC)},
		"name":  {NamePrefix: names[0][:2]}, "one name": {NamePrefix: names[0]},
	} {
		for _, at := range []int64{-1, size / 2, size - 50} {
			after := Cursor("")
			if at >= 0 && q.NamePrefix == "" && !q.byDate() {
				after = Cursor(fmt.Sprintf("e%d", at))
			}
			start := time.Now()
			_, _, err := db.Page(ctx, q, after, 100)
			must(b, err)
			if took := time.Since(start); took > slowest {
				slowest = took
				b.Logf("%s at %d: %v", name, at, took)
			}
		}
	}
	for _, name := range names {
		start := time.Now()
		list, err := db.ByName(ctx, name)
		must(b, err)
		byKey, err := db.ByKey(ctx, list[0].SubjectKeyID)
		must(b, err)
		if _, err := db.BySerial(ctx, byKey[0].Serial); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
	}
	return slowest
}
