package uefi

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestGUIDIsMixedEndian(t *testing.T) {
	const text = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
	if got := hex.EncodeToString(CertX509[:]); got != "a159c0a5e494a74a87b5ab155c2bf072" {
		t.Errorf("in firmware: %s", got)
	}
	if CertX509.String() != text {
		t.Errorf("in text: %v", CertX509)
	}
	if guid(t, strings.ToUpper(text)) != CertX509 {
		t.Error("upper case is another GUID")
	}
}

func TestParseGUIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "a5c059a194e44aa787b5ab155c2bf072", "{a5c059a1-94e4-4aa7-87b5-ab155c2bf072}",
		"a5c059a1-94e4-4aa7-87b5-ab155c2bf07", "a5c059a1-94e4-4aa7-87b5-ab155c2bf0723", "a5c059a1-94e4-4aa7-87b5-ab155c2bf07g",
		"a5c059a-194e4-4aa7-87b5-ab155c2bf072", "a5c059a1-94e4-4aa7-87b5ab-155c2bf072", " a5c059a1-94e4-4aa7-87b5-ab155c2bf072",
	} {
		if g, err := ParseGUID(s); err == nil {
			t.Errorf("%q is read as %v", s, g)
		}
	}
}

func TestNewGUID(t *testing.T) {
	a, b := NewGUID(), NewGUID()
	if a == b {
		t.Fatal("two random GUIDs are the same")
	}
	if s := a.String(); s[14] != '4' || !strings.Contains("89ab", s[19:20]) {
		t.Errorf("%s is not of version 4 (RFC 9562)", s)
	}
}

func FuzzParseGUID(f *testing.F) {
	f.Add("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	f.Add("A5C059A1-94e4-4aa7-87b5-AB155C2BF072")
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := ParseGUID(s); err == nil && g.String() != strings.ToLower(s) {
			t.Fatalf("%q is written back as %v", s, g)
		}
	})
}
