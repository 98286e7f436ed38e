// Package ca issues certificates: profiles, names, requests, linting, issuing,
// and path validation (RFC 5280), with id-RSASSA-PSS keys throughout. It sees a
// crypto.Signer and no key file; what it signs is recorded by package store.
//
// Issuing goes one road, and the types force its order:
//
//	p, err := issuer.Prepare(profile, request) // checked, built, linted
//	err = db.Intend(ctx, p.Record(actor))      // durable before the signature
//	cert, err := issuer.Sign(p)                // the very bytes that were linted
//	err = db.Complete(ctx, ...)                // row and ledger entry together
package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
	"tmpki/store"
)

// RejectedError is a refusal that the requester can mend: the request, the
// profile or the issuer's own limits forbid the certificate.
type RejectedError struct{ Reason string }

func (e *RejectedError) Error() string { return e.Reason }

func rejectf(format string, args ...any) error {
	return &RejectedError{Reason: fmt.Sprintf(format, args...)}
}

// minRSABits is the least modulus length that is certified.
const minRSABits = 2048

// Issuer signs certificates with one key under one name.
type Issuer struct {
	name        string
	certificate *Certificate // nil: issues for itself only
	subject     Name
	signer      crypto.Signer
	algorithm   spki.SignatureAlgorithm
	identifier  []byte // the algorithm's, DER
	linter      *Linter
	shapes      shapes // that were linted
}

// NewIssuer makes an issuer of a CA certificate and its key. name is what the
// store knows it by. The key must be the certificate's, and the certificate one
// that may sign certificates.
func NewIssuer(name string, cert *Certificate, signer crypto.Signer, algorithm spki.SignatureAlgorithm, linter *Linter) (*Issuer, error) {
	if !spki.Equal(cert.Key, signer.Public()) {
		return nil, fmt.Errorf("issuer %q: the key is not the one in its certificate %x", name, cert.SerialNumber)
	}
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("issuer %q: its certificate %x may not sign certificates", name, cert.SerialNumber)
	}
	return newIssuer(name, cert, cert.Subject(), signer, algorithm, linter)
}

// NewSelfIssuer makes an issuer of self-signed certificates: roots, anchor twins
// and UEFI platform keys. Every certificate that it prepares has its own name
// and key.
func NewSelfIssuer(name string, subject Name, signer crypto.Signer, algorithm spki.SignatureAlgorithm, linter *Linter) (*Issuer, error) {
	return newIssuer(name, nil, subject, signer, algorithm, linter)
}

func newIssuer(name string, cert *Certificate, subject Name, signer crypto.Signer, algorithm spki.SignatureAlgorithm, linter *Linter) (*Issuer, error) {
	if err := algorithm.Fits(signer.Public()); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", name, err)
	}
	identifier, err := algorithm.Marshal()
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", name, err)
	}
	return &Issuer{name: name, certificate: cert, subject: subject, signer: signer, algorithm: algorithm, identifier: identifier, linter: linter}, nil
}

// Request asks for one certificate.
type Request struct {
	Name            string // what the store knows the certificate by
	Subject         Name
	PublicKey       crypto.PublicKey
	SubjectAltNames []string  // such as "dns:backend.example": see parseGeneralName
	NotBefore       time.Time // whole seconds are used
	KeyURI          string    // where the private key lives, for the record; "" if elsewhere

	// Rollover asks for a cross-certificate: the issuer's own subject, with another
	// key of it (RFC 5280, Section 3.2: self-issued, for a change of keys). It ends
	// with the issuer at the latest, and path lengths don't count it.
	Rollover bool

	keyDER []byte // of PublicKey; nil if not known
}

// Prepared is a certificate that lacks nothing but its signature.
type Prepared struct {
	issuer  *Issuer
	profile string
	request Request
	serial  []byte
	skid    []byte
	expires time.Time
	draft   *Certificate // with a signature of zeros
	signed  atomic.Bool
}

// Serial returns the serial number, big-endian: the time and 128 random bits.
func (p *Prepared) Serial() []byte { return p.serial }

