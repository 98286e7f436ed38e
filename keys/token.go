package keys

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// token is a token in use: its login and its pool of sessions. It survives that
// the token is taken away and comes back.
type token struct {
	lib      *library
	identity identity

	writing sync.Mutex // one writes at a time: SoftHSM, for one, fails where two do

	mu       sync.Mutex
	freed    *sync.Cond // a session came back, or the pool shrank
	slot     uint
	epoch    int    // counts how often all was lost: handles are of one epoch
	idle     []uint // sessions that nobody uses
	open     int    // sessions of the pool, idle or not
	limit    int    // of open
	missed   int    // the epoch in which the library was restarted for it
	away     bool   // all was lost, and is not found again yet
	loggedIn bool
	again    bool        // it was logged in: after a loss, log in again
	pin      *Passphrase // that was good; nil: none was needed
	refused  error       // why no PIN is tried any more
}

// session is a session lent by the pool, or one for writing.
type session struct {
	handle   uint
	epoch    int
	write    bool
	loggedIn bool // it sees private objects
}

// How long a busy token is waited for: 20 ms doubled up to 1 s, about 10 s in
// all.
const (
	busyFirst = 20 * time.Millisecond
	busyMost  = time.Second
	busyTries = 15

	// CKR_FUNCTION_FAILED says nothing. Some tokens answer it under load.
	failedTries = 3
)

// do calls use with a session. If the session, the login or the token is lost,
// it finds the token again, logs in again with the PIN that was good before, and
// calls use once more. If the token is busy, it waits and tries again, within
// limits. use must look up handles by the session's epoch.
func (t *token) do(write bool, use func(c cryptoki, s session) error) error {
	if write {
		t.writing.Lock()
		defer t.writing.Unlock()
	}
	recovered := false
	pause := busyFirst
	for tries := 1; ; {
		s, err := t.session(write)
		if err == nil {
			err = use(t.lib.c, s)
			t.release(s, err)
		}
		switch {
		case err == nil:
			return nil
		case isLost(err) && !recovered:
			recovered = true
			again := t.recover(s.epoch)
			if errors.Is(again, ErrNoToken) && t.lib.restart(t) {
				again = t.recover(s.epoch)
			}
			if again != nil {
				return fmt.Errorf("token %v was lost (%w): %w", t.identity, err, again)
			}
		case isBusy(err) && tries < busyTries, ckrFunctionFailed.is(err) && !write && tries < failedTries:
			tries++
			t.lib.sys.sleep(pause)
			pause = min(2*pause, busyMost)
		case isBusy(err):
			return fmt.Errorf("token %v is busy: tried %d times: %w", t.identity, tries, err)
		default:
			return fmt.Errorf("token %v: %w", t.identity, err)
		}
	}
}

// session takes an idle session, opens one, or waits for one. One for writing is
// always opened, and not of the pool.
func (t *token) session(write bool) (session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		s := session{epoch: t.epoch, write: write, loggedIn: t.loggedIn}
		if t.away {
			return s, ckrTokenNotPresent // another one may be in the slot
		}
		if n := len(t.idle); n > 0 && !write {
			s.handle, t.idle = t.idle[n-1], t.idle[:n-1]
			return s, nil
		}
		if !write && t.open >= t.limit {
			t.freed.Wait()
			continue
		}
		// Under the lock, so that nobody closes what is being opened; to open a
		// session takes little.
		var err error
		s.handle, err = t.lib.c.openSession(t.slot, write)
		switch {
		case err == nil && !write:
			t.open++
			return s, nil
		case err == nil:
			return s, nil
		case ckrSessionCount.is(err) && !write && t.open > 0:
			t.limit = t.open // the token has fewer than it said, or others use them
			continue
		case ckrSessionCount.is(err) && write && len(t.idle) > 1:
			n := len(t.idle) - 1
			t.lib.c.closeSession(t.idle[n])
			t.idle, t.open, t.limit = t.idle[:n], t.open-1, max(1, t.open-1)
			continue
		default:
			return s, err
		}
	}
}

// release gives a session back. After an error it may be in the midst of an
// operation, and is closed.
func (t *token) release(s session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.epoch != t.epoch {
		return // closed with all of its time
	}
	switch {
	case s.write:
		t.lib.c.closeSession(s.handle)
	case err != nil && (t.open > 1 || ckrOperationActive.is(err)): // the last one keeps the login
		t.lib.c.closeSession(s.handle)
		t.open--
		t.freed.Signal()
	default:
		t.idle = append(t.idle, s.handle)
		t.freed.Signal()
	}
}

