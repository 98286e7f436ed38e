package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// OCSPStatus is what became of a certificate (RFC 6960, Section 2.2).
type OCSPStatus int

// The states of a certificate. Unknown is also what was never issued.
const (
	OCSPGood    OCSPStatus = 0
	OCSPRevoked OCSPStatus = 1
	OCSPUnknown OCSPStatus = 2
)

// String returns "good", "revoked" or "unknown".
func (s OCSPStatus) String() string {
	if s < OCSPGood || s > OCSPUnknown {
		return fmt.Sprintf("status %d", int(s))
	}
	return [...]string{"good", "revoked", "unknown"}[s]
}

// OCSPError is the status of a response that answers nothing (RFC 6960, Section
// 4.2.1). Such a response is not signed.
type OCSPError int

// The errors that a responder tells.
const (
	OCSPMalformedRequest OCSPError = 1
	OCSPInternalError    OCSPError = 2
	OCSPTryLater         OCSPError = 3
	OCSPUnauthorized     OCSPError = 6 // it doesn't answer for such certificates (RFC 5019, Section 2.2.3)
)

// Error returns the name of the status.
func (e OCSPError) Error() string {
	names := map[OCSPError]string{1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}
	if name := names[e]; name != "" {
		return name
	}
	return fmt.Sprintf("status %d", int(e))
}

// Marshal returns the response that tells the error.
func (e OCSPError) Marshal() []byte {
	return []byte{byte(cbasn1.SEQUENCE), 3, byte(cbasn1.ENUM), 1, byte(e)}
}

// SingleResponse says what became of one certificate.
type SingleResponse struct {
	CertID     CertID
	Status     OCSPStatus
	RevokedAt  time.Time // OCSPRevoked
	Reason     Reason    // OCSPRevoked
	ThisUpdate time.Time
	NextUpdate time.Time // zero: newer information is always there
}

// Responder signs OCSP responses for the certificates of one issuer. It is safe for
// concurrent use if its signer is.
type Responder struct {
	issuer    *Certificate
	chain     [][]byte // goes into the responses
	until     time.Time
	signer    crypto.Signer
	algorithm spki.SignatureAlgorithm
	id        []byte // SHA-1 of its key
	hashes    map[crypto.Hash][2][]byte
}

// NewResponder makes a responder for the certificates of issuer. cert is that of
// the signer: the issuer's own, or one that the issuer has given it for this purpose
// (RFC 6960, Section 4.2.2.2), in date at now.
func NewResponder(issuer, cert *Certificate, signer crypto.Signer, algorithm spki.SignatureAlgorithm, now time.Time) (*Responder, error) {
	fail := func(format string, args ...any) (*Responder, error) {
		return nil, fmt.Errorf("OCSP responder %s: %w", cert.Subject(), fmt.Errorf(format, args...))
	}
	if !spki.Equal(cert.Key, signer.Public()) {
		return fail("the key is not the one in its certificate %x", cert.SerialNumber)
	}
	if err := algorithm.Fits(signer.Public()); err != nil {
		return fail("%w", err)
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return fail("its certificate is valid from %s to %s, not now", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	r := &Responder{issuer: issuer, until: cert.NotAfter, signer: signer, algorithm: algorithm, hashes: map[crypto.Hash][2][]byte{}}
	if !cert.Equal(issuer) {
		if !cert.Issuer().Equal(issuer.Subject()) || cert.CheckSignature(issuer.Key) != nil {
			return fail("its certificate is not by %s, for whose certificates it would answer", issuer.Subject())
		}
		if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return fail("its certificate is not for OCSP: extended_key_usage lacks OCSPSigning")
		}
		if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			return fail("its key usage forbids signatures")
		}
		r.chain = [][]byte{cert.Raw}
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		name, key, err := issuerHashes(issuer, hash)
		if err != nil {
			return nil, err
		}
		r.hashes[hash] = [2][]byte{name, key}
	}
	var err error
	r.id, err = spki.KeyID(cert.RawSubjectPublicKeyInfo)
	return r, err
}

