// Package efi signs EFI images for Secure Boot and verifies them as firmware
// does: kernels, unified kernel images, boot loaders and drivers. It follows the
// PE/COFF specification ("PE Format"), Microsoft's "Windows Authenticode
// Portable Executable Signature Format" (2008), and UEFI 2.10, Section 32.5;
// where they leave room, what EDK II does.
//
// An image is read strictly. What tools and firmware could see differently is
// refused: sections that overlap or leave gaps, a certificate table that is not
// the end of the file, octets that nothing accounts for. Octets between the
// sections and the certificate table, such as a symbol table, are part of what
// is signed.
//
// Left out: SHA-1 and MD5, timestamps of Authenticode, page hashes, EC and PSS
// (EDK II takes RSA with PKCS#1 v1.5 only), Itanium and EFI byte code. db and dbx
// are plain values here; how they get into the firmware, package uefi knows.
package efi

import (
	"fmt"
	"io"
)

const (
	// MaxSize bounds an image, in octets.
	MaxSize = 1 << 30

	// MaxSections bounds the section table. Unified kernel images, which have
	// the most, come with a section for each device tree.
	MaxSections = 512

	// MaxTableSize bounds the certificate table, in octets.
	MaxTableSize = 1 << 20

	// MaxSignatures bounds the signatures of an image.
	MaxSignatures = 16
)

// Image is a PE/COFF image that Open has checked. It reads from the file
// whenever it is asked for something: keep that open, and unchanged.
type Image struct {
	file    io.ReaderAt
	layout  layout
	entries [][]byte // the signatures in the certificate table, each DER
}

// layout is where in the file things are, in octets from its beginning.
type layout struct {
	checksum  int64 // the field CheckSum
	directory int64 // the certificate table's entry in the data directories; 0: too few of them
	content   int64 // the end of headers, sections and what follows: here a certificate table begins
	size      int64 // the end of the file
}

// Open reads the headers and the certificate table of an image of so many
// octets. It refuses what is no EFI image (PE32 or PE32+ with an EFI subsystem),
// one that is cut off, sections that overlap, leave gaps or run out of the file,
// and a certificate table that is not 8-octet aligned, not the end of the file,
// or not made of PKCS #7 entries (WIN_CERTIFICATE). Whether the signatures are
// any good, Verify tells; whether CheckSum is right, CheckChecksum does.
func Open(file io.ReaderAt, size int64) (*Image, error) {
	img, err := open(file, size)
	if err != nil {
		return nil, fmt.Errorf("EFI image: %w", err)
	}
	return img, nil
}

func open(file io.ReaderAt, size int64) (*Image, error) {
	h, err := readHeaders(file, size)
	if err != nil {
		return nil, err
	}
	end, err := h.checkSections(size)
	if err != nil {
		return nil, err
	}
	img := &Image{file: file, layout: layout{
		checksum:  h.checksumOffset(),
		directory: h.directoryOffset(),
		content:   size,
		size:      size,
	}}
	if h.tableAddress == 0 && h.tableSize == 0 {
		return img, nil
	}
	if err := checkTablePlace(h.tableAddress, h.tableSize, end, size); err != nil {
		return nil, err
	}
	img.layout.content = h.tableAddress
	table := make([]byte, h.tableSize)
	if err := readAt(file, table, h.tableAddress); err != nil {
		return nil, fmt.Errorf("certificate table: %w", err)
	}
	img.entries, err = parseTable(table)
	return img, err
}

// ContentSize returns how many octets of the file a signature that Sign makes is
// over, padding included: all but the certificate table.
func (img *Image) ContentSize() int64 { return align(img.layout.content) }

// readAt fills b from the file, or fails.
func readAt(file io.ReaderAt, b []byte, offset int64) error {
	n, err := file.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d octets at %#x: %w", len(b), offset, err)
}
