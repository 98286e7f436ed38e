package cms

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// constructedOctetString is the identifier octet of a string in pieces, which
// only BER knows (X.690, Section 10.2).
const constructedOctetString = byte(cbasn1.OCTET_STRING) | 0x20

// Parse reads a ContentInfo (RFC 5652, Section 3) that holds a SignedData, in
// DER. It refuses indefinite lengths and other BER, trailing data, unknown
// algorithms and versions, revocation lists, signed attributes that are not
// sorted or stand twice, and what exceeds the limits of this package. The result
// shares its memory with der.
func Parse(der []byte) (*SignedData, error) {
	input := cryptobyte.String(der)
	var info, content cryptobyte.String
	var oid asn1.ObjectIdentifier
	if len(der) > MaxSize {
		return nil, fmt.Errorf("CMS: %d octets are more than %d", len(der), MaxSize)
	}
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&oid) {
		return nil, errors.New("CMS: not a ContentInfo in DER")
	}
	if !input.Empty() {
		return nil, fmt.Errorf("CMS: %d octets after the ContentInfo", len(input))
	}
	if !oid.Equal(oidSignedData) {
		return nil, fmt.Errorf("CMS: content type %v is not SignedData", oid)
	}
	if !info.ReadASN1(&content, context(0)) || !info.Empty() {
		return nil, errors.New("CMS: ContentInfo is malformed")
	}
	return ParseBare(content)
}

// ParseBare is Parse for a SignedData without a ContentInfo around it, as UEFI
// wants it.
func ParseBare(der []byte) (*SignedData, error) {
	sd, err := parseSignedData(der)
	if err != nil {
		return nil, fmt.Errorf("CMS SignedData: %w", err)
	}
	return sd, nil
}

func parseSignedData(der []byte) (*SignedData, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%d octets are more than %d", len(der), MaxSize)
	}
	// 1. The frame.
	input := cryptobyte.String(der)
	var body, digests, encap, content, certificates, signers cryptobyte.String
	var hasContent, hasCertificates bool
	sd := &SignedData{}
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) {
		return nil, errors.New("not a SEQUENCE in DER")
	}
	if !input.Empty() {
		return nil, fmt.Errorf("%d octets of trailing data", len(input))
	}
	if !body.ReadASN1Integer(&sd.version) {
		return nil, errors.New("the version is malformed")
	}
	if sd.version != 1 && sd.version != 3 {
		return nil, fmt.Errorf("version %d is not supported", sd.version)
	}
	if !body.ReadASN1(&digests, cbasn1.SET) ||
		!body.ReadASN1(&encap, cbasn1.SEQUENCE) ||
		!body.ReadOptionalASN1(&certificates, &hasCertificates, context(0)) {
		return nil, errors.New("malformed before the signers")
	}
	if body.PeekASN1Tag(context(1)) {
		return nil, errors.New("revocation lists are not supported")
	}
	if !body.ReadASN1(&signers, cbasn1.SET) || !body.Empty() {
		return nil, errors.New("the set of signers is malformed")
	}

	// 2. The content.
	if !encap.ReadASN1ObjectIdentifier(&sd.ContentType) ||
		!encap.ReadOptionalASN1(&content, &hasContent, context(0)) || !encap.Empty() {
		return nil, errors.New("the content is malformed")
	}
	if hasContent {
		if _, ok := contentOctets(content); !ok {
			return nil, errors.New("the content is not one DER element")
		}
		if content[0] != byte(cbasn1.OCTET_STRING) && sd.ContentType.Equal(oidData) {
			return nil, errors.New("the content of type id-data is not an OCTET STRING")
		}
		if content[0] == constructedOctetString {
			return nil, errors.New("the content is an OCTET STRING in pieces, which is BER")
		}
		sd.Content = content
	}

	// 3. The certificates, without a look inside.
	if hasCertificates {
		sd.Certificates = [][]byte{}
	}
	for !certificates.Empty() {
		var certificate cryptobyte.String
		if !certificates.ReadASN1Element(&certificate, cbasn1.SEQUENCE) {
			return nil, errors.New("the set of certificates is malformed")
		}
		if len(sd.Certificates) == MaxCertificates {
			return nil, fmt.Errorf("more than %d certificates", MaxCertificates)
		}
		sd.Certificates = append(sd.Certificates, certificate)
	}

	// 4. The signers. Each one's hash must be listed before the content; whether
	// with the same parameters, absent or NULL, does not matter.
	var listed []crypto.Hash
	for !digests.Empty() {
		var alg cryptobyte.String
		if len(sd.digestAlgorithms) == MaxSigners {
			return nil, fmt.Errorf("more than %d digest algorithms", MaxSigners)
		}
		if !digests.ReadASN1Element(&alg, cbasn1.SEQUENCE) {
			return nil, errors.New("the set of digest algorithms is malformed")
		}
		hash, err := parseDigestAlgorithm(alg)
		if err != nil {
			return nil, err
		}
		listed = append(listed, hash)
		sd.digestAlgorithms = append(sd.digestAlgorithms, alg)
	}
	for !signers.Empty() {
		var signer cryptobyte.String
		if len(sd.Signers) == MaxSigners {
			return nil, fmt.Errorf("more than %d signers", MaxSigners)
		}
		if !signers.ReadASN1(&signer, cbasn1.SEQUENCE) {
			return nil, errors.New("the set of signers is malformed")
		}
		s, err := parseSignerInfo(signer)
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", len(sd.Signers)+1, err)
		}
		if !slices.Contains(listed, s.Algorithm.Hash) {
			return nil, fmt.Errorf("signer %d: %v is not listed before the content", len(sd.Signers)+1, s.Algorithm.Hash)
		}
		sd.Signers = append(sd.Signers, *s)
	}
	return sd, nil
}

