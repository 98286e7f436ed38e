package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// ProfileConfig says what certificates for one purpose look like, as a file
// says it: see Profile for what is trusted. A nil field says nothing, so that
// Merge can lay one configuration over another.
type ProfileConfig struct {
	CA               *bool                  `yaml:"ca,omitempty"`
	PathLength       *int                   `yaml:"path_length,omitempty"` // sub CAs that may follow; CA only
	Validity         *string                `yaml:"validity,omitempty"`    // days, such as 3650d
	KeyUsage         []string               `yaml:"key_usage,omitempty"`
	ExtendedKeyUsage []string               `yaml:"extended_key_usage,omitempty"`
	NameConstraints  *NameConstraintsConfig `yaml:"name_constraints,omitempty"`
	Policies         []string               `yaml:"policies,omitempty"`    // OIDs
	IssuerURLs       []string               `yaml:"issuer_urls,omitempty"` // AIA, id-ad-caIssuers
	OCSPURLs         []string               `yaml:"ocsp_urls,omitempty"`   // AIA, id-ad-ocsp
	CRLURLs          []string               `yaml:"crl_urls,omitempty"`    // CRL distribution points
	Extensions       []ExtensionConfig      `yaml:"extensions,omitempty"`

	// CRLPartitions is how many CRLs the issuer divides its certificates into: a
	// property of the issuer, not of the profile's text. Then {partition} in
	// CRLURLs stands for the certificate's own (see Partition).
	CRLPartitions int `yaml:"-"`
}

// NameConstraintsConfig lists general names such as "dns:example.com",
// "email:example.com", "uri:.example.com", "ip:10.0.0.0/8" (RFC 5280, Section
// 4.2.1.10).
type NameConstraintsConfig struct {
	Permitted []string `yaml:"permitted,omitempty"`
	Excluded  []string `yaml:"excluded,omitempty"`
}

// ExtensionConfig is an extension that this program doesn't know by name.
type ExtensionConfig struct {
	OID      string `yaml:"oid"`
	Critical bool   `yaml:"critical,omitempty"`
	DER      string `yaml:"der"` // the value, in hexadecimal
}

// Merge returns c with every field that over sets.
func (c ProfileConfig) Merge(over ProfileConfig) ProfileConfig {
	if over.CA != nil {
		c.CA = over.CA
	}
	if over.PathLength != nil {
		c.PathLength = over.PathLength
	}
	if over.Validity != nil {
		c.Validity = over.Validity
	}
	if over.NameConstraints != nil {
		c.NameConstraints = over.NameConstraints
	}
	if over.Extensions != nil {
		c.Extensions = over.Extensions
	}
	for _, f := range []struct{ to, from *[]string }{
		{&c.KeyUsage, &over.KeyUsage},
		{&c.ExtendedKeyUsage, &over.ExtendedKeyUsage},
		{&c.Policies, &over.Policies},
		{&c.IssuerURLs, &over.IssuerURLs},
		{&c.OCSPURLs, &over.OCSPURLs},
		{&c.CRLURLs, &over.CRLURLs},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	return c
}

// Profile is a checked ProfileConfig; only NewProfile makes one.
type Profile struct {
	name       string
	ca         bool
	pathLength int // -1: no limit
	validity   time.Duration
	keyUsage   x509.KeyUsage
	fixed      []extension // everything that doesn't depend on keys, names and serial

	extKeyUsage []asn1.ObjectIdentifier // as in fixed

	signing *extension // key usage of keys that sign only; nil: as in fixed

	encoded, encodedSigning []byte // fixedFor, encoded: they stand in many certificates

	partitions int      // 0: the CRL's URLs don't depend on the serial, and are fixed
	crlURLs    []string // with {partition} in them
}

// Name returns the name that the profile was made with.
func (p *Profile) Name() string { return p.name }

// CA reports whether the profile is one of certificate authorities.
func (p *Profile) CA() bool { return p.ca }

// PathLength returns how many sub CAs may follow, or -1 for any number.
func (p *Profile) PathLength() int { return p.pathLength }

// SignsCRLs reports whether the key of such a certificate may sign CRLs.
func (p *Profile) SignsCRLs() bool { return p.keyUsage&x509.KeyUsageCRLSign != 0 }

// Validity returns how long a certificate is valid.
func (p *Profile) Validity() time.Duration { return p.validity }

// ExtKeyUsage reports whether the profile has an extended key usage, named as in
// the file ("clientAuth", or an OID in dots); for "", whether it has none at all.
func (p *Profile) ExtKeyUsage(name string) bool {
	if name == "" {
		return len(p.extKeyUsage) == 0
	}
	oid, err := extKeyUsageOID(name)
	return err == nil && slices.ContainsFunc(p.extKeyUsage, oid.Equal)
}

type extension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte // DER
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDistribution  = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidUTF8Mailbox      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}
	oidOCSP             = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// keyUsages has the names of RFC 5280, Section 4.2.1.3, in bit order.
