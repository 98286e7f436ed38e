package takeover

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"tmpki/store"
)

// Limits of an index.txt: octets of a line, and lines.
const (
	maxLine  = 8 << 10
	maxLines = 5_000_000
)

// line is one line of index.txt, the database of "openssl ca".
type line struct {
	number     int
	status     byte // 'V' valid, 'R' revoked, 'E' expired
	expires    time.Time
	revoked    time.Time // 'R'
	reason     store.Reason
	invalidity time.Time // of the reasons keyTime and CAkeyTime
	serial     []byte    // magnitude, big-endian
	file       string    // "" for "unknown"
	subject    string    // in OpenSSL's one-line form
}

// reasons are OpenSSL's names of reasons in an index; the value after a comma is
// a time, or the OID of a hold instruction.
var reasons = map[string]store.Reason{
	"unspecified": store.Unspecified, "keyCompromise": store.KeyCompromise, "CACompromise": store.CACompromise,
	"affiliationChanged": store.AffiliationChanged, "superseded": store.Superseded,
	"cessationOfOperation": store.CessationOfOperation, "certificateHold": store.CertificateHold,
	"holdInstruction": store.CertificateHold, "keyTime": store.KeyCompromise, "CAkeyTime": store.CACompromise,
}

// readIndex hands out the lines of an index.txt, and what is wrong with those that
// are none.
func readIndex(r io.Reader, each func(line), bad func(number int, err error)) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), maxLine)
	n := 0
	for s.Scan() {
		if n++; n > maxLines {
			return fmt.Errorf("more than %d lines", maxLines)
		}
		if strings.TrimSpace(s.Text()) == "" {
			continue
		}
		l, err := parseLine(s.Text())
		if err != nil {
			bad(n, err)
			continue
		}
		l.number = n
		each(l)
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d octets", n+1, maxLine)
	}
	return s.Err()
}

func parseLine(text string) (line, error) {
	fields := strings.Split(text, "\t")
	if len(fields) != 6 {
		return line{}, fmt.Errorf("%d fields, want 6 with tabs between them", len(fields))
	}
	if !utf8.ValidString(text) {
		return line{}, errors.New("not UTF-8")
	}
	l := line{file: fields[4], subject: fields[5]}
	if l.file == "unknown" {
		l.file = ""
	}
	if len(fields[0]) != 1 || !strings.Contains("VRE", fields[0]) {
		return line{}, fmt.Errorf("status %.20q is none of V, R, E", fields[0])
	}
	l.status = fields[0][0]
	var err error
	if l.expires, err = parseTime(fields[1]); err != nil {
		return line{}, fmt.Errorf("expiry: %w", err)
	}
	if (l.status == 'R') != (fields[2] != "") {
		return line{}, fmt.Errorf("status %c with the revocation %.40q", l.status, fields[2])
	}
	if l.status == 'R' {
		if err := l.parseRevocation(fields[2]); err != nil {
			return line{}, fmt.Errorf("revocation: %w", err)
		}
	}
	l.serial, err = parseSerial(fields[3])
	return l, err
}

func (l *line) parseRevocation(text string) (err error) {
	fields := strings.Split(text, ",")
	if l.revoked, err = parseTime(fields[0]); err != nil {
		return err
	}
	l.reason = store.Unspecified
	if len(fields) == 1 {
		return nil
	}
	var ok bool
	if l.reason, ok = reasons[fields[1]]; !ok {
		return fmt.Errorf("unknown reason %.40q", fields[1])
	}
	switch hasTime := fields[1] == "keyTime" || fields[1] == "CAkeyTime"; {
	case hasTime && len(fields) == 3:
		l.invalidity, err = parseTime(fields[2])
		return err
	case hasTime, len(fields) > 3, len(fields) == 3 && fields[1] != "holdInstruction":
		return fmt.Errorf("%.80q after the reason", strings.Join(fields[2:], ","))
	}
	return nil
}

// parseTime reads a UTCTime or a GeneralizedTime.
func parseTime(s string) (time.Time, error) {
	layout := "20060102150405Z"
	if len(s) == 13 {
		layout = "060102150405Z"
	}
	t, err := time.Parse(layout, s)
	if err != nil || t.Format(layout) != s {
		return time.Time{}, fmt.Errorf("%.40q is no time of the form YYMMDDHHMMSSZ", s)
	}
	if layout[0] == '0' && t.Year() >= 2050 { // Go turns at 69, X.509 at 50
		t = t.AddDate(-100, 0, 0)
	}
	return t, nil
}

// parseSerial reads a serial number in hexadecimal, as files of OpenSSL have it.
func parseSerial(s string) ([]byte, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) == 0 || len(raw) > 64 {
		return nil, fmt.Errorf("serial %.80q is not hexadecimal", s)
	}
	for len(raw) > 1 && raw[0] == 0 {
		raw = raw[1:]
	}
	if raw[0] == 0 {
		return nil, errors.New("serial 0: no certificate of RFC 5280 has it")
	}
	if len(raw) > 20 || len(raw) == 20 && raw[0] >= 0x80 {
		return nil, fmt.Errorf("serial %x has more than 20 octets (RFC 5280, Section 4.1.2.2)", raw)
	}
	return raw, nil
}
