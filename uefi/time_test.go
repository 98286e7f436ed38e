package uefi

import (
	"strings"
	"testing"
	"time"
)

func TestNextTime(t *testing.T) {
	now := time.Date(2026, 5, 17, 14, 3, 9, 5_000_000, time.FixedZone("CEST", 7200))
	second := time.Date(2026, 5, 17, 12, 3, 9, 0, time.UTC)
	for _, c := range []struct {
		name       string
		last, want time.Time
	}{
		{"first", time.Time{}, second},
		{"earlier", second.Add(-time.Hour), second},
		{"same second", second, second.Add(time.Second)},
		{"same second, with a fraction", second.Add(time.Millisecond), second.Add(time.Second)},
		{"clock went back", second.Add(time.Hour), second.Add(time.Hour + time.Second)},
	} {
		got := NextTime(now, c.last)
		if !got.Equal(c.want) || got.Location() != time.UTC {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTimeIsUTC(t *testing.T) {
	b, err := marshalTime(time.Date(2026, 1, 1, 0, 30, 0, 0, time.FixedZone("CET", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\xe9\x07\x0c\x1f\x17\x1e\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"; string(b) != want {
		t.Errorf("got %x, want %x", b, want)
	}
}

func TestMarshalTimeRefuses(t *testing.T) {
	for _, when := range []time.Time{
		{},
		time.Date(1899, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC),
	} {
		if b, err := marshalTime(when); err == nil {
			t.Errorf("%v is written as %x", when, b)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	const good = "\xe8\x07\x02\x1d\x17\x3b\x3b\x00\x00\x00\x00\x00\x00\x00\x00\x00" // 2024-02-29 23:59:59
	if got, err := parseTime([]byte(good)); err != nil || !got.Equal(time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC)) {
		t.Fatalf("the row before: %v, %v", got, err)
	}
	for _, c := range []struct {
		name  string
		at    int
		octet byte
		err   string
	}{
		{"year 1800", 0, 0x08, "outside 1900"},
		{"no leap year", 0, 0xe9, "does not exist"},
		{"month 0", 2, 0, "does not exist"},
		{"month 13", 2, 13, "does not exist"},
		{"day 0", 3, 0, "does not exist"},
		{"February 30", 3, 30, "does not exist"},
		{"hour 24", 4, 24, "does not exist"},
		{"minute 60", 5, 60, "does not exist"},
		{"leap second", 6, 60, "does not exist"},
		{"padding", 7, 1, "must be 0"},
		{"nanosecond", 8, 1, "must be 0"},
		{"time zone", 12, 60, "must be 0"},
		{"time zone unspecified", 13, 0x07, "must be 0"},
		{"daylight", 14, 1, "must be 0"},
		{"padding at the end", 15, 1, "must be 0"},
	} {
		b := []byte(good)
		b[c.at] = c.octet
		if c.name == "year 1800" {
			b[1] = 7
		}
		if got, err := parseTime(b); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, %v, want %q", c.name, got, err, c.err)
		}
	}
	if _, err := parseTime([]byte(good[:15])); err == nil {
		t.Error("15 octets are read")
	}
}
