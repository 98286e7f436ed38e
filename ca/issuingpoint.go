package ca

import (
	"crypto/x509/pkix"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// issuingPoint is an IssuingDistributionPoint (RFC 5280, Section 5.2.5): what a
// CRL covers.
type issuingPoint struct {
	names           []generalName // fullName
	nameOfOtherKind bool          // nameRelativeToCRLIssuer
	userCerts       bool
	caCerts         bool
	someReasons     bool
	indirect        bool
	attributeCerts  bool
}

var errMalformedIssuingPoint = errors.New("malformed issuing distribution point")

// marshal writes the extension's value. FALSE is the DEFAULT of each BOOLEAN,
// which DER leaves out.
func (p issuingPoint) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	outer := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if len(p.names) > 0 {
			b.AddASN1(outer, func(b *cryptobyte.Builder) {
				b.AddASN1(outer, func(b *cryptobyte.Builder) {
					for _, name := range p.names {
						name.add(b)
					}
				})
			})
		}
		if p.userCerts {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		}
		if p.caCerts {
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		}
	})
	return b.Bytes()
}

func parseIssuingPoint(der []byte) (issuingPoint, error) {
	var p issuingPoint
	input := cryptobyte.String(der)
	var seq, name cryptobyte.String
	outer := cbasn1.Tag(0).ContextSpecific().Constructed()
	var hasName bool
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() || seq.Empty() || !seq.ReadOptionalASN1(&name, &hasName, outer) {
		return p, errMalformedIssuingPoint
	}
	if hasName {
		var full cryptobyte.String
		switch {
		case name.PeekASN1Tag(outer):
			if !name.ReadASN1(&full, outer) || !name.Empty() || full.Empty() {
				return p, errMalformedIssuingPoint
			}
		case name.PeekASN1Tag(cbasn1.Tag(1).ContextSpecific().Constructed()):
			p.nameOfOtherKind = true
		default:
			return p, errMalformedIssuingPoint
		}
		for !full.Empty() {
			g, ok := readGeneralName(&full)
			if !ok {
				return p, errMalformedIssuingPoint
			}
			p.names = append(p.names, g)
		}
	}
	for _, f := range []struct {
		tag uint8
		set *bool
	}{{1, &p.userCerts}, {2, &p.caCerts}, {3, &p.someReasons}, {4, &p.indirect}, {5, &p.attributeCerts}} {
		var value cryptobyte.String
		if !seq.ReadOptionalASN1(&value, f.set, cbasn1.Tag(f.tag).ContextSpecific()) {
			return p, errMalformedIssuingPoint
		}
		if *f.set && f.tag != 3 && (len(value) != 1 || value[0] != 0xff) {
			return p, errMalformedIssuingPoint
		}
	}
	if !seq.Empty() {
		return p, errMalformedIssuingPoint
	}
	return p, nil
}

func describeIssuingPoint(x pkix.Extension) ([]string, error) {
	p, err := parseIssuingPoint(x.Value)
	if err != nil {
		return nil, errMalformedExtension
	}
	values := []string{}
	for _, name := range p.names {
		values = append(values, name.describeURL())
	}
	for _, f := range []struct {
		set  bool
		text string
	}{
		{p.nameOfOtherKind, "a point without a full name"},
		{p.userCerts, "only end-entity certificates"},
		{p.caCerts, "only CA certificates"},
		{p.someReasons, "only some reasons"},
		{p.indirect, "indirect"},
		{p.attributeCerts, "only attribute certificates"},
	} {
		if f.set {
			values = append(values, f.text)
		}
	}
	return values, nil
}
