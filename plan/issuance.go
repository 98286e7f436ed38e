package plan

import (
	"errors"
	"fmt"
	"strings"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

// Issuance is how certificates of a profile are issued that are no entries of the
// plan: those of devices, users, more backends. There may be millions of them.
type Issuance struct {
	Name    string // the profile's
	Issuer  *Entry // the authority that signs
	Profile *ca.Profile
	Subject ca.SubjectConfig // how every subject begins: plan, hierarchy and profile
	KeyType spki.KeyType     // of keys that are made here; zero: keys come with requests only

	// Passphrase opens the keys that are made here; zero with NoPassphrase.
	Passphrase   keys.Source
	NoPassphrase bool

	Request         *ca.RequestPolicy // what may come from a request; nil: no request may use the profile
	AllowList       string            // file with the devices that may have a certificate, "" for any; relative to the PKI directory
	CompromisedKeys string            // file with fingerprints of keys that are refused, "" for none but the known; relative too

	place string
	key   string // in pki.yaml, such as profiles.device
}

// Key returns the URI of the key of a certificate that is made here. The name is
// one as entries have it, of letters, digits, _ and -.
func (i *Issuance) Key(name string) (keys.URI, error) {
	if i.KeyType == (spki.KeyType{}) {
		return keys.URI{}, fmt.Errorf("%s.key: missing: the type of the keys that are made here, such as rsa:4096. Without it a request must bring the key", i.key)
	}
	if !namePattern.MatchString(name) {
		return keys.URI{}, fmt.Errorf("%q is not a name of letters, digits, _ and -", name)
	}
	return keys.ParseURI(strings.ReplaceAll(i.place, "{name}", name))
}

// Issuance returns how a profile is issued outside the entries of the plan.
func (p *Plan) Issuance(profile string) (*Issuance, error) {
	if i := p.Issued[profile]; i != nil {
		return i, nil
	}
	names := strings.Join(sortedKeys(p.Issued), ", ")
	if names == "" {
		return nil, fmt.Errorf("profiles.%s.issuer: missing in the plan: name the authority that signs such certificates. No profile of this plan has one", profile)
	}
	return nil, fmt.Errorf("profile %q issues nothing outside the entries of the plan: the profiles with an issuer are %s", profile, names)
}

// issuances checks the profiles that have an issuer.
func (l *loader) issuances() error {
	l.plan.Issued = map[string]*Issuance{}
	for _, name := range l.doc.keys("profiles") {
		c, key := l.config.Profiles[name], "profiles."+name
		if c.Issuer == "" {
			if c.Request != nil {
				return l.doc.fail(key+".request", errors.New("the profile has no issuer: name the authority that signs such certificates"))
			}
			continue
		}
		i, sub, err := l.issuance(name, c)
		if err != nil {
			return l.doc.fail(l.origin(key, sub, entryConfig{Issuer: c.Issuer}), err)
		}
		l.plan.Issued[name] = i
	}
	return nil
}

// issuance checks one of them. With an error it returns the key below the profile.
func (l *loader) issuance(name string, c profileConfig) (*Issuance, string, error) {
	// 1. Name and issuer.
	if !namePattern.MatchString(name) {
		return nil, "", fmt.Errorf("%q is not a name of letters, digits, _ and -, as a profile with an issuer needs it", name)
	}
	i := &Issuance{Name: name, Issuer: l.plan.byName[c.Issuer], key: "profiles." + name}
	if i.Issuer == nil || i.Issuer.Kind != Authority {
		return nil, ".issuer", fmt.Errorf("%q is not under authorities", c.Issuer)
	}
	if len(c.Template.Signs) > 0 {
		return nil, ".signs", errors.New("what signs artifacts is an entry under certificates, and no issuer stands in its profile")
	}
	// 2. What the certificates look like.
	var err error
	certificate := c.Template.Certificate
	if err := l.issuerCRLs(&certificate, c.Issuer); err != nil {
		return nil, ".crl_urls", err
	}
	if i.Profile, err = ca.NewProfile(name, certificate); err != nil {
		sub, rest := splitKey(err)
		return nil, sub, rest
	}
	if i.Profile.CA() {
		return nil, ".issuer", errors.New("a CA is an entry under authorities, and no issuer stands in its profile")
	}
	if by := i.Issuer.Profile; i.Profile.Validity() > by.Validity() {
		return nil, ".validity", fmt.Errorf("%s outlives issuer %q (%s)", inDays(i.Profile), i.Issuer.Name, inDays(by))
	}
	hierarchy := l.config.Hierarchies[i.Issuer.Hierarchy]
	i.Subject = l.config.Subject.Merge(hierarchy.Subject).Merge(c.Subject)
	if _, err := ca.NewName(ca.SubjectConfig{CommonName: name}.Merge(i.Subject)); err != nil {
		sub, rest := splitKey(err)
		return nil, sub, rest
	}
	// 3. Keys that are made here.
	if c.Template.KeyType != "" {
		if i.KeyType, err = spki.ParseKeyType(c.Template.KeyType); err != nil {
			return nil, ".key", err
		}
		k := l.config.Keys.merge(hierarchy.Keys).merge(c.Template.Keys)
		if i.place = k.Place; !strings.Contains(i.place, "{name}") {
			return nil, ".place", fmt.Errorf("%q is without {name}, but each certificate has a key of its own", i.place)
		}
		if _, err := i.Key("name"); err != nil {
			return nil, ".place", err
		}
		if i.Passphrase, i.NoPassphrase, err = k.Passphrase.source(); err != nil {
			return nil, ".passphrase", err
		}
	}
	// 4. What a request may say.
	if r := c.Request; r != nil {
		if i.Request, err = ca.NewRequestPolicy(r.Policy); err != nil {
			sub, rest := splitKey(err)
			return nil, ".request" + sub, rest
		}
		i.AllowList, i.CompromisedKeys = r.AllowList, r.CompromisedKeys
	}
	return i, "", nil
}
