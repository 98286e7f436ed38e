package module

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"tmpki/internal/tooltest"
)

// pipe runs a tool over data.
func pipe(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, stderr.String())
	}
	return out
}

// TestCompressedByTools signs what the tools compress, in every form that they
// have, and wants them to read the result.
func TestCompressedByTools(t *testing.T) {
	xz, zst, gz := tooltest.Path(t, "xz"), tooltest.Path(t, "zstd"), tooltest.Path(t, "gzip")
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	module := append(newModule(t, "m", 100_000), make([]byte, 300_000)...)
	want := mustSign(t, module, p)
	for _, c := range []struct {
		compress, decompress []string
	}{
		{[]string{gz, "-n"}, []string{gz, "-dc"}},
		{[]string{gz, "-9"}, []string{gz, "-dc"}},
		{[]string{xz, "--check=crc32", "--lzma2=dict=2MiB"}, []string{xz, "-dc"}},
		{[]string{xz, "-9"}, []string{xz, "-dc"}}, // CRC64, which the kernel can't read
		{[]string{xz, "-0", "--check=none"}, []string{xz, "-dc"}},
		{[]string{xz, "-0", "--check=sha256"}, []string{xz, "-dc"}},
		{[]string{xz, "-1", "-T2", "--block-size=65536"}, []string{xz, "-dc"}}, // seven blocks, with their sizes
		{[]string{zst, "-q"}, []string{zst, "-dcq"}},
		{[]string{zst, "-q", "-19", "--no-check"}, []string{zst, "-dcq"}},
		{[]string{zst, "-q", "--ultra", "-22", "--long=27"}, []string{zst, "-dcq"}},
	} {
		t.Run(filepath.Base(strings.Join(c.compress, " ")), func(t *testing.T) {
			signed, err := Sign(pipe(t, module, c.compress...), p.key, p.certificate)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(pipe(t, signed.File, c.decompress...), want) {
				t.Error("something else comes out than the signed module")
			}
			if signed.Size != int64(len(module)) {
				t.Errorf("size for the ledger is %d, not %d", signed.Size, len(module))
			}
			if _, err := Verify(signed.File, []*x509.Certificate{p.certificate}); err != nil {
				t.Error(err)
			}
			again, err := Sign(signed.File, p.key, p.certificate)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.File, signed.File) {
				t.Error("signing again gives other octets")
			}
		})
	}
}

// TestForTheKernel looks for what the kernel's decompressors need.
func TestForTheKernel(t *testing.T) {
	module := append(newModule(t, "m", 100_000), make([]byte, 12<<20)...)
	t.Run("xz", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "m.ko.xz")
		file, err := Compress(module[:1<<20], XZ)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, file)
		out := string(tooltest.Run(t, "xz", "-lvv", path))
		for _, want := range []string{"CRC32", "--lzma2=dict=2MiB", "Streams:            1", "Blocks:             1"} {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
				t.Errorf("xz does not list %q:\n%s", want, out)
			}
		}
	})
	t.Run("zstd", func(t *testing.T) {
		for _, module := range [][]byte{module, module[:200_000]} {
			file, err := Compress(module, Zstd)
			if err != nil {
				t.Fatal(err)
			}
			var header zstd.Header
			if err := header.Decode(file); err != nil {
				t.Fatal(err)
			}
			window := header.WindowSize
			if header.SingleSegment {
				window = header.FrameContentSize
			}
			if window > 8<<20 || header.DictionaryID != 0 || header.Skippable {
				t.Errorf("window of %d octets, dictionary %d", window, header.DictionaryID)
			}
		}
	})
	t.Run("gzip", func(t *testing.T) {
		file, err := Compress(module, Gzip)
		if err != nil {
			t.Fatal(err)
		}
		// No flags, no time: module_gzip_header_len knows file names only.
		if want := "1f8b08000000000002ff"; hex.EncodeToString(file[:10]) != want {
			t.Errorf("header is %x, not %s", file[:10], want)
		}
	})
}

func TestDecompressRefuses(t *testing.T) {
	xz, zst, gz := tooltest.Path(t, "xz"), tooltest.Path(t, "zstd"), tooltest.Path(t, "gzip")
	module := newModule(t, "m", 10_000)
	gzFile, xzFile, zstFile := pipe(t, module, gz), pipe(t, module, xz), pipe(t, module, zst, "-q")
	flipped := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	with := func(b, c []byte) []byte { return append(bytes.Clone(b), c...) }
	bomb := make([]byte, freeSize+1)
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"gzip: truncated", gzFile[:len(gzFile)-1], "decompressing (gz): unexpected EOF"},
		{"gzip: flipped bit in the checksum", flipped(gzFile, len(gzFile)-8), "gzip: invalid checksum"},
		{"gzip: trailing octet", with(gzFile, []byte{0}), "1 octets of trailing data"},
		{"gzip: two members", with(gzFile, gzFile), "octets of trailing data"},
		{"gzip: bomb", pipe(t, bomb, gz), "octets come out of"},
		{"gzip: magic alone", gzFile[:2], "decompressing (gz): unexpected EOF"},
		{"xz: truncated", xzFile[:len(xzFile)-1], "decompressing (xz): unexpected EOF"},
		{"xz: flipped bit", flipped(xzFile, len(xzFile)/2), "decompressing (xz): "},
		{"xz: flipped bit in the footer", flipped(xzFile, len(xzFile)-1), "decompressing (xz): "},
		{"xz: trailing octet", with(xzFile, []byte{0}), "unexpected data after stream"},
		{"xz: two streams", with(xzFile, xzFile), "unexpected data after stream"},
		{"xz: bomb", pipe(t, bomb, xz), "octets come out of"},
		{"xz: magic alone", xzFile[:6], "decompressing (xz): unexpected EOF"},
		{"xz: empty", pipe(t, nil, xz), "decompressing (xz): "},
		{"xz: BCJ filter", pipe(t, module, xz, "--x86", "--lzma2"), "filters other than LZMA2"},
		{"xz: dictionary of 128 MiB", pipe(t, module, xz, "--lzma2=dict=128MiB"), "dictionary is larger than 67108864 octets"},
		{"zstd: truncated", zstFile[:len(zstFile)-1], "decompressing (zst): unexpected EOF"},
		{"zstd: flipped bit in the checksum", flipped(zstFile, len(zstFile)-1), "decompressing (zst): "},
		{"zstd: trailing octet", with(zstFile, []byte{0}), "1 octets of trailing data"},
		{"zstd: two frames", with(zstFile, zstFile), "octets of trailing data"},
		{"zstd: skippable frame behind", with(zstFile, []byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x")), "9 octets of trailing data"},
		{"zstd: bomb", pipe(t, bomb, zst, "-q"), "octets come out of"},
		{"zstd: magic alone", zstFile[:4], "decompressing (zst): unexpected EOF"},
		// A frame with a window of 2 GiB: descriptor 0, window exponent 21.
		{"zstd: window", []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"), "window size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Decompress(c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, not %q", err, c.want)
			}
		})
	}
}
