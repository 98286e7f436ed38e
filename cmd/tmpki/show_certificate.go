package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"tmpki/ca"
)

// certificateFacts is a certificate.
type certificateFacts struct {
	Kind       string           `json:"kind"` // "certificate"
	Subject    string           `json:"subject"`
	Issuer     string           `json:"issuer"`
	SelfSigned bool             `json:"self_signed"`
	Serial     string           `json:"serial"`
	NotBefore  time.Time        `json:"not_before"`
	NotAfter   time.Time        `json:"not_after"`
	Key        keyFacts         `json:"key"`
	Signature  string           `json:"signature"`
	CA         bool             `json:"ca"`
	Extensions []extensionFacts `json:"extensions"`
	SHA256     string           `json:"sha256"`
	SHA1       string           `json:"sha1"`

	certificate *ca.Certificate
}

func newCertificateFacts(c *ca.Certificate) *certificateFacts {
	sum256, sum1 := sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
	f := &certificateFacts{
		Kind:        "certificate",
		Subject:     c.Subject().String(),
		Issuer:      c.Issuer().String(),
		SelfSigned:  c.SelfSigned(),
		Serial:      serialHex(c.SerialNumber),
		NotBefore:   c.NotBefore.UTC(),
		NotAfter:    c.NotAfter.UTC(),
		Key:         newKeyFacts(c.Key),
		Signature:   signatureName(c.Algorithm, c.AlgorithmError),
		CA:          c.BasicConstraintsValid && c.IsCA,
		Extensions:  []extensionFacts{},
		SHA256:      hex.EncodeToString(sum256[:]),
		SHA1:        hex.EncodeToString(sum1[:]),
		certificate: c,
	}
	for _, x := range c.Extensions {
		f.Extensions = append(f.Extensions, newExtensionFacts(ca.DescribeExtension(x)))
	}
	return f
}

// serialHex shows a serial number in whole octets.
func serialHex(n *big.Int) string {
	if n.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(n.Bytes())
}

func (f *certificateFacts) title() string {
	kind := "certificate"
	if f.CA {
		kind = "certificate of a CA"
	}
	if f.SelfSigned {
		kind += ", self-signed"
	}
	return kind
}

func (f *certificateFacts) describe(t *table, now time.Time) {
	t.add("subject", f.Subject)
	t.add("issuer", f.Issuer)
	t.add("serial", f.Serial)
	t.add("valid", validity(f.NotBefore, f.NotAfter, now))
	f.Key.describe(t)
	t.add("signature", f.Signature)
	for _, x := range f.Extensions {
		x.describe(t)
	}
	t.add("SHA-256", f.SHA256)
	t.add("SHA-1", f.SHA1)
}

// validity shows dates in local time, and what they mean now.
func validity(from, to, now time.Time) string {
	verdict := span(to.Sub(now)) + " left"
	switch {
	case now.Before(from):
		verdict = "not valid yet, begins in " + span(from.Sub(now))
	case now.After(to):
		verdict = "expired " + span(now.Sub(to)) + " ago"
	case to.Year() == 9999: // RFC 5280, Section 4.1.2.5
		verdict = "without end"
	}
	return fmt.Sprintf("%s – %s (%s)", localTime(from), localTime(to), verdict)
}

func localTime(t time.Time) string { return t.Local().Format(time.DateTime) }

// span says how long a duration is, in the unit that fits.
func span(d time.Duration) string {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	switch {
	case d >= 2*year:
		return fmt.Sprintf("%d years", (d+year/2)/year)
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
}

// chainFacts says whether the certificates of a file are one chain, the first
// one being the leaf.
type chainFacts struct {
	Links    bool   `json:"links"`    // all belong to it
	Complete bool   `json:"complete"` // and it ends with a self-signed one
	Valid    bool   `json:"valid"`    // and it is a path by RFC 5280, dates apart
	Reason   string `json:"reason,omitempty"`
}

func newChainFacts(certs []*ca.Certificate) *chainFacts {
	path := ca.Link(certs)
	last := path[len(path)-1]
	f := &chainFacts{Links: len(path) == len(certs), Complete: last.SelfSigned()}
	switch {
	case !f.Links:
		f.Reason = fmt.Sprintf("from the first certificate only %d of %d link up, as far as %s", len(path), len(certs), last.Subject())
		if last.AlgorithmError != nil {
			f.Reason += ", whose signature can't be verified"
		}
	case last.AlgorithmError != nil:
		f.Reason = "the signature of the last certificate can't be verified: " + last.AlgorithmError.Error()
	case !f.Complete:
		f.Reason = "the issuer is not in the file: " + last.Issuer().String()
	default:
		_, err := ca.Verify(certs[0], ca.VerifyOptions{Roots: []*ca.Certificate{last}, Intermediates: certs})
		f.Valid = err == nil
		if err != nil {
			f.Reason = err.Error()
		}
	}
	return f
}

func (f *chainFacts) String() string {
	switch {
	case !f.Links:
		return "does not link up: " + f.Reason
	case !f.Complete:
		return "links up, but not to a self-signed root: " + f.Reason
	case !f.Valid:
		return "links up to a self-signed root, but is no valid path: " + f.Reason
	default:
		return "links up to a self-signed root"
	}
}