// Record returns what the store keeps of the intent to sign.
func (p *Prepared) Record(actor string) store.Record {
	return store.Record{
		Serial:       p.serial,
		Name:         p.request.Name,
		Profile:      p.profile,
		Issuer:       p.issuer.name,
		IssuerKeyID:  p.issuerKeyID(),
		Actor:        actor,
		KeyURI:       p.request.KeyURI,
		SubjectKeyID: p.skid,
		NotBefore:    p.request.NotBefore,
		NotAfter:     p.expires,
		TBSHash:      sha256.Sum256(p.draft.RawTBSCertificate),
	}
}

// issuerKeyID is the identifier of the key that signs, also where the certificate
// does not tell it: a self-signed one has it as its own.
func (p *Prepared) issuerKeyID() []byte {
	if p.issuer.certificate == nil {
		return p.skid
	}
	return p.issuer.certificate.SubjectKeyId
}

// Prepare checks a request against the profile and the issuer, builds the
// TBSCertificate and lints it. A *RejectedError is the requester's to mend.
func (i *Issuer) Prepare(profile *Profile, r Request) (*Prepared, error) {
	serial, err := newSerial(time.Now())
	if err != nil {
		return nil, err
	}
	return i.prepare(profile, r, serial)
}

// ErrOther is what Resume returns, wrapped, if an intent was for another certificate.
var ErrOther = errors.New("the intent was for another certificate")

// Resume is Prepare for an intent that the store has already, of a process that
// died over it or is about to sign: the result has the serial and the dates of the
// intent, and is the very certificate that was meant, or the error is ErrOther.
// Whoever completes the intent first has issued it.
func (i *Issuer) Resume(profile *Profile, r Request, intent store.Record) (*Prepared, error) {
	r.NotBefore = intent.NotBefore
	p, err := i.prepare(profile, r, intent.Serial)
	if err != nil {
		return nil, err
	}
	if p.Record(intent.Actor).TBSHash != intent.TBSHash {
		return nil, fmt.Errorf("%q: serial %x: %w", r.Name, intent.Serial, ErrOther)
	}
	return p, nil
}

func (i *Issuer) prepare(profile *Profile, r Request, serial []byte) (*Prepared, error) {
	// 1. May this issuer sign this? The subject goes into the certificate as it
	// is, so it must be one name and nothing after it.
	subject, err := r.Subject.attributes()
	if err != nil {
		return nil, rejectf("%q: subject: %v", r.Name, err)
	}
	t, err := spki.KeyTypeOf(r.PublicKey)
	if err != nil {
		return nil, rejectf("%q: publicKey: %v", r.Name, err)
	}
	if (t.Kind == spki.RSA || t.Kind == spki.RSAPSS) && t.Bits < minRSABits {
		return nil, rejectf("%q: publicKey: RSA %d is too short, %d bits are the least", r.Name, t.Bits, minRSABits)
	}
	r.NotBefore = r.NotBefore.UTC().Truncate(time.Second)
	notAfter := r.NotBefore.Add(profile.validity)
	if r.Rollover && i.certificate != nil && notAfter.After(i.certificate.NotAfter) {
		notAfter = i.certificate.NotAfter
	}
	if i.certificate == nil {
		if !bytes.Equal(r.Subject, i.subject) || !spki.Equal(r.PublicKey, i.signer.Public()) {
			return nil, rejectf("%q is self-signed: its subject and key must be its own", r.Name)
		}
	} else if err := i.mayIssue(profile, r, notAfter); err != nil {
		return nil, err
	}
	// 2. Build.
	subjectKey := r.keyDER
	if subjectKey == nil {
		if subjectKey, err = spki.MarshalPublicKey(r.PublicKey); err != nil {
			return nil, rejectf("%q: %v", r.Name, err)
		}
	}
	skid, err := spki.KeyID(subjectKey)
	if err != nil {
		return nil, err
	}
	p := &Prepared{issuer: i, profile: profile.name, request: r, serial: serial, skid: skid, expires: notAfter}
	extensions, err := i.extensions(profile, r, serial, skid)
	if err != nil {
		return nil, err
	}
	tbs, err := i.marshalTBS(serial, r, notAfter, subjectKey, profile.encodedFor(t), extensions)
	if err != nil {
		return nil, fmt.Errorf("building the certificate of %q: %w", r.Name, err)
	}
	draft, err := i.assemble(tbs, make([]byte, 64))
	if err != nil {
		return nil, err
	}
	if p.draft, err = parseCertificate(draft, r.PublicKey, subjectKey); err != nil {
		return nil, fmt.Errorf("the certificate of %q would be bad: %w", r.Name, err)
	}
	// 3. Lint the very bytes that will be signed, under a signature of zeros. That
	// takes a hundred times as long as all else, so it is done once for many
	// certificates that differ in nothing which a lint looks at.
	shape, known := i.shapes.find(profile, t, r, subject, notAfter)
	if !known {
		if err := i.linter.lint(draft); err != nil {
			return nil, fmt.Errorf("the certificate of %q would be bad: %w", r.Name, err)
		}
		i.shapes.add(shape)
	}
	// 4. Would it verify below this issuer?
	if i.certificate != nil {
		if err := i.checkConstraints(p.draft, !profile.ca); err != nil {
			return nil, rejectf("%q: %v, which its issuer %q forbids", r.Name, err, i.name)
		}
	}
	return p, nil
}

