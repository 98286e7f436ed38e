package ca

import (
	"fmt"
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
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %s", t.Kind, t.Bits, t.Curve)
	if key, ok := spki.RSAKey(r.PublicKey); ok {
		fmt.Fprintf(&b, " %d", key.E)
	}
	if key, ok := r.PublicKey.(*spki.PSSPublicKey); ok && key.Params != nil {
		fmt.Fprintf(&b, " %+v", *key.Params)
	}
	fmt.Fprintf(&b, " %t %t", r.NotBefore.Year() < 2050, notAfter.Year() < 2050)
	for _, a := range subject {
		b.WriteString(describeValue(a))
	}
	for _, name := range r.SubjectAltNames {
		if uuid, ok := strings.CutPrefix(name, "uri:"+uuidScheme); ok && CheckUUID(uuid) == nil {
			name = "uuid"
		}
		fmt.Fprintf(&b, " %q", name)
	}
	return b.String()
}

// describeValue gives the type of an attribute of a name, its string type, and the
// class of its length and of its characters.
func describeValue(a rdn) string {
	s := string(a.value)
	if len(s) < 4 || strings.Contains(strings.ToLower(s), "xn--") || !utf8.ValidString(s) {
		return fmt.Sprintf(" %d %v %d %q", a.set, a.oid, a.tag, s) // such as a country
	}
	runes, octets := 0, 0
	for _, bound := range []int{64, 128, 256, 1 << 15} { // RFC 5280, Appendix A.1
		if utf8.RuneCountInString(s) > bound {
			runes = bound
		}
		if len(s) > bound {
			octets = bound
		}
	}
	ascii, printable := true, true
	for _, r := range s {
		ascii = ascii && r <= unicode.MaxASCII
		printable = printable && unicode.IsPrint(r)
	}
	return fmt.Sprintf(" %d %v %d >%d >%d %t %t %t", a.set, a.oid, a.tag, runes, octets, ascii, printable, strings.TrimSpace(s) == s)
}
