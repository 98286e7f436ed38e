package verity_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tmpki/artifact/verity"
	"tmpki/internal/tooltest"
)

// The second opinion on everything that this package writes is cryptsetup's
// own tool: same image, same salt, same UUID, same bytes.

var testUUID = [16]byte{0x5a, 0x1f, 0x26, 0x47, 0x21, 0x0a, 0x4c, 0x52, 0x90, 0xd1, 0x0b, 0x1d, 0x7d, 0x3a, 0x3e, 0x11}

func TestSameAsVeritysetup(t *testing.T) {
	const block = verity.BlockSize
	sizes := []int64{
		1 * block, 2 * block, 3 * block,
		127 * block, 128 * block, 129 * block, 255 * block, 256 * block, 257 * block,
		(128*128 - 1) * block, 128 * 128 * block, (128*128 + 1) * block,
	}
	salts := map[string][]byte{
		"no salt":  nil,
		"1 byte":   {0xa5},
		"32 bytes": bytes.Repeat([]byte{0x5a, 0x01}, 16),
		"63 bytes": bytes.Repeat([]byte{7}, 63), // salt and block straddle SHA-256's blocks
		"256":      bytes.Repeat([]byte{0xff}, 256),
	}
	for _, size := range sizes {
		for name, salt := range salts {
			if size > 257*block && name != "32 bytes" {
				continue // salts are covered by the small ones
			}
			for _, bare := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d blocks, %s, bare=%v", size/block, name, bare), func(t *testing.T) {
					t.Parallel()
					compare(t, size, verity.Options{Salt: salt, UUID: testUUID, NoSuperblock: bare})
				})
			}
		}
	}
}

// veritysetup leaves the bytes behind the last whole block out without a word.
func TestTailSameAsVeritysetup(t *testing.T) {
	for _, size := range []int64{4097, 8191, 8192 + 512, 128*4096 + 1, 128*4096 + 4095, 129*4096 + 100} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			compare(t, size, verity.Options{Salt: []byte("salt"), UUID: testUUID, IgnoreTail: true})
		})
	}
}

// TMPKI_VERITY_MIB=1024 compares an image of 1 GiB as well.
func TestLargeSameAsVeritysetup(t *testing.T) {
	var mib int64
	if _, err := fmt.Sscan(os.Getenv("TMPKI_VERITY_MIB"), &mib); err != nil {
		t.Skip("set TMPKI_VERITY_MIB to the size of an image to compare, in MiB")
	}
	for _, size := range []int64{mib << 20, mib<<20 - verity.BlockSize, mib<<20 + verity.BlockSize} {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, bare=%v", size, bare), func(t *testing.T) {
				compare(t, size, verity.Options{Salt: []byte("a large salt"), UUID: testUUID, NoSuperblock: bare})
			})
		}
	}
}

// compare makes a random image of size bytes and requires that Build and
// veritysetup write the same hash file and the same root for it, and that
// each of them accepts what the other one wrote.
func compare(t *testing.T, size int64, opts verity.Options) {
	t.Helper()
	dir := t.TempDir()
	imagePath, oursPath, theirsPath := filepath.Join(dir, "image"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	writeRandom(t, imagePath, size)

	args := []string{"--salt=" + hex.EncodeToString(opts.Salt)}
	if len(opts.Salt) == 0 {
		args = []string{"--salt=-"}
	}
	if opts.NoSuperblock {
		args = append(args, "--no-superblock")
	} else {
		u := hex.EncodeToString(opts.UUID[:])
		args = append(args, "--uuid="+strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-"))
	}
	out := string(tooltest.Run(t, "veritysetup", append(args, "format", imagePath, theirsPath)...))
	theirRoot := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindStringSubmatch(out)[1]

	image := openSource(t, imagePath)
	ours, err := os.Create(oursPath)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	result, err := verity.Build(context.Background(), image, ours, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(result.Root[:]); got != theirRoot {
		t.Errorf("root is %s, veritysetup says %s", got, theirRoot)
	}
	sameFile(t, oursPath, theirsPath)
	theirs := openSource(t, theirsPath)
	if theirs.Size() != result.TreeSize {
		t.Errorf("TreeSize is %d, veritysetup wrote %d", result.TreeSize, theirs.Size())
	}

	// Each accepts the other's.
	if opts.NoSuperblock {
		args = append(args, fmt.Sprintf("--data-blocks=%d", size/verity.BlockSize))
	} else {
		args = nil
	}
	tooltest.Run(t, "veritysetup", append(args, "verify", imagePath, oursPath, theirRoot)...)
	if opts.IgnoreTail {
		return // Verify is stricter
	}
	if opts.NoSuperblock {
		_, err = verity.VerifyBare(context.Background(), image, theirs, opts.Salt, result.Root, nil)
	} else {
		_, err = verity.Verify(context.Background(), image, theirs, result.Root, nil)
	}
	if err != nil {
		t.Errorf("verifying what veritysetup wrote: %v", err)
	}
}

// writeRandom writes size bytes that are the same in every run, 1 MiB at a time.
func writeRandom(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{byte(size)})
	buf := make([]byte, 1<<20)
	for size > 0 {
		n := min(int64(len(buf)), size)
		random.Read(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
		size -= n
	}
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	if out, err := exec.Command("cmp", a, b).CombinedOutput(); err != nil {
		t.Errorf("hash files differ: %s", out)
	}
}
