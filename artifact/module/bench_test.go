package module

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/internal/tooltest"
	"tmpki/internal/tree"
)

// BenchmarkSign200 signs 200 modules of 100 KiB with RSA-4096, in turn as we do
// it, in a loop of sign-file, and as what neither can do without: hashing and raw
// signing on all cores, with no file read or written. It reports milliseconds
// of each, and our time in terms of the others.
func BenchmarkSign200(b *testing.B) {
	p := newParty(b, rsaKey(b, 0, 4096), "signer", 1)
	signFile := tooltest.Path(b, "sign-file")
	key, certificate := p.save(b)
	ourRoot, theirRoot := b.TempDir(), b.TempDir()
	var files [][]byte
	for range 200 {
		name := "/" + rand.Text() + ".ko"
		file := newModule(b, name, 100<<10)
		files = append(files, file)
		write(b, ourRoot+name, file)
		write(b, theirRoot+name, file)
	}

	var ours, bare, theirs time.Duration
	for b.Loop() {
		unix.Sync() // or our syncs write what others left behind
		start := time.Now()
		if _, err := SignFiles(b.Context(), []string{ourRoot}, p.key, p.certificate, tree.Options{Record: forget}); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)

		start = time.Now()
		hashAndSign(b, files, p.key)
		bare += time.Since(start)

		start = time.Now()
		paths, err := tree.Find([]string{theirRoot}, IsModule)
		if err != nil {
			b.Fatal(err)
		}
		for _, path := range paths {
			if err := exec.Command(signFile, "sha256", key, certificate, path).Run(); err != nil {
				b.Fatal(err)
			}
		}
		theirs += time.Since(start)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Seconds()*1e3/n, "ms-tmpki")
	b.ReportMetric(bare.Seconds()*1e3/n, "ms-hash+sign")
	b.ReportMetric(theirs.Seconds()*1e3/n, "ms-sign-file")
	b.ReportMetric(float64(ours)/float64(bare), "x-hash+sign")
	b.ReportMetric(float64(theirs)/float64(ours), "x-faster-than-sign-file")
}

// hashAndSign hashes and signs files on all cores.
func hashAndSign(b *testing.B, files [][]byte, key crypto.Signer) {
	todo := make(chan []byte)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for file := range todo {
				digest := sha256.Sum256(file)
				if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, file := range files {
		todo <- file
	}
	close(todo)
	workers.Wait()
}

// BenchmarkSignCompressed signs one module of 1 MiB, half of it compressible.
func BenchmarkSignCompressed(b *testing.B) {
	p := newParty(b, rsaKey(b, 0, 4096), "signer", 1)
	module := append(newModule(b, "m", 512<<10), make([]byte, 512<<10)...)
	for _, compression := range []Compression{None, Gzip, XZ, Zstd} {
		file, err := Compress(module, compression)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(compression.String(), func(b *testing.B) {
			b.SetBytes(int64(len(module)))
			for b.Loop() {
				if _, err := Sign(file, p.key, p.certificate); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
