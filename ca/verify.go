package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxDepth bounds the certificates in a path, and maxTries the signatures that
// one Verify may check: a heap of cross-certificates must not cost hours.
const (
	maxDepth = 12
	maxTries = 400
)

// VerifyOptions says what a chain is held against.
type VerifyOptions struct {
	Roots         []*Certificate // the only trust; each must be self-signed
	Intermediates []*Certificate // helpers, in any order
	Time          time.Time      // when the chain must be valid; zero: dates don't count
}

// VerifyError tells why no path leads from a certificate to a root.
type VerifyError struct {
	Certificate *Certificate // the one at fault
	Reason      string
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("%s: %s", e.Certificate.Subject(), e.Reason)
}

// Verify finds a path from leaf to a root and validates it (RFC 5280, Section
// 6.1) the way the platform's daemon has OpenSSL do it: dates, basicConstraints,
// keyUsage of issuers, path lengths, name constraints and unknown critical
// extensions count; purpose, policies and revocation don't; there are no
// partial chains. The path begins with leaf and ends with the root. The error is
// a *VerifyError.
//
// The search tries every issuer that fits, so it finds a path where OpenSSL,
// which never turns back, may miss it. It finds none that the rules forbid.
func Verify(leaf *Certificate, o VerifyOptions) ([]*Certificate, error) {
	s := search{options: o, tries: maxTries}
	if path := s.extend([]*Certificate{leaf}); path != nil {
		return path, nil
	}
	if s.fault == nil {
		s.fault = &VerifyError{leaf, "no certificate of its issuer " + leaf.Issuer().String() + " is at hand"}
	}
	return nil, s.fault
}

type search struct {
	options VerifyOptions
	tries   int
	fault   *VerifyError // the one that stands deepest in a path
	depth   int
}

func (s *search) fail(depth int, c *Certificate, format string, args ...any) []*Certificate {
	if s.fault == nil || depth > s.depth {
		s.fault, s.depth = &VerifyError{c, fmt.Sprintf(format, args...)}, depth
	}
	return nil
}

// extend returns a valid path that begins with path, or nil.
func (s *search) extend(path []*Certificate) []*Certificate {
	last := path[len(path)-1]
	if len(path) > maxDepth {
		return s.fail(len(path), last, "more than %d certificates in the path", maxDepth)
	}
	if reason := checkAlone(last, s.options.Time); reason != "" {
		return s.fail(len(path), last, "%s", reason)
	}
	for _, root := range s.options.Roots {
		if root.Equal(last) {
			if !last.SelfSigned() {
				// Its own issuer may be trusted too, and then the path goes on.
				s.fail(len(path), last, "a root must be self-signed")
				break
			}
			if reason, at := checkPath(path); reason != "" {
				return s.fail(len(path)+1, at, "%s", reason)
			}
			return path
		}
	}
	if last.SelfSigned() {
		return s.fail(len(path), last, "self-signed, but not among the trust anchors")
	}
	for i, list := range [][]*Certificate{s.options.Roots, s.options.Intermediates} {
		for _, candidate := range list {
			if !issued(candidate, last) || contains(path, candidate) || (i == 1 && contains(s.options.Roots, candidate)) {
				continue
			}
			if s.tries--; s.tries < 0 {
				return s.fail(maxDepth+2, last, "too many paths to try")
			}
			if err := last.CheckSignature(candidate.Key); err != nil {
				s.fail(len(path), last, "%v with the key of %s", err, candidate.Subject())
				continue
			}
			if reason := checkIssuer(candidate); reason != "" {
				s.fail(len(path)+1, candidate, "%s", reason)
				continue
			}
			if found := s.extend(append(path[:len(path):len(path)], candidate)); found != nil {
				return found
			}
		}
	}
	return s.fail(len(path), last, "no certificate of its issuer %s is at hand", last.Issuer())
}

