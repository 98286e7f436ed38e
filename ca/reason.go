package ca

import (
	"fmt"
	"strings"
)

// Reason says why a certificate was revoked: the numbers of RFC 5280, Section
// 5.3.1.
type Reason int

// The reasons that this program gives meaning to.
const (
	Unspecified     Reason = 0
	KeyCompromise   Reason = 1
	CACompromise    Reason = 2
	Superseded      Reason = 4
	CertificateHold Reason = 6 // can be lifted
	RemoveFromCRL   Reason = 8 // lifts a hold; in delta CRLs only
)

// reasons has the names of RFC 5280, Section 5.3.1, by number. 7 is not used.
var reasons = [...]string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}

// ParseReason reads the name of a reason, in any case of its letters.
func ParseReason(s string) (Reason, error) {
	var known []string
	for i, name := range reasons {
		if name == "" {
			continue
		}
		if strings.EqualFold(name, s) {
			return Reason(i), nil
		}
		known = append(known, name)
	}
	return 0, fmt.Errorf("reason %q is unknown: use one of %s", s, strings.Join(known, ", "))
}

// String returns the name that ParseReason reads, or "reason N" for a number
// that has none.
func (r Reason) String() string {
	if !r.valid() {
		return fmt.Sprintf("reason %d", int(r))
	}
	return reasons[r]
}

func (r Reason) valid() bool { return r >= 0 && int(r) < len(reasons) && reasons[r] != "" }