// mayIssue holds the issuer's certificate against what is asked for.
func (i *Issuer) mayIssue(profile *Profile, r Request, notAfter time.Time) error {
	cert := i.certificate
	if notAfter.After(cert.NotAfter) {
		return rejectf("%q would be valid until %s, but its issuer %q ends on %s: shorten validity, or renew the issuer",
			r.Name, notAfter.Format(time.DateOnly), i.name, cert.NotAfter.Format(time.DateOnly))
	}
	if r.NotBefore.Before(cert.NotBefore) {
		return rejectf("%q would be valid from %s, before its issuer %q: is the clock right?", r.Name, r.NotBefore.Format(time.RFC3339), i.name)
	}
	if r.Rollover {
		switch {
		case !r.Subject.Equal(i.subject):
			return rejectf("%q is to be a cross-certificate of its issuer %q, but has another subject", r.Name, i.name)
		case !profile.ca:
			return rejectf("%q is to be a cross-certificate of its issuer %q, but is no CA", r.Name, i.name)
		case !r.NotBefore.Before(cert.NotAfter):
			return rejectf("%q can't be signed: its issuer %q has ended on %s", r.Name, i.name, cert.NotAfter.Format(time.DateOnly))
		}
	} else if r.Subject.Equal(i.subject) {
		return rejectf("%q has the subject of its issuer %q: give it its own common_name", r.Name, i.name)
	}
	if spki.Equal(r.PublicKey, cert.Key) {
		return rejectf("%q has the key of its issuer %q", r.Name, i.name)
	}
	limit := -1
	if cert.MaxPathLen > 0 || cert.MaxPathLenZero {
		limit = cert.MaxPathLen
	}
	if profile.ca && !r.Rollover && limit >= 0 && (limit == 0 || profile.pathLength < 0 || profile.pathLength >= limit) {
		return rejectf("%q does not fit below %q, whose path length is %d", r.Name, i.name, limit)
	}
	return nil
}

// checkConstraints holds a draft against the name constraints of its issuer.
func (i *Issuer) checkConstraints(draft *Certificate, leaf bool) error {
	constraints, err := constraintsOf(i.certificate)
	if err != nil || constraints == nil {
		return err
	}
	return constraints.checkCertificate(draft, leaf)
}

// serialEpoch is where the time in serial numbers begins, in Unix seconds: in July
// 2017, so that the first octet was not zero when this was written. It lasts until
// 2085.
const serialEpoch = 1_500_000_000

// newSerial returns 20 octets, the most that a serial may have once encoded (RFC
// 5280, Section 4.1.2.2): the seconds since serialEpoch in 31 bits, then 128 random
// bits. Those are twice what CAs of the web need (CA/Browser Forum Baseline
// Requirements, Section 7.1: 64 bits of a CSPRNG), against who would choose a
// certificate's content and wait for a collision of its hash. The time tells no more
// than notBefore does; with it the store's index of serials grows at its end, where a
// million random ones would each touch a page of their own.
func newSerial(now time.Time) ([]byte, error) {
	serial := make([]byte, 20)
	if _, err := rand.Read(serial[4:]); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	binary.BigEndian.PutUint32(serial, uint32(now.Unix()-serialEpoch)&0x7fffffff)
	// All have one length, whatever the clock says.
	if serial[0] == 0 {
		serial[0] = 1
	}
	return serial, nil
}

