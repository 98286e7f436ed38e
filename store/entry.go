package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what a ledger entry records.
type Kind string

const (
	// KindIssue records a certificate. SHA256 is that of its DER.
	KindIssue Kind = "issue"
	// KindObject records a version of an object. SHA256 is that of its
	// content, Serial that of the signing certificate if there is one, and
	// Detail holds the object's kind under "kind" beside its own detail.
	KindObject Kind = "object"
	// KindSetting records a new value of a setting. SHA256 is that of the
	// value, and Detail holds it under "value".
	KindSetting Kind = "setting"
	// KindSign records the signature of an artifact. SHA256 is that of the
	// artifact, Serial that of the signing certificate, and Detail holds
	// "artifact" (its kind), "size" (octets, decimal) and "signer" (a name).
	KindSign Kind = "sign"
	// KindImport records a certificate that was signed elsewhere. The fields are
	// those of KindIssue, and Detail what the importer had to tell.
	KindImport Kind = "import"
	// KindRevoke records a revocation, or the end of a hold. Serial, Name, Issuer
	// and Profile are those of the certificate and SHA256 that of its DER; if it
	// was only intended, that of its TBSCertificate, and Detail holds "intended".
	// Detail holds "reason" (RFC 5280, 5.3.1, in words), "time" and, if there is
	// one, "invalidity".
	KindRevoke Kind = "revoke"
	// KindCRL records a CRL. Name is the issuer, SHA256 that of its DER, and Detail
	// holds its numbers and dates: see CRL.
	KindCRL Kind = "crl"

	// The kinds of RecordEvent. What SHA256 is the digest of, and what Detail
	// holds, is for those to say who record them.

	// KindCeremony records what was done on the offline machine.
	KindCeremony Kind = "ceremony"
	// KindRollout records a step in the change of a key: what was made, added to
	// devices, observed there, retired.
	KindRollout Kind = "rollout"
	// KindBackup records a backup, and KindRestore that this store came from one.
	KindBackup  Kind = "backup"
	KindRestore Kind = "restore"
	// KindRequest records a request that was refused or accepted by a person.
	KindRequest Kind = "request"
	// KindAllowList records a list of devices that may be given certificates.
	KindAllowList Kind = "allow-list"
	// KindToken records that a key was made on, moved to or taken off a token, or
	// that a softtoken was made.
	KindToken Kind = "token"
	// KindCheckpoint records that the ledger's root was signed.
	KindCheckpoint Kind = "checkpoint"
)

// kinds lists every kind, and whether RecordEvent takes it.
var kinds = map[Kind]bool{
	KindIssue: false, KindObject: false, KindSetting: false, KindSign: false,
	KindImport: false, KindRevoke: false, KindCRL: false,
	KindCeremony: true, KindRollout: true, KindBackup: true, KindRestore: true,
	KindRequest: true, KindAllowList: true, KindToken: true, KindCheckpoint: true,
}

// maxEntry limits the octets of a ledger entry: tile servers give the length
// of an entry 16 bits (C2SP tlog-tiles).
const maxEntry = 1<<16 - 1

// Entry is one line of the ledger: who did what, when. Fields that its kind has
// no use for are empty.
type Entry struct {
	Actor   string            `json:"actor"`
	Detail  map[string]string `json:"detail,omitempty"`
	Issuer  string            `json:"issuer,omitempty"` // authority's name
	Kind    Kind              `json:"kind"`
	Name    string            `json:"name"`
	Profile string            `json:"profile,omitempty"`
	Seq     int64             `json:"seq"`              // from 0, without gaps
	Serial  string            `json:"serial,omitempty"` // hexadecimal, big-endian
	SHA256  string            `json:"sha256"`           // hexadecimal
	Time    time.Time         `json:"time"`             // UTC, to the nanosecond
}