func parseSignerInfo(body cryptobyte.String) (*SignerInfo, error) {
	s := &SignerInfo{}
	var version int
	if !body.ReadASN1Integer(&version) {
		return nil, errors.New("the version is malformed")
	}
	switch version {
	case 1:
		var id, name cryptobyte.String
		s.Serial = new(big.Int)
		if !body.ReadASN1(&id, cbasn1.SEQUENCE) || !id.ReadASN1Element(&name, cbasn1.SEQUENCE) ||
			!id.ReadASN1Integer(s.Serial) || !id.Empty() {
			return nil, errors.New("issuer and serial are malformed")
		}
		s.Issuer = name
	case 3:
		var id cryptobyte.String
		if !body.ReadASN1(&id, cbasn1.Tag(0).ContextSpecific()) || id.Empty() {
			return nil, errors.New("the subject key identifier is malformed")
		}
		s.SubjectKeyID = id
	default:
		return nil, fmt.Errorf("version %d is not supported", version)
	}

	var digest, signature, octets, attributes cryptobyte.String
	var err error
	if !body.ReadASN1Element(&digest, cbasn1.SEQUENCE) {
		return nil, errors.New("the digest algorithm is malformed")
	}
	if body.PeekASN1Tag(context(0)) {
		if !body.ReadASN1(&attributes, context(0)) {
			return nil, errors.New("the signed attributes are malformed")
		}
		if s.SignedAttributes, err = parseAttributes(attributes); err != nil {
			return nil, fmt.Errorf("signed attributes: %w", err)
		}
		if err := checkSignedAttributes(s.SignedAttributes, attributes); err != nil {
			return nil, fmt.Errorf("signed attributes: %w", err)
		}
	}
	if !body.ReadASN1Element(&signature, cbasn1.SEQUENCE) || !body.ReadASN1(&octets, cbasn1.OCTET_STRING) {
		return nil, errors.New("the signature is malformed")
	}
	if body.PeekASN1Tag(context(1)) {
		if !body.ReadASN1(&attributes, context(1)) {
			return nil, errors.New("the unsigned attributes are malformed")
		}
		if s.UnsignedAttributes, err = parseAttributes(attributes); err != nil {
			return nil, fmt.Errorf("unsigned attributes: %w", err)
		}
	}
	if !body.Empty() {
		return nil, fmt.Errorf("%d octets of trailing data", len(body))
	}
	s.digestAlgorithm, s.signatureAlgorithm, s.Signature = digest, signature, octets
	s.Algorithm, err = parseAlgorithms(digest, signature)
	return s, err
}

