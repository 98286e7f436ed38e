package ca

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// MaxCRL bounds what is read as one CRL, in octets: room for more than two million
// revoked certificates.
const MaxCRL = 128 << 20

// maxCRLExtensions bounds the extensions of one CRL, or of one of its entries.
const maxCRLExtensions = 32

var (
	oidCRLNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReasonCode        = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate    = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDeltaCRLIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint      = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshestCRL       = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// RevokedCertificate is an entry of a CRL (RFC 5280, Section 5.3).
type RevokedCertificate struct {
	Serial     []byte    // magnitude, big-endian, without leading zero octets
	Time       time.Time // of the revocation, to the second
	Reason     Reason
	Invalidity time.Time // since when the key must not be trusted; zero: not said
}

// RevocationList is a parsed CRL (RFC 5280, Section 5). Its entries stay as they
// are encoded, so that a CRL of a million takes no more memory than its octets.
type RevocationList struct {
	Raw        []byte
	RawTBS     []byte
	ThisUpdate time.Time
	NextUpdate time.Time // zero: not said
	Number     *big.Int  // nil: not said
	BaseNumber *big.Int  // of a delta CRL the base's number, else nil
	Count      int       // entries
	Extensions []pkix.Extension
	Signature  []byte

	// Algorithm is that of the signature. It is zero, and AlgorithmError says
	// why, when this program can't verify it.
	Algorithm      spki.SignatureAlgorithm
	AlgorithmError error

	issuer  Name
	entries cryptobyte.String
}

// ParseCRL reads one CRL, DER or a single PEM block. It refuses trailing data,
// version 1, and indirect CRLs. It verifies nothing: see CheckSignature.
func ParseCRL(data []byte) (*RevocationList, error) {
	if len(data) > 2*MaxCRL {
		return nil, fmt.Errorf("CRL of %d octets is too large", len(data))
	}
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a %q stands where a CRL should", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("something follows the CRL")
		}
		data = block.Bytes
	}
	if len(data) > MaxCRL {
		return nil, fmt.Errorf("CRL of %d octets is larger than %d", len(data), MaxCRL)
	}
	l, err := parseCRL(data)
	if err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	return l, nil
}

func parseCRL(der []byte) (*RevocationList, error) {
	l := &RevocationList{Raw: der}
	// 1. What is signed, and how (RFC 5280, Section 5.1.1).
	input := cryptobyte.String(der)
	var list, signedBy, tbs, algorithm, issuer cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, errors.New("malformed, or cut off")
	}
	if !input.Empty() {
		return nil, errors.New("something follows it")
	}
	var element cryptobyte.String
	var signature asn1.BitString
	if !list.ReadASN1Element(&element, cbasn1.SEQUENCE) || !list.ReadASN1Element(&signedBy, cbasn1.SEQUENCE) ||
		!list.ReadASN1BitString(&signature) || signature.BitLength%8 != 0 || !list.Empty() {
		return nil, errors.New("malformed")
	}
	l.RawTBS, l.Signature = element, signature.Bytes
	l.Algorithm, l.AlgorithmError = spki.ParseSignatureAlgorithm(signedBy)
	// 2. Version, algorithm, issuer, times (Section 5.1.2).
	element.ReadASN1(&tbs, cbasn1.SEQUENCE)
	var version int
	if !tbs.PeekASN1Tag(cbasn1.INTEGER) || !tbs.ReadASN1Integer(&version) || version != 1 {
		return nil, errors.New("is not of version 2")
	}
	if !tbs.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) || !bytes.Equal(algorithm, signedBy) {
		return nil, errors.New("names one signature algorithm inside and another one outside")
	}
	if !tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) {
		return nil, errors.New("malformed issuer")
	}
	l.issuer = Name(issuer)
	if _, err := l.issuer.attributes(); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	var ok bool
	if l.ThisUpdate, ok = readTime(&tbs); !ok {
		return nil, errors.New("malformed thisUpdate")
	}
	if tbs.PeekASN1Tag(cbasn1.UTCTime) || tbs.PeekASN1Tag(cbasn1.GeneralizedTime) {
		if l.NextUpdate, ok = readTime(&tbs); !ok {
			return nil, errors.New("malformed nextUpdate")
		}
	}
	// 3. Entries. If there are none, there is no list of them.
	if tbs.PeekASN1Tag(cbasn1.SEQUENCE) {
		if !tbs.ReadASN1(&l.entries, cbasn1.SEQUENCE) || l.entries.Empty() {
			return nil, errors.New("malformed or empty list of revoked certificates")
		}
	}
	var e RevokedCertificate
	for rest := l.entries; !rest.Empty(); l.Count++ {
		if err := readRevoked(&rest, &e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", l.Count+1, err)
		}
	}
	// 4. Extensions.
	outer := cbasn1.Tag(0).ContextSpecific().Constructed()
	var extensions cryptobyte.String
	var has bool
	if !tbs.ReadOptionalASN1(&extensions, &has, outer) || !tbs.Empty() {
		return nil, errors.New("malformed extensions, or something follows them")
	}
	if !has {
		return l, nil
	}
	var err error
	if l.Extensions, err = readExtensions(extensions); err != nil {
		return nil, err
	}
	return l, l.known()
}

