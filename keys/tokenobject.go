package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// classNames are the object types of RFC 7512.
var classNames = map[uint]string{0: "data", ckoCertificate: "cert", ckoPublicKey: "public", ckoPrivateKey: "private", ckoSecretKey: "secret-key"}

// template describes the objects of one class that the URI means.
func (p PKCS11) template(class uint) []attribute {
	t := []attribute{ulong(ckaClass, class)}
	if p.Object != "" {
		t = append(t, octets(ckaLabel, []byte(p.Object)))
	}
	if p.ID != "" {
		t = append(t, octets(ckaID, []byte(p.ID)))
	}
	return t
}

// CheckKey reports, as an error, that a URI can't be the place of a key: a
// pkcs11: URI that names a token but no object in it.
func (u URI) CheckKey() error {
	if u.Scheme != SchemePKCS11 {
		return nil
	}
	return u.PKCS11.checkKey()
}

// Place returns what tells one place of a key from another: the path of a file,
// or the attributes of a token and an object without those that say how to get
// there.
func (u URI) Place() string {
	if u.Scheme != SchemePKCS11 {
		return u.Path
	}
	u.PKCS11.ModulePath, u.PKCS11.ModuleName, u.PKCS11.PINSource, u.PKCS11.Type = "", "", "", ""
	return u.String()
}

// checkKey is CheckKey.
func (p PKCS11) checkKey() error {
	switch {
	case p.Type != "" && p.Type != "private":
		return fmt.Errorf("type=%s is no private key", p.Type)
	case p.Object == "" && p.ID == "":
		return errors.New("it names no key in the token: add object=LABEL or id=ID")
	default:
		return nil
	}
}

// missingObject says what a token does not hold.
type missingObject struct{ what, uri string }

func (e *missingObject) Error() string {
	return fmt.Sprintf("no %s object for %q in the token", e.what, e.uri)
}

// Is makes it an fs.ErrNotExist, as for a key file.
func (e *missingObject) Is(target error) bool { return target == fs.ErrNotExist }

// one returns the only object of a class that the URI means. None is a
// *missingObject, several are an error that lists them.
func one(c cryptoki, s session, p PKCS11, class uint) (uint, error) {
	found, err := c.find(s.handle, p.template(class))
	if err != nil {
		return 0, err
	}
	switch len(found) {
	case 0:
		return 0, &missingObject{classNames[class], "pkcs11:" + p.String()}
	case 1:
		return found[0], nil
	default:
		return 0, ambiguous(c, s, p, class, found)
	}
}

func ambiguous(c cryptoki, s session, p PKCS11, class uint, found []uint) error {
	var names []string
	for _, h := range found {
		v, err := get(c, s, h, ckaLabel, ckaID)
		if err != nil {
			return err
		}
		names = append(names, PKCS11{Object: printable(v[0]), ID: string(v[1])}.String())
	}
	return fmt.Errorf("%d %s objects match %q: %s; name one by its id", len(found), classNames[class], "pkcs11:"+p.String(), strings.Join(names, " and "))
}

// printable makes text of a label, whose octets are the token's.
func printable(label []byte) string {
	if checkText(string(label)) != nil {
		return fmt.Sprintf("%q", label)
	}
	return string(label)
}

// publicKey reads the public key of a public key object, or of a private RSA key.
// It refuses keys that spki.ParsePublicKey refuses. A key of a kind that this
// program does not know is nil, without an error.
func publicKey(c cryptoki, s session, object uint) (crypto.PublicKey, error) {
	v, err := get(c, s, object, ckaKeyType)
	if err != nil {
		return nil, err
	}
	kind, ok := getUlongs(v[0])
	if !ok || len(kind) != 1 {
		return nil, errors.New("a key object without a type")
	}
	var key crypto.PublicKey
	switch kind[0] {
	case ckkRSA:
		key, err = rsaPublicKey(c, s, object)
	case ckkEC:
		key, err = ecPublicKey(c, s, object)
	case ckkECEdwards:
		key, err = edPublicKey(c, s, object)
	default:
		return nil, nil
	}
	if err != nil || key == nil {
		return nil, err
	}
	der, err := spki.MarshalPublicKey(key)
	if err != nil {
		return nil, err
	}
	return spki.ParsePublicKey(der)
}

