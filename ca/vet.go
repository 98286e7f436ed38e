package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// Vetted is what a request contributes to a certificate, checked and put into our
// own encoding.
type Vetted struct {
	Key             crypto.PublicKey
	KeyID           []byte        // what becomes the subject key identifier
	Fields          SubjectConfig // the subject, as text: it may hold control characters
	Subject         Name
	UUID            string   // as the request gives it; "" if it gives none
	SubjectAltNames []string // that of the UUID is the first

	keyDER []byte
}

// Request asks for the certificate under a name of the store.
func (v *Vetted) Request(name string, notBefore time.Time) Request {
	return Request{Name: name, Subject: v.Subject, PublicKey: v.Key, SubjectAltNames: v.SubjectAltNames, NotBefore: notBefore, keyDER: v.keyDER}
}

// maxAltNames bounds the alternative names that a request may ask for.
const maxAltNames = 64

// Vet holds a request against the policy. The profile is the one that the
// certificate will have, and base how its subject begins. Nothing of the request
// gets through but what the policy names; whatever is wrong is a *RejectedError.
func (p *RequestPolicy) Vet(profile *Profile, base SubjectConfig, r *CertificateRequest) (*Vetted, error) {
	v := &Vetted{Key: r.Key}
	// 1. The key, and that the requester has its private part.
	if err := CheckKey(r.Key); err != nil {
		return nil, err
	}
	if err := r.CheckProof(); err != nil {
		return nil, rejectf("%v", err)
	}
	var err error
	if v.keyDER, err = spki.MarshalPublicKey(r.Key); err != nil {
		return nil, rejectf("publicKey: %v", err)
	}
	if v.KeyID, err = spki.KeyID(v.keyDER); err != nil {
		return nil, rejectf("publicKey: %v", err)
	}
	// 2. The subject.
	if v.Fields, err = p.fields(base, r.Subject()); err != nil {
		return nil, err
	}
	if v.Subject, err = newName(v.Fields, p.subject); err != nil {
		return nil, rejectf("%v", err)
	}
	// 3. Extensions.
	for _, x := range r.Extensions {
		if err := p.vetExtension(v, profile, x); err != nil {
			return nil, err
		}
	}
	if v.UUID == "" && p.uuid == UUIDRequired {
		return nil, rejectf("no UUID: subjectAltName must hold a URI such as UUID:701b8942-b485-48f3-b7a1-165ab66597a0")
	}
	return v, nil
}

// fields lays what the policy lets through of a request's subject over base.
func (p *RequestPolicy) fields(base SubjectConfig, subject Name) (SubjectConfig, error) {
	attrs, err := subject.attributes()
	if err != nil {
		return base, rejectf("subject: %v", err)
	}
	var from SubjectConfig
	for _, r := range attrs {
		for _, a := range attributes {
			if !a.oid.Equal(r.oid) || !slices.Contains(p.subject, a.yaml) {
				continue
			}
			value, err := decodeText(r)
			if err != nil {
				return base, rejectf("subject.%s: %v", a.yaml, err)
			}
			if *a.field(&from) != "" {
				return base, rejectf("subject.%s: stands twice", a.yaml)
			}
			*a.field(&from) = value
		}
	}
	return base.Merge(from), nil
}

// decodeText is text for a value that is not only shown: it must be a character
// string in its own encoding.
func decodeText(r rdn) (string, error) {
	switch r.tag {
	case cbasn1.UTF8String:
	case cbasn1.PrintableString, cbasn1.IA5String, tagVisibleString:
		if i := bytes.IndexFunc(r.value, func(c rune) bool { return c > 0x7f }); i >= 0 {
			return "", fmt.Errorf("%q is not ASCII, as its string type demands", r.value)
		}
	case cbasn1.T61String:
	case tagBMPString, tagUniversalString:
		if width := map[cbasn1.Tag]int{tagBMPString: 2, tagUniversalString: 4}[r.tag]; len(r.value)%width != 0 {
			return "", fmt.Errorf("%d octets are no string of its type", len(r.value))
		}
	default:
		return "", fmt.Errorf("ASN.1 tag %d is not one of a character string", r.tag)
	}
	s := text(r)
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q is not UTF-8", s)
	}
	return s, nil
}