// extensions returns those that differ from certificate to certificate.
func (i *Issuer) extensions(profile *Profile, r Request, serial, skid []byte) ([]extension, error) {
	var list []extension
	if profile.partitions > 0 {
		points, err := profile.partitionExtension(serial)
		if err != nil {
			return nil, err
		}
		list = append(list, points)
	}
	var b cryptobyte.Builder
	b.AddASN1OctetString(skid)
	list = append(list, extension{oidSubjectKeyID, false, b.BytesOrPanic()})
	// A self-signed CA certificate names no authority key (RFC 5280, Section
	// 4.2.1.1). Elsewhere the key identifier stands alone: with issuer and
	// serial beside it a CA could not be issued anew or cross-signed.
	if i.certificate != nil || !profile.ca {
		akid := skid
		if i.certificate != nil {
			akid = i.certificate.SubjectKeyId
		}
		if len(akid) == 0 {
			return nil, fmt.Errorf("issuer %q has no subject key identifier", i.name)
		}
		list = append(list, authorityKeyExtension(akid))
	}
	if len(r.SubjectAltNames) > 0 {
		san, err := subjectAltNameExtension(r.SubjectAltNames)
		if err != nil {
			return nil, rejectf("%q: subject_alt_names: %v", r.Name, err)
		}
		list = append(list, san)
	}
	return list, nil
}

// marshalTBS writes a TBSCertificate (RFC 5280, Section 4.1).
func (i *Issuer) marshalTBS(serial []byte, r Request, notAfter time.Time, subjectKey, fixed []byte, extensions []extension) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(serial) })
		b.AddBytes(i.identifier)
		b.AddBytes(i.subject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, r.NotBefore)
			addTime(b, notAfter)
		})
		b.AddBytes(r.Subject)
		b.AddBytes(subjectKey)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(fixed)
				for _, x := range extensions {
					addExtension(b, x)
				}
			})
		})
	})
	return b.Bytes()
}

// addExtensions writes Extensions (RFC 5280, Section 4.1).
func addExtensions(b *cryptobyte.Builder, extensions []extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, x := range extensions {
			addExtension(b, x)
		}
	})
}

// addExtension writes one.
func addExtension(b *cryptobyte.Builder, x extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(x.oid)
		if x.critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(x.value)
	})
}

// authorityKeyExtension names a key by its identifier alone (RFC 5280, Section
// 4.2.1.1).
func authorityKeyExtension(id []byte) extension {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(id) })
	})
	return extension{oidAuthorityKeyID, false, b.BytesOrPanic()}
}

// addTime writes UTCTime until 2049 and GeneralizedTime after (RFC 5280,
// Section 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func (i *Issuer) assemble(tbs, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(signature)+128))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(i.identifier)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// Sign signs the bytes that Prepare linted, and verifies what the signer made
// of them. p must be this issuer's own, and is spent, even by a failure: a second
// signature would make two certificates of one serial.
func (i *Issuer) Sign(p *Prepared) (*Certificate, error) {
	if p.issuer != i {
		return nil, errors.New("the certificate was prepared by another issuer")
	}
	if p.signed.Swap(true) {
		return nil, fmt.Errorf("the certificate of %q was signed before: prepare another one", p.request.Name)
	}
	// The signer's public key is that of the issuer's certificate: see NewIssuer.
	tbs := p.draft.RawTBSCertificate
	signature, err := i.algorithm.Sign(i.signer, tbs)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", i.name, err)
	}
	der, err := i.assemble(tbs, signature)
	if err != nil {
		return nil, err
	}
	// The draft was parsed from the same octets but for the signature.
	parsed := *p.draft.Certificate
	parsed.Raw, parsed.Signature = der, signature
	cert := *p.draft
	cert.Certificate = &parsed
	return &cert, nil
}
