package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
)

// Generations says which keys of an entry there are. They are numbered from 1 on,
// and at most two stand beside each other.
type Generations struct {
	Newest int // the youngest that exists
	Active int // the one that signs
	Oldest int // the oldest that is still trusted
}

// maxGeneration bounds the number of a generation.
const maxGeneration = 999

func (g Generations) check() error {
	switch {
	case g.Oldest < 1 || g.Newest > maxGeneration:
		return fmt.Errorf("generations are numbered from 1 to %d", maxGeneration)
	case g.Active < g.Oldest || g.Active > g.Newest:
		return fmt.Errorf("active: %d is not between oldest (%d) and newest (%d)", g.Active, g.Oldest, g.Newest)
	case g.Newest-g.Oldest > 1:
		return fmt.Errorf("oldest: %d and newest: %d are more than one apart: two generations stand together at most", g.Oldest, g.Newest)
	}
	return nil
}

// Base is the name of the entry that its generations share, and what the record
// calls the certificates of all of them.
func (e *Entry) Base() string {
	if e.Active != nil && e.Kind != Cross {
		return e.Active.Name
	}
	return e.Name
}

// IsOld reports whether a younger generation signs in place of this one. It is
// trusted as it is, and not issued again.
func (e *Entry) IsOld() bool { return e.Active != nil && e.Generation < e.Active.Generation }

// Trusted returns the generations that consumers trust, the active one first.
func (e *Entry) Trusted() []*Entry {
	return append([]*Entry{e}, e.Others...)
}

// generations reads what an entry says of its generations.
func (e *Entry) generations(c *generationsConfig) (*spki.KeyType, error) {
	e.Generation, e.Generations = 1, Generations{1, 1, 1}
	if c == nil {
		return nil, nil
	}
	e.Generations = Generations{c.Newest, c.Active, c.Oldest}
	if err := e.Generations.check(); err != nil {
		return nil, err
	}
	e.Generation = c.Active
	return keyTypeOf(c, c.Active)
}

// keyTypeOf returns the key type that a generation has, nil if that is the entry's.
func keyTypeOf(c *generationsConfig, generation int) (*spki.KeyType, error) {
	var is *spki.KeyType
	best := 0
	for from, text := range c.Keys {
		if from < 2 || from > c.Newest {
			return nil, fmt.Errorf("keys: generation %d: use 2 to %d; the first has the key type of the entry", from, c.Newest)
		}
		t, err := spki.ParseKeyType(text)
		if err != nil {
			return nil, fmt.Errorf("keys: generation %d: %w", from, err)
		}
		if from <= generation && from > best {
			is, best = &t, from
		}
	}
	return is, nil
}

// generationName is the name of a generation that is not active.
func generationName(name string, generation int) string {
	return name + "-g" + strconv.Itoa(generation)
}

// keyPlace returns where a generation has its key. A key in a file is where the
// name of its entry says, so that NAME.key is always the active one: see
// SwitchKey. A key in a token stays where it was made.
func keyPlace(place, name string, generation, active int) (keys.URI, error) {
	file := strings.HasPrefix(place, keys.SchemeFile+":")
	if file && generation == active || !file && generation == 1 {
		return keys.ParseURI(strings.ReplaceAll(place, "{name}", name))
	}
	if !strings.Contains(place, "{name}") {
		if !file {
			return tokenPlace(place, generation)
		}
		ending := path.Ext(place)
		place = strings.TrimSuffix(place, ending) + generationName("", generation) + ending
	}
	return keys.ParseURI(strings.ReplaceAll(place, "{name}", generationName(name, generation)))
}

// tokenPlace is where a generation has its key if the place names one object, as it
// does after tmpki key move: beside that, under a label of its own.
func tokenPlace(place string, generation int) (keys.URI, error) {
	u, err := keys.ParseURI(place)
	if err != nil {
		return keys.URI{}, err
	}
	if u.PKCS11.Object == "" || len(u.PKCS11.ID) > 0 {
		return keys.URI{}, fmt.Errorf("%q names one key by its id, but each generation has a key of its own: name it by object alone", place)
	}
	u.PKCS11.Object = generationName(u.PKCS11.Object, generation)
	return u, nil
}

