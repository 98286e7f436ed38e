package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"tmpki/keys"
)

// Platform is a kind of board, or one board, with Secure Boot keys of its own:
// all that stands under uefi.keys exists once more for it, and so do the
// variables. Certificates from the hierarchies are the same on all platforms.
type Platform struct {
	Name      string
	Variables []*Variable // PK, KEK, db
}

// platformDir holds, in a directory for each platform, its keys and files.
const platformDir = "platforms"

// Platform returns a platform by name, or nil.
func (u *UEFI) Platform(name string) *Platform {
	for _, p := range u.Platforms {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// All returns the variables of the base set, then those of each platform.
func (u *UEFI) All() []*Variable {
	all := slices.Clone(u.Variables)
	for _, p := range u.Platforms {
		all = append(all, p.Variables...)
	}
	return all
}

// set returns the variables of a platform, or of the base set for "".
func (u *UEFI) set(platform string) ([]*Variable, error) {
	if platform == "" {
		return u.Variables, nil
	}
	if p := u.Platform(platform); p != nil {
		return p.Variables, nil
	}
	return nil, fmt.Errorf("platform %q is not in the plan: \"tmpki uefi keys\" gives it keys of its own", platform)
}

// ID names the variable among all of the plan, such as "db" or "board-a/db".
func (v *Variable) ID() string { return variableID(v.Platform, v.Name) }

func variableID(platform, name string) string { return path.Join(platform, name) }

// platforms repeats the base set for each platform.
func (l *loader) platforms() error {
	for i, name := range l.config.UEFI.Platforms {
		if !namePattern.MatchString(name) {
			return l.doc.fail("uefi.platforms", fmt.Errorf("%q is not a name of letters, digits, _ and -", name))
		}
		if slices.Contains(l.config.UEFI.Platforms[:i], name) {
			return l.doc.fail("uefi.platforms", fmt.Errorf("%q stands twice", name))
		}
		own := map[*Entry]*Entry{}
		for _, base := range sortedKeys(l.config.UEFI.Keys) {
			e, err := l.platformKey(name, base)
			if err != nil {
				return err
			}
			own[l.plan.byName[base]] = e
		}
		p := &Platform{Name: name}
		for _, base := range l.plan.UEFI.Variables {
			v := *base
			v.Platform, v.Signer, v.Certificates = name, ownOr(own, base.Signer), nil
			for _, e := range base.Certificates {
				v.Certificates = append(v.Certificates, ownOr(own, e))
			}
			p.Variables = append(p.Variables, &v)
		}
		l.plan.UEFI.Platforms = append(l.plan.UEFI.Platforms, p)
	}
	return nil
}

func ownOr(own map[*Entry]*Entry, e *Entry) *Entry {
	if o := own[e]; o != nil {
		return o
	}
	return e
}

// platformKey adds the entry that an entry under uefi.keys has on a platform:
// it has a subject and a key of its own, and all else in common with the base.
func (l *loader) platformKey(platform, base string) (*Entry, error) {
	c := l.config.UEFI.Keys[base]
	place := l.config.Keys.merge(l.config.Profiles[c.Profile].Template.Keys).merge(c.Template.Keys).Place
	if !strings.Contains(place, "{name}") {
		return nil, l.doc.fail("uefi.keys."+base+".place", fmt.Errorf("%q is without {name}, but each platform has a key of its own", place))
	}
	name := platform + "_" + base
	inPlace := name
	if strings.HasPrefix(place, keys.SchemeFile+":") {
		inPlace = path.Join(platformDir, platform, base)
	}
	c.Template.Keys.Place = strings.ReplaceAll(place, "{name}", inPlace)
	c.Subject.CommonName = strings.TrimSpace(l.config.Subject.Merge(l.config.Profiles[c.Profile].Subject).Merge(c.Subject).CommonName + " " + platform)
	e, err := l.entry(PlatformKey, "uefi.platforms."+platform+"."+base, name, c)
	if err != nil {
		return nil, err
	}
	e.Platform = platform
	return e, nil
}

// platformFiles publishes of each platform what the plan publishes of the base
// set.
func (l *loader) platformFiles() error {
	if l.plan.UEFI == nil {
		return nil
	}
	base := slices.Clone(l.plan.Published)
	for _, p := range l.plan.UEFI.Platforms {
		for _, f := range base {
			switch {
			case f.Variable != nil:
				i := slices.Index(l.plan.UEFI.Variables, f.Variable)
				f.Variable = p.Variables[i]
			case f.Entry.Kind == PlatformKey:
				f.Entry = l.plan.byName[p.Name+"_"+f.Entry.Name]
			default:
				continue // the same on all platforms
			}
			f.File = path.Join(platformDir, p.Name, f.File)
			if o := l.taken.claim(f.File, "platform "+p.Name); o != "" {
				return l.doc.fail("uefi.platforms", fmt.Errorf("%s would be a file of platform %q, but it is the place of %s", f.File, p.Name, o))
			}
			l.plan.Published = append(l.plan.Published, f)
		}
	}
	return nil
}

// platform returns the platform that the file is of; "" for the base set, and
// for what is no platform's.
func (f *Published) platform() string {
	switch {
	case f.Variable != nil:
		return f.Variable.Platform
	default:
		return f.Entry.Platform
	}
}

var errNoUEFI = errors.New("the plan has no uefi section")
