package store

import (
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"
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
	info, err := os.Stat(db.name)
	must(b, err)
	b.ReportMetric(float64(info.Size())/n, "octets/certificate")
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
