package plan

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/ledger"
	"tmpki/spki"
	"tmpki/store"
)

// logKeySetting is the public key that verifies checkpoints, as ledger.VerifierKey
// has it.
const logKeySetting = "log.key"

// logName is what the ledger's key is called. It is no entry's name: they have no
// space.
const logName = "log key"

// ErrNoLogKey is returned, wrapped, for a PKI that has not signed a checkpoint yet.
var ErrNoLogKey = errors.New("no checkpoint was signed yet, so there is no log key: tmpki log checkpoint makes it")

// log finds out where the ledger's key is to be. Nobody has to write it down: by
// default it lies where the other keys do.
func (l *loader) log() error {
	c := l.config.Log
	fail := func(sub string, err error) error { return l.doc.fail("log"+sub, err) }
	place := c.Key
	if place == "" {
		place = "file:log.key"
		if l.config.Keys.Place != "" {
			place = strings.ReplaceAll(l.config.Keys.Place, "{name}", "log")
		}
	}
	e := &Entry{Name: logName, Custody: Online, key: "log"}
	var err error
	if e.Key, err = keys.ParseURI(place); err != nil {
		return fail(".key", err)
	}
	// Few tokens can do Ed25519, which is what all tools verify.
	kind := c.Type
	if kind == "" {
		kind = "ed25519"
		if e.Key.Scheme != keys.SchemeFile {
			kind = "ec:P-256"
		}
	}
	if e.KeyType, err = spki.ParseKeyType(kind); err != nil {
		return fail(".type", err)
	}
	if e.KeyType.Kind != spki.Ed25519 && e.KeyType.Kind != spki.EC {
		return fail(".type", fmt.Errorf("%v: a log's key is ed25519 or ec:CURVE", e.KeyType))
	}
	passphrase := c.Passphrase
	if passphrase == nil {
		passphrase = l.config.Keys.Passphrase
	}
	if e.Passphrase, e.NoPassphrase, err = passphrase.source(); err != nil {
		return fail(".passphrase", err)
	}
	path := e.Key.String()
	if e.Key.Scheme == keys.SchemeFile {
		path = e.Key.Path
	}
	if isStore(path) {
		return fail(".key", fmt.Errorf("%s is a place of the store", e.Key))
	}
	if o := l.taken.claim(path, "log"); o != "" {
		if c.Key == "" {
			return nil // an older plan, whose entry is called like that: see Checkpoint
		}
		return fail(".key", fmt.Errorf("%s is the place of %s too, or one lies below the other: name another", e.Key, o))
	}
	l.plan.LogKey = e
	return nil
}

// LogKey returns the public key that verifies the checkpoints of a PKI's ledger,
// or ErrNoLogKey.
func LogKey(ctx context.Context, db *store.DB) (string, error) {
	key, err := db.Setting(ctx, logKeySetting)
	if errors.Is(err, store.ErrNotFound) {
		return "", ErrNoLogKey
	}
	return key, err
}

// Checkpoint signs the head of the ledger, which it verifies before. The first one
// makes the log's key and records it. The checkpoint itself is not recorded: it
// says nothing that the ledger does not say, and each would make the next one
// differ where nothing has happened.
func (p *PKI) Checkpoint(ctx context.Context, o Options) ([]byte, ledger.Checkpoint, error) {
	if p.Plan.LogKey == nil {
		return nil, ledger.Checkpoint{}, errors.New("an entry of the plan has the place of the log's key: name another for that one, under log: {key: file:NAME}")
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	defer db.Close()
	if err := db.Verify(ctx); err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	key, err := LogKey(ctx, db)
	if errors.Is(err, ErrNoLogKey) {
		key, err = p.makeLogKey(ctx, o)
	}
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	signer, err := p.logSigner(key)
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	c, err := ledger.Head(ctx, db, signer.Name())
	if err != nil {
		return nil, c, err
	}
	signed, err := c.Sign(signer)
	return signed, c, err
}

// logSigner opens the log's key, and makes sure that it is the one of the record.
func (p *PKI) logSigner(key string) (note.Signer, error) {
	name, _, _ := strings.Cut(key, "+")
	s, err := p.ring.signer(p.Plan.LogKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: bring the log's key back, without it there are no more checkpoints of this log", err)
	}
	if err != nil {
		return nil, err
	}
	is, err := ledger.VerifierKey(name, s.Public())
	if err != nil {
		return nil, err
	}
	if is != key {
		return nil, fmt.Errorf("the key at %s is not the log's key that the ledger tells of: %s", p.Plan.LogKey.Key, key)
	}
	return ledger.NewSigner(name, s)
}

// makeLogKey makes the log's key and records its public half. A key that a run has
// left which died before it could record it, is taken.
func (p *PKI) makeLogKey(ctx context.Context, o Options) (key string, err error) {
	lock, err := LockPKI(ctx, p.Dir, o.Waiting)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	db, err := p.openStore(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if key, err := LogKey(ctx, db); !errors.Is(err, ErrNoLogKey) {
		return key, err // another process was faster
	}
	e := p.Plan.LogKey
	s, err := p.ring.signer(e)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = p.generateLogKey()
	}
	if err != nil {
		return "", err
	}
	id, err := pkiID(ctx, db, o.Actor)
	if err != nil {
		return "", err
	}
	if key, err = ledger.VerifierKey("tmpki/"+id, s.Public()); err != nil {
		return "", err
	}
	return key, db.SetSetting(ctx, o.Actor, logKeySetting, key)
}

func (p *PKI) generateLogKey() (crypto.Signer, error) {
	e := p.Plan.LogKey
	if e.Key.Scheme == keys.SchemePKCS11 {
		s, _, err := keys.GenerateInToken(e.Key, keys.TokenUse{Type: e.KeyType})
		return s, err
	}
	s, err := keys.Generate(e.KeyType)
	if err != nil {
		return nil, err
	}
	pem, err := p.ring.add(e, s)
	if err != nil {
		return nil, err
	}
	path := e.Key.FilePath(p.Dir)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return s, durable.CreateFile(path, pem, 0o600)
}

// pkiID returns the identifier of a PKI, and draws it the first time.
func pkiID(ctx context.Context, db *store.DB, actor string) (string, error) {
	id, err := db.Setting(ctx, pkiSetting)
	if !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	id = hex.EncodeToString(random[:])
	return id, db.SetSetting(ctx, actor, pkiSetting, id)
}
