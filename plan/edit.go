package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tmpki/internal/durable"
	"tmpki/keys"
)

// Edit changes the text of a plan and applies the result, under one lock. What
// edit returns must load; if it returns the text that it was given, nothing is
// written. Comments and layout are edit's to keep: see insertBelow. If applying
// fails before a new entry has a key, the plan goes back to what it was.
func Edit(ctx context.Context, dir string, o Options, edit func(p *Plan, text []byte) ([]byte, error)) ([]Step, error) {
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// A link, for example into a repository, stays one.
	path, err := filepath.EvalSymlinks(filepath.Join(dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("no PKI directory: %w", err)
	}
	f, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	p, err := Load(path, f.Content)
	if err != nil {
		return nil, err
	}
	text, err := edit(p, bytes.Clone(f.Content))
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, f.Content) {
		return apply(ctx, dir, o)
	}
	edited, err := Load(path, text)
	if err != nil {
		return nil, fmt.Errorf("the change would spoil the plan: %w", err)
	}
	if err := durable.WriteFile(path, text, f.Mode.Perm()); err != nil {
		return nil, err
	}
	steps, err := apply(ctx, dir, o)
	if err != nil && !begun(dir, p, edited) {
		err = errors.Join(err, durable.WriteFile(path, f.Content, f.Mode.Perm()))
	}
	return steps, err
}

// begun reports whether a key that is only in the edited plan may be in use. A
// run that fails takes its keys away, until the first of them is about to sign.
func begun(dir string, p, edited *Plan) bool {
	return slices.ContainsFunc(edited.Entries, func(e *Entry) bool {
		if p.Entry(e.Name) != nil || e.TwinOf != nil { // a twin has the key of another
			return false
		}
		if e.Key.Scheme != keys.SchemeFile {
			return true // who knows
		}
		_, err := os.Lstat(e.Key.FilePath(dir))
		return err == nil
	})
}

// insertBelow puts lines right below the line of a top-level key, before what it
// holds. The key must stand alone on its line, but for a comment.
func insertBelow(text []byte, key string, lines ...string) ([]byte, error) {
	all := strings.SplitAfter(string(text), "\n")
	for i, line := range all {
		rest, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		if rest = strings.TrimSpace(rest); rest != "" && !strings.HasPrefix(rest, "#") {
			break
		}
		for j, l := range lines {
			lines[j] = l + "\n"
		}
		return []byte(strings.Join(slices.Insert(all, i+1, lines...), "")), nil
	}
	return nil, fmt.Errorf("%s has no line %q to put an entry below: add it by hand", FileName, key+":")
}

// AddGuestOS returns an edit that adds a certificate for one GuestOS to the plan:
// the entry guestos_NAME below the sub CA that the plan has an anchor twin of,
// with the profile and key type of the GuestOSes that are there. If the entry is
// there already, the plan stays as it is.
func AddGuestOS(name string) func(p *Plan, text []byte) ([]byte, error) {
	return func(p *Plan, text []byte) ([]byte, error) {
		entry := "guestos_" + name
		if name == "" || !namePattern.MatchString(entry) {
			return nil, fmt.Errorf("%q is not a name of letters, digits, _ and -", name)
		}
		if e := p.Entry(entry); e != nil {
			return text, e.MaySign("guestos")
		}
		issuer, model, err := p.guestOSIssuer()
		if err != nil {
			return nil, err
		}
		text, err = insertBelow(text, "certificates",
			"  "+entry+":",
			"    issuer: "+issuer.Name,
			"    profile: "+model.Profile.Name(),
			"    key: "+model.KeyType.String(),
			"    signs: [guestos]",
			"    subject: {common_name: GuestOS "+name+"}")
		if err != nil {
			return nil, err
		}
		return insertBelow(text, "publish", fmt.Sprintf("  %s.cert: {of: %s, as: chain-without-root}", entry, entry))
	}
}

// guestOSIssuer finds the sub CA of GuestOSes, and a GuestOS to take after.
func (p *Plan) guestOSIssuer() (issuer, model *Entry, err error) {
	for _, e := range p.Entries {
		if e.Kind != Anchor || e.Active != nil {
			continue
		}
		for _, c := range e.TwinOf.Children {
			if c.MaySign("guestos") == nil {
				if issuer != nil && issuer != e.TwinOf {
					return nil, nil, errors.New("the plan has several sub CAs for GuestOSes: add the entry by hand")
				}
				issuer, model = e.TwinOf, c
			}
		}
	}
	if issuer == nil {
		return nil, nil, errors.New("the plan has no sub CA with an anchor twin and a GuestOS below it: add the entry by hand")
	}
	return issuer, model, nil
}
