package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
)

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
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(out) > maxEntry {
		return nil, fmt.Errorf("ledger entry for %q has %d octets, more than %d", e.Name, len(out), maxEntry)
	}
	return out, nil
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
	switch e.Kind {
	case KindIssue, KindObject, KindSetting, KindSign:
	default:
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
		if err != nil || hex.EncodeToString(serial) != e.Serial {
			return fmt.Errorf("serial %q is not lower-case hexadecimal", e.Serial)
		}
		if err := checkSerial(serial); err != nil {
			return err
		}
	}
	digest, err := hex.DecodeString(e.SHA256)
	if err != nil || len(digest) != 32 || hex.EncodeToString(digest) != e.SHA256 {
		return fmt.Errorf("%q is not a SHA-256 digest in lower-case hexadecimal", e.SHA256)
	}
	return nil
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
