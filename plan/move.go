package plan

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
)

// Move says which key goes into which token.
type Move struct {
	Name       string // of the entry
	URI        string // pkcs11:, in which {name} stands for the entry's name; object={name} is added if it names no object
	Wrapped    bool   // encrypted on its way: see keys.ImportToToken
	RemoveFile bool   // overwrite and remove the file afterwards
}

// Moved is what became of a Move.
type Moved struct {
	Entry *Entry // as it is in the plan now
	From  keys.URI
	Left  string // the file that is still there, "" if none
}

// MoveKey puts the key of an entry, which is in a file, into a token: it is
// imported, tried, and only then the plan is changed to name its new place. What
// else stands in the plan stays, comments too. If it fails before, the token
// holds nothing new.
//
// Whoever had the file still has the key: see doc/operations.md.
func MoveKey(ctx context.Context, dir string, o Options, m Move) (_ *Moved, err error) {
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// 1. Which key, and where to?
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	e := p.Plan.Entry(m.Name)
	switch {
	case e == nil:
		return nil, fmt.Errorf("%q is not an entry of the plan", m.Name)
	case e.TwinOf != nil:
		return nil, fmt.Errorf("%s has the key of %s: move that", e.Name, e.TwinOf.Name)
	case e.Active != nil || len(e.Others) > 0:
		return nil, fmt.Errorf("two generations of %s have a key: move it when its rotation is over, see tmpki rollout %s", e.Base(), e.Base())
	case e.inToken():
		return nil, fmt.Errorf("the key of %s is in a token already, at %s, and can't leave it", e.Name, e.Key)
	}
	place, err := placeTemplate(m.URI)
	if err != nil {
		return nil, err
	}
	to, err := keyPlace(place, e.Name, e.Generation, e.Generation)
	if err != nil {
		return nil, err
	}
	if to.Scheme != keys.SchemePKCS11 {
		return nil, fmt.Errorf("%s is no place in a token: it must begin with pkcs11:", to)
	}
	// 2. The plan that will be, before anything is changed.
	path, err := filepath.EvalSymlinks(filepath.Join(dir, FileName))
	if err != nil {
		return nil, err
	}
	old, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	text, err := setPlace(old.Content, e, to.String())
	if err != nil {
		return nil, err
	}
	edited, err := Load(path, text)
	if err != nil {
		return nil, fmt.Errorf("the change would spoil the plan: %w", err)
	}
	moved := edited.Entry(e.Name)
	// 3. The key, which must be the one of its certificate.
	signer, err := p.Signer(e)
	if err != nil {
		return nil, err
	}
	cert := p.Have.Certificates[e.Name]
	// 4. Import it, and try it.
	inToken, err := keys.ImportToToken(to, moved.TokenUse(), signer, m.Wrapped)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && inToken != nil {
			err = errors.Join(err, keys.InToken(inToken).Destroy())
		}
	}()
	if err := trySigner(inToken, spki.Algorithms(cert.Key)); err != nil {
		return nil, fmt.Errorf("the key in the token does not work: %w", err)
	}
	// 5. Record it, and make it so.
	db, err := p.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	err = db.RecordEvent(ctx, store.Event{
		Kind: store.KindToken, Name: e.Name, Actor: o.Actor, SHA256: sha256.Sum256(text), Serial: cert.SerialNumber.Bytes(),
		Detail: map[string]string{"from": e.Key.String(), "to": to.String(), "wrapped": fmt.Sprint(m.Wrapped)},
	})
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, text, old.Mode.Perm()); err != nil {
		return nil, err
	}
	inToken = nil // it stays, whatever comes
	out := &Moved{Entry: moved, From: e.Key, Left: e.Key.FilePath(dir)}
	if err := keys.StoreCertificate(to, cert.Raw); err != nil {
		return nil, fmt.Errorf("the key is in the token, but not its certificate; tmpki apply puts it there: %w", err)
	}
	if m.RemoveFile {
		if err := overwrite(out.Left); err != nil {
			return nil, fmt.Errorf("the key is in the token, but its file is still there: %w", err)
		}
		out.Left = ""
	}
	return out, nil
}

// trySigner signs and verifies something with each of some algorithms that the
// signer may be used with.
func trySigner(signer crypto.Signer, algorithms []spki.SignatureAlgorithm) error {
	message := make([]byte, 32)
	if _, err := rand.Read(message); err != nil {
		return err
	}
	tried := 0
	for _, a := range algorithms {
		if k := keys.InToken(signer); k != nil && !k.May(a) {
			continue
		}
		tried++
		if _, err := a.Sign(signer, message); err != nil { // which verifies
			return err
		}
	}
	if tried == 0 {
		return errors.New("it may be used with none of the algorithms that it is for")
	}
	return nil
}

