package keys

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"tmpki/spki"
)

var rsa2048 = TokenUse{Type: spki.KeyType{Kind: spki.RSA, Bits: 2048}}

// fakeKey makes a key in a fake token, and the system that it is in.
func fakeKey(t testing.TB) (*fake, *system, *TokenKey) {
	t.Helper()
	f := newFake()
	s := newFakeSystem(t, f)
	signer, made, err := s.generate(PKCS11{Token: "root", Object: "a"}, rsa2048)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	return f, s, InToken(signer)
}

func signOnce(k crypto.Signer) error {
	digest := sha256.Sum256([]byte("message"))
	signature, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}.VerifyDigest(k.Public(), digest[:], signature)
}

// TestLost: whatever a token answers when it was lost, the next signature finds
// it again, logs in again, and looks the key up again.
func TestLost(t *testing.T) {
	for _, code := range []rv{ckrSessionHandleInvalid, ckrSessionClosed, ckrDeviceRemoved, ckrTokenNotPresent, ckrTokenNotRecognized,
		ckrUserNotLoggedIn, ckrNotInitialized, ckrKeyHandleInvalid, ckrObjectHandleInvalid} {
		t.Run(code.Error(), func(t *testing.T) {
			f, _, k := fakeKey(t)
			logins := f.calls["login"]
			f.lose(9) // in another slot, with other handles
			f.faults["sign"] = []error{code}
			if err := signOnce(k); err != nil {
				t.Fatal(err)
			}
			if n := f.calls["login"] - logins; n != 1 {
				t.Errorf("%d logins", n)
			}
			// A second loss in one signature is an error, and the next one recovers.
			f.lose(9)
			f.faults["sign"] = []error{code, code}
			if err := signOnce(k); !code.is(err) {
				t.Errorf("lost twice: %v", err)
			}
			if err := signOnce(k); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestLostInParallel(t *testing.T) {
	f, _, k := fakeKey(t)
	for range 5 {
		logins := f.calls["login"]
		f.lose(9)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if err := signOnce(k); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := f.calls["login"] - logins; n != 1 {
			t.Errorf("%d logins", n)
		}
	}
}

func TestTokenAway(t *testing.T) {
	f, s, k := fakeKey(t)
	token := f.lose(0)
	err := signOnce(k)
	checkError(t, err, `no token "root" (serial 1): no token at all is there`)
	if !errors.Is(err, ErrNoToken) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is neither ErrNoToken nor ErrNotExist", err)
	}
	if f.calls["restart"] != 1 {
		t.Errorf("the library was restarted %d times, want once, to look again", f.calls["restart"])
	}
	// Another one with the same label is not it.
	f.mu.Lock()
	f.slotted[7] = newFakeToken("root", "2")
	f.mu.Unlock()
	checkError(t, signOnce(k), `no token "root" (serial 1): there are "root" (serial 2)`)
	if f.calls["login"] != 1 {
		t.Error("the other token got the PIN")
	}
	f.mu.Lock()
	f.slotted = map[uint]*fakeToken{3: token}
	f.mu.Unlock()
	if err := signOnce(k); err != nil {
		t.Errorf("back again: %v", err)
	}
	// Who finalized the library did so for us too.
	f.finalize()
	f.lose(3)
	if err := signOnce(k); err != nil || f.inits != 2 {
		t.Errorf("after C_Finalize: %v, %d times initialized", err, f.inits)
	}
	if sight := s.look(PKCS11{Object: "a"}); sight.Err != nil || sight.Key == nil || !sight.Sure {
		t.Errorf("%+v", sight)
	}
}

// TestRestart: a library that looks for tokens only when it is initialized is
// initialized again, but not over and over on account of one token.
func TestRestart(t *testing.T) {
	f, s, k := fakeKey(t)
	token := f.lose(0)
	f.onRestart = func() { f.slotted[5] = token }
	if err := signOnce(k); err != nil {
		t.Fatal(err)
	}
	// A slot that can't be read is told, and keeps nobody from the others.
	f.mu.Lock()
	f.slotted[6], f.broken = newFakeToken("other", "2"), map[uint]bool{8: true}
	f.slotted[8] = newFakeToken("broken", "3")
	f.mu.Unlock()
	other, _, err := s.generate(PKCS11{Token: "other", Object: "b"}, rsa2048)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.token(PKCS11{Token: "broken"})
	checkError(t, err, "the token in slot 8 can't be read: CKR_GENERAL_ERROR")
	f.mu.Lock()
	f.onRestart = nil
	delete(f.slotted, 5)
	f.calls["restart"] = 0
	f.mu.Unlock()
	for range 5 {
		if err := signOnce(k); !errors.Is(err, ErrNoToken) {
			t.Fatal(err)
		}
		if err := signOnce(other); err != nil {
			t.Fatal(err)
		}
	}
	if f.calls["restart"] != 1 {
		t.Errorf("restarted %d times", f.calls["restart"])
	}
}

// TestPINAway: a PIN that changed while the token was away is tried once.
func TestPINAway(t *testing.T) {
	f, _, k := fakeKey(t)
	f.lose(9).pin = "changed"
	for range 3 {
		if err := signOnce(k); !errors.Is(err, ErrPINWrong) {
			t.Fatal(err)
		}
	}
	if f.slotted[9].tries != 2 {
		t.Errorf("%d tries are left, want 2", f.slotted[9].tries)
	}
}

func TestBusy(t *testing.T) {
	for _, method := range []string{"sign", "open"} {
		for code, works := range map[rv]int{ckrSessionCount: busyTries, ckrDeviceMemory: busyTries, ckrOperationActive: busyTries,
			ckrResourceExceeded: busyTries, ckrFunctionFailed: failedTries, ckrGeneralError: 1, ckrMechanismInvalid: 1} {
			if method == "open" && code == ckrSessionCount {
				continue // see TestFewSessions
			}
			t.Run(fmt.Sprint(method, code), func(t *testing.T) {
				f, s, k := fakeKey(t)
				var waited time.Duration
				s.sleep = func(d time.Duration) { waited += d }
				order := func(n int) {
					if method == "open" { // no idle session may be at hand
						k.token.mu.Lock()
						k.token.idle, k.token.open = nil, 0
						k.token.mu.Unlock()
					}
					f.faults[method] = nil
					for range n {
						f.faults[method] = append(f.faults[method], code)
					}
				}
				order(works - 1)
				if err := signOnce(k); err != nil {
					t.Fatalf("after %d answers: %v", works-1, err)
				}
				order(works)
				err := signOnce(k)
				if !code.is(err) {
					t.Fatalf("after %d answers: %v", works, err)
				}
				if isBusy(code) {
					checkError(t, err, fmt.Sprintf(`token "root" (serial 1) is busy: tried %d times: %v`, works, code))
				}
				if waited > 30*time.Second {
					t.Errorf("waited for %v", waited)
				}
			})
		}
	}
}

// TestFewSessions: a token with few sessions serves many.
func TestFewSessions(t *testing.T) {
	for n := uint(1); n <= 3; n++ {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprint(n, told), func(t *testing.T) {
				f := newFake()
				f.slotted[7].info.maxSessions = n
				s := newFakeSystem(t, f)
				if !told {
					f.slotted[7].info.maxSessions = 0
				}
				token, err := s.token(PKCS11{})
				if err != nil {
					t.Fatal(err)
				}
				f.slotted[7].info.maxSessions = max(n, 2) // one to sign, one to write
				signer, _, err := s.generate(PKCS11{Object: "a"}, rsa2048)
				if err != nil {
					t.Fatal(err)
				}
				f.slotted[7].info.maxSessions = n
				f.mu.Lock()
				f.most = 0
				f.mu.Unlock()
				var all sync.WaitGroup
				for range 12 {
					all.Go(func() {
						if err := signOnce(signer); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if f.most > int(max(n, 2)) {
					t.Errorf("%d sessions at a time", f.most)
				}
				if token.open > int(max(n, 2)) {
					t.Errorf("%d sessions in the pool", token.open)
				}
			})
		}
	}
}

// TestPINPolicy: when is a PIN tried, and how often?
func TestPINPolicy(t *testing.T) {
	type change func(f *fake, s *system)
	typed := func(pin string) change {
		return func(_ *fake, s *system) {
			old := s.env
			s.env = func(name string) (string, bool) {
				if name == EnvPIN {
					return "", false
				}
				return old(name)
			}
			s.ask = func(string) ([]byte, error) { return []byte(pin), nil }
		}
	}
	env := func(pin string) change {
		return func(_ *fake, s *system) {
			old := s.env
			s.env = func(name string) (string, bool) {
				if name == EnvPIN {
					return pin, true
				}
				return old(name)
			}
		}
	}
	tries := func(n int) change { return func(f *fake, _ *system) { f.slotted[7].tries = n } }
	flag := func(on, off uint) change {
		return func(f *fake, _ *system) { f.slotted[7].info.flags = f.slotted[7].info.flags&^off | on }
	}
	fault := func(codes ...error) change { return func(f *fake, _ *system) { f.faults["login"] = codes } }
	for _, row := range []struct {
		name    string
		changes []change
		is      error
		want    string
		calls   int // of C_Login, whoever comes how often
	}{
		{name: "right", calls: 1},
		{name: "wrong", changes: []change{env(secret)}, is: ErrPINWrong, want: `the PIN is wrong: token "root" (serial 1) (CKR_PIN_INCORRECT); it is not tried again`, calls: 1},
		{name: "wrong, typed", changes: []change{typed(secret)}, is: ErrPINWrong, want: "not tried again", calls: 1},
		{name: "a wrong one before", changes: []change{tries(2)}, is: ErrPINNeeded, want: "a wrong PIN was tried before"},
		{name: "a wrong one before, typed", changes: []change{tries(2), typed(fakePIN)}, calls: 1},
		{name: "one try left", changes: []change{tries(1)}, is: ErrPINLocked, want: "one more wrong PIN would lock it, so none is tried"},
		{name: "one try left, typed", changes: []change{tries(1), typed(fakePIN)}, is: ErrPINLocked, want: "none is tried"},
		{name: "locked", changes: []change{tries(0)}, is: ErrPINLocked, want: "only its security officer"},
		{name: "locked, without a flag", changes: []change{fault(ckrPINLocked)}, is: ErrPINLocked, want: "locked", calls: 1},
		{name: "expired", changes: []change{fault(ckrPINExpired)}, is: ErrPINWrong, want: "CKR_PIN_EXPIRED", calls: 1},
		{name: "too long for the token", changes: []change{fault(ckrPINLenRange)}, is: ErrPINWrong, want: "CKR_PIN_LEN_RANGE", calls: 1},
		{name: "something else", changes: []change{fault(ckrGeneralError, ckrGeneralError, ckrGeneralError)}, want: "logging in: CKR_GENERAL_ERROR", calls: 3},
		{name: "no PIN set", changes: []change{flag(0, ckfUserPINInitialized)}, want: "its user PIN is not set yet"},
		{name: "to be changed", changes: []change{flag(ckfUserPINToBeChanged, 0)}, want: "must be changed"},
		{name: "no login", changes: []change{flag(0, ckfLoginRequired)}},
		{name: "keypad", changes: []change{flag(ckfProtectedPath, 0), env(secret)}, calls: 1},
		{name: "nobody to ask", changes: []change{typed(""), func(_ *fake, s *system) { s.ask = func(string) ([]byte, error) { return nil, errNoTerminal } }},
			is: ErrPINNeeded, want: `no PIN for token "root": set TMPKI_PIN_ROOT or TMPKI_PIN`},
		{name: "nothing typed", changes: []change{typed("")}, want: `PIN of token "root": it is empty`},
		{name: "somebody is logged in", changes: []change{func(f *fake, _ *system) { f.slotted[7].login = true }}, calls: 2},
		{name: "somebody is logged in, and the PIN is wrong", changes: []change{env(secret), func(f *fake, _ *system) { f.slotted[7].login = true }}, is: ErrPINWrong, want: "not tried again", calls: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFake()
			s := newFakeSystem(t, f)
			for _, c := range row.changes {
				c(f, s)
			}
			for range 3 {
				token, err := s.token(PKCS11{Token: "root"})
				if err != nil {
					t.Fatal(err)
				}
				err = token.login(PKCS11{Token: "root"})
				checkError(t, err, row.want)
				if row.is != nil && !errors.Is(err, row.is) {
					t.Errorf("%v is not %v", err, row.is)
				}
			}
			if f.calls["login"] != row.calls {
				t.Errorf("%d calls of C_Login, want %d", f.calls["login"], row.calls)
			}
		})
	}
}

// TestGenerateKept: a token that does not keep a key as it was told is refused,
// and the pair taken away.
func TestGenerateKept(t *testing.T) {
	set := func(kind uint, value bool) func(map[uint][]byte) {
		return func(a map[uint][]byte) { a[kind] = boolean(kind, value).value }
	}
	for _, row := range []struct {
		name   string
		change func(*fake)
		mangle func(map[uint][]byte)
		want   string
		after  int // objects
	}{
		{name: "good", after: 2},
		{name: "not sensitive", mangle: set(ckaSensitive, false), want: "keeps the key with CKA_SENSITIVE not true"},
		{name: "extractable", mangle: set(ckaExtractable, true), want: "keeps the key with CKA_EXTRACTABLE not false"},
		{name: "extractability not told", mangle: func(a map[uint][]byte) { delete(a, ckaExtractable) }, want: "CKA_EXTRACTABLE not false"},
		{name: "public", mangle: set(ckaPrivate, false), want: "keeps the key with CKA_PRIVATE not true"},
		{name: "for this session only", mangle: set(ckaToken, false), want: "keeps the key with CKA_TOKEN not true"},
		{name: "may not sign", mangle: set(ckaSign, false), want: "CKA_SIGN is false"},
		{name: "may decrypt", mangle: set(ckaDecrypt, true), want: "keeps the key with CKA_DECRYPT not false"},
		{name: "may unwrap", mangle: set(ckaUnwrap, true), want: "keeps the key with CKA_UNWRAP not false"},
		{name: "may derive", mangle: set(ckaDerive, true), want: "keeps the key with CKA_DERIVE not false"},
		{name: "derivation not told", mangle: func(a map[uint][]byte) { delete(a, ckaDerive) }, after: 2},
		{name: "mechanisms forgotten", mangle: func(a map[uint][]byte) { delete(a, ckaAllowedMechanisms) }, want: "does not keep them"},
		{name: "other mechanisms", mangle: func(a map[uint][]byte) { a[ckaAllowedMechanisms] = putUlong(ckmRSAPSS) }, want: "does not keep them"},
		{name: "mechanisms unknown to the token", change: func(f *fake) { f.refuses[ckaAllowedMechanisms] = ckrAttributeTypeInvalid }, after: 2},
		{name: "sensitivity unknown to the token", change: func(f *fake) { f.refuses[ckaSensitive] = ckrAttributeTypeInvalid }, want: "CKR_ATTRIBUTE_TYPE_INVALID"},
		{name: "PIN for each signature", mangle: set(ckaAlwaysAuthenticate, true), want: "CKA_ALWAYS_AUTHENTICATE"},
		{name: "no room", change: func(f *fake) { f.faults["generate"] = []error{ckrGeneralError} }, want: "CKR_GENERAL_ERROR"},
		{name: "another of the same name", change: func(f *fake) {
			f.mangle = func(map[uint][]byte) {
				f.add(f.slotted[7], []attribute{ulong(ckaClass, ckoPrivateKey), octets(ckaLabel, []byte("a")), octets(ckaID, []byte("other"))})
			}
		}, want: "2 private objects match", after: 1},
		{name: "lost after it was made", change: func(f *fake) { f.after["generate"] = []error{ckrSessionClosed} }, after: 2},

		{name: "no mechanism", change: func(f *fake) { delete(f.has, ckmRSAKeyPairGen) }, want: "can't generate keys of type rsa:2048: it has no mechanism RSA-PKCS-KEY-PAIR-GEN"},
		{name: "no mechanism to sign", change: func(f *fake) { delete(f.has, ckmRSAPKCS) }, want: "can't sign with keys of type rsa:2048: it has no mechanism RSA-PKCS"},
		{name: "a mechanism for verifying", change: func(f *fake) { f.has[ckmRSAPKCS] = mechanismInfo{512, 4096, 0} }, want: "can't sign with keys of type rsa:2048 with its mechanism RSA-PKCS"},
		{name: "too small", change: func(f *fake) { f.has[ckmRSAKeyPairGen] = mechanismInfo{512, 1024, ckfGenerateKeyPair} }, want: "RSA-PKCS-KEY-PAIR-GEN takes 512 to 1024 bits"},
		{name: "write-protected", change: func(f *fake) { f.slotted[7].info.flags |= ckfWriteProtected }, want: "is write-protected"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFake()
			f.mangle = row.mangle
			if row.change != nil {
				row.change(f)
			}
			s := newFakeSystem(t, f)
			signer, _, err := s.generate(PKCS11{Token: "root", Object: "a"}, rsa2048)
			checkError(t, err, row.want)
			if len(f.slotted[7].objects) != row.after {
				t.Errorf("%d objects are in the token, want %d", len(f.slotted[7].objects), row.after)
			}
			if err == nil && signOnce(signer) != nil {
				t.Error("it does not sign")
			}
		})
	}
}

// TestGenerateExisting: nothing that is there is replaced, and only what a dead run
// can have left is taken.
func TestGenerateExisting(t *testing.T) {
	p := PKCS11{Token: "root", Object: "a"}
	object := func(f *fake, class uint, id string) {
		f.add(f.slotted[7], []attribute{ulong(ckaClass, class), octets(ckaLabel, []byte("a")), octets(ckaID, []byte(id)), boolean(ckaPrivate, false), ulong(ckaCertificateType, 0), octets(ckaValue, []byte{0x30, 0})})
	}
	for _, row := range []struct {
		name   string
		change func(t *testing.T, f *fake, s *system, k *TokenKey)
		use    TokenUse
		want   string
	}{
		{name: "the same", use: rsa2048},
		{name: "of another size", use: TokenUse{Type: spki.KeyType{Kind: spki.RSA, Bits: 3072}}, want: "it is of type rsa:2048, not rsa:3072"},
		{name: "of another type", use: TokenUse{Type: spki.KeyType{Kind: spki.EC, Curve: "P-256"}}, want: "it is of type rsa:2048, not ec:P-256"},
		{name: "extractable", use: rsa2048, change: func(_ *testing.T, f *fake, _ *system, _ *TokenKey) {
			for _, o := range f.slotted[7].objects {
				if o.key != nil {
					o.attributes[ckaExtractable] = []byte{1}
				}
			}
		}, want: "CKA_EXTRACTABLE not false"},
		{name: "with a certificate", use: rsa2048, change: func(_ *testing.T, f *fake, _ *system, k *TokenKey) { object(f, ckoCertificate, k.where.ID) }, want: "a key with a certificate is at"},
		{name: "two", use: rsa2048, change: func(_ *testing.T, f *fake, _ *system, _ *TokenKey) { object(f, ckoPrivateKey, "x") }, want: "2 private objects match"},
		{name: "a public key alone", use: rsa2048, change: func(t *testing.T, f *fake, _ *system, k *TokenKey) {
			if err := k.Destroy(); err != nil {
				t.Fatal(err)
			}
			object(f, ckoPublicKey, "x")
		}, want: "a public object without a private key is at"},
		{name: "a certificate alone", use: rsa2048, change: func(t *testing.T, f *fake, _ *system, k *TokenKey) {
			if err := k.Destroy(); err != nil {
				t.Fatal(err)
			}
			object(f, ckoCertificate, "x")
		}, want: "a cert object without a private key is at"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, s, k := fakeKey(t)
			if row.change != nil {
				row.change(t, f, s, k)
			}
			before := len(f.slotted[7].objects)
			_, made, err := s.generate(p, row.use)
			checkError(t, err, row.want)
			if made || len(f.slotted[7].objects) != before {
				t.Errorf("made: %v; %d objects, before %d", made, len(f.slotted[7].objects), before)
			}
		})
	}
}

// TestWhichToken: one token has to match, and which are there is told.
func TestWhichToken(t *testing.T) {
	f := newFake()
	f.slotted[8] = newFakeToken("root", "2")
	f.slotted[9] = newFakeToken("other", "3")
	f.slotted[10] = &fakeToken{info: tokenInfo{label: "empty"}} // not initialized
	s := newFakeSystem(t, f)
	for _, row := range []struct{ uri, want string }{
		{"pkcs11:token=other", ""},
		{"pkcs11:serial=2", ""},
		{"pkcs11:token=root;serial=1;manufacturer=Fake;model=F", ""},
		{"pkcs11:slot-id=8", ""},
		{"pkcs11:token=other;slot-description=Slot;slot-manufacturer=Fake", ""},
		{"pkcs11:token=other;library-manufacturer=Fake;library-version=3.1", ""},
		{"pkcs11:token=other;library-version=3", ""},
		{"pkcs11:token=root", `2 tokens match "pkcs11:token=root": "root" (serial 1), "root" (serial 2); name one by its serial`},
		{"pkcs11:", `3 tokens match "pkcs11:"`},
		{"pkcs11:token=none", `no token labelled "none": there are "other" (serial 3), "root" (serial 1), "root" (serial 2)`},
		{"pkcs11:token=empty", `no token labelled "empty"`},
		{"pkcs11:serial=2;token=other", `no token like token=other;serial=2`},
		{"pkcs11:token=other;slot-id=8", `no token like`},
		{"pkcs11:token=other;slot-description=x", `no token like`},
		{"pkcs11:token=other;library-version=2", `not the library that the URI describes`},
		{"pkcs11:token=other;library-description=x", `not the library that the URI describes`},
		{"pkcs11:token=other?module-path=lib.so", `must be absolute`},
		{"pkcs11:token=other?module-path=/none.so", `no such file`},
		{"pkcs11:token=other?module-path=/", `is not a file`},
		{"pkcs11:token=other?module-name=no-such-module", `no library "no-such-module" in the usual directories`},
	} {
		u, err := ParseURI(row.uri)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.token(u.PKCS11)
		checkError(t, err, row.want)
	}
	if f.inits != 1 {
		t.Errorf("initialized %d times", f.inits)
	}
}
