package plan

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
	"tmpki/uefi"
)

// Load reads and checks pki.yaml. file is its name in errors, which are *Error.
func Load(file string, data []byte) (*Plan, error) {
	var c fileConfig
	doc, err := decodeStrict(file, data, &c)
	if err != nil {
		return nil, err
	}
	l := &loader{doc: doc, config: c, plan: &Plan{Name: c.Plan, SHA256: sha256.Sum256(data), byName: map[string]*Entry{}}}
	for _, step := range []func() error{l.header, l.targets, l.authorities, l.certificates, l.anchors, l.uefi, l.generations, l.order, l.log, l.issuances, l.limits, l.signers, l.publish, l.crlFiles, l.ceremony} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return l.plan, nil
}

type loader struct {
	doc    *document
	config fileConfig
	plan   *Plan
	taken  claims
}

// names are also file names and parts of key URIs.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func (l *loader) header() error {
	if l.config.Version != 1 {
		return l.doc.fail("version", fmt.Errorf("is %d, but this program reads version 1", l.config.Version))
	}
	if !namePattern.MatchString(l.config.Plan) {
		return l.doc.fail("plan", fmt.Errorf("%q is not a name of letters, digits, _ and -", l.config.Plan))
	}
	if l.config.Store != "" {
		if err := store.CheckURL(l.config.Store); err != nil {
			return l.doc.fail("store", err)
		}
		l.plan.Store = l.config.Store
	}
	if len(l.config.Authorities) == 0 {
		return l.doc.fail("authorities", errors.New("no authority in the plan"))
	}
	return nil
}

func (l *loader) authorities() error {
	for _, name := range l.doc.keys("authorities") {
		c := l.config.Authorities[name]
		key := "authorities." + name
		e, err := l.entry(Authority, key, name, c)
		if err != nil {
			return err
		}
		if !e.Profile.CA() {
			return l.doc.fail(key+".profile", fmt.Errorf("%q is not a profile of a CA", c.Profile))
		}
	}
	return nil
}

func (l *loader) certificates() error {
	for _, name := range l.doc.keys("certificates") {
		c := l.config.Certificates[name]
		key := "certificates." + name
		if c.Issuer == "" {
			return l.doc.fail(key+".issuer", errors.New("missing"))
		}
		e, err := l.entry(EndEntity, key, name, c)
		if err != nil {
			return err
		}
		if e.Profile.CA() {
			return l.doc.fail(key+".profile", fmt.Errorf("%q is a profile of CAs, which stand under authorities", c.Profile))
		}
	}
	return nil
}