var keyUsages = []struct {
	name string
	bit  x509.KeyUsage
}{
	{"digitalSignature", x509.KeyUsageDigitalSignature},
	{"nonRepudiation", x509.KeyUsageContentCommitment},
	{"keyEncipherment", x509.KeyUsageKeyEncipherment},
	{"dataEncipherment", x509.KeyUsageDataEncipherment},
	{"keyAgreement", x509.KeyUsageKeyAgreement},
	{"keyCertSign", x509.KeyUsageCertSign},
	{"cRLSign", x509.KeyUsageCRLSign},
	{"encipherOnly", x509.KeyUsageEncipherOnly},
	{"decipherOnly", x509.KeyUsageDecipherOnly},
}

// KeyUsageNames returns the names of key usages, as a profile has them, in bit order.
func KeyUsageNames(ku x509.KeyUsage) (names []string) {
	for _, k := range keyUsages {
		if ku&k.bit != 0 {
			names = append(names, k.name)
		}
	}
	return names
}

// extKeyUsages has the names of RFC 5280, Section 4.2.1.12.
var extKeyUsages = []struct {
	name string
	oid  asn1.ObjectIdentifier
}{
	{"serverAuth", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}},
	{"clientAuth", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}},
	{"codeSigning", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}},
	{"emailProtection", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}},
	{"timeStamping", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}},
	{"OCSPSigning", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}},
}

// NewProfile checks a configuration. Errors name the key of the file at fault.
func NewProfile(name string, c ProfileConfig) (*Profile, error) {
	p := &Profile{name: name, ca: c.CA != nil && *c.CA, pathLength: -1}
	if c.Validity == nil {
		return nil, errors.New("validity: missing")
	}
	var err error
	if p.validity, err = ParseValidity(*c.Validity); err != nil {
		return nil, fmt.Errorf("validity: %w", err)
	}
	if c.PathLength != nil {
		if !p.ca {
			return nil, errors.New("path_length: only a CA has one (set ca: true)")
		}
		if *c.PathLength < 0 || *c.PathLength > 10 {
			return nil, fmt.Errorf("path_length: %d is outside 0 to 10", *c.PathLength)
		}
		p.pathLength = *c.PathLength
	}
	if p.keyUsage, err = parseKeyUsage(c.KeyUsage, p.ca); err != nil {
		return nil, fmt.Errorf("key_usage: %w", err)
	}
	add := func(oid asn1.ObjectIdentifier, critical bool, key string, build func(*cryptobyte.Builder) error) error {
		var b cryptobyte.Builder
		if err := build(&b); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		value, err := b.Bytes()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		p.fixed = append(p.fixed, extension{oid, critical, value})
		return nil
	}
	err = add(oidBasicConstraints, true, "ca", func(b *cryptobyte.Builder) error { return p.addBasicConstraints(b) })
	if err == nil {
		err = add(oidKeyUsage, true, "key_usage", func(b *cryptobyte.Builder) error { return addKeyUsage(b, p.keyUsage) })
	}
	if signing := p.keyUsage &^ (x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment); err == nil && signing != p.keyUsage && signing != 0 {
		var b cryptobyte.Builder
		err = addKeyUsage(&b, signing)
		p.signing = &extension{oidKeyUsage, true, b.BytesOrPanic()}
	}
	if err == nil && len(c.ExtendedKeyUsage) > 0 {
		err = add(oidExtKeyUsage, false, "extended_key_usage", func(b *cryptobyte.Builder) error { return addExtKeyUsage(b, c.ExtendedKeyUsage) })
	}
	for _, name := range c.ExtendedKeyUsage {
		if oid, err := extKeyUsageOID(name); err == nil {
			p.extKeyUsage = append(p.extKeyUsage, oid)
		}
	}
	if err == nil && c.NameConstraints != nil {
		if !p.ca {
			return nil, errors.New("name_constraints: only a CA has them (set ca: true)")
		}
		err = add(oidNameConstraints, true, "name_constraints", func(b *cryptobyte.Builder) error { return addNameConstraints(b, *c.NameConstraints) })
	}
	if err == nil && len(c.Policies) > 0 {
		err = add(oidPolicies, false, "policies", func(b *cryptobyte.Builder) error { return addPolicies(b, c.Policies) })
	}
	if err == nil && len(c.IssuerURLs)+len(c.OCSPURLs) > 0 {
		err = add(oidAuthorityInfo, false, "issuer_urls, ocsp_urls", func(b *cryptobyte.Builder) error { return addAuthorityInfo(b, c.OCSPURLs, c.IssuerURLs) })
	}
	if err == nil && len(c.CRLURLs) > 0 {
		if err := checkPartitions(c.CRLURLs, c.CRLPartitions); err != nil {
			return nil, fmt.Errorf("crl_urls: %w", err)
		}
		if c.CRLPartitions > 1 {
			p.partitions, p.crlURLs = c.CRLPartitions, c.CRLURLs
			_, err = p.partitionExtension([]byte{1}) // are they URLs?
		} else {
			err = add(oidCRLDistribution, false, "crl_urls", func(b *cryptobyte.Builder) error { return addCRLDistribution(b, c.CRLURLs) })
		}
	}
	if err != nil {
		return nil, err
	}
	for i, x := range c.Extensions {
		if err := p.addExtension(x); err != nil {
			return nil, fmt.Errorf("extensions[%d]: %w", i, err)
		}
	}
	p.encoded = encodeExtensions(p.fixedFor(spki.KeyType{Kind: spki.RSA}))
	p.encodedSigning = encodeExtensions(p.fixedFor(spki.KeyType{Kind: spki.EC}))
	return p, nil
}

