package ca

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SubjectConfig is a distinguished name as a file says it. Fields left empty
// are not in the name.
type SubjectConfig struct {
	Country            string `yaml:"country,omitempty"`             // two letters, ISO 3166
	State              string `yaml:"state,omitempty"`               // stateOrProvinceName
	Locality           string `yaml:"locality,omitempty"`            // localityName
	Organization       string `yaml:"organization,omitempty"`        // organizationName
	OrganizationalUnit string `yaml:"organizational_unit,omitempty"` // organizationalUnitName
	SerialNumber       string `yaml:"serial_number,omitempty"`       // of the thing, not of the certificate
	CommonName         string `yaml:"common_name,omitempty"`
}

// attributes lists, in the order of encoding, what a name may hold, with the
// upper bounds of RFC 5280, Appendix A.1, in characters.
var attributes = []struct {
	oid       asn1.ObjectIdentifier
	short     string
	yaml      string
	bound     int
	printable bool // PrintableString, as X.520 demands; else UTF8String
	field     func(*SubjectConfig) *string
}{
	{asn1.ObjectIdentifier{2, 5, 4, 6}, "C", "country", 2, true, func(s *SubjectConfig) *string { return &s.Country }},
	{asn1.ObjectIdentifier{2, 5, 4, 8}, "ST", "state", 128, false, func(s *SubjectConfig) *string { return &s.State }},
	{asn1.ObjectIdentifier{2, 5, 4, 7}, "L", "locality", 128, false, func(s *SubjectConfig) *string { return &s.Locality }},
	{asn1.ObjectIdentifier{2, 5, 4, 10}, "O", "organization", 64, false, func(s *SubjectConfig) *string { return &s.Organization }},
	{asn1.ObjectIdentifier{2, 5, 4, 11}, "OU", "organizational_unit", 64, false, func(s *SubjectConfig) *string { return &s.OrganizationalUnit }},
	{asn1.ObjectIdentifier{2, 5, 4, 5}, "serialNumber", "serial_number", 64, true, func(s *SubjectConfig) *string { return &s.SerialNumber }},
	{asn1.ObjectIdentifier{2, 5, 4, 3}, "CN", "common_name", 64, false, func(s *SubjectConfig) *string { return &s.CommonName }},
}

// Merge returns s with every field that over sets.
func (s SubjectConfig) Merge(over SubjectConfig) SubjectConfig {
	for _, a := range attributes {
		if v := *a.field(&over); v != "" {
			*a.field(&s) = v
		}
	}
	return s
}

// Set sets one field by its name in a file, such as organizational_unit.
func (s *SubjectConfig) Set(field, value string) error {
	for _, a := range attributes {
		if a.yaml != field {
			continue
		}
		if value == "" {
			return fmt.Errorf("%s: the value is empty", field)
		}
		*a.field(s) = value
		return nil
	}
	return fmt.Errorf("%q is unknown: use %s", field, strings.Join(subjectFields(), ", "))
}

// Name is a DER Name (RFC 5280, Section 4.1.2.4).
type Name []byte

// NewName checks and encodes a distinguished name, one attribute in each RDN.
func NewName(s SubjectConfig) (Name, error) { return newName(s, nil) }

// newName is NewName for a subject of which some fields, named as in a file, come
// from a request: what a device calls itself may not be fit to be shown.
func newName(s SubjectConfig, requested []string) (Name, error) {
	var b cryptobyte.Builder
	var bad error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range attributes {
			value := *a.field(&s)
			if value == "" {
				continue
			}
			check := checkAttribute
			if slices.Contains(requested, a.yaml) {
				check = checkRequested
			}
			if err := check(value, a.bound, a.printable); err != nil && bad == nil {
				bad = fmt.Errorf("subject.%s: %w", a.yaml, err)
			}
			tag := cbasn1.UTF8String
			if a.printable {
				tag = cbasn1.PrintableString
			}
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(a.oid)
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
				})
			})
		}
	})
	if bad != nil {
		return nil, bad
	}
	if s.Country != "" && (len(s.Country) != 2 || strings.Trim(s.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return nil, fmt.Errorf("subject.country: %q is not two capital letters", s.Country)
	}
	if s.CommonName == "" {
		return nil, errors.New("subject.common_name: missing")
	}
	return b.Bytes()
}

