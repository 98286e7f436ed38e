package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tmpki/store"
)

// Expiry is the end of something that the PKI has made.
type Expiry struct {
	Kind     string    `json:"kind"` // an ExpiryKind
	Name     string    `json:"name"` // an entry, a file, a device; of many, "" beside Profile
	Profile  string    `json:"profile,omitempty"`
	Serial   string    `json:"serial,omitempty"` // hexadecimal
	NotAfter time.Time `json:"not_after"`        // of many, the first
	Count    int       `json:"count"`            // how many
	Due      bool      `json:"due"`              // a CRL that must be made anew
}

// The kinds of expiries.
const (
	ExpiryCertificate = "certificate" // of an entry of the plan
	ExpiryAnchor      = "anchor"      // a trust anchor on its own: an anchor twin
	ExpiryVendor      = "vendor"      // a certificate of somebody else in KEK or db
	ExpiryCRL         = "crl"
	ExpiryIssued      = "issued" // outside the entries: devices, users
)

// maxIssued is how many certificates of one profile are listed by name; of more
// there is their number, and the first end.
const maxIssued = 10

// Expiries returns what ends when, the first end first: everything of the plan, the
// newest CRLs, and of what was issued outside the entries what ends within the
// time given and has no successor of its name. A certificate that has ended outside
// the entries is left out: devices that are gone would stay for ever.
func Expiries(ctx context.Context, dir string, now time.Time, within time.Duration) ([]Expiry, error) {
	p, faults, err := look(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if f.name == "pki" {
			return nil, f.err
		}
	}
	return p.expiries(ctx, now, within)
}

func (p *PKI) expiries(ctx context.Context, now time.Time, within time.Duration) ([]Expiry, error) {
	var list []Expiry
	for _, e := range p.Plan.Entries {
		c := p.Have.Certificates[e.Name]
		if c == nil {
			continue
		}
		kind := ExpiryCertificate
		if e.Kind == Anchor {
			kind = ExpiryAnchor
		}
		list = append(list, Expiry{Kind: kind, Name: e.Name, Profile: e.Profile.Name(), Serial: fmt.Sprintf("%x", c.SerialNumber), NotAfter: c.NotAfter, Count: 1})
	}
	for _, file := range sortedKeys(p.Have.Vendors) {
		if c := p.Have.Vendors[file].Certificate; c != nil {
			list = append(list, Expiry{Kind: ExpiryVendor, Name: file, Serial: fmt.Sprintf("%x", c.SerialNumber), NotAfter: c.NotAfter, Count: 1})
		}
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if err == nil {
		defer db.Close()
		var crls, issued []Expiry
		if crls, err = p.crlExpiries(ctx, db, now); err == nil {
			issued, err = p.issuedExpiries(ctx, db, now, within)
		}
		list = slices.Concat(list, crls, issued)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Profile, b.Profile))
	})
	return list, nil
}

func (p *PKI) crlExpiries(ctx context.Context, db *store.DB, now time.Time) ([]Expiry, error) {
	entries, err := p.CRLAuthorities(ctx, db, false)
	if err != nil {
		return nil, err
	}
	var list []Expiry
	for _, e := range entries {
		states, err := p.CRLStates(ctx, db, e, now)
		if err != nil {
			return nil, err
		}
		for _, s := range states {
			if s.Latest != nil {
				list = append(list, Expiry{Kind: ExpiryCRL, Name: s.File, NotAfter: s.Latest.NextUpdate, Count: 1, Due: s.Due != "" || s.Overdue})
			}
		}
	}
	return list, nil
}

// issuedExpiries walks through the certificates that end in the time, by date.
func (p *PKI) issuedExpiries(ctx context.Context, db *store.DB, now time.Time, within time.Duration) ([]Expiry, error) {
	type group struct {
		listed []Expiry
		all    Expiry
	}
	groups := map[string]*group{}
	q := store.Query{States: []store.State{store.Issued, store.Held}, ExpiresFrom: now, ExpiresBefore: now.Add(within)}
	for cursor := store.Cursor(""); ; {
		records, next, err := db.Page(ctx, q, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if p.Plan.Entry(r.Name) != nil {
				continue // the newest is in the list, whatever became of older ones
			}
			newest, err := db.Latest(ctx, r.Name)
			if err != nil {
				return nil, err
			}
			if newest.Entry != r.Entry && newest.NotAfter.After(r.NotAfter) {
				continue
			}
			g := groups[r.Profile]
			if g == nil {
				g = &group{all: Expiry{Kind: ExpiryIssued, Profile: r.Profile, NotAfter: r.NotAfter}}
				groups[r.Profile] = g
			}
			if g.all.Count++; g.all.Count <= maxIssued {
				g.listed = append(g.listed, Expiry{Kind: ExpiryIssued, Name: r.Name, Profile: r.Profile, Serial: fmt.Sprintf("%x", r.Serial), NotAfter: r.NotAfter, Count: 1})
			}
		}
		if next == "" {
			break
		}
		cursor = next
	}
	var list []Expiry
	for _, profile := range sortedKeys(groups) {
		if g := groups[profile]; g.all.Count <= maxIssued {
			list = append(list, g.listed...)
		} else {
			list = append(list, g.all)
		}
	}
	return list, nil
}

// issued tells of what ends within the time outside the entries.
func (f *findings) issued(ctx context.Context, p *PKI, now time.Time) error {
	db, err := p.OpenStoreReadOnly(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := p.issuedExpiries(ctx, db, now, f.soon)
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.Count > 1 {
			f.ends(x.Profile, now, x.NotAfter, fmt.Sprintf("%d certificates of this profile end soon, the first ", x.Count))
		} else {
			f.ends(x.Name, now, x.NotAfter, "")
		}
	}
	return nil
}