// parseAttributes reads attributes, each with at least one value.
func parseAttributes(set cryptobyte.String) ([]Attribute, error) {
	attributes := []Attribute{}
	for !set.Empty() {
		var attribute, values cryptobyte.String
		var a Attribute
		if len(attributes) == MaxAttributes {
			return nil, fmt.Errorf("more than %d", MaxAttributes)
		}
		if !set.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&a.Type) ||
			!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return nil, errors.New("malformed")
		}
		for !values.Empty() {
			var value cryptobyte.String
			var tag cbasn1.Tag
			if !values.ReadAnyASN1Element(&value, &tag) {
				return nil, fmt.Errorf("attribute %v: a value is malformed", a.Type)
			}
			a.Values = append(a.Values, value)
		}
		if len(a.Values) == 0 {
			return nil, fmt.Errorf("attribute %v has no value", a.Type)
		}
		attributes = append(attributes, a)
	}
	if len(attributes) == 0 {
		return nil, errors.New("none, where the field is there")
	}
	return attributes, nil
}

// checkSignedAttributes refuses a type that stands twice, and an order that DER
// does not have: a verifier that sorts would check other octets than one that
// does not.
func checkSignedAttributes(attributes []Attribute, set []byte) error {
	seen := make(map[string]bool)
	sorted := make([]Attribute, 0, len(attributes))
	for _, a := range attributes {
		if seen[a.Type.String()] {
			return fmt.Errorf("attribute %v stands twice", a.Type)
		}
		seen[a.Type.String()] = true
		sorted = append(sorted, Attribute{Type: a.Type, Values: slices.Clone(a.Values)})
	}
	if err := sortAttributes(sorted); err != nil {
		return err
	}
	der, err := signedOctets(sorted)
	if err != nil {
		return err
	}
	if octets, ok := contentOctets(der); !ok || !bytes.Equal(octets, set) {
		return errors.New("not in the order of DER")
	}
	return nil
}

// parseDigestAlgorithm takes parameters both absent and NULL (RFC 5754, Section 2).
func parseDigestAlgorithm(der cryptobyte.String) (crypto.Hash, error) {
	oid, ok := parseAlgorithm(der)
	if !ok {
		return 0, errors.New("a digest algorithm is malformed")
	}
	hash := spki.HashByOID(oid)
	if hash == 0 {
		return 0, fmt.Errorf("digest algorithm %v is not supported", oid)
	}
	return hash, nil
}

// parseAlgorithms tells the signature's algorithm, which together with the
// digest's must mean one thing only. CMS writes PKCS#1 v1.5 as rsaEncryption,
// whose hash is that of the digest (RFC 3370, Section 3.2).
func parseAlgorithms(digest, signature cryptobyte.String) (spki.SignatureAlgorithm, error) {
	hash, err := parseDigestAlgorithm(digest)
	if err != nil {
		return spki.SignatureAlgorithm{}, err
	}
	if oid, ok := parseAlgorithm(signature); ok && oid.Equal(oidRSAEncryption) {
		return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: hash}, nil
	}
	alg, err := spki.ParseSignatureAlgorithm(signature)
	if err != nil {
		return spki.SignatureAlgorithm{}, err
	}
	if alg.Scheme == spki.EdDSA {
		return spki.SignatureAlgorithm{}, errors.New("Ed25519 is not supported in CMS")
	}
	if alg.Hash != hash {
		return spki.SignatureAlgorithm{}, fmt.Errorf("the content is hashed with %v, but the signature is %v", hash, alg)
	}
	return alg, nil
}

// parseAlgorithm reads an AlgorithmIdentifier with no parameters, or NULL.
func parseAlgorithm(der cryptobyte.String) (oid asn1.ObjectIdentifier, ok bool) {
	var alg, null cryptobyte.String
	if !der.ReadASN1(&alg, cbasn1.SEQUENCE) || !der.Empty() || !alg.ReadASN1ObjectIdentifier(&oid) {
		return nil, false
	}
	if alg.Empty() {
		return oid, true
	}
	return oid, alg.ReadASN1(&null, cbasn1.NULL) && null.Empty() && alg.Empty()
}
