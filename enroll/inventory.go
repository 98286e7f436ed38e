package enroll

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// The states of a device's certificate.
const (
	Issued   = "issued"
	Expired  = "expired"
	Revoked  = "revoked"
	Held     = "held"
	Intended = "intended" // to be signed now, or left by a process that died
)

// States lists them.
func States() []string { return []string{Issued, Expired, Revoked, Held, Intended} }

// Device is a certificate of a device as the inventory has it. Texts from the
// request are escaped.
type Device struct {
	UUID         string    `json:"uuid"`
	Name         string    `json:"name"`                    // common name
	SerialNumber string    `json:"serial_number,omitempty"` // of the device, if its subject has one
	State        string    `json:"state"`
	Profile      string    `json:"profile"`
	Issuer       string    `json:"issuer"`
	Serial       string    `json:"serial"` // of the certificate, hexadecimal
	NotBefore    time.Time `json:"not_before"`
	NotAfter     time.Time `json:"not_after"`
	Issued       time.Time `json:"issued,omitzero"`
	Actor        string    `json:"actor"`

	Certificate *ca.Certificate `json:"-"`               // nil if it was only intended
	Place       store.Cursor    `json:"place,omitempty"` // behind it: see Devices
}

// Filter selects devices. Its zero value selects all.
type Filter struct {
	Profile string
	State   string // one of States
	UUID    string // the beginning of it, in either case
	Name    string // a part of the common name or of the serial number, in either case
}

// Check reports, as an error, a filter that selects nothing by mistake.
func (f Filter) Check() error {
	if f.State != "" {
		for _, s := range States() {
			if f.State == s {
				return nil
			}
		}
		return fmt.Errorf("state %q is unknown: use %s", f.State, strings.Join(States(), ", "))
	}
	return nil
}

// scanPage is how many rows are read at once.
const scanPage = 500

// Devices yields the certificates of devices that a filter selects, in the order
// of their UUIDs, from behind a place on. It reads page by
// page, so its memory doesn't grow, and begins anywhere at the same cost. Intents
// come last, and have no places.
func Devices(ctx context.Context, db *store.DB, f Filter, after store.Cursor, now time.Time) iter.Seq2[Device, error] {
	return func(yield func(Device, error) bool) {
		q := store.Query{Profile: f.Profile, NamePrefix: NamePrefix + strings.ToLower(f.UUID)}
		switch f.State {
		case Issued, Expired:
			q.States = []store.State{store.Issued}
		case Revoked:
			q.States = []store.State{store.Revoked}
		case Held:
			q.States = []store.State{store.Held}
		}
		for first := true; f.State != Intended && (first || after != ""); first = false {
			var records []store.Record
			var err error
			if records, after, err = db.Page(ctx, q, after, scanPage); err != nil {
				yield(Device{}, err)
				return
			}
			for _, record := range records {
				d, err := newDevice(record, now)
				if err != nil {
					yield(d, err)
					return
				}
				d.Place = q.Behind(record)
				if f.selects(d) && !yield(d, nil) {
					return
				}
			}
		}
		if f.State != "" && f.State != Intended {
			return
		}
		pending, err := db.Pending(ctx)
		if err != nil {
			yield(Device{}, err)
			return
		}
		for _, record := range pending {
			if !strings.HasPrefix(record.Name, q.NamePrefix) || f.Profile != "" && record.Profile != f.Profile {
				continue
			}
			d, err := newDevice(record, now)
			if err == nil && !f.selects(d) {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// History returns all certificates of one device, newest first, by its UUID.
func History(ctx context.Context, db *store.DB, uuid string, now time.Time) ([]Device, error) {
	records, err := db.ByName(ctx, NamePrefix+strings.ToLower(uuid))
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, record := range records {
		d, err := newDevice(record, now)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("device %s: %w", uuid, store.ErrNotFound)
	}
	return list, nil
}

func newDevice(r store.Record, now time.Time) (Device, error) {
	d := Device{
		UUID: strings.TrimPrefix(r.Name, NamePrefix), Profile: r.Profile, Issuer: r.Issuer, Serial: fmt.Sprintf("%x", r.Serial),
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, Issued: r.Issued, Actor: r.Actor,
	}
	switch r.State {
	case store.Intended:
		d.State = Intended
		return d, nil
	case store.Issued:
		if d.State = Issued; now.After(r.NotAfter) {
			d.State = Expired
		}
	case store.Revoked:
		d.State = Revoked
	case store.Held:
		d.State = Held
	default:
		return d, fmt.Errorf("certificate %x: unknown state %d", r.Serial, int(r.State))
	}
	c, err := ca.ParseCertificate(r.DER)
	if err != nil {
		return d, fmt.Errorf("the store's certificate %x: %w", r.Serial, err)
	}
	if uuid := c.UUID(); strings.EqualFold(uuid, d.UUID) {
		d.UUID = uuid // as the device writes it
	} else {
		return d, errors.New("the store's certificate " + d.Serial + " names another device than its row")
	}
	d.Certificate = c
	d.Name = ca.Printable(c.Subject().CommonName())
	d.SerialNumber = ca.Printable(c.Certificate.Subject.SerialNumber)
	return d, nil
}

func (f Filter) selects(d Device) bool {
	if f.State != "" && f.State != d.State {
		return false
	}
	part := strings.ToLower(f.Name)
	return part == "" || strings.Contains(strings.ToLower(d.Name), part) || strings.Contains(strings.ToLower(d.SerialNumber), part)
}
