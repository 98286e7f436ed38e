package efi

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Sizes in octets, and offsets, of PE/COFF ("PE Format", sections "MS-DOS Stub",
// "COFF File Header", "Optional Header" and "Section Table").
const (
	dosHeaderSize     = 64
	offsetOfPEOffset  = 0x3c // e_lfanew in the DOS header
	coffHeaderSize    = 24   // with the signature "PE\0\0" before it
	sectionHeaderSize = 40
	directorySize     = 8 // one entry of the data directories: address, size

	// In the optional header.
	offsetOfSizeOfHeaders = 60
	offsetOfChecksum      = 64
	offsetOfSubsystem     = 68
	fixedSizePE32         = 96  // up to the data directories; NumberOfRvaAndSizes
	fixedSizePE32Plus     = 112 // is the last field before them

	magicPE32     = 0x10b
	magicPE32Plus = 0x20b

	maxDirectories       = 16
	certificateDirectory = 4 // index of the certificate table's entry
)

// magicOf returns the form of optional header that a machine's images have
// (UEFI 2.10, Section 2.1.1), or 0 for machines that this package does not know.
func magicOf(machine uint16) uint16 {
	switch machine {
	case 0x014c, 0x01c2, 0x5032, 0x6232: // x86, Arm, RISC-V 32, LoongArch 32
		return magicPE32
	case 0x8664, 0xaa64, 0x5064, 0x5128, 0x6264: // x64, AArch64, RISC-V 64 and 128, LoongArch 64
		return magicPE32Plus
	default:
		return 0
	}
}

// headers are what the headers of an image say.
type headers struct {
	offset        int64 // e_lfanew: of "PE\0\0"
	fixedSize     int64 // of the optional header
	directories   int64 // NumberOfRvaAndSizes
	sizeOfHeaders int64
	sections      []section

	// The certificate table. Its address is an offset in the file, unlike
	// those of all other directories.
	tableAddress, tableSize int64
}

// section is a section with data in the file.
type section struct {
	name    string
	pointer int64 // PointerToRawData
	size    int64 // SizeOfRawData, not 0
}

func (h *headers) checksumOffset() int64 { return h.offset + coffHeaderSize + offsetOfChecksum }

// directoryOffset returns where the certificate table's entry is, or 0 if the
// image has none.
func (h *headers) directoryOffset() int64 {
	if h.directories <= certificateDirectory {
		return 0
	}
	return h.offset + coffHeaderSize + h.fixedSize + certificateDirectory*directorySize
}

// readHeaders reads the headers, and checks all that they say of themselves.
func readHeaders(file io.ReaderAt, size int64) (*headers, error) {
	// 1. The DOS header points to the COFF header.
	var dos [dosHeaderSize]byte
	if size < dosHeaderSize || size > MaxSize {
		return nil, fmt.Errorf("%d octets, outside %d to %d", size, dosHeaderSize, MaxSize)
	}
	if err := readAt(file, dos[:], 0); err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, fmt.Errorf("no PE/COFF: starts with %x, not \"MZ\"", dos[:2])
	}
	h := &headers{offset: int64(binary.LittleEndian.Uint32(dos[offsetOfPEOffset:]))}
	if h.offset < dosHeaderSize || h.offset > size-coffHeaderSize {
		return nil, fmt.Errorf("e_lfanew is %#x, outside %#x to %#x", h.offset, dosHeaderSize, size-coffHeaderSize)
	}
	// CheckSum is a sum of 16-bit words, and must not lie across two of them.
	if h.offset%2 != 0 {
		return nil, fmt.Errorf("e_lfanew is %#x, which is odd", h.offset)
	}

	// 2. The COFF header tells the machine and the sizes of what follows.
	var coff [coffHeaderSize]byte
	if err := readAt(file, coff[:], h.offset); err != nil {
		return nil, err
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("no PE/COFF: %x at %#x, not \"PE\\0\\0\"", coff[:4], h.offset)
	}
	machine := binary.LittleEndian.Uint16(coff[4:])
	sections := int64(binary.LittleEndian.Uint16(coff[6:]))
	optionalSize := int64(binary.LittleEndian.Uint16(coff[20:]))
	magic := magicOf(machine)
	if magic == 0 {
		return nil, fmt.Errorf("Machine is %#x, which is not supported", machine)
	}
	if sections == 0 || sections > MaxSections {
		return nil, fmt.Errorf("NumberOfSections is %d, outside 1 to %d", sections, MaxSections)
	}
	h.fixedSize = fixedSizePE32
	if magic == magicPE32Plus {
		h.fixedSize = fixedSizePE32Plus
	}
	if optionalSize < h.fixedSize {
		return nil, fmt.Errorf("SizeOfOptionalHeader is %d, less than %d", optionalSize, h.fixedSize)
	}
	tableEnd := h.offset + coffHeaderSize + optionalSize + sections*sectionHeaderSize
	if tableEnd > size {
		return nil, fmt.Errorf("%d octets, but the headers end at %d", size, tableEnd)
	}

	// 3. The optional header, with the data directories.
	rest := make([]byte, tableEnd-h.offset-coffHeaderSize)
	if err := readAt(file, rest, h.offset+coffHeaderSize); err != nil {
		return nil, err
	}
	optional, table := rest[:optionalSize], rest[optionalSize:]
	if m := binary.LittleEndian.Uint16(optional); m != magic {
		return nil, fmt.Errorf("Magic is %#x, but machine %#x has %#x", m, machine, magic)
	}
	h.directories = int64(binary.LittleEndian.Uint32(optional[h.fixedSize-4:]))
	if h.directories > maxDirectories || optionalSize != h.fixedSize+h.directories*directorySize {
		return nil, fmt.Errorf("NumberOfRvaAndSizes is %d in a SizeOfOptionalHeader of %d", h.directories, optionalSize)
	}
	// Windows' own boot applications (16) are not for the firmware to load.
	if s := binary.LittleEndian.Uint16(optional[offsetOfSubsystem:]); s < 10 || s > 13 {
		return nil, fmt.Errorf("Subsystem is %d: no EFI application or driver (10 to 13)", s)
	}
	h.sizeOfHeaders = int64(binary.LittleEndian.Uint32(optional[offsetOfSizeOfHeaders:]))
	if h.sizeOfHeaders < tableEnd || h.sizeOfHeaders > size {
		return nil, fmt.Errorf("SizeOfHeaders is %#x, outside %#x to %#x", h.sizeOfHeaders, tableEnd, size)
	}
	if at := h.directoryOffset(); at != 0 {
		entry := optional[at-h.offset-coffHeaderSize:]
		h.tableAddress = int64(binary.LittleEndian.Uint32(entry))
		h.tableSize = int64(binary.LittleEndian.Uint32(entry[4:]))
	}

	// 4. The section table. A section without data in the file is memory only.
	for ; len(table) > 0; table = table[sectionHeaderSize:] {
		s := section{
			name:    strings.TrimRight(string(table[:8]), "\x00"),
			size:    int64(binary.LittleEndian.Uint32(table[16:])),
			pointer: int64(binary.LittleEndian.Uint32(table[20:])),
		}
		if s.size > 0 {
			h.sections = append(h.sections, s)
		}
	}
	return h, nil
}