// issued reports whether issuer may be the issuer of c by names and key
// identifiers, and by issuer and serial where c pins them.
func issued(issuer, c *Certificate) bool {
	if !issuer.Subject().Equal(c.Issuer()) {
		return false
	}
	keyID, name, serial := authorityKey(c)
	if len(keyID) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(keyID, issuer.SubjectKeyId) {
		return false
	}
	if serial != nil && serial.Cmp(issuer.SerialNumber) != 0 {
		return false
	}
	return name == nil || name.Equal(issuer.Issuer())
}

// authorityKey reads the AuthorityKeyIdentifier (RFC 5280, Section 4.2.1.1).
func authorityKey(c *Certificate) (keyID []byte, issuer Name, serial *big.Int) {
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidAuthorityKeyID) {
			continue
		}
		input := cryptobyte.String(x.Value)
		var seq, id, names, number cryptobyte.String
		var has bool
		tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
		if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&id, &has, tag(0)) ||
			!seq.ReadOptionalASN1(&names, &has, tag(1).Constructed()) || !seq.ReadOptionalASN1(&number, &has, tag(2)) {
			return nil, nil, nil
		}
		if has {
			serial = new(big.Int).SetBytes(number)
		}
		for !names.Empty() && issuer == nil {
			name, ok := readGeneralName(&names)
			if !ok {
				return nil, nil, nil
			}
			if name.tag == tagDirectory {
				issuer = Name(name.value)
			}
		}
		return id, issuer, serial
	}
	return nil, nil, nil
}

func contains(list []*Certificate, c *Certificate) bool {
	for _, o := range list {
		if o.Equal(c) {
			return true
		}
	}
	return false
}

// checkAlone holds one certificate against what needs no other.
func checkAlone(c *Certificate, at time.Time) string {
	if !at.IsZero() && at.Before(c.NotBefore) {
		return "not valid before " + c.NotBefore.Format(time.RFC3339)
	}
	// RFC 5280, Section 4.1.2.5 includes the last second; OpenSSL doesn't, and it
	// is what verifies on the device.
	if !at.IsZero() && !at.Before(c.NotAfter) {
		return "expired on " + c.NotAfter.Format(time.RFC3339)
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		// crypto/x509 gives up on directory names in these two; names() reads them.
		if !oid.Equal(oidNameConstraints) && !oid.Equal(oidSubjectAltName) {
			return fmt.Sprintf("unknown critical extension %v", oid)
		}
	}
	for _, x := range c.Extensions {
		// RFC 5280, Section 4.2.1.3: at least one bit. KeyUsage can't tell this
		// from a certificate without the extension, which may do everything.
		if x.Id.Equal(oidKeyUsage) && c.KeyUsage == 0 {
			return "its key usage allows nothing"
		}
	}
	return ""
}

// checkIssuer reports why c may not issue certificates.
func checkIssuer(c *Certificate) string {
	if !c.BasicConstraintsValid || !c.IsCA {
		return "is not a CA, but issues certificates"
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return "its key usage forbids signing certificates"
	}
	return ""
}

// checkPath holds a path, leaf first, against what its members demand of those
// below: path lengths and name constraints.
func checkPath(path []*Certificate) (reason string, at *Certificate) {
	for i := len(path) - 1; i > 0; i-- {
		c := path[i]
		below := 0 // certificates between c and the leaf that count
		for _, sub := range path[1:i] {
			if !sub.SelfIssued() {
				below++
			}
		}
		if (c.MaxPathLen > 0 || c.MaxPathLenZero) && below > c.MaxPathLen {
			return fmt.Sprintf("path length %d, but %d sub CAs follow", c.MaxPathLen, below), c
		}
		constraints, err := constraintsOf(c)
		if err != nil {
			return err.Error(), c
		}
		if constraints == nil {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			if j > 0 && path[j].SelfIssued() { // RFC 5280, Section 6.1.4 (b)
				continue
			}
			if err := constraints.checkCertificate(path[j], j == 0); err != nil {
				return fmt.Sprintf("%v, which %s forbids", err, c.Subject()), path[j]
			}
		}
	}
	return "", nil
}

var errMalformedConstraints = errors.New("malformed name constraints")
