package ca

import "tmpki/store"

// Reason says why a certificate was revoked (RFC 5280, Section 5.3.1). It is what
// the store keeps.
type Reason = store.Reason

// The reasons that this program gives meaning to.
const (
	Unspecified     = store.Unspecified
	KeyCompromise   = store.KeyCompromise
	CACompromise    = store.CACompromise
	Superseded      = store.Superseded
	CertificateHold = store.CertificateHold // can be lifted
	RemoveFromCRL   = store.RemoveFromCRL   // lifts a hold; in delta CRLs only
)

// ParseReason reads the name of a reason, in any case of its letters.
func ParseReason(s string) (Reason, error) { return store.ParseReason(s) }
