package plan

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
	"tmpki/uefi"
)

// Why a bundle is refused, beside ceremony.ErrAltered.
var (
	ErrOtherPKI    = errors.New("it belongs to another PKI")
	ErrOtherPlan   = errors.New("it was made for another plan")
	ErrReplayed    = errors.New("it was used before")
	ErrUnknown     = errors.New("nobody here has asked for it")
	ErrNotSigned   = errors.New("it is not signed by a key that can vouch for it")
	ErrNotAsked    = errors.New("it is not what was asked for")
	ErrUnconfirmed = errors.New("not confirmed")
)

// ceremoniesDir holds the transcripts, in the PKI directory on either machine.
const ceremoniesDir = "ceremonies"

// CeremonyOptions are what Conduct needs beside the directory and the request.
type CeremonyOptions struct {
	Options

	// NewPlan takes the plan of the request also where the directory has another.
	NewPlan bool

	// Confirm shows the agenda to the officers and returns who has confirmed it.
	// It is called once, when all that can be checked was checked.
	Confirm func(*Agenda) ([]Confirmation, error)

	ShareHolders
}

// Agenda is what a ceremony is about to sign.
type Agenda struct {
	Request  *ceremony.Request
	Text     string   // in plain words, for the terminal and the transcript
	Officers []string // who may confirm
	Quorum   int      // how many of them must
	Secrets  []string // keys that are about to be made
}

// Confirmation is the consent of one officer.
type Confirmation struct {
	Officer string
	How     string // such as "on the terminal"
	Time    time.Time
}

// Answer is what came of a ceremony.
type Answer struct {
	*ceremony.Response
	Again      bool   // it is the response of an earlier run
	Transcript string // path of the transcript's text
}