// Until returns when the responder's certificate ends: no response may be good for
// longer.
func (r *Responder) Until() time.Time { return r.until }

// AnswersFor reports whether a request is about a certificate of the responder's
// issuer.
func (r *Responder) AnswersFor(id CertID) bool {
	own, ok := r.hashes[id.Hash]
	return ok && bytes.Equal(id.NameHash, own[0]) && bytes.Equal(id.KeyHash, own[1])
}

// Sign makes a response and verifies its signature. The nonce of the request, if
// not nil, is repeated.
func (r *Responder) Sign(producedAt time.Time, nonce []byte, answers ...SingleResponse) ([]byte, error) {
	if len(answers) == 0 || len(answers) > maxOCSPRequests || len(nonce) > maxNonce {
		return nil, fmt.Errorf("OCSP response with %d answers and a nonce of %d octets", len(answers), len(nonce))
	}
	for _, a := range answers {
		if err := a.check(r.until); err != nil {
			return nil, fmt.Errorf("OCSP response for serial %x: %w", a.CertID.Serial, err)
		}
	}
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	// 1. What is signed (RFC 6960, Section 4.2.1).
	var data cryptobyte.Builder
	data.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.id) })
		b.AddASN1GeneralizedTime(producedAt.UTC())
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, a := range answers {
				a.add(b)
			}
		})
		if nonce != nil {
			b.AddASN1(tag(1), func(b *cryptobyte.Builder) { addExtensions(b, []extension{nonceExtension(nonce)}) })
		}
	})
	tbs, err := data.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	algorithm, err := r.algorithm.Marshal()
	if err != nil {
		return nil, err
	}
	// 2. Sign, and verify.
	signature, err := r.algorithm.Sign(r.signer, tbs)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	// 3. Put it together.
	var basic cryptobyte.Builder
	basic.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
		if len(r.chain) > 0 {
			b.AddASN1(tag(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, c := range r.chain {
						b.AddBytes(c)
					}
				})
			})
		}
	})
	content, err := basic.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(tag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1OctetString(content)
			})
		})
	})
	return out.Bytes()
}

func (a SingleResponse) check(until time.Time) error {
	switch {
	case len(a.CertID.der) == 0:
		return errors.New("without a CertID")
	case a.Status < OCSPGood || a.Status > OCSPUnknown:
		return fmt.Errorf("unknown %v", a.Status)
	case a.Status == OCSPRevoked && (!a.Reason.Valid() || a.Reason == RemoveFromCRL || a.RevokedAt.IsZero()):
		return fmt.Errorf("revoked at %v for %v", a.RevokedAt, a.Reason)
	case !a.NextUpdate.IsZero() && !a.NextUpdate.After(a.ThisUpdate):
		return fmt.Errorf("next update %v is not after this update %v", a.NextUpdate, a.ThisUpdate)
	case a.NextUpdate.After(until):
		return fmt.Errorf("next update %v is after the end of the responder's certificate, %v", a.NextUpdate, until)
	}
	return nil
}

func (a SingleResponse) add(b *cryptobyte.Builder) {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(a.CertID.der)
		switch a.Status {
		case OCSPRevoked:
			b.AddASN1(tag(1).Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(a.RevokedAt.UTC())
				if a.Reason != Unspecified {
					b.AddASN1(tag(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(a.Reason)) })
				}
			})
		default:
			b.AddASN1(tag(uint8(a.Status)), func(*cryptobyte.Builder) {})
		}
		b.AddASN1GeneralizedTime(a.ThisUpdate.UTC())
		if !a.NextUpdate.IsZero() {
			b.AddASN1(tag(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.NextUpdate.UTC()) })
		}
	})
}

// MaxOCSPResponse bounds what is read as one response, in octets.
const MaxOCSPResponse = 1 << 20

