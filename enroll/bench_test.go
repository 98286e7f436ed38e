package enroll

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/ca"
	"tmpki/plan"
)

// benchRequests makes the requests of n devices on all cores, DER.
func benchRequests(b testing.TB, first, n int) [][]byte {
	requests := make([][]byte, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				parsed, err := ca.ParseUnprovenRequest(device(b, first+i))
				if err != nil {
					panic(err)
				}
				requests[i] = parsed.Raw
			}
		})
	}
	wg.Wait()
	return requests
}

// limit is how long it takes on all cores to check the requests, and to make and
// verify a signature for each: what no batch can do without.
func limit(b testing.TB, r *Registrar, requests [][]byte) time.Duration {
	signer, err := r.pki.Signer(r.issuance.Issuer)
	must(b, err)
	begun := time.Now()
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(requests); i += workers {
				parsed, err := ca.ParseUnprovenRequest(requests[i])
				if err == nil {
					_, err = r.issuance.Request.Vet(r.issuance.Profile, r.issuance.Subject, parsed)
				}
				if err == nil {
					// The request is about as long as the certificate.
					_, err = r.issuance.Issuer.Algorithm.Sign(signer, requests[i])
				}
				if err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// batchTime is how long it takes to issue the certificates durably.
func batchTime(b testing.TB, r *Registrar, requests [][]byte) time.Duration {
	begun := time.Now()
	totals, err := r.SignAll(b.Context(), func(yield func(Request) bool) {
		for _, data := range requests {
			if !yield(Request{Data: data}) {
				return
			}
		}
	}, func(one Result) error { return one.Err })
	must(b, err)
	if totals.Issued != len(requests) {
		b.Fatalf("%+v", totals)
	}
	return time.Since(begun)
}

// BenchmarkBatch issues certificates for devices with P-256 keys, durably, beside
// the limit measured in the same run: on all cores, checking the requests, signing
// and verifying alone. Set TMPKI_BENCH_DIR to a directory on the disk that counts.
func BenchmarkBatch(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // as the command does
	for _, row := range []struct {
		keyType string
		n       int
	}{{"ec:P-256", 20_480}, {"rsa:4096", 768}} {
		b.Run(row.keyType, func(b *testing.B) {
			r := open(b, benchPKI(b, row.keyType), "device")
			requests := benchRequests(b, 0, row.n*b.N)
			var atLeast, took, cpuAtLeast, cpuTook time.Duration
			for n := range b.N {
				part := requests[n*row.n : (n+1)*row.n]
				begun := cpuTime(b)
				atLeast += limit(b, r, part)
				between := cpuTime(b)
				took += batchTime(b, r, part)
				cpuAtLeast, cpuTook = cpuAtLeast+between-begun, cpuTook+cpuTime(b)-between
			}
			b.ReportMetric(float64(len(requests))/took.Seconds(), "certs/s")
			b.ReportMetric(float64(len(requests))/atLeast.Seconds(), "limit/s")
			b.ReportMetric(100*atLeast.Seconds()/took.Seconds(), "%limit")
			b.ReportMetric(100*cpuAtLeast.Seconds()/cpuTook.Seconds(), "%cpu")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is what this process has used of the processors: a measure that other
// processes don't spoil.
func cpuTime(b testing.TB) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchPKI is newPKI on the disk that counts, at the time of testNow.
func benchPKI(b testing.TB, keyType string) string {
	dir := os.Getenv("TMPKI_BENCH_DIR")
	if dir == "" {
		return newPKI(b, keyType)
	}
	dir, err := os.MkdirTemp(dir, "bench-")
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	must(b, os.CopyFS(dir, os.DirFS(newPKI(b, keyType))))
	return dir
}

// BenchmarkMillion shows that a certificate costs the same, however many there are.
// TMPKI_BENCH_MILLION=1 asks for it; it may also be the number of certificates.
func BenchmarkMillion(b *testing.B) {
	total, err := strconv.Atoi(os.Getenv("TMPKI_BENCH_MILLION"))
	if err != nil {
		b.Skip("TMPKI_BENCH_MILLION=1 asks for it, and takes minutes")
	}
	if total == 1 {
		total = 1_000_000
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	dir := benchPKI(b, "ec:P-256")
	r := open(b, dir, "device")
	const step = 20_000
	for done := 0; done < total; done += step {
		requests := benchRequests(b, done, min(step, total-done))
		begun, sample := cpuTime(b), min(4000, len(requests))
		atLeast := limit(b, r, requests[:sample]) * time.Duration(len(requests)) / time.Duration(sample)
		cpuAtLeast, between := (cpuTime(b)-begun)*time.Duration(len(requests))/time.Duration(sample), cpuTime(b)
		took := batchTime(b, r, requests)
		cpuTook := cpuTime(b) - between
		info, err := os.Stat(plan.StorePath(dir))
		must(b, err)
		fmt.Printf("%8d certificates: %6.0f/s, %3.0f %% of the limit; %3d µs of processor for each, %3.0f %% of the limit; the store has %d octets for each\n", done+len(requests),
			float64(len(requests))/took.Seconds(), 100*atLeast.Seconds()/took.Seconds(),
			cpuTook.Microseconds()/int64(len(requests)), 100*cpuAtLeast.Seconds()/cpuTook.Seconds(), info.Size()/int64(done+len(requests)))
	}
}
