package verity_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/artifact/verity"
)

// openSource opens the file at path for the time of the test.
func openSource(t testing.TB, path string) verity.Source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return io.NewSectionReader(f, 0, info.Size())
}

// memory is a hash file in memory.
type memory struct {
	mu   sync.Mutex
	data []byte
}

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end := int(off) + len(b); end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	return copy(m.data[off:], b), nil
}

// countingSource counts how often each of its bytes is read.
type countingSource struct {
	verity.Source
	read int64
}

func (c *countingSource) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(b, off)
	c.read += int64(n)
	return n, err
}

// sample is an image with its tree of two levels.
func sample(t testing.TB, blocks int, opts verity.Options) (image, tree []byte, result *verity.Result) {
	t.Helper()
	image = make([]byte, blocks*verity.BlockSize)
	for i := range image {
		image[i] = byte(i>>12 ^ i)
	}
	var m memory
	result, err := verity.Build(context.Background(), bytes.NewReader(image), &m, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	return image, m.data, result
}

func TestBuildReadsOnceAndReports(t *testing.T) {
	image, _, _ := sample(t, 1000, verity.Options{})
	image = append(image, "tail"...)
	source := &countingSource{Source: bytes.NewReader(image)}
	var reported int64
	result, err := verity.Build(context.Background(), source, new(memory), verity.Options{IgnoreTail: true},
		func(n int64) { reported += n })
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(image)); source.read != want || reported != want {
		t.Errorf("read %d bytes and reported %d, want %d", source.read, reported, want)
	}
	if want := sha256.Sum256(image); result.ImageSHA256 != want {
		t.Errorf("image SHA-256 is %x, want %x", result.ImageSHA256, want)
	}
	size, err := verity.TreeSize(int64(len(image)), verity.Options{IgnoreTail: true})
	if err != nil || size != result.TreeSize || size != 4096+4096+8*4096 {
		t.Errorf("TreeSize: %d, %v; Build says %d", size, err, result.TreeSize)
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		size int64
		opts verity.Options
		want string
	}{
		{"empty image", 0, verity.Options{}, "image of 0 bytes is smaller than one block"},
		{"less than a block", 4095, verity.Options{IgnoreTail: true}, "image of 4095 bytes is smaller than one block"},
		{"a tail", 8192 + 512, verity.Options{}, "its last 512 bytes would not be protected"},
		{"more than 16 TiB", 1<<44 + 4096, verity.Options{}, "at most 17592186044416 are possible"},
		{"a long salt", 4096, verity.Options{Salt: make([]byte, 257)}, "salt of 257 bytes: at most 256"},
	} {
		_, err := verity.Build(context.Background(), failing{size: test.size}, new(memory), test.opts, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// failing reads or writes well up to an offset, and then fails.
type failing struct {
	size, until int64
	err         error
}

func (f failing) Size() int64 { return f.size }

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.until {
		return 0, f.err
	}
	return len(b), nil
}

func (f failing) WriteAt(b []byte, off int64) (int, error) { return f.ReadAt(b, off) }

// Build must return, and with the cause, whatever fails and whenever.
func TestBuildFails(t *testing.T) {
	broken := errors.New("broken")
	const size = 300 * 128 * verity.BlockSize // leaves in 300 blocks, then 3, then 1
	good := failing{size: size, until: size}
	for until := int64(0); until < size; until += size / 7 {
		_, err := verity.Build(context.Background(), failing{size, until, broken}, good, verity.Options{}, nil)
		if !errors.Is(err, broken) {
			t.Errorf("reading fails at %d: error %v", until, err)
		}
		_, err = verity.Build(context.Background(), failing{size, until, io.EOF}, good, verity.Options{}, nil)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("image ends at %d: error %v", until, err)
		}
	}
	// Blocks in the file: superblock, root, 3 of level 1, 300 of level 0.
	for _, block := range []int64{0, 1, 2, 4, 5, 100, 304} {
		_, err := verity.Build(context.Background(), good, failing{size, block * 4096, broken}, verity.Options{}, nil)
		if !errors.Is(err, broken) {
			t.Errorf("writing fails at block %d: error %v", block, err)
		}
	}
}

func TestBuildStopsWithContext(t *testing.T) {
	const size = 1 << 40 // would take a quarter of an hour
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := verity.Build(ctx, failing{size: size, until: size}, failing{until: size}, verity.Options{}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}

// BenchmarkBuild hashes a file as Build does and, in the same run, as plain
// SHA-256 does. x_sha256 is the ratio of the times. TMPKI_BENCH_MIB sets the
// size of the file.
func BenchmarkBuild(b *testing.B) {
	mib := int64(256)
	fmt.Sscan(os.Getenv("TMPKI_BENCH_MIB"), &mib)
	dir := b.TempDir()
	path := filepath.Join(dir, "image")
	writeRandom(b, path, mib<<20)
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // or its way to the disk would be measured
		b.Fatal(err)
	}
	tree, err := os.Create(filepath.Join(dir, "tree"))
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()
	salt := bytes.Repeat([]byte{1}, 32)
	image := io.NewSectionReader(f, 0, mib<<20)

	b.SetBytes(mib << 20)
	var plain, build time.Duration
	for b.Loop() {
		start := time.Now()
		h := sha256.New()
		image.Seek(0, io.SeekStart)
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{image}, make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		result, err := verity.Build(context.Background(), image, tree, verity.Options{Salt: salt}, nil)
		if err != nil {
			b.Fatal(err)
		}
		plain += middle.Sub(start)
		build += time.Since(middle)
		if !bytes.Equal(h.Sum(nil), result.ImageSHA256[:]) {
			b.Fatal("hashes differ")
		}
	}
	b.ReportMetric(build.Seconds()/plain.Seconds(), "x_sha256")
	b.ReportMetric(float64(mib<<20)*float64(b.N)/build.Seconds()/1e6, "build_MB/s")
}