// entry checks one entry as far as it can be checked alone, and adds it.
func (l *loader) entry(kind Kind, key, name string, c entryConfig) (*Entry, error) {
	fail := func(sub string, err error) (*Entry, error) {
		return nil, l.doc.fail(l.origin(key, sub, c), err)
	}
	// 1. Name, issuer and hierarchy.
	if err := l.newName(key, name); err != nil {
		return nil, err
	}
	e := &Entry{Name: name, Kind: kind, SubjectAltNames: c.SubjectAltNames, key: key}
	hierarchy := hierarchyConfig{}
	switch {
	case kind == PlatformKey:
		if c.Issuer != "" || c.Hierarchy != "" {
			return fail("", errors.New("a platform key is self-signed and in no hierarchy"))
		}
	case c.Issuer == "":
		h, ok := l.config.Hierarchies[c.Hierarchy]
		if !ok {
			return fail(".hierarchy", fmt.Errorf("%q is not under hierarchies; a root names its hierarchy, all others an issuer", c.Hierarchy))
		}
		e.Hierarchy, hierarchy = c.Hierarchy, h
	default:
		if c.Hierarchy != "" {
			return fail(".hierarchy", errors.New("only a root has one: it holds for all below"))
		}
		root, err := l.rootOf(c)
		if err != nil {
			return fail(".issuer", err)
		}
		e.Hierarchy, hierarchy = root, l.config.Hierarchies[root]
	}
	// 2. What the profile gives, and the entry gives better.
	base, ok := l.config.Profiles[c.Profile]
	if !ok {
		return fail(".profile", fmt.Errorf("%q is not under profiles", c.Profile))
	}
	t := base.Template.merge(c.Template)
	var err error
	if err := l.issuerCRLs(&t.Certificate, c.Issuer); err != nil {
		return fail(".crl_urls", err)
	}
	if e.Profile, err = ca.NewProfile(c.Profile, t.Certificate); err != nil {
		sub, rest := splitKey(err)
		return fail(sub, rest)
	}
	// 3. Subject.
	subject := l.config.Subject.Merge(hierarchy.Subject).Merge(base.Subject).Merge(c.Subject)
	e.AsIssued = c.AsIssued
	if c.SubjectDER != "" {
		if c.Subject != (ca.SubjectConfig{}) {
			return fail(".subject_der", errors.New("subject and subject_der exclude each other"))
		}
		if e.Subject, err = ca.ParseName(c.SubjectDER); err != nil {
			return fail(".subject_der", err)
		}
	} else if e.Subject, err = ca.NewName(subject); err != nil {
		sub, rest := splitKey(err)
		return fail(sub, rest)
	}
	if err := ca.CheckSubjectAltNames(c.SubjectAltNames); err != nil {
		return fail(".subject_alt_names", err)
	}
	// 4. Key, place, passphrase.
	if t.KeyType == "" {
		return fail(".key", errors.New("missing: the key type, such as rsa:4096"))
	}
	if e.KeyType, err = spki.ParseKeyType(t.KeyType); err != nil {
		return fail(".key", err)
	}
	if e.Algorithm, err = algorithm(e.KeyType, t.Hash); err != nil {
		return fail(".hash", err)
	}
	if e.Algorithm, err = withScheme(e.Algorithm, e.KeyType, t.Scheme); err != nil {
		return fail(".scheme", err)
	}
	newer, err := e.generations(c.Generations)
	if err != nil {
		return fail(".generations", err)
	}
	if newer != nil {
		planned := e.KeyType
		e.KeyType = *newer
		if e.Algorithm, err = algorithmOf(e.KeyType, planned, t); err != nil {
			return fail(".generations", err)
		}
	}
	if t.Overlap != "" {
		if e.Overlap, err = ca.ParseValidity(t.Overlap); err != nil {
			return fail(".overlap", err)
		}
	}
	k := l.config.Keys.merge(hierarchy.Keys).merge(t.Keys)
	if k.Place == "" {
		return fail(".place", errors.New("missing, here and under keys: a key URI such as file:{name}.key"))
	}
	e.place = k.Place
	if e.Key, err = keyPlace(k.Place, name, e.Generation, e.Generation); err != nil {
		return fail(".place", err)
	}
	if err := e.Key.CheckKey(); err != nil {
		return fail(".place", fmt.Errorf("%s: %w", e.Key, err))
	}
	if e.Passphrase, e.NoPassphrase, err = k.Passphrase.source(); err != nil {
		return fail(".passphrase", err)
	}
	switch e.Custody = Custody(t.Custody); e.Custody {
	case "":
		e.Custody = Online
	case Online, Offline, HSM:
	default:
		return fail(".custody", fmt.Errorf("%q is unknown: use online, offline or hsm", t.Custody))
	}
	// 5. CRLs.
	if err := l.ownCRLs(e, t); err != nil {
		sub, rest := splitKey(err)
		return fail(".crl"+sub, rest)
	}
	// 6. Artifacts.
	e.Signs = t.Signs
	if err := checkArtifacts(e.Signs); err != nil {
		return fail(".signs", err)
	}
	l.plan.Entries = append(l.plan.Entries, e)
	l.plan.byName[name] = e
	return e, nil
}