// recover begins a new epoch after all of an old one was lost, unless somebody
// else has done so.
func (t *token) recover(epoch int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != epoch && !t.away {
		return nil
	}
	if !t.away {
		t.epoch++
		t.idle, t.open = nil, 0
		t.away, t.loggedIn = true, false
		t.freed.Broadcast()
		t.lib.c.closeAllSessions(t.slot) // the token may be gone: it says so below
	}

	// 1. Where is it now? A card that was pulled out may be in another slot.
	places, broken, err := t.lib.places()
	if err != nil {
		return err
	}
	found := false
	for _, p := range places {
		if p.identity() == t.identity {
			t.slot, found = p.slot, true
		}
	}
	if !found {
		return &missingToken{t.identity.String(), places, broken}
	}
	// 2. Log in again, with the PIN that was good.
	if t.again {
		if err := t.enter(func(uint) ([]byte, error) { return t.pin.secret(), nil }); err != nil {
			return err
		}
	}
	t.away = false
	return nil
}

// firstMiss reports whether it is called for the first time since the token was
// lost.
func (t *token) firstMiss() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.missed != t.epoch
	t.missed = t.epoch
	return first
}

// secret returns the PIN for the call of the library, none for nil.
func (p *Passphrase) secret() []byte {
	if p == nil {
		return nil
	}
	return p.state().secret
}

// login logs in as the token's user, unless that is done, with the PIN that u
// leads to. It never tries a PIN that could be the last: see enter.
func (t *token) login(u PKCS11) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loggedIn {
		return nil
	}
	var pin *Passphrase
	err := t.enter(func(flags uint) ([]byte, error) {
		if flags&ckfProtectedPath != 0 {
			return nil, nil
		}
		p, typed, err := t.lib.sys.pin(u, t.identity.label)
		if err != nil {
			return nil, err
		}
		if flags&ckfUserPINCountLow != 0 && !typed {
			return nil, fmt.Errorf("%w for token %v: a wrong PIN was tried before, and the one at hand is not tried until the right one was typed by a person; run tmpki key test on a terminal, without %s, %s or pin-source",
				ErrPINNeeded, t.identity, EnvPINOf(t.identity.label), EnvPIN)
		}
		pin = p
		return p.secret(), nil
	})
	if err == nil {
		t.pin, t.again = pin, true
	}
	return err
}

// enter logs in with what secret returns for the flags of the token. The caller
// holds the lock.
func (t *token) enter(secret func(flags uint) ([]byte, error)) error {
	if t.refused != nil {
		return t.refused
	}
	info, err := t.lib.c.tokenInfo(t.slot)
	if err != nil {
		return fmt.Errorf("token %v: %w", t.identity, err)
	}
	switch {
	case info.flags&ckfLoginRequired == 0:
		t.loggedIn = true
		return nil
	case info.flags&ckfUserPINInitialized == 0:
		return fmt.Errorf("token %v: its user PIN is not set yet", t.identity)
	case info.flags&ckfUserPINLocked != 0:
		return fmt.Errorf("%w: token %v: only its security officer can set a new one", ErrPINLocked, t.identity)
	case info.flags&ckfUserPINFinalTry != 0:
		return fmt.Errorf("%w: token %v: one more wrong PIN would lock it, so none is tried; log in once with the token's own tool", ErrPINLocked, t.identity)
	case info.flags&ckfUserPINToBeChanged != 0:
		return fmt.Errorf("token %v: its user PIN must be changed before it is used", t.identity)
	}
	pin, err := secret(info.flags)
	if err != nil {
		return err
	}
	s, err := t.lib.c.openSession(t.slot, false)
	if err != nil {
		return fmt.Errorf("token %v: opening a session: %w", t.identity, err)
	}
	err = t.lib.c.login(s, pin)
	if ckrUserAlreadyLoggedIn.is(err) {
		// Whoever is in, any PIN would be as good as another: out, and in again.
		if err = t.lib.c.logout(s); err == nil {
			err = t.lib.c.login(s, pin)
		}
	}
	switch {
	case err == nil:
		t.loggedIn = true
		t.idle, t.open = append(t.idle, s), t.open+1 // it keeps the login
		t.freed.Signal()
		return nil
	case ckrPINIncorrect.is(err, ckrPINInvalid, ckrPINLenRange, ckrPINExpired):
		t.refused = fmt.Errorf("%w: token %v (%w); it is not tried again", ErrPINWrong, t.identity, err)
	case ckrPINLocked.is(err):
		t.refused = fmt.Errorf("%w: token %v", ErrPINLocked, t.identity)
	default:
		t.lib.c.closeSession(s)
		return fmt.Errorf("token %v: logging in: %w", t.identity, err)
	}
	t.lib.c.closeSession(s)
	return t.refused
}

// get returns attributes of an object, nil for those that it lacks or keeps
// secret.
func get(c cryptoki, s session, object uint, kinds ...uint) ([][]byte, error) {
	values, err := c.get(s.handle, object, kinds...)
	if !ckrAttributeTypeInvalid.is(err, ckrAttributeSensitive) {
		return values, err
	}
	// One at a time: the answer to several is one error.
	values = make([][]byte, len(kinds))
	for i, kind := range kinds {
		one, err := c.get(s.handle, object, kind)
		if ckrAttributeTypeInvalid.is(err, ckrAttributeSensitive) {
			continue
		}
		if err != nil {
			return nil, err
		}
		values[i] = one[0]
	}
	return values, nil
}
