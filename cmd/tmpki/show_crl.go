package main

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"tmpki/ca"
)

// crlFacts is a CRL.
type crlFacts struct {
	Kind       string           `json:"kind"` // "crl"
	Issuer     string           `json:"issuer"`
	ThisUpdate time.Time        `json:"this_update"`
	NextUpdate *time.Time       `json:"next_update,omitempty"`
	Signature  string           `json:"signature"`
	Extensions []extensionFacts `json:"extensions"`
	Count      int              `json:"revoked_count"`
	Revoked    []revokedFacts   `json:"revoked"` // the first of them
}

type revokedFacts struct {
	Serial  string    `json:"serial"`
	Revoked time.Time `json:"revoked"`
	Reason  string    `json:"reason,omitempty"`

	Invalid *time.Time `json:"invalid_since,omitempty"`
}

func describeCRL(der []byte) (item, error) {
	l, err := ca.ParseCRL(der)
	if err != nil {
		return nil, err
	}
	f := &crlFacts{
		Kind:       "crl",
		Issuer:     l.Issuer().String(),
		ThisUpdate: l.ThisUpdate.UTC(),
		Signature:  signatureName(l.Algorithm, l.AlgorithmError),
		Extensions: []extensionFacts{},
		Count:      l.Count,
		Revoked:    []revokedFacts{},
	}
	if next := l.NextUpdate.UTC(); !next.IsZero() {
		f.NextUpdate = &next
	}
	for _, x := range l.Extensions {
		f.Extensions = append(f.Extensions, newExtensionFacts(ca.DescribeExtension(x)))
	}
	for e := range l.Entries() {
		if len(f.Revoked) == maxValues {
			break
		}
		r := revokedFacts{Serial: serialHex(new(big.Int).SetBytes(e.Serial)), Revoked: e.Time}
		if e.Reason != ca.Unspecified {
			r.Reason = e.Reason.String()
		}
		if !e.Invalidity.IsZero() {
			r.Invalid = &e.Invalidity
		}
		f.Revoked = append(f.Revoked, r)
	}
	return f, nil
}

func (f *crlFacts) title() string { return "CRL" }

func (f *crlFacts) describe(t *table, now time.Time) {
	t.add("issuer", f.Issuer)
	if f.NextUpdate != nil {
		t.add("valid", validity(f.ThisUpdate, *f.NextUpdate, now))
	} else {
		t.add("valid", fmt.Sprintf("from %s, no next update", localTime(f.ThisUpdate)))
	}
	t.add("signature", f.Signature+" (not checked)")
	for _, x := range f.Extensions {
		x.describe(t)
	}
	revoked := []string{}
	for _, r := range f.Revoked {
		text := strings.TrimRight(fmt.Sprintf("%s  %s  %s", localTime(r.Revoked), r.Serial, r.Reason), " ")
		if r.Invalid != nil {
			text += ", invalid since " + localTime(*r.Invalid)
		}
		revoked = append(revoked, text)
	}
	t.add("count", fmt.Sprintf("%d revoked certificates", f.Count))
	t.add("revoked", revoked...)
	if more := f.Count - len(revoked); more > 0 {
		t.add("more", fmt.Sprintf("%d, not shown", more))
	}
}
