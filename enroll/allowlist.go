package enroll

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"tmpki/ca"
	"tmpki/internal/durable"
)

// maxAllowList bounds the file, in octets: ten million UUIDs have 370 MB.
const maxAllowList = 1 << 30

// AllowList has the devices that may have a certificate, by UUID or by serial
// number: 16 octets for each.
type AllowList struct {
	entries [][16]byte // sorted digests
}

// LoadAllowList reads a file of comma-separated values, one device in each line.
// The first line may name the columns: uuid, serial_number; others don't count.
// Without that the first column is a UUID if it looks like one, and else a serial
// number. Lines that begin with # and empty ones are passed over.
func LoadAllowList(path string) (*AllowList, error) {
	f, _, err := durable.OpenRegular(path, maxAllowList)
	if err != nil {
		return nil, fmt.Errorf("allow-list: %w", err)
	}
	defer f.Close()
	list, err := readAllowList(f)
	if err != nil {
		return nil, fmt.Errorf("allow-list %s: %w", path, err)
	}
	return list, nil
}

func readAllowList(in io.Reader) (*AllowList, error) {
	buffered := bufio.NewReaderSize(in, 64<<10)
	if bom, _ := buffered.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		buffered.Discard(3)
	}
	rows := csv.NewReader(buffered)
	rows.FieldsPerRecord, rows.ReuseRecord, rows.Comment, rows.TrimLeadingSpace = -1, true, '#', true
	list := &AllowList{}
	uuidColumn, serialColumn := -1, -1
	for first := true; ; first = false {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err // names the line
		}
		line, _ := rows.FieldPos(0)
		fail := func(format string, args ...any) (*AllowList, error) {
			return nil, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
		}
		if first {
			for n, name := range row {
				switch strings.ToLower(strings.TrimSpace(name)) {
				case "uuid":
					uuidColumn = n
				case "serial_number", "serial":
					serialColumn = n
				}
			}
			if uuidColumn >= 0 || serialColumn >= 0 {
				continue
			}
		}
		found := false
		column := func(n int) string {
			if n < 0 || n >= len(row) {
				return ""
			}
			return strings.TrimSpace(row[n])
		}
		uuid, serial := column(uuidColumn), column(serialColumn)
		if uuidColumn < 0 && serialColumn < 0 {
			if serial = column(0); ca.CheckUUID(serial) == nil {
				uuid, serial = serial, ""
			}
		}
		if uuid != "" {
			if err := ca.CheckUUID(uuid); err != nil {
				return fail("%w", err)
			}
			list.entries, found = append(list.entries, digestUUID(uuid)), true
		}
		if serial != "" {
			if !utf8.ValidString(serial) || len(serial) > 256 {
				return fail("serial number %.80q is not UTF-8, or longer than 256 octets", serial)
			}
			list.entries, found = append(list.entries, digestSerial(serial)), true
		}
		if !found {
			return fail("neither a UUID nor a serial number")
		}
	}
	if len(list.entries) == 0 {
		return nil, errors.New("it is empty: then no device may have a certificate")
	}
	slices.SortFunc(list.entries, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	list.entries = slices.Clip(slices.Compact(list.entries))
	return list, nil
}

func digestUUID(s string) [16]byte   { return digest("uuid " + strings.ToLower(s)) }
func digestSerial(s string) [16]byte { return digest("serial " + s) }

func digest(s string) [16]byte {
	sum := sha256.Sum256([]byte(s))
	return [16]byte(sum[:16])
}

// Allows reports whether a device is on the list: its UUID, its serial number, or
// one that ends its common name, where the platform puts it.
func (l *AllowList) Allows(uuid, serialNumber, commonName string) bool {
	if uuid != "" && l.has(digestUUID(uuid)) || serialNumber != "" && l.has(digestSerial(serialNumber)) {
		return true
	}
	words := strings.Fields(commonName)
	for n := len(words) - 1; n > 0; n-- {
		if l.has(digestSerial(strings.Join(words[n:], " "))) {
			return true
		}
	}
	return false
}

func (l *AllowList) has(d [16]byte) bool {
	_, ok := slices.BinarySearchFunc(l.entries, d, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return ok
}