// origin returns the key that a value of an entry stands at: its own, or one of
// its profile, its hierarchy, or of all entries.
func (l *loader) origin(key, sub string, c entryConfig) string {
	if sub == "" {
		return key
	}
	name, _, _ := strings.Cut(sub, "[")
	hierarchy := c.Hierarchy
	if c.Issuer != "" {
		hierarchy, _ = l.rootOf(c)
	}
	for _, above := range []string{key, "profiles." + c.Profile, "hierarchies." + hierarchy, "keys"} {
		if _, ok := l.doc.find(above + name); ok {
			return above + sub
		}
	}
	if _, ok := l.doc.find(name[1:]); ok && strings.HasPrefix(name, ".subject.") {
		return sub[1:]
	}
	return key + sub
}

// newName refuses a bad name, and one that another entry has.
func (l *loader) newName(key, name string) error {
	if !namePattern.MatchString(name) {
		return l.doc.fail(key, fmt.Errorf("%q is not a name of letters, digits, _ and -", name))
	}
	if o := l.plan.byName[name]; o != nil {
		return l.doc.fail(key, fmt.Errorf("the name is taken by %s", o.key))
	}
	return nil
}

// rootOf follows issuers up to the hierarchy's name.
func (l *loader) rootOf(c entryConfig) (string, error) {
	for steps := 0; c.Issuer != ""; steps++ {
		issuer, ok := l.config.Authorities[c.Issuer]
		if !ok {
			return "", fmt.Errorf("%q is not under authorities", c.Issuer)
		}
		if steps > maxLevels {
			return "", fmt.Errorf("more than %d authorities stand above it, or it issues itself in a circle", maxLevels)
		}
		c = issuer
	}
	if _, ok := l.config.Hierarchies[c.Hierarchy]; !ok {
		return "", fmt.Errorf("its root is in hierarchy %q, which is not under hierarchies", c.Hierarchy)
	}
	return c.Hierarchy, nil
}

// splitKey turns an error "validity: …" into the key ".validity" and the rest.
func splitKey(err error) (string, error) {
	key, rest, ok := strings.Cut(err.Error(), ": ")
	if !ok || strings.ContainsAny(key, " \"") {
		return "", err
	}
	return "." + key, errors.New(rest)
}

func algorithm(t spki.KeyType, hash string) (spki.SignatureAlgorithm, error) {
	if hash == "" {
		return spki.DefaultAlgorithm(t, 0)
	}
	h, err := spki.ParseHash(hash)
	if err != nil {
		return spki.SignatureAlgorithm{}, err
	}
	if t.Kind == spki.Ed25519 {
		return spki.SignatureAlgorithm{}, errors.New("an ed25519 key hashes by itself")
	}
	return spki.DefaultAlgorithm(t, h)
}

func (l *loader) anchors() error {
	for _, name := range l.doc.keys("anchors") {
		key := "anchors." + name
		if err := l.newName(key, name); err != nil {
			return err
		}
		of := l.plan.byName[l.config.Anchors[name].TwinOf]
		if of == nil || of.Kind != Authority || l.config.Authorities[of.Name].Issuer == "" {
			return l.doc.fail(key+".twin_of", fmt.Errorf("%q is not a sub CA under authorities", l.config.Anchors[name].TwinOf))
		}
		e := *of
		e.Name, e.Kind, e.TwinOf, e.key, e.Signs, e.CRL = name, Anchor, of, key, nil, nil
		l.plan.Entries = append(l.plan.Entries, &e)
		l.plan.byName[name] = &e
	}
	return nil
}

// order links issuers and sorts entries so that issuers come first, otherwise in
// the order of the file.
func (l *loader) order() error {
	for _, e := range l.plan.Entries {
		var issuer string
		switch e.Kind {
		case Authority:
			issuer = l.config.Authorities[e.Base()].Issuer
		case EndEntity:
			issuer = l.config.Certificates[e.Base()].Issuer
		}
		if issuer == "" {
			continue
		}
		e.Issuer = l.plan.byName[issuer]
		if e.Active == nil {
			e.Issuer.Children = append(e.Issuer.Children, e)
		}
	}
	slices.SortStableFunc(l.plan.Entries, func(a, b *Entry) int { return a.rank() - b.rank() })
	l.taken = claims{}
	l.taken.claim(FileName, "the plan")
	for _, e := range l.plan.Entries {
		if e.TwinOf != nil {
			continue
		}
		place := e.Key.Place()
		if isStore(place) {
			return l.doc.fail(e.key+".place", fmt.Errorf("%s is a place of the store", e.Key))
		}
		if o := l.taken.claim(place, e.key); o != "" {
			return l.doc.fail(e.key+".place", fmt.Errorf("%s is the place of %s too, or one lies below the other", e.Key, o))
		}
	}
	return nil
}

