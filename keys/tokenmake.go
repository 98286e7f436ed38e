package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// TokenUse says what a key in a token is to be and to do.
type TokenUse struct {
	Type spki.KeyType // one that spki.ParseKeyType reads
	PSS  bool         // of type RSA: PSS signatures too, beside PKCS#1 v1.5
}

// mechanisms lists what the key may be used with; the first of each kind is what
// this program uses.
func (u TokenUse) mechanisms() []uint {
	switch {
	case u.Type.Kind == spki.RSAPSS:
		return mechanismsPSS
	case u.Type.Kind == spki.RSA && u.PSS:
		return slices.Concat(mechanismsPKCS1, mechanismsPSS)
	case u.Type.Kind == spki.RSA:
		return mechanismsPKCS1
	case u.Type.Kind == spki.EC:
		return mechanismsECDSA
	default:
		return mechanismsEd25519
	}
}

// needed lists the mechanisms without which the key is of no use.
func (u TokenUse) needed() []uint {
	switch {
	case u.Type.Kind == spki.RSAPSS:
		return []uint{ckmRSAPSS}
	case u.Type.Kind == spki.RSA && u.PSS:
		return []uint{ckmRSAPKCS, ckmRSAPSS}
	case u.Type.Kind == spki.RSA:
		return []uint{ckmRSAPKCS}
	case u.Type.Kind == spki.EC:
		return []uint{ckmECDSA}
	default:
		return []uint{ckmEdDSA}
	}
}

func (u TokenUse) generator() uint {
	switch u.Type.Kind {
	case spki.RSA, spki.RSAPSS:
		return ckmRSAKeyPairGen
	case spki.EC:
		return ckmECKeyPairGen
	default:
		return ckmECEdwardsKeyPairGen
	}
}

// bits is the size that mechanisms count in.
func (u TokenUse) bits() uint {
	switch u.Type.Kind {
	case spki.EC:
		return map[string]uint{"P-256": 256, "P-384": 384, "P-521": 521}[u.Type.Curve]
	case spki.Ed25519:
		return 256 // some tokens count 255
	default:
		return uint(u.Type.Bits)
	}
}

// TypeOf returns the type of a public key in a token, for this use: an RSA key
// counts as id-RSASSA-PSS if one of its size is wanted, since a token knows no
// difference.
func (u TokenUse) TypeOf(key crypto.PublicKey) (spki.KeyType, error) {
	is, err := spki.KeyTypeOf(key)
	if u.Type.Kind == spki.RSAPSS && is == (spki.KeyType{Kind: spki.RSA, Bits: u.Type.Bits}) {
		return u.Type, nil
	}
	return is, err
}

// fits reports, as an error, that a key of a token is not what it should be.
func (u TokenUse) fits(key crypto.PublicKey) error {
	is, err := u.TypeOf(key)
	if err == nil && is != u.Type {
		err = fmt.Errorf("it is of type %v, not %v", is, u.Type)
	}
	return err
}

// CheckToken reports, as an error, why the token of a pkcs11: URI can't hold or
// use a key: the token is not there or not writable, or lacks mechanisms or
// sizes. It needs no PIN and changes nothing.
func CheckToken(u URI, use TokenUse) error { return process.checkToken(u.PKCS11, use) }

func (s *system) checkToken(p PKCS11, use TokenUse) error {
	if err := p.checkKey(); err != nil {
		return err
	}
	t, err := s.token(p)
	if err != nil {
		return err
	}
	_, err = t.check(use)
	return err
}

