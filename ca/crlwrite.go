package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// CRLRequest says what a CRL is to be, beside its entries (RFC 5280, Section 5).
type CRLRequest struct {
	Number     *big.Int // larger than that of each CRL before it; at most 20 octets
	BaseNumber *big.Int // of a delta CRL the number of its base; nil: a full CRL
	ThisUpdate time.Time
	NextUpdate time.Time

	// Points are the URLs of this CRL where it does not cover all that its issuer
	// has issued: a certificate belongs to it by a distribution point with the same
	// URL. Verifiers compare them, octet by octet.
	Points        []string
	OnlyUserCerts bool // it covers end-entity certificates only
	OnlyCACerts   bool // it covers CA certificates only

	// Freshest are the URLs of the delta CRLs to this full CRL.
	Freshest []string
}

// IssuedCRL tells of a CRL that was written.
type IssuedCRL struct {
	SHA256  [32]byte // of its DER
	Size    int64    // in octets
	Entries int64
}

// WriteCRL signs a CRL with the given entries and writes its DER to w. It holds no
// more than a few entries in memory: they go through a temporary file without a
// name ($TMPDIR), since a CRL begins with its length. Only Ed25519 needs all of it
// in memory, to sign. The entries must not name a serial twice.
//
// Nothing is written before the signature is there and verified. What was written
// before an error is not a CRL.
func (i *Issuer) WriteCRL(w io.Writer, r CRLRequest, entries iter.Seq2[RevokedCertificate, error]) (IssuedCRL, error) {
	fail := func(err error) (IssuedCRL, error) {
		return IssuedCRL{}, fmt.Errorf("CRL of issuer %q: %w", i.name, err)
	}
	// 1. May this issuer sign this?
	if i.certificate == nil || i.certificate.KeyUsage != 0 && i.certificate.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return fail(errors.New("its certificate may not sign CRLs: key_usage lacks cRLSign"))
	}
	r.ThisUpdate, r.NextUpdate = r.ThisUpdate.UTC().Truncate(time.Second), r.NextUpdate.UTC().Truncate(time.Second)
	if err := r.check(i.certificate); err != nil {
		return fail(err)
	}
	// 2. Encode the entries: their length stands before them.
	s, err := newSpool()
	if err != nil {
		return fail(err)
	}
	defer s.close()
	var entry []byte
	for e, err := range entries {
		if err == nil {
			entry, err = appendRevoked(entry[:0], e, r)
		}
		if err == nil {
			err = s.add(entry)
		}
		if err != nil {
			return fail(err)
		}
	}
	// 3. Lint a CRL with the first of them, under a signature of zeros.
	algorithm, err := i.algorithm.Marshal()
	if err != nil {
		return fail(err)
	}
	extensions, err := crlExtensions(i.certificate, r)
	if err != nil {
		return fail(err)
	}
	tbs := crlTBS{algorithm: algorithm, issuer: i.subject, thisUpdate: r.ThisUpdate, nextUpdate: r.NextUpdate, extensions: extensions}
	if i.linter != nil {
		sample := bytes.Join([][]byte{tbs.before(int64(len(s.sample))), s.sample, tbs.extensions}, nil)
		draft, err := i.assemble(sample, make([]byte, 64))
		if err == nil {
			err = i.linter.CheckCRL(draft)
		}
		if err != nil {
			return fail(fmt.Errorf("it would be bad: %w", err))
		}
	}
	// 4. Sign, and verify.
	before := tbs.before(s.size)
	body := func() (io.Reader, error) {
		middle, err := s.reader()
		return io.MultiReader(bytes.NewReader(before), middle, bytes.NewReader(tbs.extensions)), err
	}
	signature, digest, err := i.signStream(body)
	if err != nil {
		return fail(err)
	}
	// 5. Write, and see that it is what was signed.
	after := append([]byte(nil), algorithm...)
	after = appendHeader(after, cbasn1.BIT_STRING, int64(len(signature))+1)
	after = append(append(after, 0), signature...)
	tbsSize := int64(len(before)) + s.size + int64(len(tbs.extensions))
	out := IssuedCRL{Entries: s.count}
	whole := sha256.New()
	counted := io.MultiWriter(w, whole, (*counter)(&out.Size))
	if _, err := counted.Write(appendHeader(nil, cbasn1.SEQUENCE, tbsSize+int64(len(after)))); err != nil {
		return fail(err)
	}
	content, err := body()
	if err != nil {
		return fail(err)
	}
	again := i.newHash()
	if _, err := io.CopyBuffer(io.MultiWriter(counted, again), content, make([]byte, spoolBuffer)); err != nil {
		return fail(err)
	}
	if _, err := counted.Write(after); err != nil {
		return fail(err)
	}
	if !bytes.Equal(again.Sum(nil), digest) {
		return fail(errors.New("its entries changed while they were written: is the disk of the temporary file sound?"))
	}
	whole.Sum(out.SHA256[:0])
	return out, nil
}

