package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// fake is a PKCS#11 library with tokens in memory, to which a test does what
// real ones do rarely.
type fake struct {
	mu          sync.Mutex
	initialized bool
	inits       int
	slotted     map[uint]*fakeToken
	sessions    map[uint]*fakeSession
	next        uint // handle
	faults      map[string][]error
	after       map[string][]error // like faults, but the call is carried out
	calls       map[string]int
	most        int // sessions that were open at a time
	has         map[uint]mechanismInfo
	mangle      func(template map[uint][]byte) // what a token makes of a private key's template
	refuses     map[uint]rv                    // attributes that it does not take
	broken      map[uint]bool                  // slots that can't be read
	onRestart   func()
}

type fakeToken struct {
	info    tokenInfo
	pin     string
	tries   int // left
	login   bool
	objects map[uint]*fakeObject
}

type fakeSession struct {
	slot  uint
	write bool
}

type fakeObject struct {
	attributes map[uint][]byte
	key        crypto.Signer // of a private key
}

const fakePIN = "271828"

func newFake() *fake {
	all := mechanismInfo{256, 4096, ckfSign | ckfGenerateKeyPair | ckfUnwrap}
	f := &fake{
		slotted: map[uint]*fakeToken{}, sessions: map[uint]*fakeSession{}, next: 100, faults: map[string][]error{}, after: map[string][]error{},
		calls: map[string]int{}, refuses: map[uint]rv{},
		has: map[uint]mechanismInfo{ckmRSAKeyPairGen: {1024, 4096, ckfGenerateKeyPair}, ckmECKeyPairGen: {256, 521, ckfGenerateKeyPair}},
	}
	for _, m := range slices.Concat(mechanismsPKCS1, mechanismsPSS, mechanismsECDSA) {
		f.has[m] = all
	}
	f.slotted[7] = newFakeToken("root", "1")
	return f
}

func newFakeToken(label, serial string) *fakeToken {
	return &fakeToken{
		info: tokenInfo{label: label, serial: serial, manufacturer: "Fake", model: "F", freePublic: noLimit, freePrivate: noLimit,
			flags: ckfTokenInitialized | ckfLoginRequired | ckfUserPINInitialized},
		pin: fakePIN, tries: 3, objects: map[uint]*fakeObject{},
	}
}

// newFakeSystem returns a system with the fake as its only library.
func newFakeSystem(t testing.TB, f *fake) *system {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{EnvModule: path, EnvPIN: fakePIN}
	s := newSystem(func(string) (cryptoki, error) { return f, nil })
	s.env = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	s.ask = func(string) ([]byte, error) { return nil, errNoTerminal }
	s.sleep = func(time.Duration) {}
	return s
}

// enter counts a call and returns the fault that was ordered for it.
func (f *fake) enter(name string) error {
	f.calls[name]++
	if list := f.faults[name]; len(list) > 0 {
		f.faults[name] = list[1:]
		return list[0]
	}
	if !f.initialized && name != "initialize" {
		return ckrNotInitialized
	}
	return nil
}

// leave returns the fault that was ordered for after a call.
func (f *fake) leave(name string) error {
	if list := f.after[name]; len(list) > 0 {
		f.after[name] = list[1:]
		return list[0]
	}
	return nil
}

// lose ends all sessions and logins, and gives objects other handles, as pulling
// a token out does. The token comes back in slot to; 0 keeps it away.
func (f *fake) lose(to uint) *fakeToken {
	f.mu.Lock()
	defer f.mu.Unlock()
	var t *fakeToken
	for _, t = range f.slotted {
	}
	f.sessions = map[uint]*fakeSession{}
	t.login = false
	objects := map[uint]*fakeObject{}
	for _, o := range t.objects {
		f.next++
		objects[f.next] = o
	}
	t.objects = objects
	f.slotted = map[uint]*fakeToken{}
	if to != 0 {
		f.slotted[to] = t
	}
	return t
}