// overwrite writes zeros over a file and removes it. On flash memory, and in file
// systems that copy on write, what was there stays readable for who opens the
// device.
func overwrite(path string) (err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(make([]byte, info.Size())); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// setPlace gives an entry a place of its own in the text of a plan and leaves
// every other octet as it is, comments included.
func setPlace(text []byte, e *Entry, place string) ([]byte, error) {
	if e.Platform != "" {
		return nil, fmt.Errorf("%s: the keys of a platform have no lines of their own: name a place in tokens for all, under uefi.keys", e.Name)
	}
	return setLine(text, e, "place", `"`+place+`"`, func(c *entryConfig) { c.Template.Keys.Place = place })
}

// setLine gives an entry a line of its own, or another value on it, and leaves every
// other octet as it is. Like insertPlatform, it tries several ways, and takes the
// one after which the text says just what change does.
func setLine(text []byte, e *Entry, key, value string, change func(*entryConfig)) ([]byte, error) {
	section := map[Kind][]string{Authority: {"authorities"}, EndEntity: {"certificates"}, PlatformKey: {"uefi", "keys"}}[e.Kind]
	var want fileConfig
	if _, err := decodeStrict(FileName, text, &want); err != nil {
		return nil, err
	}
	entries := map[Kind]map[string]entryConfig{Authority: want.Authorities, EndEntity: want.Certificates}[e.Kind]
	if e.Kind == PlatformKey {
		entries = want.UEFI.Keys
	}
	c, ok := entries[e.Name]
	if !ok {
		return nil, fmt.Errorf("%s: %s is no entry of its own", FileName, e.Name)
	}
	change(&c)
	entries[e.Name] = c
	for _, candidate := range withLine(text, append(section, e.Name), key, value) {
		var got fileConfig
		if _, err := decodeStrict(FileName, candidate, &got); err == nil && reflect.DeepEqual(got, want) {
			return candidate, nil
		}
	}
	return nil, fmt.Errorf("%s: can't set %s of %s without changing more than that: put %s: %s under %s by hand", FileName, key, e.Name, key, value, e.key)
}

// withLine returns the text with a value put into the mapping at a path in several
// ways, some of which may be wrong.
func withLine(text []byte, at []string, key, value string) [][]byte {
	// The parser counts a line that ends in CR LF after a comment as two.
	parsed, err := parser.ParseBytes(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), 0)
	if err != nil {
		return nil
	}
	var entry *ast.MappingValueNode
	var body ast.Node = parsed.Docs[0].Body
	for _, name := range at {
		entry = nil
		for _, v := range mappingValues(body) {
			if keyOf(v) == name {
				entry = v
			}
		}
		if entry == nil {
			return nil
		}
		body = entry.Value
	}
	l := splitLines(text)
	values := mappingValues(entry.Value)
	for _, v := range values {
		if keyOf(v) != key {
			continue
		}
		line := v.Key.GetToken().Position.Line
		var out [][]byte
		if mappingValues(v.Value) == nil {
			old := v.Value.GetToken()
			for _, q := range []string{`"` + old.Value + `"`, `'` + old.Value + `'`, old.Value} {
				out = append(out, l.with(line, bytes.Replace(l[line-1], []byte(q), []byte(value), 1)))
			}
			return out
		}
		// A mapping in brackets on one line, which may have others in it.
		at := bytes.Index(l[line-1], []byte(key+":"))
		if at < 0 {
			return nil
		}
		open := bytes.IndexByte(l[line-1][at:], '{')
		for end := at + open + 1; open >= 0 && end < len(l[line-1]); end++ {
			if l[line-1][end] == '}' {
				out = append(out, l.with(line, slices.Concat(l[line-1][:at+open], []byte(value), l[line-1][end+1:])))
			}
		}
		return out
	}
	if len(values) == 0 {
		return nil
	}
	line := entry.Key.GetToken().Position.Line
	indent := strings.Repeat(" ", max(0, values[0].Key.GetToken().Position.Column-1))
	out := [][]byte{l.lineAfter(line, indent+key+": "+value)}
	if i := bytes.IndexByte(l[line-1], '{'); i >= 0 {
		out = append(out, l.after(line, '{', key+": "+value+", "))
	}
	return out
}