// generations adds an entry for each generation that is not active, with its
// twins, and the cross-certificates between two of an authority.
func (l *loader) generations() error {
	for _, e := range slices.Clone(l.plan.Entries) {
		if e.Kind == Anchor {
			continue
		}
		if err := l.alias(e, e.key); err != nil {
			return err
		}
		for g := e.Generations.Oldest; g <= e.Generations.Newest; g++ {
			if g == e.Generation {
				continue
			}
			o, err := l.generation(e, g)
			if err != nil {
				return l.doc.fail(e.key+".generations", err)
			}
			if err := l.addGeneration(e, o); err != nil {
				return err
			}
			anchored := e.Kind == Authority && l.config.Authorities[e.Name].Issuer == ""
			for _, t := range l.plan.Entries {
				if t.Kind != Anchor || t.TwinOf != e {
					continue
				}
				anchored = true
				twin := *o
				twin.Name, twin.Kind, twin.TwinOf, twin.key = generationName(t.Name, g), Anchor, o, t.key
				twin.Signs, twin.CRL, twin.Others, twin.Crosses = nil, nil, nil, nil
				if err := l.addGeneration(t, &twin); err != nil {
					return err
				}
			}
			if anchored {
				if err := l.cross(e, o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// crlName is what {name} stands for in the file and the URLs of the CRLs of a
// generation. Each key has its own: certificates name the URL for ever.
func crlName(name string, generation int) string {
	if generation <= 1 {
		return name
	}
	return generationName(name, generation)
}

// alias lets the active generation be found under its number, too.
func (l *loader) alias(e *Entry, key string) error {
	if e.Generations == (Generations{1, 1, 1}) {
		return nil
	}
	name := generationName(e.Name, e.Generation)
	if err := l.newName(key, name); err != nil {
		return err
	}
	l.plan.byName[name] = e
	return nil
}

// generation returns a generation of an entry that is not active.
func (l *loader) generation(e *Entry, generation int) (*Entry, error) {
	o := *e
	o.Name, o.Generation, o.Active = generationName(e.Name, generation), generation, e
	o.Others, o.Crosses, o.Children = nil, nil, nil
	c := l.entryConfig(e)
	t := l.config.Profiles[c.Profile].Template.merge(c.Template)
	var err error
	if o.KeyType, err = spki.ParseKeyType(t.KeyType); err != nil {
		return nil, err
	}
	is, err := keyTypeOf(c.Generations, generation)
	if err != nil {
		return nil, err
	}
	if is != nil {
		o.KeyType = *is
	}
	if o.Algorithm, err = algorithmOf(o.KeyType, e.KeyType, t); err != nil {
		return nil, err
	}
	if o.Key, err = keyPlace(e.place, e.Name, generation, e.Generation); err != nil {
		return nil, err
	}
	if o.Key.String() == e.Key.String() {
		return nil, errors.New("both generations would have their key in one place")
	}
	if err := o.Key.CheckKey(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key, err)
	}
	return &o, l.ownCRLs(&o, t)
}

// algorithmOf returns the signature algorithm that the plan asks for. Hash and
// scheme stand there for one key type, and may not fit another.
func algorithmOf(is, planned spki.KeyType, t templateConfig) (spki.SignatureAlgorithm, error) {
	a, err := algorithm(is, t.Hash)
	if err == nil {
		a, err = withScheme(a, is, t.Scheme)
	}
	if err != nil && is != planned {
		return algorithm(is, "")
	}
	return a, err
}

// entryConfig returns what the file says of an entry.
func (l *loader) entryConfig(e *Entry) entryConfig {
	switch e.Kind {
	case Authority:
		return l.config.Authorities[e.Name]
	case EndEntity:
		return l.config.Certificates[e.Name]
	case PlatformKey:
		return l.config.UEFI.Keys[strings.TrimPrefix(e.Name, e.Platform+"_")]
	default:
		return entryConfig{}
	}
}

func (l *loader) addGeneration(e, o *Entry) error {
	if err := l.newName(e.key+".generations", o.Name); err != nil {
		return err
	}
	o.Active = e
	e.Others = append(e.Others, o)
	l.plan.Entries = append(l.plan.Entries, o)
	l.plan.byName[o.Name] = o
	return nil
}

// cross adds the certificate of the active key by the key of another generation:
// whoever trusts only that one follows it (RFC 4210, Section 4.4). Its subject is
// its issuer's, so that path lengths don't count it.
func (l *loader) cross(e, by *Entry) error {
	c := *e
	c.Name = fmt.Sprintf("%s-by-g%d", generationName(e.Name, e.Generation), by.Generation)
	c.Kind, c.Active, c.TwinOf, c.Issuer = Cross, e, e, by
	c.Children, c.Others, c.Crosses, c.Signs, c.CRL = nil, nil, nil, nil, nil
	if err := l.newName(e.key+".generations", c.Name); err != nil {
		return err
	}
	e.Crosses = append(e.Crosses, &c)
	l.plan.Entries = append(l.plan.Entries, &c)
	l.plan.byName[c.Name] = &c
	return nil
}

// isAnchor reports whether somebody may trust the entry's certificate as it is: a
// root, or a twin.
func (e *Entry) isAnchor() bool {
	return e.Kind == Authority && e.Issuer == nil || e.Kind == Anchor
}

// entries lists the entries whose certificates are in the variable: all that are
// trusted of each. PK holds one.
func (v *Variable) entries() []*Entry {
	if v.Name == "PK" {
		return slices.Clone(v.Certificates)
	}
	var out []*Entry
	for _, e := range v.Certificates {
		out = append(out, e.Trusted()...)
	}
	return out
}

// chainFile lists what stands in the chain file of an entry, in its order: the
// entry, and the authorities above it. OpenSSL takes the first certificate that
// fits, and does not turn back. So a cross-certificate, which leads to either
// anchor, stands before the certificate of the same key by the authority above;
// what leads on from it follows.
func (e *Entry) chainFile(withRoot bool) []*Entry {
	return append([]*Entry{e}, aboveIn(e.Chain()[1:], withRoot)...)
}

// aboveIn lists what stands in a chain file of these authorities.
func aboveIn(chain []*Entry, withRoot bool) []*Entry {
	var out []*Entry
	for _, c := range chain {
		out = append(out, c.Crosses...)
		if c.Issuer == nil {
			if withRoot {
				out = append(out, c)
			}
			continue
		}
		out = append(out, c)
		for _, x := range c.Crosses {
			out = append(out, x.Issuer)
		}
	}
	return out
}

// hasGenerations reports whether an entry in the file has had another key before.
func (f *Published) hasGenerations() bool {
	return slices.ContainsFunc(f.sources(), func(e *Entry) bool { return e.Generations != Generations{1, 1, 1} })
}

// newest returns the newest certificate of an entry's key. The keys of one name
// are its generations, in the order in which they got their first certificate.
func (have *Inventory) newest(ctx context.Context, e *Entry, db *store.DB) (store.Record, error) {
	if e.Kind == Cross || e.Active == nil && e.Generations == (Generations{1, 1, 1}) {
		return db.Latest(ctx, e.Name)
	}
	list, err := db.ByName(ctx, e.Base())
	if err != nil {
		return store.Record{}, err
	}
	var key []byte
	if e.Kind == Anchor {
		owner := have.Certificates[e.TwinOf.Name]
		if owner == nil {
			return store.Record{}, store.ErrNotFound
		}
		key = owner.SubjectKeyId
	} else {
		var all [][]byte
		for _, r := range slices.Backward(list) {
			if !slices.ContainsFunc(all, func(k []byte) bool { return bytes.Equal(k, r.SubjectKeyID) }) {
				all = append(all, r.SubjectKeyID)
			}
		}
		if e.Generation > len(all) {
			return store.Record{}, store.ErrNotFound
		}
		key = all[e.Generation-1]
	}
	for _, r := range list {
		if bytes.Equal(r.SubjectKeyID, key) {
			return r, nil
		}
	}
	return store.Record{}, store.ErrNotFound
}

// reissueReason says why a certificate must be issued again, or "".
func (p *Plan) reissueReason(e *Entry, cert *ca.Certificate, have Inventory, demand Demand) (string, error) {
	renew := slices.Contains(demand.Renew, e.Name)
	switch {
	case have.compromised(e.KeyOwner()):
		return "", nil // its key gets no certificate any more, whatever happens above it
	case e.Kind == Cross:
		if reason := have.crossDrift(e, cert); reason != "" || !renew {
			return reason, nil
		}
		return "to be renewed", nil
	case e.IsOld():
		return "", nil // as it is until it goes
	}
	reason, err := e.drift(cert)
	if err != nil || reason != "" && !e.AsIssued {
		return reason, err
	}
	if i := e.Issuer; i != nil && i.Generations != (Generations{1, 1, 1}) && len(cert.AuthorityKeyId) > 0 {
		if by := have.Certificates[i.Name]; by != nil && !bytes.Equal(by.SubjectKeyId, cert.AuthorityKeyId) {
			return fmt.Sprintf("%s signs with generation %d", i.Name, i.Generation), nil
		} else if by == nil {
			return i.Name + " has a new key", nil
		}
	}
	if renew {
		return "to be renewed", nil
	}
	return "", nil
}

// compromised reports whether the certificate of an entry is revoked since others may
// have its key.
func (have Inventory) compromised(e *Entry) bool {
	r, ok := have.Revoked[e.Name]
	return ok && (r.Reason == store.KeyCompromise || r.Reason == store.CACompromise || r.Reason == store.AACompromise)
}

// findMisplaced finds the keys in files that are still where they were before
// another generation became active. What is at the two places counts as what it
// will be. The active key has its plain name when SwitchKey is done; until then it
// is at the name that it had while it waited.
func (have *Inventory) findMisplaced(p *Plan, dir string) []fault {
	var faults []fault
	for _, e := range p.Entries {
		if e.TwinOf != nil || e.Active != nil || e.inToken() || len(e.Others) == 0 {
			continue
		}
		from, err := e.waitingPlace()
		if err != nil {
			faults = append(faults, fault{e.Name, err})
			continue
		}
		f, err := readFile(from.FilePath(dir), keys.MaxFileSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		other := e.Others[0]
		is, here := have.Keys[e.Name]
		if err == nil && here {
			if o, ok := have.Keys[other.Name]; ok && !bytes.Equal(o.Content, is.Content) {
				err = fmt.Errorf("the key of generation %d of %s is at %s, and another one at %s: take the one away that is not its", other.Generation, e.Name, e.Key, other.Key)
			}
		}
		var d keys.Description
		if err == nil {
			d, err = keys.Describe(f.Content)
		}
		if err != nil {
			faults = append(faults, fault{e.Name, fmt.Errorf("key of %s at %s: %w", e.Name, from, err)})
			continue
		}
		if here {
			have.Keys[other.Name] = is
		}
		have.Keys[e.Name] = KeyFile{f, d.Type}
		have.Misplaced[e.Name] = true
	}
	return faults
}

// waitingPlace is where the key of the active generation was before it became
// active.
func (e *Entry) waitingPlace() (keys.URI, error) {
	return keyPlace(e.place, e.Base(), e.Generation, 0)
}

// movedPlaces says where keys are that are misplaced.
func (p *PKI) movedPlaces() map[string]keys.URI {
	out := map[string]keys.URI{}
	for name := range p.Have.Misplaced {
		e := p.Plan.Entry(name)
		if from, err := e.waitingPlace(); err == nil {
			out[name], out[e.Others[0].Name] = from, e.Key
		}
	}
	return out
}

// switchKey gives the key of the active generation its plain name. Whoever reads
// NAME.key takes for granted that NAME.cert is its certificate: so the published
// files that are about the entry go first, and publish puts the new ones there.
// The old key has its second name before it loses the first.
func (r *run) switchKey(e *Entry) error {
	from, err := e.waitingPlace()
	if err != nil {
		return err
	}
	// 1. No certificate beside another's key.
	for _, f := range r.Plan.Published {
		if f.Entry != e || f.Form == FormESL {
			continue
		}
		path := filepath.Join(r.Dir, filepath.FromSlash(f.File))
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(r.Have.Files, f.File)
	}
	// 2. The old key keeps a name.
	plain := e.Key.FilePath(r.Dir)
	if err := keepKey(plain, e.Others[0].Key.FilePath(r.Dir)); err != nil {
		return err
	}
	// 3. The new one takes its place.
	if err := os.Rename(from.FilePath(r.Dir), plain); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(plain)); err != nil {
		return err
	}
	delete(r.Have.Misplaced, e.Name)
	r.ring.places = r.movedPlaces()
	r.progress(Step{Kind: SwitchKey, Entry: e})
	return nil
}

// keepKey gives the key at a path a second name. One behind a link stays where it is,
// such as on a medium that is kept elsewhere, and may be away: then the link gets it.
func keepKey(path, name string) error {
	target, err := os.Readlink(path)
	if err == nil {
		if !filepath.IsAbs(target) && filepath.Dir(path) != filepath.Dir(name) {
			target = filepath.Join(abs(filepath.Dir(path)), target)
		}
		if is, err := os.Readlink(name); err == nil && is == target {
			return nil // by a run that was killed
		}
		if err := os.Symlink(target, name); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(name))
	}
	content, _, err := durable.ReadFile(path, keys.MaxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was taken away
	}
	if err != nil {
		return err
	}
	if err := durable.CreateFile(name, content, 0o600); !errors.Is(err, fs.ErrExist) {
		return err
	}
	is, _, err := durable.ReadFile(name, keys.MaxFileSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(is, content) {
		return fmt.Errorf("%s is another key than %s, and neither is overwritten", name, path)
	}
	return nil
}

// crossDrift says why a cross-certificate must be issued again, or "".
func (have Inventory) crossDrift(e *Entry, cert *ca.Certificate) string {
	of, by := have.Certificates[e.TwinOf.Name], have.Certificates[e.Issuer.Name]
	switch {
	case of == nil || by == nil:
		return ""
	case string(cert.SubjectKeyId) != string(of.SubjectKeyId) || string(cert.AuthorityKeyId) != string(by.SubjectKeyId):
		return "it is of other keys"
	default:
		return ""
	}
}
