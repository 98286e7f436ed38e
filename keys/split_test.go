package keys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const splitPKI = "000102030405060708090a0b0c0d0e0f"

var splitOfficers = []string{"Alice Example", "Bob Example", "Carol Example"}

func newSplit(t testing.TB) (*Split, []*Share) {
	t.Helper()
	p, err := NewPassphrase([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	s, shares, err := NewSplit(splitPKI, splitOfficers, 2, p)
	if err != nil {
		t.Fatal(err)
	}
	return s, shares
}

func TestSplit(t *testing.T) {
	s, shares := newSplit(t)
	again, err := ParseSplit(s.Marshal())
	if err != nil || again.ID() != s.ID() {
		t.Fatal(err)
	}
	own, err := NewPassphrase([]byte("bob's own"))
	if err != nil {
		t.Fatal(err)
	}
	// 1. Each two open it, whatever their order, from plain and from sealed files.
	for i, share := range shares {
		var p *Passphrase
		if i == 1 {
			p = own
		}
		file, err := share.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		asked := ""
		if shares[i], err = ParseShare(file, func(officer string) (*Passphrase, error) { asked = officer; return own, nil }); err != nil {
			t.Fatal(err)
		}
		if (asked == "Bob Example") != (i == 1) {
			t.Errorf("share %d: asked %q for a passphrase", i+1, asked)
		}
	}
	for _, pair := range [][]int{{0, 1}, {1, 2}, {2, 0}, {2, 1}, {0, 1, 2}} {
		var list []*Share
		for _, i := range pair {
			list = append(list, shares[i])
		}
		p, err := again.Combine(list...)
		if err != nil {
			t.Fatalf("%v: %v", pair, err)
		}
		if secret, _ := p.Secret(); string(secret) != "correct horse" {
			t.Errorf("%v: another secret", pair)
		}
	}
	// 2. What doesn't.
	_, others := newSplit(t)
	moved := *shares[0]
	moved.Index = 2
	rows := []struct {
		name   string
		shares []*Share
		err    error
	}{
		{"none", nil, ErrTooFewShares},
		{"one", shares[:1], ErrTooFewShares},
		{"one twice", []*Share{shares[0], shares[0]}, ErrShareTwice},
		{"one of another split", []*Share{shares[0], others[1]}, ErrShareForeign},
		{"two of another split", others[:2], ErrShareForeign},
		{"one under another number", []*Share{&moved, shares[2]}, ErrShareAltered},
		{"one with another value", []*Share{shares[0], s.share(2, others[1].value())}, ErrShareAltered},
	}
	for _, r := range rows {
		if _, err := again.Combine(r.shares...); !errors.Is(err, r.err) {
			t.Errorf("%s: %v, want %v", r.name, err, r.err)
		}
	}
	// 3. A share shows nothing of itself.
	file, err := shares[0].Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(file), "value ")
	if text := fmt.Sprintf("%v %+v %#v %s %d", shares[0], *shares[0], *shares[0], shares, *shares[0]); strings.Contains(text, value[:16]) {
		t.Errorf("printed: %s", text)
	}
}

func TestSplitBounds(t *testing.T) {
	p, err := NewPassphrase([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		pki       string
		officers  []string
		threshold int
	}{
		{splitPKI, splitOfficers, 1}, {splitPKI, splitOfficers, 4}, {splitPKI, splitOfficers[:1], 1}, {"x", splitOfficers, 2},
		{splitPKI, []string{"A", "A"}, 2}, {splitPKI, []string{"A", "B\nC"}, 2}, {splitPKI, []string{"A", ""}, 2},
	} {
		if _, _, err := NewSplit(r.pki, r.officers, r.threshold, p); err == nil {
			t.Errorf("%v: split", r)
		}
	}
}

// TestShareAltered changes each octet of the files: none goes unnoticed.
func TestShareAltered(t *testing.T) {
	s, shares := newSplit(t)
	file, err := shares[0].Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	never := func(string) (*Passphrase, error) { return nil, nil }
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := ParseShare(bad, never); err == nil {
			t.Fatalf("share: octet %d can be changed", i)
		}
		if _, err := ParseShare(file[:i], never); err == nil {
			t.Fatalf("share: read after %d octets", i)
		}
	}
	set := s.Marshal()
	for i := range set {
		bad := bytes.Clone(set)
		bad[i] ^= 1
		if _, err := ParseSplit(bad); err == nil {
			t.Fatalf("split: octet %d can be changed", i)
		}
	}
	// With a digest that is right again, the commitments find it.
	lines := strings.SplitAfter(string(file), "\n")
	i := len(lines) - 3
	digit := "0"
	if lines[i][6] == '0' {
		digit = "1"
	}
	lines[i] = lines[i][:6] + digit + lines[i][7:]
	bad, err := ParseShare(sealLines(strings.Join(lines[:i+1], "")), never)
	if err == nil {
		_, err = s.Combine(bad, shares[1])
	}
	if !errors.Is(err, ErrShareAltered) {
		t.Errorf("another value with a new digest: %v", err)
	}
	// A share under a passphrase.
	own, _ := NewPassphrase([]byte("own"))
	wrong, _ := NewPassphrase([]byte("wrong"))
	sealed, err := shares[0].Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseShare(sealed, func(string) (*Passphrase, error) { return wrong, nil }); !errors.Is(err, ErrPassphraseWrong) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := ParseShare(sealed, never); !errors.Is(err, ErrPassphraseNeeded) {
		t.Errorf("no passphrase: %v", err)
	}
}

// FuzzShare: what is read of a plain share or a split is written the same again.
func FuzzShare(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, resealed(data)} {
			if s, err := ParseSplit(file); err == nil && !bytes.Equal(s.Marshal(), file) {
				t.Fatalf("split written as %q", s.Marshal())
			}
			s, err := ParseShare(file, func(string) (*Passphrase, error) { return nil, nil })
			if err != nil {
				continue
			}
			if again, err := s.Marshal(nil); err != nil || !bytes.Equal(again, file) {
				t.Fatalf("share written as %q, %v", again, err)
			}
		}
	})
}

// resealed puts the digest right, which no mutation does.
func resealed(data []byte) []byte {
	const tail = len("sha256 ") + 64 + 1
	if len(data) < tail {
		return data
	}
	return sealLines(string(data[:len(data)-tail]))
}

// TestWriteSplitSeeds makes the corpus of FuzzShare anew, on demand only.
func TestWriteSplitSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	s, shares := newSplit(t)
	plain, err := shares[0].Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("testdata", "fuzz", "FuzzShare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"split": s.Marshal(), "share": plain} {
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
