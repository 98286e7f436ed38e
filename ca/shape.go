package ca

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"tmpki/spki"
)

// maxShapes bounds what an issuer remembers: whoever has more shapes waits for
// the linter.
const maxShapes = 4096

// shape is all of a certificate that a lint looks at, beside the issuer. Two
// certificates of one shape differ in their serial, key and dates, in the letters
// of their names, and in the digits of a UUID.
type shape struct {
	profile *Profile
	rest    string
}

// shapes are those that were linted without complaint. It is safe for concurrent use.
type shapes struct {
	mu    sync.RWMutex
	known map[shape]bool
}

func (s *shapes) find(profile *Profile, t spki.KeyType, r Request, subject []rdn, notAfter time.Time) (shape, bool) {
	found := shape{profile, describeShape(t, r, subject, notAfter)}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return found, s.known[found]
}

func (s *shapes) add(found shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[shape]bool{}
	}
	if len(s.known) < maxShapes {
		s.known[found] = true
	}
}

// describeShape tells apart what lints tell apart. What is not understood here
// stands as it is, and so makes a shape of its own.
func describeShape(t spki.KeyType, r Request, subject []rdn, notAfter time.Time) string {
	b := make([]byte, 0, 256)
	number := func(n int) { b = append(strconv.AppendInt(b, int64(n), 10), ' ') }
	truth := func(v bool) { b = append(strconv.AppendBool(b, v), ' ') }
	quoted := func(s string) { b = append(strconv.AppendQuote(b, s), ' ') }
	// 1. Key and dates.
	number(int(t.Kind))
	number(t.Bits)
	quoted(t.Curve)
	if key, ok := spki.RSAKey(r.PublicKey); ok {
		number(key.E)
	}
	if key, ok := r.PublicKey.(*spki.PSSPublicKey); ok && key.Params != nil {
		quoted(fmt.Sprintf("%+v", *key.Params))
	}
	truth(r.NotBefore.Year() < 2050)
	truth(notAfter.Year() < 2050)
	// 2. Subject: of each attribute its type, its string type, and the class of its
	// length and of its characters.
	for _, a := range subject {
		number(a.set)
		for _, arc := range a.oid {
			number(arc)
		}
		number(-int(a.tag))
		s := string(a.value)
		if len(s) < 4 || strings.Contains(s, "--") || !utf8.ValidString(s) {
			quoted(s) // such as a country, or a name that may be an A-label
			continue
		}
		runes := utf8.RuneCountInString(s)
		for _, bound := range []int{64, 128, 256, 1 << 15} { // RFC 5280, Appendix A.1
			truth(runes > bound)
			truth(len(s) > bound)
		}
		truth(strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }))
		truth(strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }))
		truth(strings.TrimSpace(s) == s)
	}
	// 3. Alternative names.
	for _, name := range r.SubjectAltNames {
		if uuid, ok := strings.CutPrefix(name, "uri:"+uuidScheme); ok && CheckUUID(uuid) == nil {
			name = "uuid"
		}
		quoted(name)
	}
	return string(b)
}