// known reads the extensions that change what the CRL means.
func (l *RevocationList) known() error {
	for _, x := range l.Extensions {
		number := func(to **big.Int) error {
			value := cryptobyte.String(x.Value)
			*to = new(big.Int)
			if !value.ReadASN1Integer(*to) || !value.Empty() || (*to).Sign() < 0 || (*to).BitLen() > 8*20 {
				return fmt.Errorf("extension %v: not a number of at most 20 octets", x.Id)
			}
			return nil
		}
		var err error
		switch {
		case x.Id.Equal(oidCRLNumber):
			err = number(&l.Number)
		case x.Id.Equal(oidDeltaCRLIndicator):
			err = number(&l.BaseNumber)
		case x.Id.Equal(oidIssuingPoint):
			var point issuingPoint
			if point, err = parseIssuingPoint(x.Value); err == nil && point.indirect {
				err = errors.New("an indirect CRL, which this program does not read")
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readExtensions reads the one Extensions that s is, each OID once.
func readExtensions(s cryptobyte.String) ([]pkix.Extension, error) {
	var list cryptobyte.String
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() || list.Empty() {
		return nil, errors.New("malformed extensions")
	}
	var out []pkix.Extension
	for !list.Empty() {
		var x pkix.Extension
		var one, value cryptobyte.String
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&x.Id) {
			return nil, errors.New("malformed extension")
		}
		if one.PeekASN1Tag(cbasn1.BOOLEAN) && (!one.ReadASN1Boolean(&x.Critical) || !x.Critical) { // FALSE is the DEFAULT
			return nil, fmt.Errorf("extension %v: malformed", x.Id)
		}
		if !one.ReadASN1(&value, cbasn1.OCTET_STRING) || !one.Empty() {
			return nil, fmt.Errorf("extension %v: malformed", x.Id)
		}
		x.Value = value
		for _, o := range out {
			if o.Id.Equal(x.Id) {
				return nil, fmt.Errorf("extension %v stands twice", x.Id)
			}
		}
		if out = append(out, x); len(out) > maxCRLExtensions {
			return nil, fmt.Errorf("more than %d extensions", maxCRLExtensions)
		}
	}
	return out, nil
}

// The reason code and the invalidity date, up to their values.
var (
	reasonCodePrefix     = []byte("\x06\x03\x55\x1d\x15\x04\x03\x0a\x01")
	invalidityDatePrefix = []byte("\x06\x03\x55\x1d\x18\x04\x11\x18\x0f")
)

// readRevoked reads one entry. What stood in e is overwritten; its serial is a
// part of s.
func readRevoked(s *cryptobyte.String, e *RevokedCertificate) error {
	var entry, serial, extensions cryptobyte.String
	if !s.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1(&serial, cbasn1.INTEGER) {
		return errors.New("malformed")
	}
	*e = RevokedCertificate{}
	var ok bool
	if e.Serial, ok = magnitude(serial); !ok {
		return fmt.Errorf("serial %.40x is not a positive number of at most 20 octets", []byte(serial))
	}
	if e.Time, ok = readTime(&entry); !ok {
		return fmt.Errorf("serial %x: malformed revocation date", e.Serial)
	}
	if entry.Empty() {
		return nil
	}
	extensions = entry
	if !entry.SkipASN1(cbasn1.SEQUENCE) || !entry.Empty() {
		return fmt.Errorf("serial %x: something follows the extensions", e.Serial)
	}
	// Nearly all entries have these two at most, in this form.
	list, fast := extensions, true
	if !list.ReadASN1(&list, cbasn1.SEQUENCE) || list.Empty() {
		return fmt.Errorf("serial %x: malformed extensions", e.Serial)
	}
	for fast && !list.Empty() {
		var one cryptobyte.String
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
			return fmt.Errorf("serial %x: malformed extension", e.Serial)
		}
		reason, isReason := bytes.CutPrefix(one, reasonCodePrefix)
		date, isDate := bytes.CutPrefix(one, invalidityDatePrefix)
		switch {
		case isReason && len(reason) == 1 && e.Reason == Unspecified:
			e.Reason = Reason(reason[0])
		case isDate && e.Invalidity.IsZero():
			e.Invalidity, fast = parseTime(cbasn1.GeneralizedTime, date)
		default:
			fast = false
		}
	}
	if !fast {
		e.Reason, e.Invalidity = Unspecified, time.Time{}
		if err := readEntryExtensions(extensions, e); err != nil {
			return fmt.Errorf("serial %x: %w", e.Serial, err)
		}
	}
	if !e.Reason.Valid() {
		return fmt.Errorf("serial %x: %v is unknown", e.Serial, e.Reason)
	}
	return nil
}

// readEntryExtensions reads the extensions of one entry. Of those that RFC 5280,
// Section 5.3 knows, only the certificate issuer is critical, which makes a CRL an
// indirect one.
func readEntryExtensions(s cryptobyte.String, e *RevokedCertificate) error {
	list, err := readExtensions(s)
	if err != nil {
		return err
	}
	for _, x := range list {
		value := cryptobyte.String(x.Value)
		switch {
		case x.Id.Equal(oidReasonCode):
			var n int
			if !value.ReadASN1Enum(&n) || !value.Empty() {
				return errors.New("malformed reason")
			}
			e.Reason = Reason(n)
		case x.Id.Equal(oidInvalidityDate):
			var ok bool
			if !value.PeekASN1Tag(cbasn1.GeneralizedTime) {
				return errors.New("malformed invalidity date")
			}
			if e.Invalidity, ok = readTime(&value); !ok || !value.Empty() {
				return errors.New("malformed invalidity date")
			}
		case x.Critical:
			return fmt.Errorf("critical extension %v, which this program does not know", x.Id)
		}
	}
	return nil
}

// magnitude returns a positive DER INTEGER without its sign octet.
func magnitude(integer []byte) ([]byte, bool) {
	switch {
	case len(integer) == 0 || len(integer) > 21 || integer[0]&0x80 != 0:
		return nil, false
	case integer[0] != 0:
		return integer, len(integer) <= 20
	case len(integer) == 1 || integer[1]&0x80 == 0: // zero, or a second encoding
		return nil, false
	default:
		return integer[1:], true
	}
}

// readTime reads a Time in the one form that RFC 5280, Section 4.1.2.5 allows.
func readTime(s *cryptobyte.String) (time.Time, bool) {
	var value cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1(&value, &tag) {
		return time.Time{}, false
	}
	return parseTime(tag, value)
}

func parseTime(tag cbasn1.Tag, value []byte) (time.Time, bool) {
	want := len("YYMMDDHHMMSSZ")
	if tag == cbasn1.GeneralizedTime {
		want = len("YYYYMMDDHHMMSSZ")
	}
	if tag != cbasn1.UTCTime && tag != cbasn1.GeneralizedTime || len(value) != want || value[want-1] != 'Z' {
		return time.Time{}, false
	}
	digits := value[:want-1]
	for _, c := range digits {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	two := func(i int) int { return int(digits[i]-'0')*10 + int(digits[i+1]-'0') }
	year := two(0)
	if tag == cbasn1.GeneralizedTime {
		year = year*100 + two(2)
		digits = digits[2:]
	} else if year += 1900; year < 1950 {
		year += 100
	}
	month, day, hour, minute, second := two(2), two(4), two(6), two(8), two(10)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// time.Date carries what is too much into the next unit.
	ok := month >= 1 && month <= 12 && t.Day() == day && hour < 24 && minute < 60 && second < 60
	return t, ok
}

// Issuer returns the name of the CRL's issuer.
func (l *RevocationList) Issuer() Name { return l.issuer }

// Entries yields the revoked certificates in the order of the CRL.
func (l *RevocationList) Entries() iter.Seq[RevokedCertificate] {
	return func(yield func(RevokedCertificate) bool) {
		var e RevokedCertificate
		for rest := l.entries; !rest.Empty(); {
			if readRevoked(&rest, &e) != nil || !yield(e) { // ParseCRL has read them all
				return
			}
		}
	}
}

// CheckSignature verifies the CRL's signature with the issuer's key.
func (l *RevocationList) CheckSignature(key crypto.PublicKey) error {
	if l.AlgorithmError != nil {
		return l.AlgorithmError
	}
	return l.Algorithm.Verify(key, l.RawTBS, l.Signature)
}
