package ledger

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tmpki/store"
)

// grown returns a store with n settings in its ledger.
func grown(t testing.TB, n int, value string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "pki.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for i := range n {
		if err := db.SetSetting(t.Context(), "tester", fmt.Sprint("key", i), value); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newLog(t testing.TB, name, kind string) (note.Signer, note.Verifier) {
	t.Helper()
	key := newKey(t, kind)
	s, err := NewSigner(name, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := VerifierKey(name, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func signed(t testing.TB, db *store.DB, s note.Signer) (Checkpoint, []byte) {
	t.Helper()
	c, err := Head(t.Context(), db, s.Name())
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return c, text
}

func TestEveryKeyAndEverySize(t *testing.T) {
	ctx := t.Context()
	for _, kind := range []string{"ed25519", "P-256", "P-384"} {
		db := grown(t, 0, "")
		s, v := newLog(t, "tmpki/test", kind)
		var heads []Checkpoint
		for i := range 9 {
			c, text := signed(t, db, s)
			if back, err := OpenCheckpoint(text, v); err != nil || back != c {
				t.Fatalf("%s: %v, %v", kind, back, err)
			}
			heads = append(heads, c)
			for _, old := range heads {
				if err := Continues(ctx, db, old); err != nil {
					t.Errorf("%s, from %d to %d: %v", kind, old.Size, i, err)
				}
			}
			for seq := range c.Size {
				p, err := Prove(ctx, db, c, text, seq)
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := ParseProof(p.Marshal())
				if err != nil {
					t.Fatal(err)
				}
				if e, at, err := parsed.Check(v); err != nil || e.Seq != seq || at != c {
					t.Errorf("%s, entry %d of %d: %v, %v", kind, seq, c.Size, e, err)
				}
			}
			if err := db.SetSetting(ctx, "tester", "key", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNoteReadsIt is a second opinion: the note package's own verifier.
func TestNoteReadsIt(t *testing.T) {
	key := newKey(t, "ed25519")
	s, err := NewSigner("tmpki/test", key)
	if err != nil {
		t.Fatal(err)
	}
	_, text := signed(t, grown(t, 3, "x"), s)
	ours, err := VerifierKey("tmpki/test", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.NewEd25519VerifierKey("tmpki/test", key.Public().(ed25519.PublicKey))
	if err != nil || ours != theirs {
		t.Errorf("key %s, note has %s: %v", ours, theirs, err)
	}
	v, err := note.NewVerifier(theirs)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(n.Text, "\n"); len(lines) != 4 || lines[0] != "tmpki/test" || lines[1] != "3" {
		t.Errorf("text %q", n.Text)
	}
}

// TestTamperedCheckpoints breaks one thing a row.
func TestTamperedCheckpoints(t *testing.T) {
	db := grown(t, 5, "x")
	s, v := newLog(t, "tmpki/a", "ed25519")
	_, good := signed(t, db, s)
	_, other := newLog(t, "tmpki/a", "ed25519")
	elsewhere, elsewhereKey := newLog(t, "tmpki/b", "ed25519")
	_, theirs := signed(t, db, elsewhere)
	resigned := func(text string) []byte {
		out, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, row := range map[string]struct {
		text []byte
		v    note.Verifier
		want error
	}{
		"good":            {good, v, nil},
		"other size":      {bytes.Replace(good, []byte("\n5\n"), []byte("\n4\n"), 1), v, ErrForged},
		"other root":      {bytes.Replace(good, good[bytes.Index(good, []byte("\n5\n"))+3:bytes.Index(good, []byte("\n\n"))], []byte(root), 1), v, ErrForged},
		"wrong key":       {good, other, ErrOtherKey},
		"other log":       {theirs, v, ErrOtherLog},
		"other log's key": {good, elsewhereKey, ErrOtherLog},
		"other origin":    {resigned("tmpki/b\n5\n" + root + "\n"), v, ErrOtherLog},
		"no signature":    {good[:bytes.Index(good, []byte("\n\n"))+2], v, ErrMalformed},
		"cut":             {good[:len(good)-8], v, ErrMalformed},
		"empty":           {nil, v, ErrMalformed},
		"large":           {bytes.Repeat([]byte("x\n"), maxNote), v, ErrMalformed},
		"two lines":       {resigned("tmpki/a\n5\n"), v, ErrMalformed},
		"more lines":      {resigned("tmpki/a\n5\n" + root + "\nmore\n"), v, ErrMalformed},
		"size 05":         {resigned("tmpki/a\n05\n" + root + "\n"), v, ErrMalformed},
		"size -1":         {resigned("tmpki/a\n-1\n" + root + "\n"), v, ErrMalformed},
		"short root":      {resigned("tmpki/a\n5\nAAAA\n"), v, ErrMalformed},
	} {
		if _, err := OpenCheckpoint(row.text, row.v); !errors.Is(err, row.want) || row.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

func TestOtherLedgers(t *testing.T) {
	ctx := t.Context()
	db := grown(t, 5, "x")
	head, err := Head(ctx, db, "tmpki/a")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		db   *store.DB
		want error
	}{
		"itself":              {db, nil},
		"cut":                 {grown(t, 4, "x"), ErrCut},
		"empty":               {grown(t, 0, "x"), ErrCut},
		"rewritten":           {grown(t, 5, "y"), ErrRewritten},
		"rewritten and grown": {grown(t, 9, "y"), ErrRewritten},
	} {
		if err := Continues(ctx, row.db, head); !errors.Is(err, row.want) || row.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	if err := Continues(ctx, db, Checkpoint{"tmpki/a", 0, tlog.Hash{}}); !errors.Is(err, ErrRewritten) {
		t.Errorf("a wrong hash of nothing: %v", err)
	}
	s, _ := newLog(t, "tmpki/a", "ed25519")
	c, text := signed(t, grown(t, 5, "y"), s)
	if _, err := Prove(ctx, db, c, text, 1); !errors.Is(err, ErrRewritten) {
		t.Errorf("a proof against another ledger: %v", err)
	}
	if _, err := Prove(ctx, db, c, text, 5); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a proof of nothing: %v", err)
	}
}

func TestTamperedProofs(t *testing.T) {
	ctx := context.Background()
	db := grown(t, 5, "x")
	s, v := newLog(t, "tmpki/a", "P-256")
	_, other := newLog(t, "tmpki/a", "P-256")
	old, oldText := signed(t, db, s)
	if err := db.SetSetting(ctx, "tester", "last", "x"); err != nil {
		t.Fatal(err)
	}
	c, text := signed(t, db, s)
	proof := func() *Proof {
		p, err := Prove(ctx, db, c, text, 2)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	unrelated, err := Prove(ctx, db, old, oldText, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		change func(*Proof)
		v      note.Verifier
		want   error
	}{
		"good":              {func(*Proof) {}, v, nil},
		"other entry":       {func(p *Proof) { p.Entry = unrelated.Entry }, v, ErrUnproved},
		"changed entry":     {func(p *Proof) { p.Entry = bytes.Replace(p.Entry, []byte("key2"), []byte("key3"), 1) }, v, ErrUnproved},
		"other index":       {func(p *Proof) { p.Index = 3 }, v, ErrUnproved},
		"index beyond":      {func(p *Proof) { p.Index = 6 }, v, ErrUnproved},
		"other hash":        {func(p *Proof) { p.Hashes[0][0] ^= 1 }, v, ErrUnproved},
		"hash less":         {func(p *Proof) { p.Hashes = p.Hashes[1:] }, v, ErrUnproved},
		"hash more":         {func(p *Proof) { p.Hashes = append(p.Hashes, tlog.Hash{}) }, v, ErrUnproved},
		"older checkpoint":  {func(p *Proof) { p.Checkpoint = oldText }, v, ErrUnproved},
		"forged checkpoint": {func(p *Proof) { p.Checkpoint = bytes.Replace(text, []byte("\n6\n"), []byte("\n7\n"), 1) }, v, ErrForged},
		"wrong key":         {func(*Proof) {}, other, ErrOtherKey},
	} {
		p := proof()
		row.change(p)
		parsed, err := ParseProof(p.Marshal())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, _, err := parsed.Check(row.v); !errors.Is(err, row.want) || row.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	good := string(proof().Marshal())
	for name, text := range map[string]string{
		"empty":         "",
		"other version": strings.Replace(good, "@v1", "@v2", 1),
		"no entry":      strings.Replace(good, "extra ", "other ", 1),
		"no index":      strings.Replace(good, "index 2", "", 1),
		"index 02":      strings.Replace(good, "index 2", "index 02", 1),
		"index -2":      strings.Replace(good, "index 2", "index -2", 1),
		"CRLF":          strings.ReplaceAll(good, "\n", "\r\n"),
		"no checkpoint": good[:strings.Index(good, "\n\n")],
		"short hash":    strings.Replace(good, "index 2\n", "index 2\nAAAA\n", 1),
		"many hashes":   strings.Replace(good, "index 2\n", "index 2\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64), 1),
		"large":         good + strings.Repeat("x", maxProof),
	} {
		if _, err := ParseProof([]byte(text)); !errors.Is(err, ErrNotProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	key := newKey(t, "ed25519")
	good, err := VerifierKey("tmpki/a", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":       "",
		"cut":         good[:len(good)-4],
		"other name":  strings.Replace(good, "tmpki/a", "tmpki/b", 1),
		"upper hash":  strings.Replace(good, good[8:16], strings.ToUpper(good[8:16])+"x", 1),
		"other type":  "a+00000000+" + base64.StdEncoding.EncodeToString(append([]byte{4}, make([]byte, 32)...)),
		"two lines":   good + "\n" + good,
		"ECDSA trash": "a+00000000+" + base64.StdEncoding.EncodeToString([]byte{2, 1, 2, 3}),
		"large":       good + strings.Repeat("A", 4096),
	} {
		if _, err := NewVerifier(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\n", "ä"} {
		if _, err := VerifierKey(name, key.Public()); err == nil {
			t.Errorf("name %q: taken", name)
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner("a", rsaKey); err == nil {
		t.Error("an RSA key: taken")
	}
	s, _ := newLog(t, "a", "ed25519")
	if _, err := (Checkpoint{Origin: "b"}).Sign(s); err == nil {
		t.Error("a checkpoint of another log was signed")
	}
}

func FuzzParseProof(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzParseProof"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	_, v := newLog(f, "tmpki/a", "ed25519")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProof(data)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Marshal(), data) {
			t.Fatalf("marshals as %q", p.Marshal())
		}
		if _, _, err := p.Check(v); err == nil {
			t.Fatal("checked by a key that signed nothing")
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzOpenCheckpoint"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	s, v := newLog(f, "tmpki/a", "ed25519")
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := OpenCheckpoint(data, v); err == nil {
			t.Fatal("opened by a key that signed nothing")
		}
		// What we would sign is read back; all else is refused.
		c, err := parseText(string(data))
		if err != nil || s.Name() != c.Origin {
			return
		}
		text, err := c.Sign(s)
		if err != nil {
			return // not a text of a note, such as one with control characters
		}
		if back, err := OpenCheckpoint(text, v); err != nil || back != c {
			t.Fatalf("%v: %v", back, err)
		}
	})
}

// TestWriteSeeds makes testdata/fuzz anew, on demand only.
func TestWriteSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	db := grown(t, 5, "x")
	s, _ := newLog(t, "tmpki/a", "ed25519")
	c, text := signed(t, db, s)
	p, err := Prove(t.Context(), db, c, text, 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"FuzzParseProof/good": p.Marshal(), "FuzzParseProof/cut": p.Marshal()[:200],
		"FuzzOpenCheckpoint/signed": text, "FuzzOpenCheckpoint/text": []byte(c.text()),
	} {
		path := filepath.Join("testdata", "fuzz", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
