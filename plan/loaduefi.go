package plan

import (
	"errors"
	"fmt"
	"slices"

	"tmpki/uefi"
)

func (l *loader) uefi() error {
	c := l.config.UEFI
	if c == nil {
		return nil
	}
	u := &UEFI{Create: c.Create, Owner: c.Owner}
	if !slices.Contains([]string{"always", "never", "on-request"}, c.Create) {
		return l.doc.fail("uefi.create", fmt.Errorf("%q is unknown: use always, never or on-request", c.Create))
	}
	if c.Owner != "" {
		if _, err := uefi.ParseGUID(c.Owner); err != nil {
			return l.doc.fail("uefi.owner", err)
		}
	}
	for _, name := range sortedKeys(c.Keys) {
		if _, err := l.entry(PlatformKey, "uefi.keys."+name, name, c.Keys[name]); err != nil {
			return err
		}
	}
	// Firmware checks each update with the variable before it, so this is the
	// order in which they are made and enrolled.
	for _, name := range []string{"PK", "KEK", "db"} {
		vc, ok := c.Variables[name]
		if !ok {
			return l.doc.fail("uefi.variables", fmt.Errorf("%s is missing", name))
		}
		v := &Variable{Name: name, Files: vc.Files}
		var err error
		if v.Variable, err = uefi.SecureBootVariable(name); err != nil {
			return l.doc.fail("uefi.variables."+name, err)
		}
		key := "uefi.variables." + name
		for _, cert := range vc.Certificates {
			e := l.plan.byName[cert]
			if e == nil {
				return l.doc.fail(key+".certificates", fmt.Errorf("%q is not an entry of this plan", cert))
			}
			if slices.Contains(v.Certificates, e) {
				return l.doc.fail(key+".certificates", fmt.Errorf("%q stands twice", cert))
			}
			err := uefi.CheckKeyType(e.KeyType)
			if err == nil {
				err = l.plan.target("uefi").check(e, e)
			}
			if err != nil {
				return l.doc.fail(e.key+".key", err)
			}
			v.Certificates = append(v.Certificates, e)
		}
		if len(v.Certificates) == 0 {
			return l.doc.fail(key+".certificates", errors.New("empty"))
		}
		if name == "PK" && len(v.Certificates) > 1 {
			return l.doc.fail(key+".certificates", errors.New("PK holds one certificate (UEFI 2.10, Section 32.3.1)"))
		}
		if err := l.vendorFiles(name, vc.Files); err != nil {
			return err
		}
		v.Signer = l.plan.byName[vc.Signer]
		if v.Signer == nil {
			return l.doc.fail(key+".signer", fmt.Errorf("%q is not an entry of this plan", vc.Signer))
		}
		if !slices.Contains(allowedSigners(u.Variables, v), v.Signer) {
			return l.doc.fail(key+".signer", fmt.Errorf("firmware takes an update of %s only from a key that it has enrolled before, not from %q", name, vc.Signer))
		}
		u.Variables = append(u.Variables, v)
	}
	for name := range c.Variables {
		if !slices.Contains([]string{"PK", "KEK", "db"}, name) {
			return l.doc.fail("uefi.variables."+name, errors.New("unknown: use PK, KEK and db"))
		}
	}
	l.plan.UEFI = u
	return l.platforms()
}