func rsaPublicKey(c cryptoki, s session, object uint) (crypto.PublicKey, error) {
	v, err := get(c, s, object, ckaModulus, ckaPublicExponent)
	if err != nil || len(v[0]) == 0 || len(v[1]) == 0 {
		return nil, err
	}
	e := new(big.Int).SetBytes(v[1])
	if !e.IsInt64() || e.Int64() > 1<<31-1 {
		return nil, errors.New("RSA: the public exponent is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(v[0]), E: int(e.Int64())}, nil
}

func ecPublicKey(c cryptoki, s session, object uint) (crypto.PublicKey, error) {
	v, err := get(c, s, object, ckaECParams, ckaECPoint)
	if err != nil || len(v[1]) == 0 {
		return nil, err
	}
	curve := curveOf(v[0])
	if curve == nil {
		return nil, nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, ecPoint(v[1]))
	if err != nil {
		return nil, fmt.Errorf("EC: %w", err)
	}
	return key, nil
}

// ecPoint takes the OCTET STRING around a point away, which some tokens leave
// out (PKCS#11, Section 2.3.3).
func ecPoint(b []byte) []byte {
	var point []byte
	if rest, err := asn1.Unmarshal(b, &point); err == nil && len(rest) == 0 {
		return point
	}
	return b
}

var curveOIDs = []struct {
	curve elliptic.Curve
	oid   asn1.ObjectIdentifier
}{{elliptic.P256(), oidP256}, {elliptic.P384(), oidP384}, {elliptic.P521(), oidP521}}

// curveOf returns the curve of CKA_EC_PARAMS, or nil.
func curveOf(params []byte) elliptic.Curve {
	for _, c := range curveOIDs {
		if der, err := asn1.Marshal(c.oid); err == nil && bytes.Equal(der, params) {
			return c.curve
		}
	}
	return nil
}

// edwards25519 is CKA_EC_PARAMS of Ed25519: a PrintableString (PKCS#11 version
// 3.0, Section 2.3.10). Some tokens give the OID of RFC 8410.
var edwards25519 = append([]byte{0x13, 12}, "edwards25519"...)

func edPublicKey(c cryptoki, s session, object uint) (crypto.PublicKey, error) {
	v, err := get(c, s, object, ckaECParams, ckaECPoint)
	if err != nil || len(v[1]) == 0 {
		return nil, err
	}
	oid, err := asn1.Marshal(oidEd25519)
	if err != nil {
		return nil, err
	}
	point := v[1]
	if len(point) != ed25519.PublicKeySize {
		point = ecPoint(point)
	}
	if !bytes.Equal(v[0], edwards25519) && !bytes.Equal(v[0], oid) || len(point) != ed25519.PublicKeySize {
		return nil, nil // Ed448
	}
	return ed25519.PublicKey(point), nil
}

// publicOf returns the public half of a private key: from its public key object,
// which has the same CKA_ID, from the private one, or from a certificate.
func publicOf(c cryptoki, s session, private uint) (crypto.PublicKey, error) {
	v, err := get(c, s, private, ckaID, ckaLabel)
	if err != nil {
		return nil, err
	}
	same := PKCS11{ID: string(v[0])}
	if len(v[0]) == 0 {
		same.Object = string(v[1])
	}
	var found crypto.PublicKey
	if same != (PKCS11{}) {
		handles, err := c.find(s.handle, same.template(ckoPublicKey))
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			key, err := publicKey(c, s, h)
			if err != nil {
				return nil, err
			}
			if found != nil && !spki.Equal(found, key) {
				return nil, fmt.Errorf("the token holds several public keys for %q", "pkcs11:"+same.String())
			}
			found = key
		}
	}
	if found == nil {
		if found, err = publicKey(c, s, private); err != nil {
			return nil, err
		}
	}
	if found == nil && same != (PKCS11{}) {
		certs, err := certificates(c, s, same)
		if err != nil {
			return nil, err
		}
		for _, cert := range certs {
			found = cert.key
		}
	}
	if found == nil {
		return nil, errors.New("the token does not tell the public half of the key: it needs a public key object or a certificate with the same CKA_ID")
	}
	return found, nil
}

// tokenCertificate is a certificate object.
type tokenCertificate struct {
	handle uint
	der    []byte
	key    crypto.PublicKey // nil if it can't be read
}

// certificates returns the X.509 certificate objects that a URI means.
func certificates(c cryptoki, s session, p PKCS11) ([]tokenCertificate, error) {
	handles, err := c.find(s.handle, append(p.template(ckoCertificate), ulong(ckaCertificateType, 0)))
	if err != nil {
		return nil, err
	}
	var list []tokenCertificate
	for _, h := range handles {
		v, err := get(c, s, h, ckaValue)
		if err != nil {
			return nil, err
		}
		if len(v[0]) == 0 {
			continue // it lies elsewhere: CKA_URL
		}
		list = append(list, tokenCertificate{h, v[0], certificateKey(v[0])})
	}
	return list, nil
}

// certificateKey reads the public key of a certificate, or nil. What else stands
// in it is for package ca.
func certificateKey(der []byte) crypto.PublicKey {
	input := cryptobyte.String(der)
	var cert, tbs, key cryptobyte.String
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(tag0) || !tbs.SkipASN1(cbasn1.INTEGER) { // version, serial number
		return nil
	}
	for range 4 { // signature, issuer, validity, subject
		if !tbs.SkipASN1(cbasn1.SEQUENCE) {
			return nil
		}
	}
	if !tbs.ReadASN1Element(&key, cbasn1.SEQUENCE) {
		return nil
	}
	public, err := spki.ParsePublicKey(key)
	if err != nil {
		return nil
	}
	return public
}

// Mechanisms of keys, the one that is used here first: digests are made outside of
// the token. Others who use the key may let the token do that.
var (
	mechanismsPKCS1   = []uint{ckmRSAPKCS, ckmSHA256RSAPKCS, ckmSHA384RSAPKCS, ckmSHA512RSAPKCS}
	mechanismsPSS     = []uint{ckmRSAPSS, ckmSHA256RSAPSS, ckmSHA384RSAPSS, ckmSHA512RSAPSS}
	mechanismsECDSA   = []uint{ckmECDSA, ckmECDSASHA256, ckmECDSASHA384, ckmECDSASHA512}
	mechanismsEd25519 = []uint{ckmEdDSA}
)

var mechanismNames = map[uint]string{
	ckmRSAKeyPairGen: "RSA-PKCS-KEY-PAIR-GEN", ckmRSAPKCS: "RSA-PKCS", ckmSHA256RSAPKCS: "SHA256-RSA-PKCS", ckmSHA384RSAPKCS: "SHA384-RSA-PKCS", ckmSHA512RSAPKCS: "SHA512-RSA-PKCS",
	ckmRSAPSS: "RSA-PKCS-PSS", ckmSHA256RSAPSS: "SHA256-RSA-PKCS-PSS", ckmSHA384RSAPSS: "SHA384-RSA-PKCS-PSS", ckmSHA512RSAPSS: "SHA512-RSA-PKCS-PSS",
	ckmECKeyPairGen: "EC-KEY-PAIR-GEN", ckmECDSA: "ECDSA", ckmECDSASHA256: "ECDSA-SHA256", ckmECDSASHA384: "ECDSA-SHA384", ckmECDSASHA512: "ECDSA-SHA512",
	ckmECEdwardsKeyPairGen: "EC-EDWARDS-KEY-PAIR-GEN", ckmEdDSA: "EDDSA", ckmRSAOAEP: "RSA-PKCS-OAEP", ckmAESKeyWrapPad: "AES-KEY-WRAP-PAD",
}

func mechanismName(m uint) string {
	if name := mechanismNames[m]; name != "" {
		return name
	}
	return fmt.Sprintf("%#x", m)
}

// onlyPSS reports whether a key may make PSS signatures and no others. No list
// of mechanisms is no restriction.
func onlyPSS(allowed []uint) bool {
	return len(allowed) > 0 && !slices.ContainsFunc(allowed, func(m uint) bool { return !slices.Contains(mechanismsPSS, m) })
}