func (f *fake) initialize() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("initialize"); err != nil {
		return err
	}
	if f.initialized {
		return ckrAlreadyInitialized
	}
	f.initialized = true
	f.inits++
	return nil
}

func (f *fake) finalize() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.initialized = false
	return nil
}

func (f *fake) restart() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls["restart"]++
	f.initialized = true
	f.sessions = map[uint]*fakeSession{}
	for _, t := range f.slotted {
		t.login = false
	}
	if f.onRestart != nil {
		f.onRestart()
	}
	return nil
}

func (f *fake) info() (libraryInfo, error) { return libraryInfo{"Fake", "Library", 3, 1}, nil }

func (f *fake) slots() ([]uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("slots"); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(f.slotted)), nil
}

func (f *fake) slotInfo(uint) (slotInfo, error) { return slotInfo{"Slot", "Fake"}, nil }

func (f *fake) tokenInfo(slot uint) (tokenInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.slotted[slot]
	if t == nil {
		return tokenInfo{}, ckrTokenNotPresent
	}
	if f.broken[slot] {
		return tokenInfo{}, ckrGeneralError
	}
	i := t.info
	switch t.tries {
	case 0:
		i.flags |= ckfUserPINLocked
	case 1:
		i.flags |= ckfUserPINFinalTry
	case 2:
		i.flags |= ckfUserPINCountLow
	}
	return i, nil
}

func (f *fake) mechanisms(uint) ([]uint, error) { return slices.Collect(maps.Keys(f.has)), nil }

func (f *fake) mechanismInfo(_, m uint) (mechanismInfo, error) { return f.has[m], nil }

func (f *fake) openSession(slot uint, write bool) (uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("open"); err != nil {
		return 0, err
	}
	t := f.slotted[slot]
	if t == nil {
		return 0, ckrTokenNotPresent
	}
	if n := t.info.maxSessions; n != 0 && n != noLimit && len(f.sessions) >= int(n) {
		return 0, ckrSessionCount
	}
	f.next++
	f.sessions[f.next] = &fakeSession{slot, write}
	f.most = max(f.most, len(f.sessions))
	return f.next, nil
}

func (f *fake) closeSession(s uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sessions[s] == nil {
		return ckrSessionHandleInvalid
	}
	t := f.slotted[f.sessions[s].slot]
	delete(f.sessions, s)
	if len(f.sessions) == 0 && t != nil {
		t.login = false
	}
	return nil
}

func (f *fake) closeAllSessions(uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = map[uint]*fakeSession{}
	for _, t := range f.slotted {
		t.login = false
	}
	return nil
}

// of returns the token of a session.
func (f *fake) of(name string, session uint) (*fakeToken, error) {
	if err := f.enter(name); err != nil {
		return nil, err
	}
	s := f.sessions[session]
	if s == nil {
		return nil, ckrSessionHandleInvalid
	}
	if f.slotted[s.slot] == nil {
		return nil, ckrDeviceRemoved
	}
	return f.slotted[s.slot], nil
}

func (f *fake) login(session uint, pin []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("login", session)
	switch {
	case err != nil:
		return err
	case t.login:
		return ckrUserAlreadyLoggedIn
	case t.tries == 0:
		return ckrPINLocked
	case t.info.flags&ckfProtectedPath != 0 && len(pin) == 0:
	case string(pin) != t.pin:
		t.tries--
		return ckrPINIncorrect
	}
	t.tries, t.login = 3, true
	return nil
}

func (f *fake) logout(session uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("logout", session)
	if err == nil {
		t.login = false
	}
	return err
}

func (f *fake) find(session uint, template []attribute) ([]uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("find", session)
	if err != nil {
		return nil, err
	}
	var list []uint
	for h, o := range t.objects {
		if bytes.Equal(o.attributes[ckaPrivate], []byte{1}) && !t.login {
			continue
		}
		if !slices.ContainsFunc(template, func(a attribute) bool { return !bytes.Equal(o.attributes[a.kind], a.value) }) {
			list = append(list, h)
		}
	}
	return list, nil
}

