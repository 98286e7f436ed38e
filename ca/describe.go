package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Printable escapes what a text from a certificate, a request or a file name
// could do to a terminal: control characters, what is not UTF-8, characters that
// turn the direction of writing. It writes a backslash and the octet in
// hexadecimal; a backslash is doubled.
func Printable(s string) string { return escapeAll(s, `\`) }

// ColonHex shows octets as OpenSSL shows key identifiers, such as "0a:1b".
func ColonHex(b []byte) string {
	return strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintf("% x ", b), " ", ":"), ":")
}

// Extension is what an extension of a certificate, a request or a CRL says to
// people.
type Extension struct {
	Name     string // such as "key_usage", as pki.yaml has it where it has a word; "" if unknown
	OID      string
	Critical bool
	Values   []string // safe to show; nil if unknown
	DER      []byte   // the value as it stands
	Err      error    // why a known extension can't be read
}

// DescribeExtension reads one extension as far as this program knows it.
// General names read as in pki.yaml, such as "dns:backend.example".
func DescribeExtension(x pkix.Extension) Extension {
	out := Extension{OID: x.Id.String(), Critical: x.Critical, DER: x.Value}
	for _, known := range describers {
		if known.oid.Equal(x.Id) {
			out.Name = known.name
			if out.Values, out.Err = known.read(x); out.Err != nil {
				out.Values = nil
			}
		}
	}
	return out
}

// describers lists the extensions that can be read, with their names.
var describers = []struct {
	oid  asn1.ObjectIdentifier
	name string
	read func(pkix.Extension) ([]string, error)
}{
	{oidBasicConstraints, "basic_constraints", describeBasicConstraints},
	{oidKeyUsage, "key_usage", describeKeyUsage},
	{oidExtKeyUsage, "extended_key_usage", describeExtKeyUsage},
	{oidSubjectAltName, "subject_alt_names", describeGeneralNames},
	{asn1.ObjectIdentifier{2, 5, 29, 18}, "issuer_alt_names", describeGeneralNames},
	{oidNameConstraints, "name_constraints", describeNameConstraints},
	{oidPolicies, "policies", describePolicies},
	{oidAuthorityInfo, "authority_info", describeAuthorityInfo},
	{oidCRLDistribution, "crl_urls", describeCRLDistribution},
	{oidSubjectKeyID, "subject_key_id", describeSubjectKeyID},
	{oidAuthorityKeyID, "authority_key_id", describeAuthorityKeyID},
	{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, "ocsp_nocheck", describeNull}, // RFC 6960, Section 4.2.2.2.1
	{oidCRLNumber, "crl_number", describeInteger},
	{oidDeltaCRLIndicator, "delta_crl_indicator", describeInteger},
	{oidIssuingPoint, "issuing_distribution_point", describeIssuingPoint},
	{oidFreshestCRL, "freshest_crl", describeCRLDistribution},
}

var errMalformedExtension = errors.New("malformed")

// extensionSequence opens the one SEQUENCE that the value of x is.
func extensionSequence(x pkix.Extension) (cryptobyte.String, error) {
	input := cryptobyte.String(x.Value)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, errMalformedExtension
	}
	return seq, nil
}

func describeBasicConstraints(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	isCA := false
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && !seq.ReadASN1Boolean(&isCA) {
		return nil, errMalformedExtension
	}
	values := []string{"not a CA"}
	if isCA {
		values = []string{"CA"}
	}
	if !seq.Empty() {
		var limit uint
		if !seq.ReadASN1Integer(&limit) || !seq.Empty() {
			return nil, errMalformedExtension
		}
		values = append(values, fmt.Sprintf("path length %d", limit))
	}
	return values, nil
}

func describeKeyUsage(x pkix.Extension) ([]string, error) {
	input := cryptobyte.String(x.Value)
	var bits asn1.BitString
	if !input.ReadASN1BitString(&bits) || !input.Empty() {
		return nil, errMalformedExtension
	}
	values := []string{}
	for i := range bits.BitLength {
		if bits.At(i) == 0 {
			continue
		}
		if i < len(keyUsages) {
			values = append(values, keyUsages[i].name) // they are in bit order
		} else {
			values = append(values, fmt.Sprintf("bit %d", i))
		}
	}
	return values, nil
}

func describeExtKeyUsage(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	values := []string{}
next:
	for !seq.Empty() {
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1ObjectIdentifier(&oid) {
			return nil, errMalformedExtension
		}
		for _, k := range extKeyUsages {
			if k.oid.Equal(oid) {
				values = append(values, k.name)
				continue next
			}
		}
		if oid.Equal(asn1.ObjectIdentifier{2, 5, 29, 37, 0}) {
			values = append(values, "anyExtendedKeyUsage")
		} else {
			values = append(values, oid.String())
		}
	}
	return values, nil
}

func describeGeneralNames(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	values := []string{}
	for !seq.Empty() {
		name, ok := readGeneralName(&seq)
		if !ok {
			return nil, errMalformedExtension
		}
		values = append(values, name.describe())
	}
	return values, nil
}

// describe shows a general name as pki.yaml has it, where it can.
func (g generalName) describe() string {
	text := Printable(string(g.value))
	switch g.tag {
	case tagDNS:
		return "dns:" + text
	case tagEmail:
		return "email:" + text
	case tagURI:
		return "uri:" + text
	case tagIP:
		return "ip:" + describeIP(g.value)
	case tagDirectory:
		return "directory:" + Name(g.value).String()
	default: // otherName, x400Address, ediPartyName, registeredID
		return fmt.Sprintf("[%d]:%x", g.tag, g.value)
	}
}

// describeURL is describe where a URI is what one expects.
func (g generalName) describeURL() string { return strings.TrimPrefix(g.describe(), "uri:") }

// describeIP shows an address, or in constraints a network.
func describeIP(value []byte) string {
	switch n := len(value); n {
	case 4, 16:
		addr, _ := netip.AddrFromSlice(value)
		return addr.String()
	case 8, 32:
		return (&net.IPNet{IP: value[:n/2], Mask: value[n/2:]}).String()
	default:
		return fmt.Sprintf("%x", value)
	}
}

func describeNameConstraints(x pkix.Extension) ([]string, error) {
	nc, err := parseNameConstraints(x.Value)
	if err != nil {
		return nil, errMalformedExtension
	}
	values := []string{}
	for _, name := range nc.permitted {
		values = append(values, "permitted "+name.describe())
	}
	for _, name := range nc.excluded {
		values = append(values, "excluded "+name.describe())
	}
	return values, nil
}

// alone returns a certificate that has nothing but this extension, for what is
// read from certificates elsewhere.
func alone(x pkix.Extension) *Certificate {
	return &Certificate{Certificate: &x509.Certificate{Extensions: []pkix.Extension{x}}}
}

func describePolicies(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	values := []string{}
	for !seq.Empty() {
		var policy cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1(&policy, cbasn1.SEQUENCE) || !policy.ReadASN1ObjectIdentifier(&oid) {
			return nil, errMalformedExtension
		}
		value := oid.String()
		if !policy.Empty() {
			value += " (with qualifiers)"
		}
		values = append(values, value)
	}
	return values, nil
}

func describeAuthorityInfo(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	values := []string{}
	for !seq.Empty() {
		var access cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1(&access, cbasn1.SEQUENCE) || !access.ReadASN1ObjectIdentifier(&oid) {
			return nil, errMalformedExtension
		}
		name, ok := readGeneralName(&access)
		if !ok || !access.Empty() {
			return nil, errMalformedExtension
		}
		method := oid.String()
		switch {
		case oid.Equal(oidOCSP):
			method = "ocsp"
		case oid.Equal(oidCAIssuers):
			method = "issuer"
		}
		values = append(values, method+" "+name.describeURL())
	}
	return values, nil
}

// describeCRLDistribution lists the full names of all distribution points, and
// of others that there are some (RFC 5280, Section 4.2.1.13).
func describeCRLDistribution(x pkix.Extension) ([]string, error) {
	seq, err := extensionSequence(x)
	if err != nil {
		return nil, err
	}
	outer := cbasn1.Tag(0).ContextSpecific().Constructed()
	values := []string{}
	for !seq.Empty() {
		var point, name, full cryptobyte.String
		var hasName, hasFull bool
		if !seq.ReadASN1(&point, cbasn1.SEQUENCE) || !point.ReadOptionalASN1(&name, &hasName, outer) ||
			!name.ReadOptionalASN1(&full, &hasFull, outer) {
			return nil, errMalformedExtension
		}
		if !hasFull {
			values = append(values, "a point without a full name")
		}
		for !full.Empty() {
			g, ok := readGeneralName(&full)
			if !ok {
				return nil, errMalformedExtension
			}
			values = append(values, g.describeURL())
		}
	}
	return values, nil
}

func describeSubjectKeyID(x pkix.Extension) ([]string, error) {
	input := cryptobyte.String(x.Value)
	var id cryptobyte.String
	if !input.ReadASN1(&id, cbasn1.OCTET_STRING) || !input.Empty() {
		return nil, errMalformedExtension
	}
	return []string{ColonHex(id)}, nil
}

func describeAuthorityKeyID(x pkix.Extension) ([]string, error) {
	if _, err := extensionSequence(x); err != nil {
		return nil, err
	}
	id, issuer, serial := authorityKey(alone(x))
	values := []string{}
	if len(id) > 0 {
		values = append(values, ColonHex(id))
	}
	if issuer != nil {
		values = append(values, "issuer "+issuer.String())
	}
	if serial != nil {
		values = append(values, fmt.Sprintf("serial %x", serial))
	}
	return values, nil
}

func describeNull(x pkix.Extension) ([]string, error) {
	if string(x.Value) != "\x05\x00" {
		return nil, errMalformedExtension
	}
	return []string{}, nil
}

func describeInteger(x pkix.Extension) ([]string, error) {
	input := cryptobyte.String(x.Value)
	n := new(big.Int)
	if !input.ReadASN1Integer(n) || !input.Empty() || n.BitLen() > 8*20 {
		return nil, errMalformedExtension
	}
	return []string{n.String()}, nil
}

// Link follows certs from the first one to its issuer, and on, as far as names
// and signatures link them, in whatever order the issuers stand. It looks at
// nothing else: see Verify.
func Link(certs []*Certificate) []*Certificate {
	if len(certs) == 0 {
		return nil
	}
	path := certs[:1:1]
	for last := certs[0]; !last.SelfSigned(); {
		next := issuerOf(last, certs, path)
		if next == nil {
			break
		}
		path = append(path, next)
		last = next
	}
	return path
}

// issuerOf returns a certificate that signed c and is not in path, or nil.
func issuerOf(c *Certificate, certs, path []*Certificate) *Certificate {
	for _, candidate := range certs {
		if issued(candidate, c) && !contains(path, candidate) && c.CheckSignature(candidate.Key) == nil {
			return candidate
		}
	}
	return nil
}

// Describe says in one line what certificates of the profile are like, but for
// names, keys and dates.
func (p *Profile) Describe() string {
	var parts []string
	for _, x := range p.fixed {
		d := DescribeExtension(pkix.Extension{Id: x.oid, Critical: x.critical, Value: x.value})
		switch {
		case d.Err != nil || d.Values == nil:
			parts = append(parts, fmt.Sprintf("extension %s: %x", d.OID, x.value))
		case d.Name == "basic_constraints":
			parts = append(parts, d.Values...)
		case len(d.Values) == 0:
			parts = append(parts, d.Name)
		default:
			parts = append(parts, d.Name+" "+strings.Join(d.Values, ", "))
		}
	}
	return strings.Join(parts, "; ")
}
