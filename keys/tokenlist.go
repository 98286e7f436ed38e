package keys

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"tmpki/spki"
)

// Sight is what shows of a key in a token.
type Sight struct {
	Key          crypto.PublicKey // nil: none shows
	Certificates [][]byte         // DER, of the certificate objects beside the key
	Sure         bool             // no key shows, and there is none: the token was logged in to
	Err          error            // why the token can't be looked at; ErrNoToken if it is not there
}

// Look returns what shows of the keys at pkcs11: URIs, in their order. It asks
// nobody, and tries no PIN: without a login before, it sees public objects only.
func Look(uris ...URI) []Sight {
	list := make([]Sight, len(uris))
	for i, u := range uris {
		list[i] = process.look(u.PKCS11)
	}
	return list
}

func (s *system) look(p PKCS11) Sight {
	if err := p.checkKey(); err != nil {
		return Sight{Err: err}
	}
	t, err := s.token(p)
	if err != nil {
		return Sight{Err: err}
	}
	var sight Sight
	err = t.do(false, func(c cryptoki, s session) error {
		sight = Sight{Sure: s.loggedIn}
		h, err := one(c, s, p, ckoPublicKey)
		where := p
		none := new(missingObject)
		switch {
		case err == nil:
			v, err := get(c, s, h, ckaLabel, ckaID)
			if err != nil {
				return err
			}
			where = PKCS11{Object: string(v[0]), ID: string(v[1])}
			if sight.Key, err = publicKey(c, s, h); err != nil {
				return err
			}
		case !errors.As(err, &none):
			return err
		}
		certs, err := certificates(c, s, where)
		if err != nil {
			return err
		}
		for _, cert := range certs {
			sight.Certificates = append(sight.Certificates, cert.der)
			if sight.Key == nil {
				sight.Key = cert.key
			}
		}
		// With the login, the private key decides.
		if sight.Sure {
			h, err := one(c, s, p, ckoPrivateKey)
			switch {
			case errors.As(err, &none):
				sight.Key = nil
			case err != nil:
				return err
			case sight.Key == nil:
				sight.Key, err = publicOf(c, s, h)
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Sight{Err: err}
	}
	return sight
}

func (t *token) isLoggedIn() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loggedIn
}

// PINAtHand reports whether the token of a pkcs11: URI is logged in to, or its PIN
// can be had without asking anybody. It does not say that the PIN is good.
func PINAtHand(u URI) bool {
	t, err := process.token(u.PKCS11)
	return err == nil && (t.isLoggedIn() || process.hasPIN(u.PKCS11, t.identity.label))
}

// Login logs in to the token of a pkcs11: URI as its user. See TMPKI_PIN and
// pin-source for where the PIN comes from; if ask is false, nobody is asked, and
// the error wraps ErrPINNeeded.
func Login(u URI, ask bool) error {
	t, err := process.token(u.PKCS11)
	if err != nil {
		return err
	}
	if !ask && !t.isLoggedIn() && !process.hasPIN(u.PKCS11, t.identity.label) {
		return fmt.Errorf("%w at hand for token %v", ErrPINNeeded, t.identity)
	}
	return t.login(u.PKCS11)
}

// CertificatesAt returns the certificates, in DER, that a pkcs11: URI means. A URI
// without type means certificates here. No PIN is needed.
func CertificatesAt(u URI) ([][]byte, error) {
	p := u.PKCS11
	if p.Type != "" && p.Type != "cert" {
		return nil, fmt.Errorf("%q: type=%s is no certificate", u.String(), p.Type)
	}
	if p.Object == "" && p.ID == "" {
		return nil, fmt.Errorf("%q names no certificate in the token: add object=LABEL or id=ID", u.String())
	}
	t, err := process.token(p)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	err = t.do(false, func(c cryptoki, s session) error {
		list = nil
		certs, err := certificates(c, s, p)
		for _, cert := range certs {
			list = append(list, cert.der)
		}
		return err
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w", &missingObject{"cert", u.String()})
	}
	if err != nil {
		return nil, fmt.Errorf("opening a certificate: %w", err)
	}
	return list, nil
}

// Token is a token as it is. What it does not tell is "", nil or -1.
type Token struct {
	URI             URI // names the token and its library, no object
	Library         string
	Slot            uint
	SlotDescription string
	Label           string
	Manufacturer    string
	Model           string
	Serial          string
	FreePublic      int64  // octets
	FreePrivate     int64  // octets
	PIN             string // "ok", "not set", "to be changed", "a wrong one was tried", "one try is left", "locked", or "none needed"
	Keypad          bool   // the PIN is typed at the token
	WriteProtected  bool
	LoggedIn        bool // private objects are listed
	KeyTypes        []spki.KeyType
	Objects         []Object
}

// Object is an object in a token.
type Object struct {
	Class       string // private, public, cert, secret-key, data, or a number
	Label       string
	ID          []byte
	Key         crypto.PublicKey // of a private or public key or a certificate; nil if unknown
	Certificate []byte           // DER
	Private     *KeyAttributes   // of a private key
}

// KeyAttributes are what a token says of a private key.
type KeyAttributes struct {
	Sensitive   bool
	Extractable bool
	Local       bool     // made in this token
	Uses        []string // sign, decrypt, unwrap, derive
	Mechanisms  []string // none: any that fits
}

// ListTokens lists the tokens that a pkcs11: URI means, with the objects that it
// means. Private objects show only after a login.
func ListTokens(u URI) ([]Token, error) {
	l, err := process.library(u.PKCS11)
	if err != nil {
		return nil, err
	}
	match, missing, err := l.matching(u.PKCS11)
	if err != nil {
		return nil, err
	}
	if len(match) == 0 && u.PKCS11.tokenPart() != (PKCS11{}).tokenPart() {
		return nil, missing
	}
	var list []Token
	for _, p := range match {
		t, err := l.describe(p, u.PKCS11)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func (l *library) describe(p place, u PKCS11) (Token, error) {
	use := l.use(p)
	slot, err := l.c.slotInfo(p.slot)
	if err != nil {
		return Token{}, fmt.Errorf("slot %d of %s: %w", p.slot, l.path, err)
	}
	t := Token{
		URI:     URI{Scheme: SchemePKCS11, PKCS11: PKCS11{Token: p.info.label, Serial: p.info.serial, ModulePath: u.ModulePath, ModuleName: u.ModuleName, PINSource: u.PINSource}},
		Library: l.path, Slot: p.slot, SlotDescription: slot.description,
		Label: p.info.label, Manufacturer: p.info.manufacturer, Model: p.info.model, Serial: p.info.serial,
		FreePublic: known(p.info.freePublic), FreePrivate: known(p.info.freePrivate), PIN: pinState(p.info.flags),
		Keypad:         p.info.flags&ckfProtectedPath != 0,
		WriteProtected: p.info.flags&ckfWriteProtected != 0, LoggedIn: use.isLoggedIn(),
	}
	for _, s := range []string{"rsa:2048", "rsa:3072", "rsa:4096", "rsa-pss:2048", "rsa-pss:3072", "rsa-pss:4096", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"} {
		k, err := spki.ParseKeyType(s)
		if err != nil {
			return Token{}, err
		}
		if _, err := use.check(TokenUse{Type: k}); err == nil {
			t.KeyTypes = append(t.KeyTypes, k)
		}
	}
	err = use.do(false, func(c cryptoki, s session) error {
		t.Objects = nil
		any := u.template(0)[1:]
		handles, err := c.find(s.handle, any)
		if err != nil {
			return err
		}
		for _, h := range handles {
			o, err := describeObject(c, s, h)
			if err != nil {
				return err
			}
			if u.Type == "" || u.Type == o.Class {
				t.Objects = append(t.Objects, o)
			}
		}
		return nil
	})
	slices.SortStableFunc(t.Objects, func(a, b Object) int {
		if n := bytes.Compare([]byte(a.Label), []byte(b.Label)); n != 0 {
			return n
		}
		return bytes.Compare(a.ID, b.ID)
	})
	return t, err
}

func known(n uint) int64 {
	if n == noLimit || int64(n) < 0 {
		return -1
	}
	return int64(n)
}

func pinState(flags uint) string {
	switch {
	case flags&ckfLoginRequired == 0:
		return "none needed"
	case flags&ckfUserPINInitialized == 0:
		return "not set"
	case flags&ckfUserPINLocked != 0:
		return "locked"
	case flags&ckfUserPINFinalTry != 0:
		return "one try is left"
	case flags&ckfUserPINCountLow != 0:
		return "a wrong one was tried"
	case flags&ckfUserPINToBeChanged != 0:
		return "to be changed"
	default:
		return "ok"
	}
}

func describeObject(c cryptoki, s session, h uint) (Object, error) {
	v, err := get(c, s, h, ckaClass, ckaLabel, ckaID)
	if err != nil {
		return Object{}, err
	}
	class, _ := getUlongs(v[0])
	if len(class) != 1 {
		return Object{}, errors.New("an object without a class")
	}
	o := Object{Class: classNames[class[0]], Label: string(v[1]), ID: v[2]}
	switch class[0] {
	case ckoPublicKey:
		o.Key, err = publicKey(c, s, h)
	case ckoPrivateKey:
		if o.Private, err = keyAttributes(c, s, h); err == nil {
			o.Key, _ = publicOf(c, s, h) // a list shows also what can't be used
		}
	case ckoCertificate:
		v, err = get(c, s, h, ckaValue)
		if err == nil && len(v[0]) > 0 {
			o.Certificate, o.Key = v[0], certificateKey(v[0])
		}
	default:
		if o.Class == "" {
			o.Class = fmt.Sprintf("%#x", class[0])
		}
	}
	return o, err
}

func keyAttributes(c cryptoki, s session, h uint) (*KeyAttributes, error) {
	kinds := []uint{ckaSensitive, ckaExtractable, ckaLocal, ckaSign, ckaDecrypt, ckaUnwrap, ckaDerive, ckaAllowedMechanisms}
	v, err := get(c, s, h, kinds...)
	if err != nil {
		return nil, err
	}
	set := func(i int) bool { return len(v[i]) == 1 && v[i][0] != 0 }
	a := &KeyAttributes{Sensitive: set(0), Extractable: set(1), Local: set(2)}
	for i, name := range []string{"sign", "decrypt", "unwrap", "derive"} {
		if set(3 + i) {
			a.Uses = append(a.Uses, name)
		}
	}
	allowed, _ := getUlongs(v[7])
	for _, m := range allowed {
		a.Mechanisms = append(a.Mechanisms, mechanismName(m))
	}
	return a, nil
}