// check returns the mechanisms of the token that fit the use.
func (t *token) check(use TokenUse) ([]uint, error) {
	if known, err := spki.ParseKeyType(use.Type.String()); err != nil || known != use.Type {
		return nil, fmt.Errorf("no key of type %v can be made", use.Type)
	}
	c := t.lib.c
	info, err := c.tokenInfo(t.slot)
	if err != nil {
		return nil, fmt.Errorf("token %v: %w", t.identity, err)
	}
	if info.flags&ckfWriteProtected != 0 {
		return nil, fmt.Errorf("token %v is write-protected", t.identity)
	}
	has, err := c.mechanisms(t.slot)
	if err != nil {
		return nil, fmt.Errorf("token %v: listing its mechanisms: %w", t.identity, err)
	}
	can := func(m, flag uint, verb string) error {
		if !slices.Contains(has, m) {
			return fmt.Errorf("token %v can't %s keys of type %v: it has no mechanism %s", t.identity, verb, use.Type, mechanismName(m))
		}
		i, err := c.mechanismInfo(t.slot, m)
		if err != nil {
			return fmt.Errorf("token %v: mechanism %s: %w", t.identity, mechanismName(m), err)
		}
		if i.flags&flag == 0 {
			return fmt.Errorf("token %v can't %s keys of type %v with its mechanism %s", t.identity, verb, use.Type, mechanismName(m))
		}
		bits := use.bits()
		if use.Type.Kind != spki.Ed25519 && (bits < i.minSize || i.maxSize != 0 && bits > i.maxSize) {
			return fmt.Errorf("token %v can't %s keys of type %v: %s takes %d to %d bits", t.identity, verb, use.Type, mechanismName(m), i.minSize, i.maxSize)
		}
		return nil
	}
	if err := can(use.generator(), ckfGenerateKeyPair, "generate"); err != nil {
		return nil, err
	}
	for _, m := range use.needed() {
		if err := can(m, ckfSign, "sign with"); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(slices.Clone(use.mechanisms()), func(m uint) bool { return !slices.Contains(has, m) }), nil
}

// GenerateInToken makes a key pair at a pkcs11: URI: kept in the token, private,
// sensitive, not extractable, for signatures only and, where the token can keep
// that, for the mechanisms of its use only. A token that does not keep the rest
// is refused, and the pair removed.
//
// A key that is there already is never replaced. If it is what would have been
// made, and no certificate lies beside it, a run that died has left it: it is
// returned with made false. Else the error wraps fs.ErrExist.
func GenerateInToken(u URI, use TokenUse) (signer crypto.Signer, made bool, err error) {
	return process.generate(u.PKCS11, use)
}

func (s *system) generate(p PKCS11, use TokenUse) (signer crypto.Signer, made bool, err error) {
	t, allowed, err := s.prepare(p, use)
	if err != nil {
		return nil, false, err
	}
	if k, err := t.existing(p, use); k != nil || err != nil {
		if err != nil {
			return nil, false, err
		}
		return AsType(k, use.Type), false, nil
	}
	k, err := t.make(p, use, func(c cryptoki, s session, id []byte, restricted bool) error {
		public := append(publicAttributes(), labelled(p, id)...)
		switch use.Type.Kind {
		case spki.RSA, spki.RSAPSS:
			public = append(public, ulong(ckaModulusBits, uint(use.Type.Bits)), octets(ckaPublicExponent, []byte{1, 0, 1}))
		default:
			params, err := use.params()
			if err != nil {
				return err
			}
			public = append(public, octets(ckaECParams, params))
		}
		private := append(privateAttributes(allowed, restricted), labelled(p, id)...)
		_, _, err := c.generateKeyPair(s.handle, mechanism{kind: use.generator()}, public, private)
		return err
	}, allowed)
	if err != nil {
		return nil, false, fmt.Errorf("generating a key at %q: %w", "pkcs11:"+p.String(), err)
	}
	return AsType(k, use.Type), true, nil
}

// prepare finds the token, checks what it can do, and logs in.
func (s *system) prepare(p PKCS11, use TokenUse) (*token, []uint, error) {
	if err := p.checkKey(); err != nil {
		return nil, nil, err
	}
	t, err := s.token(p)
	if err != nil {
		return nil, nil, err
	}
	allowed, err := t.check(use)
	if err != nil {
		return nil, nil, err
	}
	return t, allowed, t.login(p)
}

// labelled are the attributes by which a key is found.
func labelled(p PKCS11, id []byte) []attribute {
	list := []attribute{octets(ckaID, id)}
	if p.Object != "" {
		list = append(list, octets(ckaLabel, []byte(p.Object)))
	}
	return list
}

// params returns CKA_EC_PARAMS.
func (u TokenUse) params() ([]byte, error) {
	if u.Type.Kind == spki.Ed25519 {
		return edwards25519, nil
	}
	for _, c := range curveOIDs {
		if c.curve.Params().Name == u.Type.Curve {
			return asn1.Marshal(c.oid)
		}
	}
	return nil, fmt.Errorf("curve %q is not supported", u.Type.Curve)
}

// publicAttributes make a public key one that everybody sees, and that only
// verifies.
func publicAttributes() []attribute {
	return []attribute{boolean(ckaToken, true), boolean(ckaPrivate, false), boolean(ckaVerify, true), boolean(ckaEncrypt, false), boolean(ckaWrap, false)}
}

// privateAttributes make a private key one that only signs and
// never leaves the token.
func privateAttributes(allowed []uint, restricted bool) []attribute {
	list := []attribute{boolean(ckaToken, true), boolean(ckaPrivate, true), boolean(ckaSensitive, true), boolean(ckaExtractable, false),
		boolean(ckaSign, true), boolean(ckaDecrypt, false), boolean(ckaUnwrap, false), boolean(ckaDerive, false)}
	if restricted {
		list = append(list, ulong(ckaAllowedMechanisms, allowed...))
	}
	return list
}

// existing returns the key that is at a URI already, if it may be taken for the
// one that was to be made, or nil if there is none.
func (t *token) existing(p PKCS11, use TokenUse) (k *TokenKey, err error) {
	err = t.do(true, func(c cryptoki, s session) error {
		k = nil
		where := "pkcs11:" + p.String()
		h, err := one(c, s, p, ckoPrivateKey)
		if none := new(missingObject); errors.As(err, &none) {
			for _, class := range []uint{ckoPublicKey, ckoCertificate} {
				if others, err := c.find(s.handle, p.template(class)); err != nil || len(others) > 0 {
					return errors.Join(err, fmt.Errorf("a %s object without a private key is at %q: it stays untouched: %w", classNames[class], where, fs.ErrExist))
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
		found, err := t.key(c, s, h)
		if err == nil {
			err = use.fits(found.public)
		}
		if err == nil {
			err = checkKept(c, s, h, nil)
		}
		if err != nil {
			return fmt.Errorf("a key is at %q, and stays untouched: %w: %w", where, err, fs.ErrExist)
		}
		certs, err := certificates(c, s, PKCS11{ID: found.where.ID})
		if err != nil {
			return err
		}
		if len(certs) > 0 && found.where.ID != "" {
			return fmt.Errorf("a key with a certificate is at %q: it belongs to another PKI, or the record of this one was lost: %w", where, fs.ErrExist)
		}
		k = found
		return nil
	})
	return k, err
}

// make lets create put a key pair with a new CKA_ID into the token, checks what
// became of it, and removes it if it is not as it should be.
func (t *token) make(p PKCS11, use TokenUse, create func(c cryptoki, s session, id []byte, restricted bool) error, allowed []uint) (k *TokenKey, err error) {
	id := []byte(p.ID)
	if len(id) == 0 {
		id = make([]byte, 20) // as long as the usual SHA-1 of the key, which is not known yet
		if _, err := rand.Read(id); err != nil {
			return nil, err
		}
	}
	where := PKCS11{Object: p.Object, ID: string(id)}
	restricted := true
	err = t.do(true, func(c cryptoki, s session) error {
		// Called again after the session was lost, the pair may be there: the id is
		// ours alone, or was free when existing looked.
		h, err := one(c, s, where, ckoPrivateKey)
		if none := new(missingObject); errors.As(err, &none) {
			err = create(c, s, id, restricted)
			if restricted && ckrAttributeTypeInvalid.is(err, ckrAttributeValueInvalid, ckrAttributeReadOnly, ckrTemplateInconsistent) {
				restricted = false // many tokens don't know CKA_ALLOWED_MECHANISMS
				err = create(c, s, id, restricted)
			}
			if err == nil {
				h, err = one(c, s, where, ckoPrivateKey)
			}
		}
		if err != nil {
			return err
		}
		if k, err = t.key(c, s, h); err != nil {
			return err
		}
		want := allowed
		if !restricted {
			want = nil
		}
		if err := checkKept(c, s, h, want); err != nil {
			return err
		}
		if err := use.fits(k.public); err != nil {
			return err
		}
		// Somebody else may have made one of the same name meanwhile.
		_, err = one(c, s, p, ckoPrivateKey)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, t.remove(where))
	}
	return k, nil
}

// checkKept reports, as an error, that a private key is not kept as it should be.
// allowed, if not nil, are its mechanisms.
func checkKept(c cryptoki, s session, key uint, allowed []uint) error {
	rules := []struct {
		kind uint
		name string
		want bool
		must bool // the attribute has to be there
	}{
		{ckaToken, "CKA_TOKEN", true, true},
		{ckaPrivate, "CKA_PRIVATE", true, true},
		{ckaSensitive, "CKA_SENSITIVE", true, true},
		{ckaExtractable, "CKA_EXTRACTABLE", false, true},
		{ckaSign, "CKA_SIGN", true, true},
		{ckaDecrypt, "CKA_DECRYPT", false, false},
		{ckaUnwrap, "CKA_UNWRAP", false, false},
		{ckaDerive, "CKA_DERIVE", false, false},
	}
	for _, r := range rules {
		v, err := get(c, s, key, r.kind)
		if err != nil {
			return err
		}
		if len(v[0]) == 0 && !r.must {
			continue
		}
		if len(v[0]) != 1 || (v[0][0] != 0) != r.want {
			return fmt.Errorf("the token keeps the key with %s not %v", r.name, r.want)
		}
	}
	if allowed == nil {
		return nil
	}
	v, err := get(c, s, key, ckaAllowedMechanisms)
	if err != nil {
		return err
	}
	is, ok := getUlongs(v[0])
	if !ok || !sameSet(is, allowed) {
		return errors.New("the token took CKA_ALLOWED_MECHANISMS, but does not keep them")
	}
	return nil
}

func sameSet(a, b []uint) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// remove destroys a key pair with exactly this label and id, but no certificate.
func (t *token) remove(where PKCS11) error {
	return t.do(true, func(c cryptoki, s session) error {
		for _, class := range []uint{ckoPrivateKey, ckoPublicKey} {
			found, err := c.find(s.handle, where.template(class))
			if err != nil {
				return err
			}
			for _, h := range found {
				if err := c.destroy(s.handle, h); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Destroy removes the key from the token, for good. It is for keys that have
// signed nothing that anybody has seen.
func (k *TokenKey) Destroy() error {
	if k.where.ID == "" {
		return errors.New("the key has no CKA_ID: it is not ours to remove")
	}
	return k.token.remove(k.where)
}

// StoreCertificate puts a certificate beside its key at a pkcs11: URI, with the
// same label and CKA_ID, and removes those that were there under both.
func StoreCertificate(u URI, der []byte) error { return process.storeCertificate(u.PKCS11, der) }

func (s *system) storeCertificate(p PKCS11, der []byte) error {
	subject, issuer, serial, err := certificateNames(der)
	if err != nil {
		return err
	}
	t, err := s.token(p)
	if err != nil {
		return err
	}
	if err := t.login(p); err != nil {
		return err
	}
	return t.do(true, func(c cryptoki, s session) error {
		h, err := one(c, s, p, ckoPrivateKey)
		if err != nil {
			return err
		}
		key, err := t.key(c, s, h)
		if err != nil {
			return err
		}
		if of := certificateKey(der); of == nil || !SameKey(of, key.public) {
			return fmt.Errorf("the certificate is not of the key at %q", "pkcs11:"+p.String())
		}
		old, err := certificates(c, s, key.where)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(old, func(o tokenCertificate) bool { return bytes.Equal(o.der, der) }) {
			template := []attribute{ulong(ckaClass, ckoCertificate), ulong(ckaCertificateType, 0), boolean(ckaToken, true), boolean(ckaPrivate, false),
				octets(ckaSubject, subject), octets(ckaIssuer, issuer), octets(ckaSerialNumber, serial), octets(ckaValue, der)}
			if _, err := c.create(s.handle, append(template, labelled(key.where, []byte(key.where.ID))...)); err != nil {
				return err
			}
		}
		for _, o := range old {
			if bytes.Equal(o.der, der) {
				continue
			}
			if err := c.destroy(s.handle, o.handle); err != nil {
				return err
			}
		}
		return nil
	})
}

// SameKey compares public keys as a token does, which knows no id-RSASSA-PSS: of
// RSA keys, only the numbers.
func SameKey(a, b crypto.PublicKey) bool {
	if k, ok := spki.RSAKey(a); ok {
		a = k
	}
	if k, ok := spki.RSAKey(b); ok {
		b = k
	}
	return spki.Equal(a, b)
}

// certificateNames returns the DER of what a certificate object is found by.
func certificateNames(der []byte) (subject, issuer, serial []byte, err error) {
	input := cryptobyte.String(der)
	var cert, tbs, subj, iss, number cryptobyte.String
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !input.Empty() || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(tag0) || !tbs.ReadASN1Element(&number, cbasn1.INTEGER) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.ReadASN1Element(&iss, cbasn1.SEQUENCE) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.ReadASN1Element(&subj, cbasn1.SEQUENCE) {
		return nil, nil, nil, errors.New("not an X.509 certificate")
	}
	return subj, iss, number, nil
}

// ImportToToken puts a key from a file into a token, at a pkcs11: URI where
// nothing is. From then on it is kept like a generated one, but the token did not
// make it, and says so (CKA_LOCAL). If wrapped, the key goes into the token
// encrypted, with AES-256 (RFC 5649), under a key that goes there under an RSA
// key which the token makes for this; else it goes as it is, past whatever lies
// between this program and the token.
func ImportToToken(u URI, use TokenUse, signer crypto.Signer, wrapped bool) (crypto.Signer, error) {
	return process.importKey(u.PKCS11, use, signer, wrapped)
}

func (s *system) importKey(p PKCS11, use TokenUse, signer crypto.Signer, wrapped bool) (crypto.Signer, error) {
	if pss, ok := signer.(*spki.PSSSigner); ok {
		signer = pss.Signer
	}
	if err := use.fits(signer.Public()); err != nil {
		return nil, err
	}
	secret, err := secretParts(signer)
	if err != nil {
		return nil, err
	}
	t, allowed, err := s.prepare(p, use)
	if err != nil {
		return nil, err
	}
	if wrapped {
		if err := t.checkWrapping(); err != nil {
			return nil, err
		}
	}
	if k, err := t.existing(p, use); err != nil {
		return nil, err
	} else if k != nil {
		return nil, fmt.Errorf("a key is at %q: it stays untouched: %w", "pkcs11:"+p.String(), fs.ErrExist)
	}
	k, err := t.make(p, use, func(c cryptoki, s session, id []byte, restricted bool) error {
		private := append(privateAttributes(allowed, restricted), labelled(p, id)...)
		private = append(private, ulong(ckaClass, ckoPrivateKey), ulong(ckaKeyType, secret.kind))
		var err error
		if wrapped {
			err = unwrapInto(c, s, signer, private)
		} else {
			_, err = c.create(s.handle, slices.Concat(private, secret.private))
		}
		if err != nil {
			return err
		}
		public := []attribute{ulong(ckaClass, ckoPublicKey), ulong(ckaKeyType, secret.kind)}
		_, err = c.create(s.handle, slices.Concat(public, publicAttributes(), labelled(p, id), secret.public))
		return err
	}, allowed)
	if err != nil {
		return nil, fmt.Errorf("importing a key to %q: %w", "pkcs11:"+p.String(), err)
	}
	if !spki.Equal(k.public, signer.Public()) {
		return nil, errors.Join(errors.New("the token made another key of the one that it was given"), t.remove(k.where))
	}
	return AsType(k, use.Type), nil
}

// parts are the attributes that make up a key.
type parts struct {
	kind            uint
	private, public []attribute
}

func secretParts(signer crypto.Signer) (parts, error) {
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return parts{}, errors.New("an RSA key of more than two primes")
		}
		key.Precompute()
		public := []attribute{octets(ckaModulus, key.N.Bytes()), octets(ckaPublicExponent, bigEndian(key.E))}
		return parts{ckkRSA, append(slices.Clone(public),
			octets(ckaPrivateExponent, key.D.Bytes()), octets(ckaPrime1, key.Primes[0].Bytes()), octets(ckaPrime2, key.Primes[1].Bytes()),
			octets(ckaExponent1, key.Precomputed.Dp.Bytes()), octets(ckaExponent2, key.Precomputed.Dq.Bytes()), octets(ckaCoefficient, key.Precomputed.Qinv.Bytes())), public}, nil
	case *ecdsa.PrivateKey:
		t, err := spki.KeyTypeOf(key.Public())
		if err != nil {
			return parts{}, err
		}
		params, err := TokenUse{Type: t}.params()
		if err != nil {
			return parts{}, err
		}
		scalar, err1 := key.Bytes()
		point, err2 := key.PublicKey.Bytes()
		wrapped, err3 := asn1.Marshal(point)
		if err := errors.Join(err1, err2, err3); err != nil {
			return parts{}, err
		}
		return parts{ckkEC, []attribute{octets(ckaECParams, params), octets(ckaValue, scalar)}, []attribute{octets(ckaECParams, params), octets(ckaECPoint, wrapped)}}, nil
	case ed25519.PrivateKey:
		point, err := asn1.Marshal([]byte(key.Public().(ed25519.PublicKey)))
		if err != nil {
			return parts{}, err
		}
		return parts{ckkECEdwards, []attribute{octets(ckaECParams, edwards25519), octets(ckaValue, key.Seed())},
			[]attribute{octets(ckaECParams, edwards25519), octets(ckaECPoint, point)}}, nil
	default:
		return parts{}, fmt.Errorf("a signer of type %T can't be exported", signer)
	}
}

func bigEndian(n int) []byte {
	return bytes.TrimLeft([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, "\x00")
}

// checkWrapping reports, as an error, that the token can't unwrap a key.
func (t *token) checkWrapping() error {
	has, err := t.lib.c.mechanisms(t.slot)
	if err != nil {
		return fmt.Errorf("token %v: %w", t.identity, err)
	}
	var lacks []string
	for _, m := range []uint{ckmRSAKeyPairGen, ckmRSAOAEP, ckmAESKeyWrapPad} {
		if !slices.Contains(has, m) {
			lacks = append(lacks, mechanismName(m))
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("token %v can't take a wrapped key: it lacks %s", t.identity, strings.Join(lacks, ", "))
	}
	return nil
}