func encodeExtensions(list []extension) []byte {
	var b cryptobyte.Builder
	for _, x := range list {
		addExtension(&b, x)
	}
	return b.BytesOrPanic() // their values were encoded before
}

// encodedFor is fixedFor, encoded.
func (p *Profile) encodedFor(t spki.KeyType) []byte {
	if t.Kind == spki.RSA {
		return p.encoded
	}
	return p.encodedSigning
}

// partitionExtension returns the distribution points of a certificate, whose
// serial says in which partition it is.
func (p *Profile) partitionExtension(serial []byte) (extension, error) {
	var urls []string
	for _, s := range p.crlURLs {
		urls = append(urls, PartitionURL(s, Partition(serial, p.partitions)))
	}
	var b cryptobyte.Builder
	if err := addCRLDistribution(&b, urls); err != nil {
		return extension{}, fmt.Errorf("crl_urls: %w", err)
	}
	value, err := b.Bytes()
	return extension{oidCRLDistribution, false, value}, err
}

// ParseValidity reads days, such as "3650d", from 1 day to 100 years.
func ParseValidity(s string) (time.Duration, error) {
	number, ok := strings.CutSuffix(s, "d")
	days, err := strconv.Atoi(number)
	if !ok || err != nil || days < 1 || days > 36525 || strconv.Itoa(days) != number {
		return 0, fmt.Errorf("%q is not a number of days from 1d to 36525d", s)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

func parseKeyUsage(names []string, isCA bool) (x509.KeyUsage, error) {
	if len(names) == 0 {
		return 0, errors.New("missing")
	}
	var ku x509.KeyUsage
next:
	for _, name := range names {
		for _, k := range keyUsages {
			if k.name == name {
				if ku&k.bit != 0 {
					return 0, fmt.Errorf("%s stands twice", name)
				}
				ku |= k.bit
				continue next
			}
		}
		return 0, fmt.Errorf("%q is unknown (RFC 5280, Section 4.2.1.3 has the names)", name)
	}
	const caBits = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if isCA && ku&x509.KeyUsageCertSign == 0 {
		return 0, errors.New("a CA needs keyCertSign")
	}
	if !isCA && ku&caBits != 0 {
		return 0, errors.New("keyCertSign and cRLSign are for a CA (set ca: true)")
	}
	return ku, nil
}

// addExtension takes an extension by OID. It refuses those that this program
// builds itself: a second one would be ambiguous, and could widen the profile.
func (p *Profile) addExtension(x ExtensionConfig) error {
	oid, err := parseOID(x.OID)
	if err != nil {
		return err
	}
	own := []asn1.ObjectIdentifier{oidSubjectKeyID, oidAuthorityKeyID, oidSubjectAltName, oidBasicConstraints, oidKeyUsage,
		oidExtKeyUsage, oidNameConstraints, oidPolicies, oidAuthorityInfo, oidCRLDistribution}
	for _, o := range own {
		if o.Equal(oid) {
			return fmt.Errorf("oid: %s has a key of its own in the profile", x.OID)
		}
	}
	for _, f := range p.fixed {
		if f.oid.Equal(oid) {
			return fmt.Errorf("oid: %s stands twice", x.OID)
		}
	}
	value, err := hex.DecodeString(x.DER)
	if err != nil {
		return fmt.Errorf("der: %q is not hexadecimal", x.DER)
	}
	rest := cryptobyte.String(value)
	var element cryptobyte.String
	if !rest.ReadAnyASN1Element(&element, new(cbasn1.Tag)) || !rest.Empty() {
		return fmt.Errorf("der: %q is not one DER value", x.DER)
	}
	p.fixed = append(p.fixed, extension{oid, x.Critical, value})
	return nil
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, fmt.Errorf("%q is not an OID", s)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || (oid[0] < 2 && oid[1] > 39) {
		return nil, fmt.Errorf("%q is not an OID", s)
	}
	return oid, nil
}

func (p *Profile) addBasicConstraints(b *cryptobyte.Builder) error {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if p.ca { // FALSE is the DEFAULT, which DER leaves out
			b.AddASN1Boolean(true)
			if p.pathLength >= 0 {
				b.AddASN1Int64(int64(p.pathLength))
			}
		}
	})
	return nil
}