// Marshal returns the entry's one encoding, whose octets are a leaf of the
// tree: JSON without spaces, members in the order of their names, times as RFC
// 3339 in UTC, and no escapes but those that JSON demands and U+2028 and U+2029.
func (e Entry) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	e.Time = e.Time.UTC()
	if year := e.Time.Year(); year < 0 || year > 9999 {
		return nil, fmt.Errorf("time of ledger entry in the year %d", year)
	}
	// By hand, as there is one for each of millions of certificates; a test holds it
	// against encoding/json.
	out := make([]byte, 0, 512)
	member := func(name, value string) {
		out = append(append(append(out, `,"`...), name...), `":`...)
		out = appendString(out, value)
	}
	optional := func(name, value string) {
		if value != "" {
			member(name, value)
		}
	}
	member("actor", e.Actor)
	out[0] = '{'
	if len(e.Detail) > 0 {
		out = append(out, `,"detail":`...)
		begin := len(out)
		for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
			out = appendString(append(out, ','), key)
			out = appendString(append(out, ':'), e.Detail[key])
		}
		out[begin] = '{'
		out = append(out, '}')
	}
	optional("issuer", e.Issuer)
	member("kind", string(e.Kind))
	member("name", e.Name)
	optional("profile", e.Profile)
	out = strconv.AppendInt(append(out, `,"seq":`...), e.Seq, 10)
	optional("serial", e.Serial)
	member("sha256", e.SHA256)
	out = e.Time.AppendFormat(append(out, `,"time":"`...), time.RFC3339Nano)
	out = append(out, `"}`...)
	if len(out) > maxEntry {
		return nil, fmt.Errorf("ledger entry for %q has %d octets, more than %d", e.Name, len(out), maxEntry)
	}
	return out, nil
}

// appendString appends s, which is UTF-8, as a JSON string.
func appendString(out []byte, s string) []byte {
	const digits = "0123456789abcdef"
	out = append(out, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 0x20 && c != 0xe2:
			out = append(out, c)
		case c == '\b':
			out = append(out, `\b`...)
		case c == '\f':
			out = append(out, `\f`...)
		case c == '\n':
			out = append(out, `\n`...)
		case c == '\r':
			out = append(out, `\r`...)
		case c == '\t':
			out = append(out, `\t`...)
		case c < 0x20:
			out = append(out, `\u00`...)
			out = append(out, digits[c>>4], digits[c&15])
		case strings.HasPrefix(s[i:], "\u2028"), strings.HasPrefix(s[i:], "\u2029"):
			out = append(append(out, `\u202`...), digits[s[i+2]&15])
			i += 2
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// ParseEntry reads what Marshal writes, and no other encoding of it.
func ParseEntry(data []byte) (Entry, error) {
	if len(data) > maxEntry {
		return Entry{}, fmt.Errorf("%d octets, more than %d", len(data), maxEntry)
	}
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, err
	}
	again, err := e.Marshal()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, data) {
		return Entry{}, errors.New("not in canonical form")
	}
	e.Time = e.Time.UTC()
	return e, nil
}

// check fails on a value that JSON would not bring back as it was, and on one
// that no entry has.
func (e Entry) check() error {
	if _, ok := kinds[e.Kind]; !ok {
		return fmt.Errorf("unknown kind %q of ledger entry", e.Kind)
	}
	if e.Seq < 0 {
		return fmt.Errorf("negative seq %d", e.Seq)
	}
	if e.Actor == "" || e.Name == "" {
		return errors.New("ledger entry without actor or name")
	}
	for _, text := range []string{e.Actor, e.Name, e.Issuer, e.Profile} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is not UTF-8", text)
		}
	}
	for key, value := range e.Detail {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("detail %q: %q is not UTF-8", key, value)
		}
	}
	if e.Serial != "" {
		serial, err := hex.DecodeString(e.Serial)
		if err != nil || !lowerHex(e.Serial) {
			return fmt.Errorf("serial %q is not lower-case hexadecimal", e.Serial)
		}
		if err := checkSerial(serial); err != nil {
			return err
		}
	}
	if len(e.SHA256) != 64 || !lowerHex(e.SHA256) {
		return fmt.Errorf("%q is not a SHA-256 digest in lower-case hexadecimal", e.SHA256)
	}
	return nil
}

// lowerHex reports whether s has no characters but lower-case hexadecimal digits.
func lowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// checkSerial fails unless serial is the magnitude of a serial number: it is
// positive, its encoding the shortest, with at most 20 octets in DER, where a
// set top bit costs one (RFC 5280, Section 4.1.2.2).
func checkSerial(serial []byte) error {
	switch {
	case len(serial) == 0 || serial[0] == 0:
		return fmt.Errorf("serial %x is empty, zero or has a leading zero octet", serial)
	case len(serial) > 20, len(serial) == 20 && serial[0] >= 0x80:
		return fmt.Errorf("serial %x has more than 20 octets in DER", serial)
	}
	return nil
}