// OCSPResponse is a parsed response. If Status is not 0, it is an error, and there
// is nothing else.
type OCSPResponse struct {
	Status       OCSPError
	RawTBS       []byte
	ResponderKey []byte // SHA-1 of the responder's key,
	Responder    Name   // or its name
	ProducedAt   time.Time
	Responses    []SingleResponse
	Nonce        []byte
	Signature    []byte
	Certificates []*Certificate

	// Algorithm is that of the signature. It is zero, and AlgorithmError says
	// why, when this program can't verify it.
	Algorithm      spki.SignatureAlgorithm
	AlgorithmError error
}

// ParseOCSPResponse reads one DER response. It verifies nothing: see
// CheckSignature.
func ParseOCSPResponse(der []byte) (*OCSPResponse, error) {
	if len(der) > MaxOCSPResponse {
		return nil, fmt.Errorf("OCSP response of %d octets is larger than %d", len(der), MaxOCSPResponse)
	}
	r := &OCSPResponse{}
	if err := r.parse(der); err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	return r, nil
}

func (r *OCSPResponse) parse(der []byte) error {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	malformed := errors.New("malformed")
	// 1. The status, and around the rest.
	input := cryptobyte.String(der)
	var outer, wrapped, typed, content cryptobyte.String
	var status int
	var has bool
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&status) || status < 0 || status > 127 ||
		!outer.ReadOptionalASN1(&wrapped, &has, tag(0)) || !outer.Empty() || has != (status == 0) {
		return malformed
	}
	if r.Status = OCSPError(status); !has {
		return nil
	}
	var oid asn1.ObjectIdentifier
	if !wrapped.ReadASN1(&typed, cbasn1.SEQUENCE) || !wrapped.Empty() || !typed.ReadASN1ObjectIdentifier(&oid) ||
		!typed.ReadASN1(&content, cbasn1.OCTET_STRING) || !typed.Empty() {
		return malformed
	}
	if !oid.Equal(oidOCSPBasic) {
		return fmt.Errorf("of type %v, which is unknown", oid)
	}
	// 2. What is signed, how, and by whom.
	var basic, element, algorithm, certs, list cryptobyte.String
	var signature asn1.BitString
	if !content.ReadASN1(&basic, cbasn1.SEQUENCE) || !content.Empty() || !basic.ReadASN1Element(&element, cbasn1.SEQUENCE) ||
		!basic.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) || !basic.ReadASN1BitString(&signature) || signature.BitLength%8 != 0 ||
		!basic.ReadOptionalASN1(&certs, &has, tag(0)) || !basic.Empty() {
		return malformed
	}
	r.RawTBS, r.Signature = element, signature.Bytes
	r.Algorithm, r.AlgorithmError = spki.ParseSignatureAlgorithm(algorithm)
	if has {
		if !certs.ReadASN1(&list, cbasn1.SEQUENCE) || !certs.Empty() {
			return malformed
		}
		for !list.Empty() {
			var cert cryptobyte.String
			if !list.ReadASN1Element(&cert, cbasn1.SEQUENCE) || len(r.Certificates) == MaxChain {
				return malformed
			}
			c, err := ParseCertificate(cert)
			if err != nil {
				return err
			}
			r.Certificates = append(r.Certificates, c)
		}
	}
	// 3. The answers.
	var tbs, id, extensions cryptobyte.String
	if !element.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.ReadOptionalASN1(&id, &has, tag(0)) || has && !bytes.Equal(id, []byte{2, 1, 0}) {
		return errors.New("is not of version 1")
	}
	switch {
	case tbs.PeekASN1Tag(tag(1)):
		if !tbs.ReadASN1(&id, tag(1)) {
			return malformed
		}
		r.Responder = Name(id)
		if _, err := r.Responder.attributes(); err != nil {
			return err
		}
	default:
		var key cryptobyte.String
		if !tbs.ReadASN1(&id, tag(2)) || !id.ReadASN1(&key, cbasn1.OCTET_STRING) || !id.Empty() || len(key) != 20 {
			return malformed
		}
		r.ResponderKey = key
	}
	var ok bool
	if r.ProducedAt, ok = readGeneralizedTime(&tbs); !ok || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) || list.Empty() ||
		!tbs.ReadOptionalASN1(&extensions, &has, tag(1)) || !tbs.Empty() {
		return malformed
	}
	if has {
		all, err := readExtensions(extensions)
		if err != nil {
			return err
		}
		for _, x := range all {
			switch {
			case x.Id.Equal(oidNonce):
				if r.Nonce, err = parseNonce(x.Value); err != nil {
					return err
				}
			case x.Critical:
				return fmt.Errorf("critical extension %v is unknown", x.Id)
			}
		}
	}
	for !list.Empty() {
		a, err := readSingleResponse(&list)
		if err != nil {
			return err
		}
		if r.Responses = append(r.Responses, a); len(r.Responses) > maxOCSPRequests {
			return fmt.Errorf("more than %d answers", maxOCSPRequests)
		}
	}
	return nil
}