func (r CRLRequest) check(issuer *Certificate) error {
	number := func(n *big.Int) bool { return n.Sign() >= 0 && n.BitLen() < 8*20 } // the sign has a bit too
	switch {
	case r.Number == nil || !number(r.Number):
		return fmt.Errorf("number %v is not one of at most 20 octets", r.Number)
	case r.BaseNumber != nil && (!number(r.BaseNumber) || r.BaseNumber.Cmp(r.Number) >= 0):
		return fmt.Errorf("base number %v is not below its own, %v", r.BaseNumber, r.Number)
	case !r.NextUpdate.After(r.ThisUpdate):
		return fmt.Errorf("next update %s is not after this update %s", r.NextUpdate.Format(time.RFC3339), r.ThisUpdate.Format(time.RFC3339))
	case r.ThisUpdate.Before(issuer.NotBefore) || r.ThisUpdate.After(issuer.NotAfter):
		return fmt.Errorf("%s is not within the validity of its certificate, %s to %s", r.ThisUpdate.Format(time.RFC3339),
			issuer.NotBefore.Format(time.RFC3339), issuer.NotAfter.Format(time.RFC3339))
	case r.OnlyUserCerts && r.OnlyCACerts:
		return errors.New("it can't be only for end entities and only for CAs")
	case r.BaseNumber != nil && len(r.Freshest) > 0:
		return errors.New("a delta CRL has no delta CRLs of its own")
	}
	return nil
}

// crlTBS is a TBSCertList without its entries.
type crlTBS struct {
	algorithm              []byte
	issuer                 Name
	thisUpdate, nextUpdate time.Time
	extensions             []byte
}

// before returns what stands before size octets of entries.
func (t crlTBS) before(size int64) []byte {
	var b cryptobyte.Builder
	b.AddASN1Int64(1) // v2
	b.AddBytes(t.algorithm)
	b.AddBytes(t.issuer)
	addTime(&b, t.thisUpdate)
	addTime(&b, t.nextUpdate)
	head := b.BytesOrPanic()
	if size > 0 { // an empty list is left out
		head = appendHeader(head, cbasn1.SEQUENCE, size)
	}
	out := appendHeader(nil, cbasn1.SEQUENCE, int64(len(head))+size+int64(len(t.extensions)))
	return append(out, head...)
}

// crlExtensions writes the crlExtensions with their outer tag.
func crlExtensions(issuer *Certificate, r CRLRequest) ([]byte, error) {
	list, err := r.extensions(issuer)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { addExtensions(b, list) })
	return b.Bytes()
}

// CheckExtensions fails unless the CRL has the extensions that a CRL for the request
// by this issuer has, and no others.
func (l *RevocationList) CheckExtensions(r CRLRequest, issuer *Certificate) error {
	want, err := r.extensions(issuer)
	if err != nil {
		return err
	}
	for _, w := range want {
		if !slices.ContainsFunc(l.Extensions, func(x pkix.Extension) bool {
			return x.Id.Equal(w.oid) && x.Critical == w.critical && bytes.Equal(x.Value, w.value)
		}) {
			return fmt.Errorf("extension %v is not the one that was asked for", w.oid)
		}
	}
	if len(l.Extensions) != len(want) {
		return errors.New("it has extensions that nobody asked for")
	}
	return nil
}

func (r CRLRequest) extensions(issuer *Certificate) ([]extension, error) {
	akid := issuer.SubjectKeyId
	if len(akid) == 0 {
		return nil, errors.New("it has no subject key identifier")
	}
	integer := func(n *big.Int) []byte {
		var b cryptobyte.Builder
		b.AddASN1BigInt(n)
		return b.BytesOrPanic()
	}
	list := []extension{authorityKeyExtension(akid), {oidCRLNumber, false, integer(r.Number)}}
	if r.BaseNumber != nil {
		list = append(list, extension{oidDeltaCRLIndicator, true, integer(r.BaseNumber)})
	}
	point := issuingPoint{userCerts: r.OnlyUserCerts, caCerts: r.OnlyCACerts}
	for _, s := range r.Points {
		name, err := parseURL(s)
		if err != nil {
			return nil, err
		}
		point.names = append(point.names, name)
	}
	if len(point.names) > 0 || point.userCerts || point.caCerts {
		value, err := point.marshal()
		if err != nil {
			return nil, err
		}
		list = append(list, extension{oidIssuingPoint, true, value})
	}
	if len(r.Freshest) > 0 {
		var b cryptobyte.Builder
		if err := addCRLDistribution(&b, r.Freshest); err != nil {
			return nil, err
		}
		value, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		list = append(list, extension{oidFreshestCRL, false, value})
	}
	return list, nil
}