// checkRequested lets newlines and other control characters pass, as the firmware
// of real devices reports them. Not NUL, at which other readers of a name stop.
func checkRequested(value string, bound int, printable bool) error {
	if printable {
		return checkAttribute(value, bound, printable)
	}
	if strings.ContainsRune(value, 0) {
		return fmt.Errorf("%q holds a NUL", value)
	}
	return checkLength(value, bound)
}

func checkLength(value string, bound int) error {
	if !utf8.ValidString(value) {
		return fmt.Errorf("%q is not UTF-8", value)
	}
	if n := utf8.RuneCountInString(value); n > bound {
		return fmt.Errorf("%q has %d characters, more than %d (RFC 5280, Appendix A.1)", value, n, bound)
	}
	return nil
}

func checkAttribute(value string, bound int, printable bool) error {
	if err := checkLength(value, bound); err != nil {
		return err
	}
	if strings.TrimSpace(value) != value {
		return fmt.Errorf("%q begins or ends with white space", value)
	}
	for _, r := range value {
		// Also not what turns the direction of text, or has no width.
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q: %q can't be shown", value, r)
		}
		if printable && (r > unicode.MaxASCII || !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?", r)) {
			return fmt.Errorf("%q: %q is not allowed in a PrintableString", value, r)
		}
	}
	return nil
}

// rdn is one attribute of a parsed name; set numbers its RDN.
type rdn struct {
	set   int
	oid   asn1.ObjectIdentifier
	tag   cbasn1.Tag
	value []byte
}

func (n Name) attributes() ([]rdn, error) {
	bad := errors.New("malformed name")
	input := cryptobyte.String(n)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, bad
	}
	var out []rdn
	for set := 0; !seq.Empty(); set++ {
		var rdns cryptobyte.String
		if !seq.ReadASN1(&rdns, cbasn1.SET) || rdns.Empty() {
			return nil, bad
		}
		for !rdns.Empty() {
			var atv, value cryptobyte.String
			r := rdn{set: set}
			if !rdns.ReadASN1(&atv, cbasn1.SEQUENCE) || !atv.ReadASN1ObjectIdentifier(&r.oid) ||
				!atv.ReadAnyASN1(&value, &r.tag) || !atv.Empty() {
				return nil, bad
			}
			r.value = value
			out = append(out, r)
		}
	}
	return out, nil
}

// String shows the name in the order of its encoding, such as
// "C=DE, O=Example, CN=Root". Control characters and separators are escaped
// (RFC 4514, Section 2.4): device names hold newlines.
func (n Name) String() string {
	attrs, err := n.attributes()
	if err != nil {
		return "(malformed name)"
	}
	var parts []string
	for _, r := range attrs {
		short := r.oid.String()
		for _, a := range attributes {
			if a.oid.Equal(r.oid) {
				short = a.short
			}
		}
		parts = append(parts, short+"="+escape(text(r)))
	}
	return strings.Join(parts, ", ")
}

// CommonName returns the last common name, as it stands, or "".
func (n Name) CommonName() string {
	attrs, _ := n.attributes()
	for i := len(attrs) - 1; i >= 0; i-- {
		if attrs[i].oid.Equal(oidCommonName) {
			return text(attrs[i])
		}
	}
	return ""
}

// Character strings that cryptobyte has no tag for.
const (
	tagVisibleString   = cbasn1.Tag(26)
	tagUniversalString = cbasn1.Tag(28)
	tagBMPString       = cbasn1.Tag(30)
)

