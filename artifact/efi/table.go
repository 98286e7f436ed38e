package efi

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// WIN_CERTIFICATE ("PE Format", section "The Attribute Certificate Table").
const (
	winCertHeaderSize = 8 // dwLength, wRevision, wCertificateType
	winCertRevision   = 0x0200
	winCertPKCS7      = 0x0002 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
	tableAlignment    = 8
)

// align rounds up to where a certificate table or an entry of it may begin.
func align(n int64) int64 { return (n + tableAlignment - 1) &^ (tableAlignment - 1) }

// checkTablePlace checks that a certificate table lies between the end of the
// sections and the end of the file, and reaches it.
func checkTablePlace(address, tableSize, sectionsEnd, size int64) error {
	switch {
	case address%tableAlignment != 0:
		return fmt.Errorf("certificate table: the address is %#x, no multiple of %d", address, tableAlignment)
	case address < sectionsEnd:
		return fmt.Errorf("certificate table: the address is %#x, but headers and sections end at %#x", address, sectionsEnd)
	case tableSize <= winCertHeaderSize || tableSize > MaxTableSize:
		return fmt.Errorf("certificate table: the size is %d, outside %d to %d", tableSize, winCertHeaderSize+1, MaxTableSize)
	case address+tableSize > size:
		return fmt.Errorf("certificate table: ends at %#x, beyond the %#x octets of the file", address+tableSize, size)
	case address+tableSize < size:
		return fmt.Errorf("certificate table: ends at %#x, with %d octets of the file behind it", address+tableSize, size-address-tableSize)
	}
	return nil
}

// parseTable returns the contents of the table's entries, which must fill it:
// else EDK II takes the whole table for corrupt.
func parseTable(table []byte) ([][]byte, error) {
	var entries [][]byte
	for rest := table; len(rest) > 0; {
		if len(entries) == MaxSignatures {
			return nil, fmt.Errorf("certificate table: more than %d entries", MaxSignatures)
		}
		content, size, err := parseEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("certificate table: entry %d: %w", len(entries)+1, err)
		}
		entries = append(entries, content)
		rest = rest[size:]
	}
	return entries, nil
}

// parseEntry returns the DER element in the first entry of b, and how many
// octets the entry takes.
func parseEntry(b []byte) (content []byte, size int64, err error) {
	if len(b) < winCertHeaderSize {
		return nil, 0, fmt.Errorf("%d octets are too few for a header", len(b))
	}
	length := int64(binary.LittleEndian.Uint32(b))
	revision := binary.LittleEndian.Uint16(b[4:])
	certificateType := binary.LittleEndian.Uint16(b[6:])
	size = align(length)
	switch {
	case length <= winCertHeaderSize || size > int64(len(b)):
		return nil, 0, fmt.Errorf("dwLength is %d in a table with %d octets left", length, len(b))
	case revision != winCertRevision:
		return nil, 0, fmt.Errorf("wRevision is %#04x, not %#04x", revision, winCertRevision)
	case certificateType != winCertPKCS7:
		return nil, 0, fmt.Errorf("wCertificateType is %#04x, not %#04x", certificateType, winCertPKCS7)
	}
	// Some tools count the padding as part of dwLength, some do not.
	input := cryptobyte.String(b[winCertHeaderSize:size])
	var element cryptobyte.String
	if !input.ReadASN1Element(&element, cbasn1.SEQUENCE) || winCertHeaderSize+int64(len(element)) > length {
		return nil, 0, fmt.Errorf("no DER SEQUENCE in a dwLength of %d", length)
	}
	if len(input) >= tableAlignment || !isZero(input) {
		return nil, 0, fmt.Errorf("%d octets behind the signature are more than padding", len(input))
	}
	return bytes.Clone(element), size, nil
}

// marshalEntry writes an entry with its padding, which dwLength includes as in
// Microsoft's own tools.
func marshalEntry(der []byte) []byte {
	entry := make([]byte, align(int64(winCertHeaderSize+len(der))))
	binary.LittleEndian.PutUint32(entry, uint32(len(entry)))
	binary.LittleEndian.PutUint16(entry[4:], winCertRevision)
	binary.LittleEndian.PutUint16(entry[6:], winCertPKCS7)
	copy(entry[winCertHeaderSize:], der)
	return entry
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