// claims says who has a path: a file, or a directory that a file makes of it.
type claims map[string]string

// claim takes a path for who, or returns who has it already.
func (c claims) claim(file, who string) string {
	if o := c[file]; o != "" {
		return o
	}
	c[file] = who
	for dir := path.Dir(file); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if o := c[dir+"/"]; o == "" {
			if o := c[dir]; o != "" {
				return o
			}
			c[dir], c[dir+"/"] = who, "a directory"
		}
	}
	return ""
}

// isStore reports whether a path is the store's, or of one of its journals.
func isStore(file string) bool {
	top, _, _ := strings.Cut(file, "/")
	return strings.HasPrefix(top, StoreName)
}

// limits holds each entry against its issuer and against its consumers.
func (l *loader) limits() error {
	for _, e := range l.plan.Entries {
		if e.Kind == Cross {
			continue
		}
		if i := e.Issuer; i != nil {
			if e.Profile.Validity() > i.Profile.Validity() {
				return l.doc.fail(e.key+".validity", fmt.Errorf("%s outlives issuer %q (%s)", days(e), i.Name, days(i)))
			}
			limit := i.Profile.PathLength()
			if e.Profile.CA() && limit == 0 {
				return l.doc.fail(i.key+".path_length", fmt.Errorf("0 forbids sub CAs, but %s is one", e.key))
			}
			if e.Profile.CA() && limit > 0 && (e.Profile.PathLength() < 0 || e.Profile.PathLength() >= limit) {
				return l.doc.fail(e.key+".path_length", fmt.Errorf("must be below %d, that of issuer %q", limit, i.Name))
			}
			if e.Subject.Equal(i.Subject) {
				return l.doc.fail(e.key+".subject", fmt.Errorf("is that of issuer %q", i.Name))
			}
		}
		if e.Kind == Anchor {
			continue
		}
		for _, c := range e.Chain()[1:] {
			if err := c.Profile.Permits(e.Subject, e.SubjectAltNames, !e.Profile.CA()); err != nil {
				return l.doc.fail(e.key, fmt.Errorf("%w, which the name constraints of %s forbid", err, c.key))
			}
		}
		for _, artifact := range e.Signs {
			target := l.plan.target(artifactTarget(artifact))
			for _, c := range e.Chain() {
				generations := []*Entry{c}
				if c != e {
					generations = c.Trusted() // one that waits will stand there
				}
				for _, g := range generations {
					if err := target.check(g, e); err != nil {
						return l.doc.fail(c.key+".key", err)
					}
				}
			}
		}
	}
	// Two CAs with one name would make chains ambiguous.
	subjects := map[string]*Entry{}
	for _, a := range l.plan.Entries {
		if a.Active != nil || a.Kind == Anchor || !a.Profile.CA() {
			continue
		}
		if b := subjects[a.Subject.Canonical()]; b != nil {
			return l.doc.fail(a.key+".subject", fmt.Errorf("%s is the subject of %s too", a.Subject, b.key))
		}
		subjects[a.Subject.Canonical()] = a
	}
	return nil
}