// text returns the value as UTF-8. A T61String is read as Latin-1, as everybody does.
func text(r rdn) string {
	width := 0
	switch r.tag {
	case cbasn1.T61String:
		width = 1
	case tagBMPString:
		width = 2
	case tagUniversalString:
		width = 4
	default:
		return string(r.value)
	}
	var b strings.Builder
	for i := 0; i+width <= len(r.value); i += width {
		var c rune
		for _, octet := range r.value[i : i+width] {
			c = c<<8 | rune(octet)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// escape makes a string from a certificate or a request safe to show as a part
// of a name.
func escape(s string) string { return escapeAll(s, `,+"\<>;=`) }

// escapeAll escapes what would do things to a terminal, and the characters in
// special, which must hold the backslash.
func escapeAll(s, special string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1, r < 0x20, r == 0x7f:
			fmt.Fprintf(&b, "\\%02X", s[0])
		case strings.ContainsRune(special, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case !unicode.IsPrint(r):
			for _, c := range []byte(s[:size]) {
				fmt.Fprintf(&b, "\\%02X", c)
			}
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// canonical returns each RDN in a form in which two names are equal when OpenSSL
// takes them as equal: string types, the case of ASCII letters, runs of ASCII
// white space and the order within an RDN don't count. RFC 5280, Section 7.1
// would fold other letters too; the platform's daemon doesn't, and a path that it
// refuses must not pass here.
func (n Name) canonical() []string {
	attrs, err := n.attributes()
	if err != nil {
		return []string{"malformed:" + string(n)}
	}
	var out []string
	for _, set := range rdnSets(attrs) {
		out = append(out, canonicalSet(set))
	}
	return out
}

// rdnSets divides the attributes of a name into its RDNs.
func rdnSets(attrs []rdn) [][]rdn {
	var sets [][]rdn
	for i, r := range attrs {
		if r.set == len(sets) {
			sets = append(sets, attrs[i:i:len(attrs)])
		}
		sets[r.set] = attrs[i-len(sets[r.set]) : i+1]
	}
	return sets
}

// canonicalSet is canonical for one RDN.
func canonicalSet(set []rdn) string {
	values := make([]string, 0, len(set))
	for _, r := range set {
		var value string
		switch r.tag {
		case cbasn1.UTF8String, cbasn1.PrintableString, cbasn1.IA5String, cbasn1.T61String,
			tagVisibleString, tagUniversalString, tagBMPString:
			words := strings.FieldsFunc(text(r), func(c rune) bool { return c == ' ' || '\t' <= c && c <= '\r' })
			value = strconv.Quote(lowerASCII(strings.Join(words, " ")))
		default:
			value = fmt.Sprintf("%d:%x", r.tag, r.value)
		}
		values = append(values, r.oid.String()+"="+value)
	}
	slices.Sort(values)
	return strings.Join(values, "+")
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Canonical returns a string that two names share if they are Equal.
func (n Name) Canonical() string { return strings.Join(n.canonical(), ",") }

// Equal reports whether two names are the same, as far as chains go: see canonical.
func (n Name) Equal(o Name) bool {
	if bytes.Equal(n, o) {
		return true
	}
	a, errA := n.attributes()
	b, errB := o.attributes()
	if errA != nil || errB != nil {
		return false // and malformed names equal nothing but their own octets
	}
	// From the end, where names that begin alike differ.
	setsA, setsB := rdnSets(a), rdnSets(b)
	if len(setsA) != len(setsB) {
		return false
	}
	for i := len(setsA) - 1; i >= 0; i-- {
		if canonicalSet(setsA[i]) != canonicalSet(setsB[i]) {
			return false
		}
	}
	return true
}

func hasPrefix(list, prefix []string) bool {
	if len(list) < len(prefix) {
		return false
	}
	for i := range prefix {
		if list[i] != prefix[i] {
			return false
		}
	}
	return true
}

// ParseName reads the DER of a name, in hexadecimal.
func ParseName(s string) (Name, error) {
	der, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%.80q is not hexadecimal", s)
	}
	n := Name(der)
	if attrs, err := n.attributes(); err != nil {
		return nil, err
	} else if len(attrs) == 0 {
		return nil, errors.New("an empty name")
	}
	return n, nil
}
