package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// GeneralName tags (RFC 5280, Section 4.2.1.6).
const (
	tagOther     = 0
	tagEmail     = 1
	tagDNS       = 2
	tagDirectory = 4
	tagURI       = 6
	tagIP        = 7
)

// generalName is one GeneralName: its tag number and the octets of its content.
type generalName struct {
	tag   uint8
	value []byte
}

func (g generalName) add(b *cryptobyte.Builder) {
	tag := cbasn1.Tag(g.tag).ContextSpecific()
	if g.tag == tagDirectory {
		tag = tag.Constructed()
	}
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(g.value) })
}

// parseGeneralName reads "dns:NAME", "email:ADDRESS", "uri:URI" or "ip:ADDRESS".
// As a constraint an IP address has a prefix length, and a host or a mailbox may
// be a whole domain.
func parseGeneralName(s string, constraint bool) (generalName, error) {
	kind, value, ok := strings.Cut(s, ":")
	if !ok || value == "" {
		return generalName{}, fmt.Errorf("%q is not KIND:VALUE with dns, email, uri or ip", s)
	}
	for _, r := range value {
		if r <= ' ' || r > '~' {
			return generalName{}, fmt.Errorf("%q: %q is not allowed in a general name", s, r)
		}
	}
	switch kind {
	case "dns":
		host := strings.TrimPrefix(value, ".")
		if !constraint {
			host = strings.TrimPrefix(value, "*.")
		}
		if !validHost(host) {
			return generalName{}, fmt.Errorf("%q is not a DNS name", s)
		}
		return generalName{tagDNS, []byte(value)}, nil
	case "email":
		local, host, isMailbox := strings.Cut(value, "@")
		if !isMailbox {
			host = strings.TrimPrefix(value, ".")
		}
		if !validHost(host) || (isMailbox && local == "") || (!isMailbox && !constraint) {
			return generalName{}, fmt.Errorf("%q is not a mail address", s)
		}
		return generalName{tagEmail, []byte(value)}, nil
	case "uri":
		if constraint {
			if !validHost(strings.TrimPrefix(value, ".")) {
				return generalName{}, fmt.Errorf("%q: a URI constraint is a host or .domain", s)
			}
			return generalName{tagURI, []byte(value)}, nil
		}
		if u, err := url.Parse(value); err != nil || u.Scheme == "" {
			return generalName{}, fmt.Errorf("%q is not a URI", s)
		}
		return generalName{tagURI, []byte(value)}, nil
	case "ip":
		if !constraint {
			addr, err := netip.ParseAddr(value)
			if err != nil || addr.Zone() != "" {
				return generalName{}, fmt.Errorf("%q is not an IP address", s)
			}
			return generalName{tagIP, addr.AsSlice()}, nil
		}
		prefix, err := netip.ParsePrefix(value)
		if err != nil || prefix.Masked() != prefix {
			return generalName{}, fmt.Errorf("%q is not an IP network such as 10.0.0.0/8", s)
		}
		mask := make([]byte, len(prefix.Addr().AsSlice()))
		for i := 0; i < prefix.Bits(); i++ {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		return generalName{tagIP, append(prefix.Addr().AsSlice(), mask...)}, nil
	default:
		return generalName{}, fmt.Errorf("%q: kind %q is unknown: use dns, email, uri or ip", s, kind)
	}
}

func validHost(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return true
}

func addKeyUsage(b *cryptobyte.Builder, ku x509.KeyUsage) error {
	// crypto/x509 numbers the bits as the RFC does, from the least significant
	// one; a BIT STRING begins with the most significant one, and DER drops
	// trailing zero bits (X.690, Section 11.2.2).
	var bits [2]byte
	last := 0
	for i := 0; i < 9; i++ {
		if ku&(1<<i) != 0 {
			bits[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}
	b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
		b.AddUint8(uint8(7 - last%8))
		b.AddBytes(bits[:last/8+1])
	})
	return nil
}

func addExtKeyUsage(b *cryptobyte.Builder, names []string) error {
	var bad error
	seen := map[string]bool{}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, name := range names {
			oid, err := extKeyUsageOID(name)
			if err == nil && seen[oid.String()] {
				err = fmt.Errorf("%s stands twice", name)
			}
			if err != nil {
				bad = err
				return
			}
			seen[oid.String()] = true
			b.AddASN1ObjectIdentifier(oid)
		}
	})
	return bad
}