// signers checks who signs what by default.
func (l *loader) signers() error {
	l.plan.signers = l.config.Signers
	for _, artifact := range sortedKeys(l.config.Signers) {
		key, name := "signers."+artifact, l.config.Signers[artifact]
		if err := checkArtifacts([]string{artifact}); err != nil {
			return l.doc.fail(key, err)
		}
		if strings.Contains(name, "{name}") {
			if artifact != "guestos" {
				return l.doc.fail(key, errors.New("{name} is for guestos only: it stands for the name in the config"))
			}
			continue
		}
		e := l.plan.byName[name]
		if e == nil {
			return l.doc.fail(key, fmt.Errorf("%q is not an entry of this plan", name))
		}
		if !slices.Contains(e.Signs, artifact) {
			return l.doc.fail(key, fmt.Errorf("%s does not sign %s: see its signs", name, artifact))
		}
	}
	return nil
}

func (l *loader) publish() error {
	for _, file := range l.doc.keys("publish") {
		c := l.config.Publish[file]
		key := "publish." + file
		// A key with dots in it has no line of its own in fail's notation.
		fail := func(err error) error {
			return &Error{File: l.doc.file, Line: l.doc.publishLine(file), Key: key, Err: err}
		}
		if err := checkInside(file); err != nil {
			return fail(err)
		}
		if o := l.taken.claim(file, key); o != "" {
			return fail(fmt.Errorf("is the place of %s too, or one lies below the other", o))
		}
		if c.Variable != "" && c.As != string(FormESL) && c.As != string(FormAuth) {
			return fail(errors.New("variable: only what is published as esl or auth has one"))
		}
		p := Published{File: file, Form: Form(c.As)}
		switch p.Form {
		case FormCertificate, FormChain, FormChainWithoutRoot, FormDER, FormKeyCertificate:
			p.Entry = l.plan.byName[c.Of]
			if p.Entry == nil || c.Variable != "" {
				return fail(fmt.Errorf("of: %q is not an entry of this plan", c.Of))
			}
			if p.Form == FormKeyCertificate && p.Entry.Key.Scheme != keys.SchemeFile {
				return fail(fmt.Errorf("as: the key of %q is not in a file", c.Of))
			}
		case FormESL, FormAuth:
			if l.plan.UEFI != nil {
				for _, v := range l.plan.UEFI.Variables {
					if v.Name == c.Variable {
						p.Variable = v
					}
				}
			}
			if c.Of != "" && p.Form == FormESL && c.Variable == "" {
				p.Entry = l.plan.byName[c.Of]
			}
			if p.Entry != nil {
				if err := uefi.CheckKeyType(p.Entry.KeyType); err != nil {
					return fail(fmt.Errorf("of: %s: %w", c.Of, err))
				}
			}
			if l.plan.UEFI == nil || (p.Variable == nil) == (p.Entry == nil) {
				return fail(errors.New("needs variable: PK, KEK or db (as esl also of: an entry), and a uefi section"))
			}
		default:
			return fail(fmt.Errorf("as: %q is unknown", c.As))
		}
		l.plan.Published = append(l.plan.Published, p)
	}
	return l.platformFiles()
}

// checkInside refuses what is not a plain path inside the PKI directory.
func checkInside(file string) error {
	for segment := range strings.SplitSeq(file, "/") {
		if segment == "" || segment[0] == '.' || strings.ContainsFunc(segment, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) }) {
			return fmt.Errorf("%q is not a path inside the PKI directory", file)
		}
	}
	if isStore(file) {
		return fmt.Errorf("%q is a place of the store", file)
	}
	return nil
}

// maxLevels bounds the authorities above an entry: consumers bound the length of a
// chain too.
const maxLevels = 10

func withScheme(a spki.SignatureAlgorithm, t spki.KeyType, scheme string) (spki.SignatureAlgorithm, error) {
	switch scheme {
	case "":
	case "pss":
		if t.Kind != spki.RSA && t.Kind != spki.RSAPSS {
			return a, fmt.Errorf("pss does not fit a key of type %v", t)
		}
		a.Scheme, a.SaltLength = spki.PSS, a.Hash.Size()
	case "pkcs1v15":
		if t.Kind != spki.RSA {
			return a, fmt.Errorf("pkcs1v15 does not fit a key of type %v", t)
		}
	default:
		return a, fmt.Errorf("%q is unknown: use pkcs1v15 or pss", scheme)
	}
	return a, nil
}
