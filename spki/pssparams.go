package spki

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// PSSParams are RSASSA-PSS-params (RFC 4055, Section 3.1) as this program
// accepts them: MGF1 with the message's own hash, trailer field 1.
type PSSParams struct {
	Hash       crypto.Hash // SHA256, SHA384 or SHA512
	SaltLength int         // octets; in a key, the least that it allows
}

// maxSaltLength is what fits beside the shortest hash in the largest key.
const maxSaltLength = MaxRSABits/8 - 32 - 2

// check reports, as an error, parameters that parsePSSParams would refuse. No
// parameters (nil) are fine: the key is not restricted.
func (p *PSSParams) check() error {
	if p != nil && (HashOID(p.Hash) == nil || p.SaltLength < 0 || p.SaltLength > maxSaltLength) {
		return fmt.Errorf("RSASSA-PSS parameters: hash %v with a salt of %d is not supported", p.Hash, p.SaltLength)
	}
	return nil
}

func (p *PSSParams) marshal(b *cryptobyte.Builder) {
	if err := p.check(); err != nil {
		b.SetError(err)
		return
	}
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	oid := HashOID(p.Hash)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag(0), func(b *cryptobyte.Builder) { addAlgorithm(b, oid, true) })
		b.AddASN1(tag(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidMGF1)
				addAlgorithm(b, oid, true)
			})
		})
		if p.SaltLength != 20 { // the DEFAULT, which DER leaves out
			b.AddASN1(tag(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(p.SaltLength)) })
		}
	})
}

func parsePSSParams(der cryptobyte.String) (*PSSParams, error) {
	bad := func(what string) (*PSSParams, error) {
		return nil, errors.New("RSASSA-PSS parameters: " + what)
	}
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	var seq, hashField, maskField, saltField, trailerField cryptobyte.String
	var hasHash, hasMask, hasSalt, hasTrailer bool
	if !der.ReadASN1(&seq, cbasn1.SEQUENCE) || !der.Empty() ||
		!seq.ReadOptionalASN1(&hashField, &hasHash, tag(0)) ||
		!seq.ReadOptionalASN1(&maskField, &hasMask, tag(1)) ||
		!seq.ReadOptionalASN1(&saltField, &hasSalt, tag(2)) ||
		!seq.ReadOptionalASN1(&trailerField, &hasTrailer, tag(3)) || !seq.Empty() {
		return bad("malformed")
	}
	if !hasHash || !hasMask {
		return bad("SHA-1 (the default) is not supported")
	}
	hash, err := readHash(&hashField)
	if err != nil || !hashField.Empty() {
		return bad("the message hash is not supported")
	}
	var mask cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !maskField.ReadASN1(&mask, cbasn1.SEQUENCE) || !maskField.Empty() ||
		!mask.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidMGF1) {
		return bad("the mask is not MGF1")
	}
	if maskHash, err := readHash(&mask); err != nil || !mask.Empty() || maskHash != hash {
		return bad("MGF1 has another hash than the message")
	}
	p := &PSSParams{Hash: hash, SaltLength: 20}
	if hasSalt && (!saltField.ReadASN1Integer(&p.SaltLength) || !saltField.Empty() ||
		p.SaltLength < 0 || p.SaltLength > maxSaltLength) {
		return bad("the salt length is out of range")
	}
	if hasSalt && p.SaltLength == 20 {
		return bad("not DER: the salt length is the default and still there")
	}
	// RFC 4055, Section 3.1: the trailer field is never written, and is read.
	if trailer := 1; hasTrailer && (!trailerField.ReadASN1Integer(&trailer) || !trailerField.Empty() || trailer != 1) {
		return bad("the trailer field is not 1")
	}
	return p, nil
}

// readHash takes parameters both absent and NULL, as RFC 4055, Section 2.1 demands.
func readHash(s *cryptobyte.String) (crypto.Hash, error) {
	var alg cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) {
		return 0, errors.New("not an AlgorithmIdentifier")
	}
	var null cryptobyte.String
	if !alg.Empty() && (!alg.ReadASN1(&null, cbasn1.NULL) || !null.Empty() || !alg.Empty()) {
		return 0, errors.New("hash with parameters")
	}
	hash := HashByOID(oid)
	if hash == 0 {
		return 0, fmt.Errorf("hash %v", oid)
	}
	return hash, nil
}