// Permits reports, as an error, which of the names of a certificate somewhere below
// a CA of this profile its name constraints forbid. leaf says that it is no CA.
func (p *Profile) Permits(subject Name, subjectAltNames []string, leaf bool) error {
	for _, x := range p.fixed {
		if !x.oid.Equal(oidNameConstraints) {
			continue
		}
		constraints, err := parseNameConstraints(x.value)
		if err != nil {
			return err
		}
		var alternative []generalName
		for _, s := range subjectAltNames {
			name, err := parseGeneralName(s, false)
			if err != nil {
				return err
			}
			alternative = append(alternative, name)
		}
		return constraints.check(subject, alternative, leaf)
	}
	return nil
}

// fixedFor returns the extensions of the profile for a key of some type. Only RSA
// keys of rsaEncryption encipher anything: a certificate for another one must not
// say so (RFC 4055, Section 1.2; RFC 8813, Section 3), whatever the profile, which is
// for all types, allows.
func (p *Profile) fixedFor(t spki.KeyType) []extension {
	if t.Kind == spki.RSA || p.signing == nil {
		return p.fixed
	}
	list := slices.Clone(p.fixed)
	for i := range list {
		if list[i].oid.Equal(oidKeyUsage) {
			list[i] = *p.signing
		}
	}
	return list
}

// Drift says in a few words what of the profile, or of the alternative names,
// differs in a certificate that was issued by it, or "".
func (p *Profile) Drift(c *Certificate, subjectAltNames []string) string {
	if got := c.NotAfter.Sub(c.NotBefore); got != p.validity {
		return fmt.Sprintf("validity was %dd", int(got.Hours()/24))
	}
	return p.extensionDrift(c, subjectAltNames)
}

// RolloverDrift is Drift for a cross-certificate, which ends with its issuer at the
// latest: see Request.Rollover.
func (p *Profile) RolloverDrift(c, issuer *Certificate) string {
	want := c.NotBefore.Add(p.validity)
	if want.After(issuer.NotAfter) {
		want = issuer.NotAfter
	}
	if !c.NotAfter.Equal(want) {
		return fmt.Sprintf("it ends on %s, not on %s", c.NotAfter.Format(time.RFC3339), want.Format(time.RFC3339))
	}
	return p.extensionDrift(c, nil)
}

func (p *Profile) extensionDrift(c *Certificate, subjectAltNames []string) string {
	want := p.fixedFor(c.KeyType())
	if p.partitions > 0 {
		points, err := p.partitionExtension(c.SerialNumber.Bytes())
		if err != nil {
			return err.Error()
		}
		want = append(want[:len(want):len(want)], points)
	}
	if len(subjectAltNames) > 0 {
		san, err := subjectAltNameExtension(subjectAltNames)
		if err != nil {
			return err.Error()
		}
		want = append(want[:len(want):len(want)], san)
	}
	count := len(want)
	for _, x := range c.Extensions {
		if x.Id.Equal(oidSubjectKeyID) || x.Id.Equal(oidAuthorityKeyID) {
			count++
		}
	}
	for _, w := range want {
		found := false
		for _, x := range c.Extensions {
			found = found || x.Id.Equal(w.oid) && x.Critical == w.critical && bytes.Equal(x.Value, w.value)
		}
		if !found {
			return fmt.Sprintf("extension %v changed", w.oid)
		}
	}
	if count != len(c.Extensions) {
		return "it has extensions that the profile no longer has"
	}
	return ""
}