// vetExtension takes what the policy lets through of one requested extension.
func (p *RequestPolicy) vetExtension(v *Vetted, profile *Profile, x pkix.Extension) error {
	outside := func(format string, args ...any) error {
		if p.drop {
			return nil
		}
		return rejectf(format+", which its profile doesn't let through", args...)
	}
	switch {
	case x.Id.Equal(oidBasicConstraints):
		values, err := describeBasicConstraints(x)
		if err != nil {
			return rejectf("basicConstraints: %v", err)
		}
		if values[0] == "CA" {
			return rejectf("asks for a CA certificate")
		}
		return nil
	case x.Id.Equal(oidKeyUsage):
		usage, err := parseRequestedUsage(x.Value)
		if err != nil {
			return rejectf("keyUsage: %v", err)
		}
		if usage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
			return rejectf("asks for the key usage of a CA certificate")
		}
		if usage&^profile.keyUsage != 0 {
			return outside("asks for key usages %s", strings.Join(usageNames(usage&^profile.keyUsage), ", "))
		}
		return nil
	case x.Id.Equal(oidExtKeyUsage):
		for _, oid := range readOIDs(x.Value) {
			if !slices.ContainsFunc(profile.extKeyUsage, oid.Equal) {
				return outside("asks for extended key usage %v", oid)
			}
		}
		return nil
	case x.Id.Equal(oidSubjectKeyID):
		var b cryptobyte.Builder
		b.AddASN1OctetString(v.KeyID)
		if bytes.Equal(b.BytesOrPanic(), x.Value) {
			return nil
		}
	case x.Id.Equal(oidSubjectAltName):
		return p.vetAltNames(v, x, outside)
	}
	for _, f := range profile.fixed {
		if f.oid.Equal(x.Id) && bytes.Equal(f.value, x.Value) {
			return nil // what it will get
		}
	}
	return outside("asks for extension %v", x.Id)
}

// vetAltNames takes the UUID and the kinds of names that the policy lets through.
func (p *RequestPolicy) vetAltNames(v *Vetted, x pkix.Extension, outside func(string, ...any) error) error {
	names, err := readGeneralNames(x.Value)
	if err != nil {
		return rejectf("subjectAltName: %v", err)
	}
	if len(names) > maxAltNames {
		return rejectf("subjectAltName: %d names, more than %d", len(names), maxAltNames)
	}
	for _, n := range names {
		// 1. The UUID. Its scheme is put into capital letters, as the platform
		// looks for it; the digits stay as they are.
		if value, ok := cutUUID(n); ok {
			if p.uuid == UUIDNone {
				if err := outside("asks for UUID %q", value); err != nil {
					return err
				}
				continue
			}
			if v.UUID != "" {
				return rejectf("more than one UUID: %s, %q", v.UUID, value)
			}
			if err := checkUUID(value); err != nil {
				return err
			}
			v.UUID = value
			v.SubjectAltNames = slices.Insert(v.SubjectAltNames, 0, "uri:UUID:"+value)
			continue
		}
		// 2. Other names, by kind.
		name, err := requestedName(n)
		if err != nil {
			return rejectf("subjectAltName: %v", err)
		}
		kind, _, _ := strings.Cut(name, ":")
		if !slices.Contains(p.kinds, kind) {
			if err := outside("asks for the name %q", name); err != nil {
				return err
			}
			continue
		}
		if g, err := parseGeneralName(name, false); err != nil {
			return rejectf("subjectAltName: %v", err)
		} else if !bytes.Equal(g.value, n.value) {
			return rejectf("subjectAltName: %q is in another encoding than ours", name)
		}
		if strings.HasPrefix(name, "dns:*.") {
			return rejectf("subjectAltName: %q: a request can't ask for a wildcard", name)
		}
		if slices.Contains(v.SubjectAltNames, name) {
			return rejectf("subjectAltName: %q stands twice", name)
		}
		v.SubjectAltNames = append(v.SubjectAltNames, name)
	}
	return nil
}

// requestedName writes a general name as parseGeneralName reads it. Kinds that
// never get through are named by their tag.
func requestedName(n generalName) (string, error) {
	switch n.tag {
	case tagDNS:
		return "dns:" + string(n.value), nil
	case tagEmail:
		return "email:" + string(n.value), nil
	case tagURI:
		return "uri:" + string(n.value), nil
	case tagIP:
		addr, ok := netip.AddrFromSlice(n.value)
		if !ok {
			return "", fmt.Errorf("an IP address of %d octets", len(n.value))
		}
		return "ip:" + addr.String(), nil
	default:
		return fmt.Sprintf("[%d]", n.tag), nil
	}
}

// readGeneralNames reads the value of a SubjectAltName.
func readGeneralNames(der []byte) ([]generalName, error) {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, errMalformedExtension
	}
	var names []generalName
	for !seq.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1(&value, &tag) || tag&0xc0 != 0x80 {
			return nil, errMalformedExtension
		}
		names = append(names, generalName{uint8(tag & 0x1f), value})
	}
	return names, nil
}

func parseRequestedUsage(der []byte) (x509.KeyUsage, error) {
	input := cryptobyte.String(der)
	var bits asn1.BitString
	if !input.ReadASN1BitString(&bits) || !input.Empty() {
		return 0, errMalformedExtension
	}
	var usage x509.KeyUsage
	for i := range keyUsages {
		if bits.At(i) != 0 {
			usage |= keyUsages[i].bit
		}
	}
	return usage, nil
}

func usageNames(usage x509.KeyUsage) []string {
	var names []string
	for _, k := range keyUsages {
		if usage&k.bit != 0 {
			names = append(names, k.name)
		}
	}
	return names
}

// readOIDs reads a SEQUENCE OF OBJECT IDENTIFIER as far as it is one.
func readOIDs(der []byte) []asn1.ObjectIdentifier {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return nil
	}
	var out []asn1.ObjectIdentifier
	var oid asn1.ObjectIdentifier
	for seq.ReadASN1ObjectIdentifier(&oid) {
		out = append(out, oid)
	}
	return out
}