// checkSections checks that the sections follow the headers, and each other,
// without gap or overlap, and returns where the last one ends.
//
// Both would make the digest a matter of taste: the specification and EDK II
// hash headers, then sections, then what is behind as many octets as that was,
// so that with a gap some octets are hashed twice and others never; other tools
// hash the file from front to end. No linker leaves gaps.
func (h *headers) checkSections(size int64) (end int64, err error) {
	slices.SortStableFunc(h.sections, func(a, b section) int { return cmp.Compare(a.pointer, b.pointer) })
	end = h.sizeOfHeaders
	before := "the headers"
	for _, s := range h.sections {
		switch {
		case s.pointer < end:
			return 0, fmt.Errorf("section %q: PointerToRawData is %#x, but %s end at %#x: they overlap", s.name, s.pointer, before, end)
		case s.pointer > end:
			return 0, fmt.Errorf("section %q: PointerToRawData is %#x, but %s end at %#x: no signature would cover what is between", s.name, s.pointer, before, end)
		case s.size > size-s.pointer:
			return 0, fmt.Errorf("section %q: SizeOfRawData is %#x at %#x, beyond the %d octets of the file", s.name, s.size, s.pointer, size)
		}
		end += s.size
		before = fmt.Sprintf("the octets of section %q", s.name)
	}
	return end, nil
}