func extKeyUsageOID(name string) (asn1.ObjectIdentifier, error) {
	for _, k := range extKeyUsages {
		if k.name == name {
			return k.oid, nil
		}
	}
	oid, err := parseOID(name)
	if err != nil {
		return nil, fmt.Errorf("%q is neither a name of RFC 5280, Section 4.2.1.12 nor an OID", name)
	}
	return oid, nil
}

func addNameConstraints(b *cryptobyte.Builder, c NameConstraintsConfig) error {
	if len(c.Permitted)+len(c.Excluded) == 0 {
		return errors.New("neither permitted nor excluded names")
	}
	var bad error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for tag, names := range [][]string{c.Permitted, c.Excluded} {
			if len(names) == 0 {
				continue
			}
			b.AddASN1(cbasn1.Tag(tag).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				for _, s := range names {
					name, err := parseGeneralName(s, true)
					if err != nil {
						bad = err
						return
					}
					b.AddASN1(cbasn1.SEQUENCE, name.add)
				}
			})
		}
	})
	return bad
}

func addPolicies(b *cryptobyte.Builder, oids []string) error {
	var bad error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		seen := map[string]bool{}
		for _, s := range oids {
			oid, err := parseOID(s)
			if err == nil && seen[s] {
				err = fmt.Errorf("%s stands twice", s)
			}
			if err != nil {
				bad = err
				return
			}
			seen[s] = true
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
		}
	})
	return bad
}

func parseURL(s string) (generalName, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ldap") || u.Host == "" {
		return generalName{}, fmt.Errorf("%q is not an http, https or ldap URL", s)
	}
	return parseGeneralName("uri:"+s, false)
}

func addAuthorityInfo(b *cryptobyte.Builder, ocsp, issuers []string) error {
	var bad error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for i, urls := range [][]string{ocsp, issuers} {
			for _, s := range urls {
				name, err := parseURL(s)
				if err != nil {
					bad = err
					return
				}
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					if i == 0 {
						b.AddASN1ObjectIdentifier(oidOCSP)
					} else {
						b.AddASN1ObjectIdentifier(oidCAIssuers)
					}
					name.add(b)
				})
			}
		}
	})
	return bad
}

func addCRLDistribution(b *cryptobyte.Builder, urls []string) error {
	var bad error
	outer := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, s := range urls {
			name, err := parseURL(s)
			if err != nil {
				bad = err
				return
			}
			// DistributionPoint { distributionPoint [0] { fullName [0] } }
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(outer, func(b *cryptobyte.Builder) { b.AddASN1(outer, name.add) })
			})
		}
	})
	return bad
}

// CheckSubjectAltNames reports the first of names, such as "dns:backend.example",
// that a certificate can't hold.
func CheckSubjectAltNames(names []string) error {
	for _, s := range names {
		if _, err := parseGeneralName(s, false); err != nil {
			return err
		}
	}
	return nil
}

// subjectAltNameExtension builds a SubjectAltName (RFC 5280, Section 4.2.1.6).
func subjectAltNameExtension(names []string) (extension, error) {
	var b cryptobyte.Builder
	var bad error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, s := range names {
			name, err := parseGeneralName(s, false)
			if err != nil {
				bad = err
				return
			}
			name.add(b)
		}
	})
	if bad != nil {
		return extension{}, bad
	}
	value, err := b.Bytes()
	return extension{oidSubjectAltName, false, value}, err
}
