package ima

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/internal/tooltest"
	"tmpki/internal/tree"
)

// BenchmarkSign200 signs 200 files of 100 KiB with RSA-4096 into FILE.sig, in
// turn as we do it, in a loop of evmctl, and as what neither can do without:
// hashing and raw signing on all cores. It reports milliseconds of each, and our
// time in terms of the others.
func BenchmarkSign200(b *testing.B) {
	p := newParty(b, rsaKey(b, 0, 4096), nil)
	evmctl := tooltest.Path(b, "evmctl")
	key, _ := p.save(b)
	ourRoot, theirRoot := b.TempDir(), b.TempDir()
	var names []string
	content := make([]byte, 100<<10)
	for range 200 {
		rand.Read(content)
		names = append(names, "/"+rand.Text())
		write(b, ourRoot+names[len(names)-1], content)
		write(b, theirRoot+names[len(names)-1], content)
	}

	var ours, bare, theirs time.Duration
	for b.Loop() {
		unix.Sync() // or our syncs write what others left behind
		start := time.Now()
		if _, err := SignFiles(b.Context(), []string{ourRoot}, p.key, p.certificate, SigFile, tree.Options{Record: forget}); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(start)

		start = time.Now()
		hashAndSign(b, ourRoot, names, p.key)
		bare += time.Since(start)

		start = time.Now()
		for _, name := range names {
			if err := exec.Command(evmctl, "ima_sign", "--sigfile", "-n", "-a", "sha256", "-k", key, theirRoot+name).Run(); err != nil {
				b.Fatal(err)
			}
		}
		theirs += time.Since(start)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Seconds()*1e3/n, "ms-tmpki")
	b.ReportMetric(bare.Seconds()*1e3/n, "ms-hash+sign")
	b.ReportMetric(theirs.Seconds()*1e3/n, "ms-evmctl")
	b.ReportMetric(float64(ours)/float64(bare), "x-hash+sign")
	b.ReportMetric(float64(theirs)/float64(ours), "x-faster-than-evmctl")
}

// hashAndSign hashes and signs files on all cores.
func hashAndSign(b *testing.B, root string, names []string, key crypto.Signer) {
	one := func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		_, err = key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
		return err
	}
	todo := make(chan string)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for name := range todo {
				if err := one(root + name); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, name := range names {
		todo <- name
	}
	close(todo)
	workers.Wait()
}
