package plan

import (
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Ceremony says how the keys of custody offline are used: not by Apply, but by
// people who come together at another machine. Apply asks them by a request.
type Ceremony struct {
	Officers []string // who may confirm, in the order of the file
	Quorum   int      // how many of them must
}

// Limits of a ceremony.
const (
	maxOfficers = 16
	maxOfficer  = 64 // octets of a name
)

// ceremony checks the section of that name, and marks the entries that it is
// about.
func (l *loader) ceremony() error {
	c := l.config.Ceremony
	if c == nil {
		for _, e := range l.plan.Entries {
			if e.Passphrase.Split {
				return l.doc.fail(e.key+".passphrase", errors.New("split: among whom? There is no section ceremony with officers"))
			}
		}
		return nil
	}
	// 1. Who?
	if n := len(c.Officers); n == 0 || n > maxOfficers {
		return l.doc.fail("ceremony.officers", fmt.Errorf("names %d people: 1 to %d can be officers", n, maxOfficers))
	}
	for i, name := range c.Officers {
		if err := checkOfficer(name); err != nil {
			return l.doc.fail("ceremony.officers", err)
		}
		if slices.Contains(c.Officers[:i], name) {
			return l.doc.fail("ceremony.officers", fmt.Errorf("%q stands twice", name))
		}
	}
	l.plan.Ceremony = &Ceremony{Officers: c.Officers, Quorum: c.Quorum}
	switch {
	case c.Quorum < 0 || c.Quorum > len(c.Officers):
		return l.doc.fail("ceremony.quorum", fmt.Errorf("%d of %d officers: use 1 to %d", c.Quorum, len(c.Officers), len(c.Officers)))
	case c.Quorum == 0:
		l.plan.Ceremony.Quorum = len(c.Officers)
	}
	// 2. For what?
	offline := false
	for _, e := range l.plan.Entries {
		e.AtCeremony = e.KeyOwner().Custody == Offline
		offline = offline || e.AtCeremony
	}
	if !offline {
		return l.doc.fail("ceremony", errors.New("no entry has custody: offline, so that nothing is left for a ceremony"))
	}
	for _, e := range l.plan.Entries {
		switch {
		case !e.Passphrase.Split:
		case !e.AtCeremony:
			return l.doc.fail(e.key+".passphrase", fmt.Errorf("split: %s is not offline, and used without a ceremony", e.Name))
		case l.plan.Ceremony.Quorum < 2:
			return l.doc.fail(e.key+".passphrase", errors.New("split: at least 2 officers must be needed for a ceremony"))
		}
	}
	// 3. The other machine can sign for what is here, but not be signed for.
	for _, e := range l.plan.Entries {
		if e.AtCeremony && !e.Signer().AtCeremony {
			return l.doc.fail(e.key+".custody", fmt.Errorf("%s is offline, but its issuer %q is not: put the issuer offline too, or %s online", e.Name, e.Signer().Name, e.Name))
		}
	}
	for _, e := range l.plan.Entries {
		if e.AtCeremony && e.TwinOf == nil && e.CRL != nil && (e.CRL.Partitions > 1 || e.CRL.Delta > 0) {
			return l.doc.fail(e.key+".crl", fmt.Errorf("%s is offline: a ceremony makes one full CRL, without partitions and deltas", e.Name))
		}
	}
	for _, f := range l.plan.Published {
		if f.Form == FormKeyCertificate && f.Entry.AtCeremony {
			return &Error{File: l.doc.file, Line: l.doc.publishLine(f.File), Key: "publish." + f.File, Err: fmt.Errorf("as: the key of %q is used at ceremonies only, and so not here", f.Entry.Name)}
		}
	}
	return nil
}

// checkOfficer refuses a name that could not be shown, typed or kept in a line.
func checkOfficer(name string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == ':' }
	if name == "" || len(name) > maxOfficer || !utf8.ValidString(name) || slices.ContainsFunc([]rune(name), bad) || name[0] == ' ' || name[len(name)-1] == ' ' {
		return fmt.Errorf("%q is not a name of 1 to %d printable characters without a colon", shorten(name), maxOfficer)
	}
	return nil
}