// Conduct signs on the offline machine what a request asks for, after its officers
// have confirmed it. dir is that machine's own PKI directory, with its own record;
// the first ceremony makes it. The same request again gets the same response.
func Conduct(ctx context.Context, dir string, bundle []byte, o CeremonyOptions) (_ *Answer, err error) {
	request, err := ceremony.ParseRequest(bundle)
	if err != nil {
		return nil, err
	}
	// 1. The directory, which a refusal leaves as it was.
	fresh := false
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		fresh = true
	}
	lock, err := durable.LockDir(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer func() {
		if err != nil && fresh {
			os.Remove(dir) // if it is empty
		}
	}()
	c := &conduct{request: request, o: o}
	if err := c.open(ctx, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	// 2. Was it answered before?
	if answer, err := c.answered(ctx); answer != nil || err != nil {
		return answer, err
	}
	// 3. May all of it be signed, and can it?
	if err := c.vet(ctx); err != nil {
		return nil, err
	}
	// 4. Do they want it?
	agenda := c.agenda()
	confirmations, err := o.Confirm(agenda)
	if err != nil {
		return nil, err
	}
	if err := agenda.check(confirmations); err != nil {
		return nil, err
	}
	// 5. Sign.
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	if err := c.sign(ctx); err != nil {
		return nil, err
	}
	return c.answer(ctx, agenda, confirmations)
}

// check holds those who confirmed against the plan.
func (a *Agenda) check(list []Confirmation) error {
	seen := map[string]bool{}
	for _, c := range list {
		if !slices.Contains(a.Officers, c.Officer) || seen[c.Officer] {
			return fmt.Errorf("%q is no officer of this ceremony, or confirmed twice: %w", c.Officer, ErrUnconfirmed)
		}
		seen[c.Officer] = true
	}
	if len(list) < a.Quorum {
		return fmt.Errorf("%d of %d officers have confirmed, %d must: %w", len(list), len(a.Officers), a.Quorum, ErrUnconfirmed)
	}
	return nil
}

// conduct is one ceremony on its way.
type conduct struct {
	*run
	request *ceremony.Request
	o       CeremonyOptions
	oldPlan []byte // nil: there was none
	text    []byte // of the plan

	generate []Step
	issue    []Step
	replaces map[string]string // entry: serial of its certificate for another key
	known    map[string]*ca.Certificate
	signers  []*Entry // whose keys sign, in the order of the plan
	reused   map[string]bool
	split    *splitPassphrase // of the keys; nil if none has such a one
	crls     []ceremony.CRL
	fresh    bool   // there is no store yet
	from     string // the entry whose key has signed the request, or ""
	last     int64  // number of the last request that was answered here, 0 if none was
}

// open looks at the directory of the offline machine, and refuses one of a PKI
// that is used every day, or of another PKI.
func (c *conduct) open(ctx context.Context, dir string) error {
	// 1. The plan.
	c.text = []byte(c.request.Plan)
	p, err := Load("the plan in the request", c.text)
	if err != nil {
		return err
	}
	if p.Ceremony == nil {
		return errors.New("the plan in the request has no section ceremony")
	}
	p.Store = "" // of the other machine; this one has its record in a file
	is, err := readFile(filepath.Join(dir, FileName), maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		c.oldPlan = is.Content
	}
	// 2. The record.
	db, err := ReadStore(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.fresh = true
	case err != nil:
		return err
	default:
		err := c.belongs(ctx, db, dir)
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
	// 3. What is there.
	pki, faults, err := lookWith(ctx, dir, p)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if e := p.Entry(f.name); e == nil || e.AtCeremony {
			return f.err
		}
	}
	c.run = &run{PKI: pki, o: c.o.Options, made: map[string]bool{}, requested: map[string]crypto.PublicKey{}, issuers: map[string]*ca.Issuer{}}
	c.now = c.o.Now().UTC().Truncate(time.Second)
	if c.linter, err = ca.NewLinter(); err != nil {
		return err
	}
	return c.sweep()
}

// belongs refuses a store that is not one of ceremonies of this PKI.
func (c *conduct) belongs(ctx context.Context, db *store.DB, dir string) error {
	use, err := db.Setting(ctx, useSetting)
	if errors.Is(err, store.ErrNotFound) {
		size, err := db.Size(ctx)
		if err != nil {
			return err
		}
		if size > 0 {
			return fmt.Errorf("%s is the directory of a PKI that is used every day: a ceremony needs one of its own, on another machine", dir)
		}
		return nil // killed before its first entry
	}
	if err != nil {
		return err
	}
	if use != ceremonyUse {
		return fmt.Errorf("unknown use %q of %s", use, dir)
	}
	id, err := db.Setting(ctx, pkiSetting)
	if errors.Is(err, store.ErrNotFound) {
		return nil // killed between the two
	}
	if err == nil && id != c.request.PKI {
		return fmt.Errorf("request: of PKI %s, but %s holds the offline keys of %s: %w", c.request.PKI, dir, id, ErrOtherPKI)
	}
	return err
}

func (c *conduct) close() error {
	if c.db == nil {
		return nil
	}
	return c.db.Close()
}

// answered returns the response to this request, if it was given one, or refuses
// a request that is older than the last one.
func (c *conduct) answered(ctx context.Context) (*Answer, error) {
	if c.fresh {
		return nil, nil
	}
	db, err := ReadStore(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	o, err := findResponse(ctx, db, c.request.Digest())
	if err != nil {
		return nil, err
	}
	if o != nil {
		response, err := ceremony.ParseResponse(o.Content)
		if err != nil {
			return nil, fmt.Errorf("the store's %s: %w", responseObject, err)
		}
		file, err := writeTranscript(c.Dir, response)
		return &Answer{response, true, file}, err
	}
	if c.last, err = lastNumber(ctx, db, responseObject); err != nil {
		return nil, err
	}
	if c.request.Number <= c.last {
		return nil, fmt.Errorf("request: number %d, but number %d was answered here: %w, or another one of that number was", c.request.Number, c.last, ErrReplayed)
	}
	return nil, nil
}

// vet checks all that can be checked before the officers are asked.
func (c *conduct) vet(ctx context.Context) error {
	fail := func(format string, args ...any) error { return fmt.Errorf("request: "+format, args...) }
	if c.oldPlan != nil && !bytes.Equal(c.oldPlan, c.text) && !c.o.NewPlan {
		return fmt.Errorf("the plan in the request is not the %s in %s, line by line: %w. Look at what changed with --new-plan, which takes it over if the officers confirm", FileName, c.Dir, ErrOtherPlan)
	}
	// 1. Who sent it?
	if err := c.vetSender(); err != nil {
		return fail("%w", err)
	}
	// 2. Certificates.
	c.replaces, c.reused = map[string]string{}, map[string]bool{}
	items := map[string]ceremony.CertificateItem{}
	for _, item := range c.request.Certificates {
		e := c.Plan.Entry(item.Entry)
		if e == nil {
			return fail("certificate %s: not an entry of the plan", item.Entry)
		}
		if !e.Signer().AtCeremony {
			return fail("certificate %s: %s signs it, whose key is not one of ceremonies", e.Name, e.Signer().Name)
		}
		if err := c.vetCSR(e, item.CSR); err != nil {
			return fail("certificate %s: %w", e.Name, err)
		}
		items[e.Name] = item
	}
	for _, e := range c.Plan.Entries {
		item, asked := items[e.Name]
		if !asked {
			continue
		}
		is := c.Have.Certificates[e.Name]
		if is == nil {
			if err := c.vetNewKey(e); err != nil {
				return err
			}
		} else if key := c.requested[e.KeyOwner().Name]; key != nil && !spki.Equal(key, is.Key) {
			c.replaces[e.Name] = hex.EncodeToString(is.SerialNumber.Bytes())
		} else {
			reason, err := e.driftBelow(is, func(o *Entry) *ca.Certificate { return c.Have.Certificates[o.Name] })
			if err != nil {
				return fail("certificate %s: %w", e.Name, err)
			}
			// What an earlier run has signed, and the other machine doesn't know, is
			// not signed anew.
			c.reused[e.Name] = reason == "" && item.Have != hex.EncodeToString(is.SerialNumber.Bytes())
		}
		c.issue = append(c.issue, Step{Kind: IssueCertificate, Entry: e})
		c.signsFor(e.Signer())
	}
	// 3. Variables.
	if err := c.vetVariables(items); err != nil {
		return fail("%w", err)
	}
	if err := c.vetCRLs(items); err != nil {
		return fail("%w", err)
	}
	if err := c.vetSplit(); err != nil {
		return err
	}
	// 4. The keys that sign: are they here, and do they open?
	for _, e := range c.signers {
		if err := c.vetSigner(e, items); err != nil {
			return err
		}
	}
	for _, s := range c.generate {
		if s.Entry.inToken() {
			continue
		}
		if _, err := c.ring.passphrase(s.Entry, true); err != nil {
			return err
		}
		if err := c.opensSiblings(s.Entry); err != nil {
			return err
		}
	}
	// 5. Would the certificates below existing issuers be good ones?
	for _, s := range c.issue {
		e := s.Entry
		if _, again := items[e.Signer().Name]; again || c.reused[e.Name] || e.Signer() == e.KeyOwner() {
			continue
		}
		issuer, err := c.issuer(e)
		if err != nil {
			return err
		}
		if _, err := c.prepare(issuer, e); err != nil {
			return fail("%w", err)
		}
	}
	clear(c.issuers)
	return nil
}

// vetSender checks the request's signature. It must be there as soon as a
// ceremony has certified a key that can make one, and said so in a response.
func (c *conduct) vetSender() error {
	if c.last == 0 {
		return nil
	}
	var can []string
	for _, e := range c.Plan.Entries {
		cert := c.Have.Certificates[e.Name]
		if cert == nil || !isRequestSigner(e) {
			continue
		}
		can = append(can, e.Name)
		for _, s := range c.request.Signatures() {
			if s.Entry == e.Name && c.request.Verify(s, cert.Key, e.Algorithm) == nil {
				c.from = e.Name
				return nil
			}
		}
	}
	if len(can) > 0 {
		return fmt.Errorf("%w: one of %s, which this machine has certified", ErrNotSigned, some(asSet(can)))
	}
	return nil
}

// vetCSR checks the proof that the other machine has the key that a certificate
// is asked for.
func (c *conduct) vetCSR(e *Entry, der []byte) error {
	owner := e.KeyOwner()
	if owner.AtCeremony {
		if der != nil {
			return errors.New("its key is one of ceremonies, but the request has a key for it")
		}
		return nil
	}
	if der == nil {
		if c.Have.Certificates[e.Name] == nil {
			return errors.New("no proof that its key is there, and no certificate on record here")
		}
		return nil
	}
	r, err := ca.ParseRequest(der)
	if err != nil {
		return err
	}
	if err := ca.CheckKey(r.Key); err != nil {
		return err
	}
	if t, err := spki.KeyTypeOf(r.Key); err != nil || t != owner.KeyType {
		return fmt.Errorf("has a key of type %v, but the plan wants %v", t, owner.KeyType)
	}
	if !bytes.Equal(r.Subject(), e.Subject) {
		return fmt.Errorf("asks for the subject %q, but the plan wants %q", r.Subject(), e.Subject)
	}
	for name, key := range c.requested {
		if name != owner.Name && spki.Equal(key, r.Key) {
			return fmt.Errorf("has the key of %s too", name)
		}
	}
	for name, cert := range c.Have.Certificates {
		if o := c.Plan.Entry(name); o != nil && o.KeyOwner() != owner && spki.Equal(cert.Key, r.Key) {
			return fmt.Errorf("has the key of %s too", name)
		}
	}
	c.requested[owner.Name] = r.Key
	return nil
}

// vetVariables checks the UEFI variables that are asked for.
func (c *conduct) vetVariables(items map[string]ceremony.CertificateItem) error {
	c.known = map[string]*ca.Certificate{}
	for _, k := range c.request.Known {
		e := c.Plan.Entry(k.Entry)
		if e == nil {
			return fmt.Errorf("known certificate %s: not an entry of the plan", k.Entry)
		}
		cert, err := ca.ParseCertificate(k.Certificate)
		if err != nil {
			return fmt.Errorf("known certificate %s: %w", k.Entry, err)
		}
		if reason, err := e.drift(cert); err != nil || reason != "" {
			return fmt.Errorf("known certificate %s: not one of the plan (%s%v)", k.Entry, reason, err)
		}
		if is := c.Have.Certificates[k.Entry]; is == nil {
			c.Have.Certificates[k.Entry] = cert
			c.known[k.Entry] = cert
		}
	}
	vendors := map[string]VendorFile{}
	for _, v := range c.request.Vendors {
		cert, err := ca.ParseCertificate(v.Content)
		if err == nil {
			err = uefi.CheckKeyType(cert.KeyType())
		}
		if err != nil {
			return fmt.Errorf("vendor certificate %s: %w", v.File, err)
		}
		vendors[v.File] = VendorFile{Certificate: cert}
	}
	c.Have.Vendors = vendors
	for _, item := range c.request.Variables {
		v := c.variable(item.ID)
		if v == nil {
			return fmt.Errorf("variable %s: not one of the plan", item.ID)
		}
		if !v.Signer.AtCeremony {
			return fmt.Errorf("variable %s: %s signs it, whose key is not one of ceremonies", item.ID, v.Signer.Name)
		}
		if c.Plan.UEFI.Owner != "" && c.Plan.UEFI.Owner != item.Owner {
			return fmt.Errorf("variable %s: its owner is %s, but the plan says %s", item.ID, item.Owner, c.Plan.UEFI.Owner)
		}
		c.Have.Owners[v.Platform] = item.Owner
		for _, e := range v.Certificates {
			if _, asked := items[e.Name]; !asked && c.Have.Certificates[e.Name] == nil {
				return fmt.Errorf("variable %s: the certificate of %s is neither in the request nor on record here", item.ID, e.Name)
			}
		}
		for _, f := range v.Files {
			if _, ok := vendors[f]; !ok {
				return fmt.Errorf("variable %s: the file %s is not in the request", item.ID, f)
			}
		}
		c.signsFor(v.Signer)
	}
	return nil
}

// variable returns one of the plan's variables by its ID, or nil.
func (c *conduct) variable(id string) *Variable { return c.Plan.variable(id) }

// variable returns a variable by its ID, or nil.
func (p *Plan) variable(id string) *Variable {
	if p.UEFI == nil {
		return nil
	}
	for _, v := range p.UEFI.All() {
		if v.ID() == id {
			return v
		}
	}
	return nil
}

// vetNewKey notes that an entry needs a key, unless an earlier run has made it.
func (c *conduct) vetNewKey(e *Entry) error {
	step := Step{Kind: GenerateKey, Entry: e}
	switch {
	case !e.AtCeremony || e.TwinOf != nil:
		return nil
	case e.inToken():
		var err error
		if step, err = c.Have.tokenKeyStep(e); err != nil {
			return err
		}
		if err := checkTokens([]Step{step}); err != nil {
			return err
		}
		if err := keys.Login(e.Key, true); err != nil {
			return fmt.Errorf("key of %s: %w", e.Name, err)
		}
	case c.hasKey(e):
		return nil
	}
	c.generate = append(c.generate, step)
	return nil
}

// signsFor notes that an entry's key will sign.
func (c *conduct) signsFor(e *Entry) {
	if e = e.KeyOwner(); !slices.Contains(c.signers, e) {
		c.signers = append(c.signers, e)
	}
}

// hasKey reports whether an entry's key shows at its place.
func (c *conduct) hasKey(e *Entry) bool {
	_, ok := c.Have.Keys[e.Name]
	return ok
}

// vetSigner opens a key that is to sign, unless it is about to be made.
func (c *conduct) vetSigner(e *Entry, items map[string]ceremony.CertificateItem) error {
	cert := c.Have.Certificates[e.Name]
	if cert == nil {
		if _, asked := items[e.Name]; !asked {
			return fmt.Errorf("request: %s is to sign, but has no certificate here, and none is asked for", e.Name)
		}
		if slices.ContainsFunc(c.generate, func(s Step) bool { return s.Entry == e }) {
			return nil // about to be made
		}
	} else if !c.hasKey(e) {
		return c.Have.missingKey(e, "for this ceremony")
	}
	key, err := c.ring.signer(e)
	if err != nil {
		return err
	}
	if cert != nil && !spki.Equal(key.Public(), cert.Key) {
		return fmt.Errorf("the key at %s is not the key of the certificate of %s", e.Key, e.Name)
	}
	return nil
}

// begin writes down whose ceremonies this directory is for, and the plan.
func (c *conduct) begin(ctx context.Context) (err error) {
	if err := durable.CheckSpace(c.Dir, spaceBase+spaceStep*int64(len(c.issue)+len(c.generate)+2*len(c.request.Variables)+4), 16); err != nil {
		return err
	}
	if c.db, err = c.OpenStore(ctx); err != nil {
		return err
	}
	c.db.Now = c.o.Now
	for _, s := range [][2]string{{useSetting, ceremonyUse}, {pkiSetting, c.request.PKI}} {
		if err := c.keep(ctx, s[0], s[1]); err != nil {
			return err
		}
	}
	if err := c.split.handOut(ctx, c.run, c.o.ShareHolders); err != nil {
		return err
	}
	if bytes.Equal(c.oldPlan, c.text) {
		return nil
	}
	return durable.WriteFile(filepath.Join(c.Dir, FileName), c.text, 0o644)
}

// keep records a setting, unless it has the value already.
func (c *conduct) keep(ctx context.Context, key, value string) error {
	is, err := c.db.Setting(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) || is == value {
		return err
	}
	return c.db.SetSetting(ctx, c.o.Actor, key, value)
}

// sign makes keys, certificates and variables, by the road of Apply. What an
// earlier run has recorded is taken as it is.
func (c *conduct) sign(ctx context.Context) (err error) {
	c.total = len(c.generate) + len(c.issue) + len(c.request.Variables) + len(c.request.CRLs)
	defer func() {
		if err != nil {
			c.undo()
		}
	}()
	for _, e := range c.Plan.Entries {
		if c.Have.Misplaced[e.Name] {
			if err := c.run.switchKey(e); err != nil {
				return fmt.Errorf("key of %s: %w", e.Name, err)
			}
		}
	}
	if err := c.run.generate(ctx, c.generate); err != nil {
		return err
	}
	for _, level := range levels(c.issue) {
		level = slices.DeleteFunc(level, func(s Step) bool { return c.reused[s.Entry.Name] })
		if len(level) == 0 {
			continue
		}
		if err := c.run.issue(ctx, level); err != nil {
			return err
		}
	}
	for _, s := range c.issue {
		if s.Entry.inToken() && s.Entry.AtCeremony && s.Entry.TwinOf == nil {
			if err := c.storeCertificate(s); err != nil {
				return err
			}
		}
	}
	for _, item := range c.request.Variables {
		v := c.variable(item.ID)
		if err := c.keep(ctx, ownerSetting(v.Platform), item.Owner); err != nil {
			return err
		}
		if c.signedBefore(v, item.After) {
			continue
		}
		// Later than the last one, whichever machine has made that.
		r := c.Have.Updates[v.ID()]
		if last := r.Last; last == nil || last.Time.Before(item.After) {
			r.Last = &SignedUpdate{SignedVariable: SignedVariable{Auth: &uefi.Auth{Time: item.After}}}
			c.Have.Updates[v.ID()] = r
		}
		if err := c.run.signVariable(ctx, Step{Kind: SignVariable, Variable: v}); err != nil {
			return err
		}
	}
	for _, item := range c.request.CRLs {
		if err := c.signCRL(ctx, item); err != nil {
			return err
		}
	}
	return nil
}

// signedBefore reports whether an earlier run has signed the variable as it is to
// be, and the other machine doesn't have that.
func (c *conduct) signedBefore(v *Variable, after time.Time) bool {
	is, ok := c.Have.Variables[v.ID()]
	if !ok || !is.Time.After(after) {
		return false
	}
	want, err := v.database(c.Have)
	if err != nil {
		return false
	}
	have, err := is.Value.Marshal()
	return err == nil && bytes.Equal(want, have)
}

// answer makes the response, records it, and writes the transcript.
func (c *conduct) answer(ctx context.Context, agenda *Agenda, confirmations []Confirmation) (*Answer, error) {
	r := &ceremony.Response{
		Actor:   c.o.Actor,
		Number:  c.request.Number,
		PKI:     c.request.PKI,
		Plan:    hex.EncodeToString(c.Plan.SHA256[:]),
		Program: c.o.program(),
		Request: c.request.Digest().String(),
		Time:    c.o.Now().UTC().Truncate(time.Second),
		CRLs:    c.crls,
	}
	for _, s := range c.issue {
		r.Certificates = append(r.Certificates, ceremony.Issued{Entry: s.Entry.Name, Certificate: c.Have.Certificates[s.Entry.Name].Raw})
	}
	for _, item := range c.request.Variables {
		r.Variables = append(r.Variables, ceremony.Variable{ID: item.ID, Content: c.Have.Variables[item.ID].Raw})
	}
	// 1. The transcript.
	size, root, err := c.db.Root(ctx)
	if err != nil {
		return nil, err
	}
	r.Transcript = c.transcript(agenda, confirmations, r, fmt.Sprintf("%d entries, root hash %x", size, root[:]))
	if err := c.signTranscript(r); err != nil {
		return nil, err
	}
	// 2. The bundle, signed by each key that has signed something in it.
	if err := r.Seal(); err != nil {
		return nil, err
	}
	for _, e := range c.signers {
		key, err := c.ring.signer(e)
		if err != nil {
			return nil, err
		}
		if err := r.Sign(e.Name, key, e.Algorithm); err != nil {
			return nil, err
		}
	}
	// 3. The record, then the files.
	if err := recordResponse(ctx, c.db, c.o.Actor, r); err != nil {
		return nil, err
	}
	file, err := writeTranscript(c.Dir, r)
	return &Answer{r, false, file}, err
}

// recordResponse records a response, by which its request is answered.
func recordResponse(ctx context.Context, db *store.DB, actor string, r *ceremony.Response) error {
	transcript := sha256.Sum256([]byte(r.Transcript))
	err := db.PutObject(ctx, store.Object{
		Name:    responseObject,
		Kind:    "ceremony-response",
		Actor:   actor,
		Content: r.Marshal(),
		Detail: map[string]string{
			requestDetail: r.Request,
			digestDetail:  r.Digest().String(),
			"number":      fmt.Sprint(r.Number),
			"transcript":  hex.EncodeToString(transcript[:]),
		},
	})
	if err != nil {
		return fmt.Errorf("recording the response: %w", err)
	}
	return nil
}

// writeTranscript puts the transcript of a response and its signature into the
// PKI directory.
func writeTranscript(dir string, r *ceremony.Response) (string, error) {
	base := filepath.Join(dir, ceremoniesDir)
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	file := filepath.Join(base, fmt.Sprintf("CEREMONY-%d-%s.txt", r.Number, r.Request[:8]))
	if err := durable.WriteFile(file, []byte(r.Transcript), 0o644); err != nil {
		return "", err
	}
	if r.TranscriptSignature != nil {
		if err := durable.WriteFile(file+".p7s", r.TranscriptSignature, 0o644); err != nil {
			return "", err
		}
	}
	return file, nil
}

// planDiff returns the lines in which the plan changed.
func (c *conduct) planDiff() []byte {
	return diff.Diff(path.Join("now", FileName), c.oldPlan, path.Join("request", FileName), c.text)
}

func asSet(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}
