//go:build cgo

package keys

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// loadCryptoki loads a PKCS#11 library. This is the only file that needs cgo.
func loadCryptoki(path string) (cryptoki, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%s can't be loaded: it is no PKCS#11 library, of another machine, or lacks a library that it needs (see ldd)", path)
	}
	return &binding{ctx: ctx}, nil
}

// binding makes cryptoki of github.com/miekg/pkcs11.
type binding struct {
	ctx *pkcs11.Ctx
	mu  sync.RWMutex // C_Finalize may run when no other call does
}

// call guards one call of the library: defer b.call()().
func (b *binding) call() func() {
	b.mu.RLock()
	return b.mu.RUnlock
}

// maxObjects bounds what one search of a token returns.
const maxObjects = 100_000

func asRV(err error) error {
	var e pkcs11.Error
	if errors.As(err, &e) {
		return rv(e)
	}
	return err
}

func (b *binding) initialize() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return asRV(b.ctx.Initialize()) // with CKF_OS_LOCKING_OK
}

func (b *binding) finalize() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return asRV(b.ctx.Finalize())
}

func (b *binding) restart() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := asRV(b.ctx.Finalize()); err != nil && !ckrNotInitialized.is(err) {
		return err
	}
	return asRV(b.ctx.Initialize())
}

func (b *binding) info() (libraryInfo, error) {
	defer b.call()()
	i, err := b.ctx.GetInfo()
	return libraryInfo{trim(i.ManufacturerID), trim(i.LibraryDescription), i.LibraryVersion.Major, i.LibraryVersion.Minor}, asRV(err)
}

// trim takes the padding of a fixed field away; some tokens pad with NUL.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

func (b *binding) slots() ([]uint, error) {
	defer b.call()()
	list, err := b.ctx.GetSlotList(true)
	return list, asRV(err)
}

func (b *binding) slotInfo(slot uint) (slotInfo, error) {
	defer b.call()()
	i, err := b.ctx.GetSlotInfo(slot)
	return slotInfo{trim(i.SlotDescription), trim(i.ManufacturerID)}, asRV(err)
}

func (b *binding) tokenInfo(slot uint) (tokenInfo, error) {
	defer b.call()()
	i, err := b.ctx.GetTokenInfo(slot)
	return tokenInfo{
		label: trim(i.Label), manufacturer: trim(i.ManufacturerID), model: trim(i.Model), serial: trim(i.SerialNumber),
		flags: i.Flags, maxSessions: i.MaxSessionCount, maxWriteSessions: i.MaxRwSessionCount,
		freePublic: i.FreePublicMemory, freePrivate: i.FreePrivateMemory,
	}, asRV(err)
}

func (b *binding) mechanisms(slot uint) ([]uint, error) {
	defer b.call()()
	list, err := b.ctx.GetMechanismList(slot)
	var kinds []uint
	for _, m := range list {
		kinds = append(kinds, m.Mechanism)
	}
	return kinds, asRV(err)
}

func (b *binding) mechanismInfo(slot, mechanism uint) (mechanismInfo, error) {
	defer b.call()()
	i, err := b.ctx.GetMechanismInfo(slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)})
	return mechanismInfo{i.MinKeySize, i.MaxKeySize, i.Flags}, asRV(err)
}

func (b *binding) openSession(slot uint, write bool) (uint, error) {
	defer b.call()()
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if write {
		flags |= pkcs11.CKF_RW_SESSION
	}
	s, err := b.ctx.OpenSession(slot, flags)
	return uint(s), asRV(err)
}

func (b *binding) closeSession(session uint) error {
	defer b.call()()
	return asRV(b.ctx.CloseSession(pkcs11.SessionHandle(session)))
}

func (b *binding) closeAllSessions(slot uint) error {
	defer b.call()()
	return asRV(b.ctx.CloseAllSessions(slot))
}

func (b *binding) login(session uint, pin []byte) error {
	defer b.call()()
	return asRV(b.ctx.Login(pkcs11.SessionHandle(session), pkcs11.CKU_USER, string(pin)))
}

func (b *binding) logout(session uint) error {
	defer b.call()()
	return asRV(b.ctx.Logout(pkcs11.SessionHandle(session)))
}

func (b *binding) find(session uint, template []attribute) ([]uint, error) {
	defer b.call()()
	s := pkcs11.SessionHandle(session)
	if err := b.ctx.FindObjectsInit(s, attributes(template)); err != nil {
		return nil, asRV(err)
	}
	var found []uint
	var failed error
	for {
		list, _, err := b.ctx.FindObjects(s, 100)
		for _, h := range list {
			found = append(found, uint(h))
		}
		if len(found) > maxObjects {
			err = fmt.Errorf("the token holds more than %d objects", maxObjects)
		}
		if err != nil || len(list) == 0 {
			failed = err
			break
		}
	}
	return found, asRV(errors.Join(failed, b.ctx.FindObjectsFinal(s)))
}

func (b *binding) get(session, object uint, types ...uint) ([][]byte, error) {
	defer b.call()()
	var template []*pkcs11.Attribute
	for _, t := range types {
		template = append(template, pkcs11.NewAttribute(t, nil))
	}
	got, err := b.ctx.GetAttributeValue(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object), template)
	if err != nil {
		return nil, asRV(err)
	}
	values := make([][]byte, len(types))
	for i, a := range got {
		values[i] = a.Value
	}
	return values, nil
}

func (b *binding) create(session uint, template []attribute) (uint, error) {
	defer b.call()()
	h, err := b.ctx.CreateObject(pkcs11.SessionHandle(session), attributes(template))
	return uint(h), asRV(err)
}

func (b *binding) destroy(session, object uint) error {
	defer b.call()()
	return asRV(b.ctx.DestroyObject(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object)))
}

func (b *binding) generateKeyPair(session uint, m mechanism, public, private []attribute) (uint, uint, error) {
	defer b.call()()
	pub, priv, err := b.ctx.GenerateKeyPair(pkcs11.SessionHandle(session), mechanisms(m), attributes(public), attributes(private))
	return uint(pub), uint(priv), asRV(err)
}

func (b *binding) unwrap(session uint, m mechanism, key uint, wrapped []byte, template []attribute) (uint, error) {
	defer b.call()()
	h, err := b.ctx.UnwrapKey(pkcs11.SessionHandle(session), mechanisms(m), pkcs11.ObjectHandle(key), wrapped, attributes(template))
	return uint(h), asRV(err)
}

func (b *binding) sign(session uint, m mechanism, key uint, data []byte) ([]byte, error) {
	defer b.call()()
	if err := b.ctx.SignInit(pkcs11.SessionHandle(session), mechanisms(m), pkcs11.ObjectHandle(key)); err != nil {
		return nil, asRV(err)
	}
	signature, err := b.ctx.Sign(pkcs11.SessionHandle(session), data)
	return signature, asRV(err)
}

func attributes(template []attribute) []*pkcs11.Attribute {
	var list []*pkcs11.Attribute
	for _, a := range template {
		list = append(list, &pkcs11.Attribute{Type: a.kind, Value: a.value})
	}
	return list
}

func mechanisms(m mechanism) []*pkcs11.Mechanism {
	switch {
	case m.pss != nil:
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.kind, pkcs11.NewPSSParams(m.pss.hash, m.pss.mgf, m.pss.salt))}
	case m.oaep:
		const dataSpecified = 1 // CKZ_DATA_SPECIFIED
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.kind, pkcs11.NewOAEPParams(ckmSHA1, ckgMGF1SHA1, dataSpecified, nil))}
	default:
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.kind, nil)}
	}
}
