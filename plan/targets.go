package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tmpki/spki"
)

// Target is a verifier of the platform, and the key types that it can verify.
type Target struct {
	Name        string
	Signers     []spki.KeyType
	Authorities []spki.KeyType
}

// artifacts says who verifies what. A "file" is verified by whoever wants to.
var artifacts = []struct{ artifact, target string }{
	{"efi", "uefi"},
	{"module", "kernel"},
	{"ima", "kernel"},
	{"guestos", "cmld"},
	{"container", "cmld"},
	{"file", ""},
}

// targets are the platform's verifiers, with what they are called in errors.
var targets = map[string]string{
	"uefi":   "the UEFI firmware",
	"kernel": "the Linux kernel",
	"cmld":   "the platform's daemon",
}

func artifactTarget(artifact string) string {
	for _, a := range artifacts {
		if a.artifact == artifact {
			return a.target
		}
	}
	return ""
}

func checkArtifacts(signs []string) error {
	for i, s := range signs {
		known := slices.ContainsFunc(artifacts, func(a struct{ artifact, target string }) bool { return a.artifact == s })
		if !known {
			return fmt.Errorf("%q is unknown: use efi, module, ima, guestos, container or file", s)
		}
		if slices.Contains(signs[:i], s) {
			return fmt.Errorf("%q stands twice", s)
		}
	}
	return nil
}

func (l *loader) targets() error {
	for _, name := range sortedKeys(targets) {
		c, ok := l.config.Targets[name]
		if !ok {
			return l.doc.fail("targets", fmt.Errorf("%s is missing: the key types that %s can verify", name, targets[name]))
		}
		t := Target{Name: name}
		for _, list := range []struct {
			key  string
			from []string
			to   *[]spki.KeyType
		}{{"signers", c.Signers, &t.Signers}, {"authorities", c.Authorities, &t.Authorities}} {
			for _, s := range list.from {
				k, err := spki.ParseKeyType(s)
				if err != nil {
					return l.doc.fail("targets."+name+"."+list.key, err)
				}
				*list.to = append(*list.to, k)
			}
			if len(*list.to) == 0 {
				return l.doc.fail("targets."+name+"."+list.key, errors.New("empty"))
			}
		}
		l.plan.Targets = append(l.plan.Targets, t)
	}
	for name := range l.config.Targets {
		if _, ok := targets[name]; !ok {
			return l.doc.fail("targets."+name, errors.New("unknown target: use uefi, kernel and cmld"))
		}
	}
	return nil
}

// target returns a target by name; the one for "" takes everything.
func (p *Plan) target(name string) *Target {
	for i := range p.Targets {
		if p.Targets[i].Name == name {
			return &p.Targets[i]
		}
	}
	return nil
}

// check reports, as an error, why the target could not verify what signer signs:
// because of the key of c, which is the signer or an authority above it.
func (t *Target) check(c, signer *Entry) error {
	if t == nil {
		return nil
	}
	allowed, role := t.Signers, "signer"
	if c != signer {
		allowed, role = t.Authorities, "authority"
	}
	if slices.Contains(allowed, c.KeyType) {
		return nil
	}
	var names []string
	for _, k := range allowed {
		names = append(names, k.String())
	}
	what := fmt.Sprintf("%s signs for it", c.Name)
	if c != signer {
		what = fmt.Sprintf("%s signs for it below %s", signer.Name, c.Name)
	}
	return fmt.Errorf("%s can't verify %v (%s): use one of %s, or, if your platform can, add it to targets.%s.%s",
		targets[t.Name], c.KeyType, what, strings.Join(names, ", "), t.Name, map[string]string{"signer": "signers", "authority": "authorities"}[role])
}
