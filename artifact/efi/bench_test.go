package efi

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"testing"
)

// BenchmarkSign compares signing with what it cannot do without: one SHA-256 of
// the same octets, and one RSA-2048 signature.
func BenchmarkSign(b *testing.B) {
	a := testAuthorities()
	for _, size := range []int{4 << 10, 100 << 20} {
		image := peImage{sections: []int{size - testHeaderSize}}.build()
		name := fmt.Sprintf("%dKiB", size>>10)
		b.Run(name+"/floor", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				digest := sha256.Sum256(image)
				if _, err := a.direct.key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/sign", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				img := openBytes(b, image)
				if err := img.Sign(io.Discard, a.direct.signer(), SignOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		signed := signBytes(b, image, a.direct.signer(), SignOptions{})
		b.Run(name+"/verify", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := openBytes(b, signed).Verify(trusting(a.direct)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// largeImage is an image with a section of zeros, without the zeros.
type largeImage struct {
	headers []byte
	size    int64
}

func (l largeImage) ReadAt(p []byte, offset int64) (int, error) {
	n := int(min(int64(len(p)), l.size-offset))
	clear(p[:n])
	if offset < int64(len(l.headers)) {
		copy(p[:n], l.headers[offset:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestConstantMemory signs 100 MiB with little memory.
func TestConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("hashes 100 MiB")
	}
	const size = 100 << 20
	headers := peImage{sections: []int{8}}.build()[:testHeaderSize]
	const section = 0x80 + coffHeaderSize + fixedSizePE32Plus + maxDirectories*directorySize
	putSection(headers[section:], size-testHeaderSize, testHeaderSize)
	img, err := Open(largeImage{headers, size}, size)
	if err != nil {
		t.Fatal(err)
	}
	signer := testAuthorities().direct.signer()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := img.Sign(io.Discard, signer, SignOptions{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d octets of memory for %d octets of image", n, size)
	}
}

// TestLimits looks at sizes that a field of the header could not hold.
func TestLimits(t *testing.T) {
	headers := peImage{sections: []int{8}}.build()
	img, err := Open(largeImage{headers, MaxSize}, MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := img.Sign(&out, testAuthorities().direct.signer(), SignOptions{}); err == nil || out.Len() > 0 {
		t.Errorf("an image of the largest size was signed: %v", err)
	}
}
