package cms

import (
	"bytes"
	"sort"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// marshal writes the message in DER, without a ContentInfo around it. What
// Parse read comes back as the same octets.
func (sd *SignedData) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(sd.version))
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, alg := range sd.digestAlgorithms {
				b.AddBytes(alg)
			}
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(sd.ContentType)
			if sd.Content != nil {
				b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddBytes(sd.Content) })
			}
		})
		if sd.Certificates != nil {
			b.AddASN1(context(0), func(b *cryptobyte.Builder) {
				for _, der := range sd.Certificates {
					b.AddBytes(der)
				}
			})
		}
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for i := range sd.Signers {
				sd.Signers[i].marshal(b)
			}
		})
	})
	return b.Bytes()
}

// wrap puts a ContentInfo around a SignedData.
func wrap(signedData []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddBytes(signedData) })
	})
	return b.Bytes()
}

func (s *SignerInfo) marshal(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if s.Issuer != nil {
			b.AddASN1Int64(1)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(s.Issuer)
				b.AddASN1BigInt(s.Serial)
			})
		} else {
			b.AddASN1Int64(3)
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(s.SubjectKeyID) })
		}
		b.AddBytes(s.digestAlgorithm)
		if s.SignedAttributes != nil {
			addAttributes(b, context(0), s.SignedAttributes)
		}
		b.AddBytes(s.signatureAlgorithm)
		b.AddASN1OctetString(s.Signature)
		if s.UnsignedAttributes != nil {
			addAttributes(b, context(1), s.UnsignedAttributes)
		}
	})
}

// signedOctets returns what a signature over attributes covers: them as a SET
// OF, not with the tag that they have in the message (RFC 5652, Section 5.4).
func signedOctets(attributes []Attribute) ([]byte, error) {
	var b cryptobyte.Builder
	addAttributes(&b, cbasn1.SET, attributes)
	return b.Bytes()
}

func addAttributes(b *cryptobyte.Builder, tag cbasn1.Tag, attributes []Attribute) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, a := range attributes {
			a.marshal(b)
		}
	})
}

func (a Attribute) marshal(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.Type)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, v := range a.Values {
				b.AddBytes(v)
			}
		})
	})
}

// sortAttributes puts attributes into the order of a DER SET OF: that of their
// encodings, the values of each likewise (X.690, Section 11.6).
func sortAttributes(attributes []Attribute) error {
	encoding := make(map[string][]byte, len(attributes)) // by type, of which each stands once
	for _, a := range attributes {
		sort.Slice(a.Values, func(i, j int) bool { return bytes.Compare(a.Values[i], a.Values[j]) < 0 })
		var b cryptobyte.Builder
		a.marshal(&b)
		der, err := b.Bytes()
		if err != nil {
			return err
		}
		encoding[a.Type.String()] = der
	}
	sort.Slice(attributes, func(i, j int) bool {
		return bytes.Compare(encoding[attributes[i].Type.String()], encoding[attributes[j].Type.String()]) < 0
	})
	return nil
}