func (f *fake) get(session, object uint, kinds ...uint) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("get", session)
	if err != nil {
		return nil, err
	}
	o := t.objects[object]
	if o == nil {
		return nil, ckrObjectHandleInvalid
	}
	var values [][]byte
	for _, k := range kinds {
		v, ok := o.attributes[k]
		if !ok {
			return nil, ckrAttributeTypeInvalid
		}
		values = append(values, v)
	}
	return values, nil
}

func (f *fake) add(t *fakeToken, template []attribute, more ...attribute) *fakeObject {
	o := &fakeObject{attributes: map[uint][]byte{}}
	for _, a := range append(slices.Clone(template), more...) {
		o.attributes[a.kind] = a.value
	}
	f.next++
	t.objects[f.next] = o
	return o
}

func (f *fake) create(session uint, template []attribute) (uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("create", session)
	if err != nil {
		return 0, err
	}
	f.add(t, template)
	return f.next, f.leave("create")
}

func (f *fake) destroy(session, object uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("destroy", session)
	if err == nil {
		delete(t.objects, object)
	}
	return err
}

var fakeRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// generateKeyPair returns the same RSA-2048 key each time, and new EC keys.
func (f *fake) generateKeyPair(session uint, m mechanism, public, private []attribute) (uint, uint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.of("generate", session)
	if err != nil {
		return 0, 0, err
	}
	for _, a := range private {
		if code := f.refuses[a.kind]; code != 0 {
			return 0, 0, code
		}
	}
	var signer crypto.Signer
	var numbers []attribute
	if m.kind == ckmRSAKeyPairGen {
		key, err := fakeRSA()
		if err != nil {
			return 0, 0, err
		}
		signer, numbers = key, []attribute{ulong(ckaKeyType, ckkRSA), octets(ckaModulus, key.N.Bytes()), octets(ckaPublicExponent, []byte{1, 0, 1})}
	} else {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return 0, 0, err
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return 0, 0, err
		}
		wrapped, err := asn1.Marshal(point)
		if err != nil {
			return 0, 0, err
		}
		params, err := asn1.Marshal(oidP256)
		if err != nil {
			return 0, 0, err
		}
		signer, numbers = key, []attribute{ulong(ckaKeyType, ckkEC), octets(ckaECParams, params), octets(ckaECPoint, wrapped)}
	}
	f.add(t, public, append(numbers, ulong(ckaClass, ckoPublicKey))...)
	pub := f.next
	o := f.add(t, private, append(numbers, ulong(ckaClass, ckoPrivateKey), boolean(ckaLocal, true))...)
	if m.kind != ckmRSAKeyPairGen {
		delete(o.attributes, ckaECPoint) // a private EC key tells no point
	}
	o.key = signer
	if f.mangle != nil {
		f.mangle(o.attributes)
	}
	return pub, f.next, f.leave("generate")
}

func (f *fake) unwrap(session uint, _ mechanism, _ uint, _ []byte, _ []attribute) (uint, error) {
	return 0, ckrMechanismInvalid
}

func (f *fake) sign(session uint, m mechanism, key uint, data []byte) ([]byte, error) {
	f.mu.Lock()
	t, err := f.of("sign", session)
	var o *fakeObject
	if err == nil {
		o = t.objects[key]
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case o == nil:
		return nil, ckrKeyHandleInvalid
	case !t.login:
		return nil, ckrUserNotLoggedIn
	}
	switch k := o.key.(type) {
	case *rsa.PrivateKey:
		if m.kind == ckmRSAPSS {
			return rsa.SignPSS(rand.Reader, k, crypto.SHA256, data, &rsa.PSSOptions{SaltLength: int(m.pss.salt)})
		}
		return rsa.SignPKCS1v15(nil, k, 0, data) // the DigestInfo is in data
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, data)
		if err != nil {
			return nil, err
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
	default:
		return nil, ckrGeneralError
	}
}