// appendRevoked appends the encoding of one entry.
func appendRevoked(b []byte, e RevokedCertificate, r CRLRequest) ([]byte, error) {
	serial := e.Serial
	switch {
	case len(serial) == 0 || serial[0] == 0 || len(serial) > 20 || len(serial) == 20 && serial[0] >= 0x80:
		return nil, fmt.Errorf("serial %.40x is not a positive number of at most 20 octets", serial)
	case e.Time.After(r.ThisUpdate.Add(time.Second - 1)): // it has fractions
		return nil, fmt.Errorf("serial %x was revoked on %s, after the CRL's date %s", serial, e.Time.UTC().Format(time.RFC3339), r.ThisUpdate.Format(time.RFC3339))
	case !e.Reason.Valid():
		return nil, fmt.Errorf("serial %x: %v is unknown", serial, e.Reason)
	case e.Reason == RemoveFromCRL && r.BaseNumber == nil:
		return nil, fmt.Errorf("serial %x: removeFromCRL is for delta CRLs only", serial)
	}
	var content [96]byte
	c := content[:0]
	// 1. Serial number and date.
	if serial[0] >= 0x80 {
		c = append(c, byte(cbasn1.INTEGER), byte(len(serial)+1), 0)
	} else {
		c = append(c, byte(cbasn1.INTEGER), byte(len(serial)))
	}
	c = append(c, serial...)
	t := e.Time.UTC()
	if year := t.Year(); year >= 1950 && year < 2050 {
		c = append(c, byte(cbasn1.UTCTime), 13)
		c = appendTime(appendDigits(c, year%100), t)
	} else {
		c = appendGeneralizedTime(c, t)
	}
	// 2. Extensions. Unspecified is left out (RFC 5280, Section 5.3.1).
	size := 0
	if e.Reason != Unspecified {
		size += 2 + len(reasonCodePrefix) + 1
	}
	if !e.Invalidity.IsZero() {
		size += 2 + len(invalidityDatePrefix) + 15
	}
	if size > 0 {
		c = append(c, byte(cbasn1.SEQUENCE), byte(size))
	}
	if e.Reason != Unspecified {
		c = append(c, byte(cbasn1.SEQUENCE), byte(len(reasonCodePrefix)+1))
		c = append(append(c, reasonCodePrefix...), byte(e.Reason))
	}
	if !e.Invalidity.IsZero() {
		c = append(c, byte(cbasn1.SEQUENCE), byte(len(invalidityDatePrefix)+15))
		c = append(c, invalidityDatePrefix[:len(invalidityDatePrefix)-2]...)
		c = appendGeneralizedTime(c, e.Invalidity.UTC())
	}
	return append(append(b, byte(cbasn1.SEQUENCE), byte(len(c))), c...), nil
}

func appendGeneralizedTime(b []byte, t time.Time) []byte {
	b = append(b, byte(cbasn1.GeneralizedTime), 15)
	return appendTime(appendDigits(appendDigits(b, t.Year()/100), t.Year()%100), t)
}

// appendTime appends what stands after the year.
func appendTime(b []byte, t time.Time) []byte {
	_, month, day := t.Date()
	hour, minute, second := t.Clock()
	for _, n := range [...]int{int(month), day, hour, minute, second} {
		b = appendDigits(b, n)
	}
	return append(b, 'Z')
}

func appendDigits(b []byte, n int) []byte { return append(b, '0'+byte(n/10), '0'+byte(n%10)) }

// appendHeader appends a tag and a length in DER.
func appendHeader(b []byte, tag cbasn1.Tag, length int64) []byte {
	b = append(b, byte(tag))
	if length < 0x80 {
		return append(b, byte(length))
	}
	n := 1
	for length>>(8*n) > 0 {
		n++
	}
	b = append(b, 0x80|byte(n))
	for n--; n >= 0; n-- {
		b = append(b, byte(length>>(8*n)))
	}
	return b
}

// newHash returns the hash that the issuer signs. Ed25519 hashes by itself, in two
// passes; there it is only for comparing what was written with what was signed.
func (i *Issuer) newHash() hash.Hash {
	if i.algorithm.Scheme == spki.EdDSA {
		return sha256.New()
	}
	return i.algorithm.Hash.New()
}

// signStream signs what body reads, verifies the signature, and returns it with the
// hash of what it read.
func (i *Issuer) signStream(body func() (io.Reader, error)) (signature, digest []byte, err error) {
	content, err := body()
	if err != nil {
		return nil, nil, err
	}
	h := i.newHash()
	var message bytes.Buffer
	to := io.Writer(h)
	if i.algorithm.Scheme == spki.EdDSA {
		to = io.MultiWriter(h, &message)
	}
	if _, err := io.CopyBuffer(to, content, make([]byte, spoolBuffer)); err != nil {
		return nil, nil, err
	}
	digest = h.Sum(nil)
	if i.algorithm.Scheme == spki.EdDSA {
		signature, err = i.algorithm.Sign(i.signer, message.Bytes())
	} else {
		signature, err = i.algorithm.SignDigest(i.signer, digest)
	}
	return signature, digest, err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
