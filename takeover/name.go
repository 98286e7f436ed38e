package takeover

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/spki"
)

// name decides which certificates become entries of the plan, and what they are
// called there and in the record.
//
// Entries are the authorities, and what has a file of its own: a key, or a place
// outside of the directories of "openssl ca". What such a directory has issued is
// recorded only, as certificates of devices are.
func (f *Found) name() {
	// 1. Which?
	want := map[*certificate]bool{}
	for _, c := range f.certs {
		switch {
		case c.twin != nil, f.uefi.has(c):
		case c.root() == nil:
			f.add(plan.Bad, c.file, "the certificate of its issuer %q is not among the files: name that too", ca.Printable(c.Issuer().String()))
		case c.platformKey():
			f.add(plan.Warn, c.file, "is self-signed and no authority: keys of UEFI platforms stay behind, with their key files; tmpki uefi keys makes new ones for a platform")
		case c.key != nil || c.IsCA && !f.issuedByIndex(c) || rank(c.file) == 0 && !f.inIndex(c.file):
			for up := c; up != nil; up = up.issuer {
				want[up] = true
			}
		}
	}
	// 2. Of two with one subject the newest.
	newest := map[string]*certificate{}
	for _, c := range f.certs {
		id := c.Subject().Canonical()
		if o := newest[id]; want[c] && (o == nil || o.NotAfter.Before(c.NotAfter)) {
			newest[id] = c
		}
	}
	for c := range want {
		o := newest[c.Subject().Canonical()]
		if o == c {
			continue
		}
		delete(want, c)
		if !spki.Equal(o.Key, c.Key) {
			f.add(plan.Warn, c.file, "has the subject of %s, which is newer, and another key: it is recorded only, and so is what it has issued", o.file)
			continue
		}
		for _, below := range f.certs { // the newer one has the same name and key
			if below.issuer == c && below != o {
				below.issuer = o
			}
		}
	}
	// 3. What a plan can hold.
	fits := func(c *certificate) bool {
		for up := c; up != nil; up = up.issuer {
			if _, err := spki.ParseKeyType(up.KeyType().String()); err != nil || !want[up] {
				return false
			}
		}
		return true
	}
	for _, c := range f.certs {
		if want[c] && fits(c) {
			f.entries = append(f.entries, c)
		} else if want[c] {
			f.add(plan.Bad, c.file, "its key (%v), or one above it, can't be in a plan: it is recorded only", c.KeyType())
		}
	}
	slices.SortStableFunc(f.entries, func(a, b *certificate) int {
		return cmp.Or(a.depth()-b.depth(), strings.Compare(a.file, b.file))
	})
	// 4. Names.
	taken := map[string]bool{"": true}
	if f.uefi != nil {
		for _, s := range uefiStems {
			taken[s.stem] = true
		}
	}
	for _, c := range f.entries {
		c.name = unique(c.suggested(), taken)
		c.record = c.name
	}
	for _, c := range f.certs {
		if c.twin != nil && c.twin.name != "" {
			c.name = unique(c.suggested(), taken)
			c.record = c.name
			f.entries = append(f.entries, c)
		}
	}
	for _, c := range f.certs {
		if c.record != "" {
			continue
		}
		if o := newest[c.Subject().Canonical()]; o != nil && o.name != "" && spki.Equal(o.Key, c.Key) {
			c.record = o.name
		} else if c.record = c.Subject().CommonName(); c.record == "" || len(c.record) > 256 || !validText(c.record) || taken[c.record] || reserved.MatchString(c.record) {
			// Under the name of an entry, or of one of its generations, it would pass for
			// that one's: whoever asked for it chose its common name.
			c.record = fmt.Sprintf("serial-%x", c.SerialNumber)
		}
	}
}

// reserved are names that generations and cross-certificates have, or what a profile has
// issued: PROFILE/NAME.
var reserved = regexp.MustCompile(`/|-g[0-9]+$`)

// platformKey reports whether a certificate is of a UEFI platform, as far as it
// shows: PK, KEK and DB of the platform's scripts say that they are CAs.
func (c *certificate) platformKey() bool {
	if c.issuer != nil || c.twin != nil {
		return false
	}
	switch stem(c.file) {
	case "PK", "KEK", "DB":
		return true
	}
	return !c.authority()
}

func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }

func (c *certificate) depth() (n int) {
	for c.issuer != nil && n < 20 {
		c, n = c.issuer, n+1
	}
	return n
}

func (f *Found) inIndex(file string) bool {
	for _, x := range f.indexes {
		if rel, err := filepath.Rel(x.dir, file); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// issuedByIndex reports whether an "openssl ca" here has issued the certificate.
func (f *Found) issuedByIndex(c *certificate) bool {
	return c.issuer != nil && c.key == nil && f.inIndex(c.file)
}

// suggested returns what a certificate might be called: as its file, or as its
// common name.
func (c *certificate) suggested() string {
	name := stem(c.file)
	if rank(c.file) > 0 || name == "cacert" || name == "cert" || name == "ca" {
		if cn := c.Subject().CommonName(); cn != "" {
			name = cn
		}
	}
	return clean(name)
}

// words are what YAML takes for something else than text.
var words = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}

// clean makes a name that a plan takes: letters, digits, _ and -, at most 56, and
// nothing that YAML takes for a number.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-_")
	if name != "" && name[0] <= '9' || slices.Contains(words, strings.ToLower(name)) {
		name = "ca-" + name
	}
	return name[:min(len(name), 56)]
}

func unique(name string, taken map[string]bool) string {
	if name == "" {
		name = "unnamed"
	}
	for n, base := 2, name; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	taken[name] = true
	return name
}
