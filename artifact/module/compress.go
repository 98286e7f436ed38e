package module

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Compression is how a module file is compressed. The zero value is not at all.
type Compression int

// The compressions that the kernel knows for modules (kernel/module/decompress.c).
const (
	None Compression = iota
	Gzip
	XZ
	Zstd
)

// String returns the suffix of file names, without the dot, or "none".
func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gz"
	case XZ:
		return "xz"
	case Zstd:
		return "zst"
	default:
		return fmt.Sprintf("Compression(%d)", int(c))
	}
}

const (
	// maxRatio bounds how much larger than its file a module may be. Modules
	// have 3 to 20; a bomb has a thousand and more. Below freeSize nobody asks.
	maxRatio = 200
	freeSize = 16 << 20

	// maxDictionary bounds what xz may want for its dictionary: xz -9 has 64 MiB.
	maxDictionary = 64 << 20

	// maxWindow bounds the window of zstd: zstd --ultra -22 has 128 MiB.
	maxWindow = 128 << 20

	// xzDictionary is what the kernel's build used to give its modules.
	xzDictionary = 2 << 20
)

// Decompress returns the module inside a file, and how it was compressed. It
// goes by the file's first octets, as the kernel and kmod do, not by its name. A
// file must be one stream or frame, with nothing behind it: the kernel would
// ignore what follows, other tools would not. Checksums are checked. It refuses
// modules above MaxSize, and those that a compression of at most 200 to 1 does
// not explain.
func Decompress(file []byte) ([]byte, Compression, error) {
	if len(file) > MaxSize {
		return nil, None, fmt.Errorf("module of %d octets: more than %d", len(file), MaxSize)
	}
	compression := compressionOf(file)
	if compression == None {
		return file, None, nil
	}
	module, err := decompress(file, compression)
	if err != nil {
		return nil, compression, fmt.Errorf("decompressing (%v): %w", compression, err)
	}
	return module, compression, nil
}

// compressionOf tells the compression by the magic octets.
func compressionOf(file []byte) Compression {
	switch {
	case bytes.HasPrefix(file, []byte("\x1f\x8b")):
		return Gzip
	case bytes.HasPrefix(file, []byte("\xfd7zXZ\x00")):
		return XZ
	case bytes.HasPrefix(file, []byte("\x28\xb5\x2f\xfd")):
		return Zstd
	default:
		return None
	}
}

func decompress(file []byte, compression Compression) ([]byte, error) {
	rest := bytes.NewReader(file)
	var content io.Reader
	switch compression {
	case Gzip:
		z, err := gzip.NewReader(rest)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		content = z
	case XZ:
		if err := checkXZ(file); err != nil {
			return nil, err
		}
		z, err := xz.ReaderConfig{SingleStream: true}.NewReader(rest)
		if err != nil {
			return nil, err
		}
		content = z
	case Zstd:
		if err := checkZstd(file); err != nil {
			return nil, err
		}
		z, err := zstd.NewReader(rest, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		content = z
	default:
		return nil, fmt.Errorf("unknown compression %v", compression)
	}
	limit := min(MaxSize, max(freeSize, maxRatio*int64(len(file))))
	module, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(module)) > limit {
		return nil, fmt.Errorf("more than %d octets come out of %d", limit, len(file))
	}
	if rest.Len() > 0 {
		return nil, fmt.Errorf("%d octets of trailing data", rest.Len())
	}
	return module, nil
}

// checkXZ bounds the dictionary of the first block (The .xz File Format 1.2.1,
// Sections 2.1.1 and 3.1): the library takes what the file says.
//
// BUG: a hostile file can still have the library reserve up to 4 GiB of address
// space for a later block, though not touch it.
func checkXZ(file []byte) error {
	// 1. Behind the stream header come the block header's size, its flags, and
	// up to two sizes of variable length.
	const flagsAt = 12 + 1
	if len(file) <= flagsAt {
		return io.ErrUnexpectedEOF
	}
	flags, rest := file[flagsAt], file[flagsAt+1:]
	for range bits.OnesCount8(flags & 0xc0) {
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return errors.New("the sizes of its first block are malformed")
		}
		rest = rest[n:]
	}

	// 2. Then the filters: LZMA2 (0x21) alone, with its one octet.
	if len(rest) < 3 {
		return io.ErrUnexpectedEOF
	}
	if flags&0x03 != 0 || rest[0] != 0x21 || rest[1] != 1 {
		return errors.New("it has filters other than LZMA2")
	}
	// The octet counts 4 KiB, 6 KiB, 8 KiB, 12 KiB and so on.
	size := rest[2]
	if size > 40 || (2|int64(size&1))<<(size/2+11) > maxDictionary {
		return fmt.Errorf("its dictionary is larger than %d octets", maxDictionary)
	}
	return nil
}

// checkZstd refuses all but one frame (RFC 8878, Section 3.1.1), through whose
// blocks it walks without a look inside.
func checkZstd(file []byte) error {
	var header zstd.Header
	if err := header.Decode(file); err != nil {
		return err
	}
	rest := file[header.HeaderSize:]
	for last := false; !last; {
		if len(rest) < 3 {
			return io.ErrUnexpectedEOF
		}
		block := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		rest = rest[3:]
		last = block&1 != 0
		size := block >> 3
		if block>>1&3 == 1 { // RLE_Block: one octet, repeated
			size = 1
		}
		if len(rest) < size {
			return io.ErrUnexpectedEOF
		}
		rest = rest[size:]
	}
	checksum := 0
	if header.HasCheckSum {
		checksum = 4
	}
	if len(rest) > checksum {
		return fmt.Errorf("%d octets of trailing data", len(rest)-checksum)
	}
	return nil
}

// Compress returns the module compressed, always to the same octets, and so
// that the kernel can read it: gzip without a file name, xz with CRC32 and a
// dictionary of 2 MiB, zstd in one frame with a window of at most 8 MiB. It reads
// back what it made.
func Compress(module []byte, compression Compression) ([]byte, error) {
	if compression == None {
		return module, nil
	}
	file, err := compress(module, compression)
	if err != nil {
		return nil, fmt.Errorf("compressing (%v): %w", compression, err)
	}
	readBack, err := decompress(file, compression)
	if err != nil {
		return nil, fmt.Errorf("compressing (%v), and reading it back: %w", compression, err)
	}
	if !bytes.Equal(readBack, module) {
		return nil, fmt.Errorf("compressing (%v): something else comes out again", compression)
	}
	return file, nil
}

func compress(module []byte, compression Compression) ([]byte, error) {
	var file bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case Gzip:
		w, err = gzip.NewWriterLevel(&file, gzip.BestCompression)
	case XZ:
		w, err = xz.WriterConfig{CheckSum: xz.CRC32, DictCap: xzDictionary}.NewWriter(&file)
	case Zstd:
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer encoder.Close()
		return encoder.EncodeAll(module, nil), nil
	default:
		return nil, fmt.Errorf("unknown compression %v", compression)
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(module); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}