func readSingleResponse(s *cryptobyte.String) (SingleResponse, error) {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	malformed := errors.New("malformed answer")
	var a SingleResponse
	var one, info, reason, next, extensions cryptobyte.String
	if !s.ReadASN1(&one, cbasn1.SEQUENCE) {
		return a, malformed
	}
	var err error
	if a.CertID, err = readCertID(&one); err != nil {
		return a, err
	}
	var has, ok bool
	switch {
	case one.PeekASN1Tag(tag(0)):
		ok = one.ReadASN1(&info, tag(0)) && info.Empty()
	case one.PeekASN1Tag(tag(2)):
		a.Status, ok = OCSPUnknown, one.ReadASN1(&info, tag(2)) && info.Empty()
	default:
		a.Status = OCSPRevoked
		if !one.ReadASN1(&info, tag(1).Constructed()) {
			return a, malformed
		}
		if a.RevokedAt, ok = readGeneralizedTime(&info); !ok || !info.ReadOptionalASN1(&reason, &has, tag(0).Constructed()) || !info.Empty() {
			return a, malformed
		}
		if has {
			var n int
			ok = reason.ReadASN1Enum(&n) && reason.Empty()
			a.Reason = Reason(n)
		}
		ok = ok && a.Reason.Valid()
	}
	if !ok {
		return a, malformed
	}
	if a.ThisUpdate, ok = readGeneralizedTime(&one); !ok || !one.ReadOptionalASN1(&next, &has, tag(0).Constructed()) {
		return a, malformed
	}
	if has {
		if a.NextUpdate, ok = readGeneralizedTime(&next); !ok || !next.Empty() {
			return a, malformed
		}
	}
	if !one.ReadOptionalASN1(&extensions, &has, tag(1).Constructed()) || !one.Empty() {
		return a, malformed
	}
	if has {
		all, err := readExtensions(extensions)
		if err != nil {
			return a, err
		}
		for _, x := range all {
			if x.Critical {
				return a, fmt.Errorf("critical extension %v is unknown", x.Id)
			}
		}
	}
	return a, nil
}

func readGeneralizedTime(s *cryptobyte.String) (time.Time, bool) {
	if !s.PeekASN1Tag(cbasn1.GeneralizedTime) {
		return time.Time{}, false
	}
	return readTime(s)
}

// CheckSignature verifies the response's signature with the responder's key.
func (r *OCSPResponse) CheckSignature(key crypto.PublicKey) error {
	if r.Status != 0 {
		return fmt.Errorf("the response is an error, which nobody signs: %w", r.Status)
	}
	if r.AlgorithmError != nil {
		return r.AlgorithmError
	}
	return r.Algorithm.Verify(key, r.RawTBS, r.Signature)
}
