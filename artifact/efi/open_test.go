package efi

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestOpenRefuses breaks a good image in one place each.
func TestOpenRefuses(t *testing.T) {
	a := testAuthorities()
	unsigned := peImage{sections: []int{0x200, 0x100, 0x300}}.build()
	signed := signBytes(t, unsigned, a.direct.signer(), SignOptions{})
	const (
		coff     = 0x80
		optional = coff + coffHeaderSize
		entry    = optional + fixedSizePE32Plus + certificateDirectory*directorySize
		table    = optional + fixedSizePE32Plus + maxDirectories*directorySize
	)
	at := len(unsigned) // of the certificate table
	put16 := func(offset int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint16(b[offset:], v); return b }
	}
	put32 := func(offset int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[offset:], v); return b }
	}
	section := func(i, size, pointer int) func([]byte) []byte {
		return func(b []byte) []byte { putSection(b[table+i*sectionHeaderSize:], size, pointer); return b }
	}
	// grow gives the table some more octets, and says so in the header.
	grow := func(more ...byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b = append(b, more...)
			return put32(entry+4, uint32(len(b)-at))(b)
		}
	}
	for _, row := range []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"empty", func(b []byte) []byte { return nil }, "0 octets, outside 64 to"},
		{"no MZ", put16(0, 0x457f), `starts with 7f45, not "MZ"`},
		{"PE offset inside the DOS header", put32(0x3c, 0x20), "e_lfanew is 0x20, outside"},
		{"PE offset odd", put32(0x3c, 0x81), "e_lfanew is 0x81, which is odd"},
		{"PE offset beyond the file", put32(0x3c, 0xfffffff0), "e_lfanew is 0xfffffff0, outside"},
		{"no PE", put16(coff, 0x454e), `not "PE\0\0"`},
		{"unknown machine", put16(coff+4, 0x200), "Machine is 0x200"},
		{"no sections", put16(coff+6, 0), "NumberOfSections is 0"},
		{"too many sections", put16(coff+6, MaxSections+1), "NumberOfSections is 513"},
		{"section table beyond the file", put16(coff+6, 400), "but the headers end at"},
		{"optional header too small", put16(coff+20, 100), "SizeOfOptionalHeader is 100, less than 112"},
		{"optional header of another size", put16(coff+20, fixedSizePE32Plus+15*directorySize), "NumberOfRvaAndSizes is 16 in a SizeOfOptionalHeader of 232"},
		{"PE32 for a 64-bit machine", put16(optional, magicPE32), "Magic is 0x10b, but machine 0x8664 has 0x20b"},
		{"too many directories", put32(optional+fixedSizePE32Plus-4, 17), "NumberOfRvaAndSizes is 17"},
		{"Windows program", put16(optional+offsetOfSubsystem, 3), "Subsystem is 3"},
		{"headers too small", put32(optional+offsetOfSizeOfHeaders, 0x100), "SizeOfHeaders is 0x100"},
		{"headers beyond the file", put32(optional+offsetOfSizeOfHeaders, 0x100000), "SizeOfHeaders is 0x100000"},
		{"headers over the first section", put32(optional+offsetOfSizeOfHeaders, testHeaderSize+8), "the headers end at 0x408: they overlap"},
		{"gap behind the headers", put32(optional+offsetOfSizeOfHeaders, testHeaderSize-8), "no signature would cover"},
		{"sections overlap", section(1, 0x200, testHeaderSize+0x100), "they overlap"},
		{"a section twice", section(1, 0x200, testHeaderSize), "they overlap"},
		{"gap between sections", section(0, 0x1f8, testHeaderSize), "no signature would cover"},
		{"section beyond the file", section(2, 0x10000, testHeaderSize+0x300), "SizeOfRawData is 0x10000 at 0x700, beyond"},
		{"section size overflows", section(2, 0xfffffff0, testHeaderSize+0x300), "SizeOfRawData is 0xfffffff0"},
		{"section over the certificate table", section(2, 0x308, testHeaderSize+0x300), "but headers and sections end at 0xa08"},
		{"table unaligned", put32(entry, uint32(at+4)), "the address is 0xa04, no multiple of 8"},
		{"table inside the image", put32(entry, uint32(at-8)), "but headers and sections end at"},
		{"table without address", put32(entry, 0), "but headers and sections end at"},
		{"table without size", put32(entry+4, 0), "the size is 0"},
		{"table too large", put32(entry+4, MaxTableSize+8), "the size is 1048584"},
		{"table ends beyond the file", put32(entry+4, uint32(len(signed)-at+8)), "beyond the"},
		{"table ends before the file", put32(entry+4, uint32(len(signed)-at-8)), "with 8 octets of the file behind it"},
		{"octets behind the table", func(b []byte) []byte { return append(b, 0) }, "with 1 octets of the file behind it"},
		{"cut off in the table", func(b []byte) []byte { return b[:len(b)-1] }, "beyond the"},
		{"cut off in a section", func(b []byte) []byte { return b[:at-0x180] }, "beyond the 2176 octets"},
		{"cut off in the headers", func(b []byte) []byte { return b[:table+10] }, "but the headers end at"},
		{"dwLength 0", put32(at, 0), "dwLength is 0"},
		{"dwLength of the header alone", put32(at, 8), "dwLength is 8"},
		{"dwLength beyond the table", put32(at, 0xfffffff8), "dwLength is 4294967288"},
		{"dwLength shorter than the signature", put32(at, 0x100), "no DER SEQUENCE in a dwLength of 256"},
		{"old revision", put16(at+4, 0x0100), "wRevision is 0x0100"},
		{"X.509 entry", put16(at+6, 0x0001), "wCertificateType is 0x0001"},
		{"no DER", put16(at+8, 0xffff), "no DER SEQUENCE"},
		{"half an entry more", grow(16, 0, 0, 0), "entry 2: 4 octets are too few"},
		{"an empty entry more", grow(make([]byte, 8)...), "entry 2: dwLength is 0"},
		{"octets in the padding", func(b []byte) []byte {
			b = grow(1, 0, 0, 0, 0, 0, 0, 0)(b)
			return put32(at, uint32(len(b)-at))(b)
		}, "more than padding"},
		{"more than padding", func(b []byte) []byte {
			b = grow(make([]byte, 8)...)(b)
			return put32(at, uint32(len(b)-at))(b)
		}, "more than padding"},
		{"too many entries", func(b []byte) []byte {
			one := bytes.Clone(b[at:])
			return grow(bytes.Repeat(one, MaxSignatures)...)(b)
		}, "more than 16 entries"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := row.change(bytes.Clone(signed))
			_, err := Open(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
	if _, err := Open(bytes.NewReader(nil), MaxSize+1); err == nil || !strings.Contains(err.Error(), "outside 64 to") {
		t.Errorf("too large: %v", err)
	}
	if _, err := Open(bytes.NewReader(unsigned[:100]), int64(len(unsigned))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that ends early: %v", err)
	}
}

// TestDigestReadsAll cuts the file off after Open.
func TestDigestReadsAll(t *testing.T) {
	b := peImage{sections: []int{0x1000}}.build()
	img := openBytes(t, b)
	img.file = bytes.NewReader(b[:len(b)-1])
	if _, err := img.Digest(crypto.SHA256); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if err := img.CheckChecksum(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestDigestCovers changes every octet of a small signed image, and looks whether
// the digest changes: not for CheckSum, the directory entry and the table alone.
func TestDigestCovers(t *testing.T) {
	for _, p := range []peImage{
		{sections: []int{64, 32}, trailing: 13},
		{sections: []int{64}, pe32: true},
	} {
		b := signBytes(t, p.build(), testAuthorities().direct.signer(), SignOptions{})
		img := openBytes(t, b)
		before, err := img.Digest(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		at := img.layout
		for i := range b {
			b[i] ^= 0x80
			after, err := img.Digest(crypto.SHA256) // of the layout that was
			if err != nil {
				t.Fatal(err)
			}
			b[i] ^= 0x80
			n := int64(i)
			free := n >= at.checksum && n < at.checksum+4 || n >= at.directory && n < at.directory+8 || n >= at.content
			if bytes.Equal(before, after) != free {
				t.Fatalf("octet %#x: digest changed: %v, expected %v", i, free, !free)
			}
		}
	}
}

// TestCheckChecksum takes 0 and the right one only.
func TestCheckChecksum(t *testing.T) {
	for trailing := range 9 {
		b := peImage{sections: []int{0x40}, trailing: trailing}.build()
		if err := openBytes(t, b).CheckChecksum(); err != nil {
			t.Errorf("without a checksum: %v", err)
		}
		signed := signBytes(t, b, testAuthorities().direct.signer(), SignOptions{})
		img := openBytes(t, signed)
		if err := img.CheckChecksum(); err != nil {
			t.Errorf("after signing %d octets: %v", len(b), err)
		}
		// The plain way to compute it, by 16 bits.
		want := uint32(0)
		for i := 0; i < len(signed); i += 2 {
			if int64(i) != img.layout.checksum && int64(i) != img.layout.checksum+2 {
				want += uint32(binary.LittleEndian.Uint16(signed[i:]))
				want = want>>16 + want&0xffff
			}
		}
		want += uint32(len(signed))
		if got := binary.LittleEndian.Uint32(signed[img.layout.checksum:]); got != want {
			t.Errorf("CheckSum is %#x, want %#x", got, want)
		}
		signed[img.layout.checksum]++
		if err := img.CheckChecksum(); err == nil || !strings.Contains(err.Error(), "neither 0 nor") {
			t.Errorf("wrong checksum: %v", err)
		}
	}
}

// TestWordSum writes in pieces of all sizes.
func TestWordSum(t *testing.T) {
	b := peImage{sections: []int{37}}.build()
	var whole wordSum
	whole.Write(b)
	for n := 1; n < 20; n++ {
		var pieces wordSum
		for rest := b; len(rest) > 0; rest = rest[min(n, len(rest)):] {
			pieces.Write(rest[:min(n, len(rest))])
		}
		if pieces.checksum(0) != whole.checksum(0) {
			t.Errorf("in pieces of %d: %#x, not %#x", n, pieces.checksum(0), whole.checksum(0))
		}
	}
}
