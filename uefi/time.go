package uefi

import (
	"encoding/binary"
	"fmt"
	"time"
)

const timeSize = 16 // octets of an EFI_TIME

// NextTime returns the time to sign an update with: now in whole seconds of
// UTC, or one second after last if now is not later. Firmware refuses a new
// value whose time is not later than the one it has stored. last is the time of
// the update before, or the zero time.
func NextTime(now, last time.Time) time.Time {
	now, last = now.UTC().Truncate(time.Second), last.UTC().Truncate(time.Second)
	if now.After(last) {
		return now
	}
	return last.Add(time.Second)
}

// marshalTime writes an EFI_TIME (UEFI 2.10, Section 8.3) in UTC. Nanosecond,
// time zone, daylight and padding must be zero in a signed update (Section 8.2.2).
func marshalTime(t time.Time) ([]byte, error) {
	t = t.UTC()
	if t.Year() < 1900 || t.Year() > 9999 {
		return nil, fmt.Errorf("EFI_TIME: the year %d is outside 1900 to 9999", t.Year())
	}
	if t.Nanosecond() != 0 {
		return nil, fmt.Errorf("EFI_TIME: %v is not in whole seconds", t)
	}
	b := make([]byte, timeSize)
	binary.LittleEndian.PutUint16(b[0:2], uint16(t.Year()))
	b[2], b[3] = byte(t.Month()), byte(t.Day())
	b[4], b[5], b[6] = byte(t.Hour()), byte(t.Minute()), byte(t.Second())
	return b, nil
}

// parseTime reads what marshalTime writes, and nothing else. A date that does
// not exist is refused.
func parseTime(b []byte) (time.Time, error) {
	if len(b) != timeSize {
		return time.Time{}, fmt.Errorf("EFI_TIME: %d octets", len(b))
	}
	year := int(binary.LittleEndian.Uint16(b[0:2]))
	t := time.Date(year, time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
	for i, octet := range b[7:] {
		if octet != 0 {
			return time.Time{}, fmt.Errorf("EFI_TIME: octet %d is %#x: padding, nanosecond, time zone and daylight must be 0", 7+i, octet)
		}
	}
	if again, err := marshalTime(t); err != nil {
		return time.Time{}, err
	} else if string(again) != string(b) {
		return time.Time{}, fmt.Errorf("EFI_TIME: %d-%d-%d %d:%d:%d does not exist", year, b[2], b[3], b[4], b[5], b[6])
	}
	return t, nil
}
