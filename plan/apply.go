package plan

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
	"tmpki/uefi"
)

// Options are what Apply needs beside the directory.
type Options struct {
	Actor   string           // for the record: who asked for it
	Program string           // the version of this program, for the record
	Now     func() time.Time // the clock
	Demand  Demand

	// Progress, if not nil, is called after each step that is done. Calls don't
	// overlap.
	Progress func(done, total int, s Step)

	// Warn, if not nil, is told what may go wrong later, elsewhere.
	Warn func(text string)

	// Waiting, if not nil, is called once when another process holds the
	// directory.
	Waiting func()

	newPlan []byte // for tests: what Generate puts into a new directory; nil: the development plan
}

// Preview returns the plan of a PKI directory and the steps that Apply would
// take, and changes nothing.
func Preview(ctx context.Context, dir string, demand Demand) (*Plan, []Step, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	steps, err := p.Plan.Steps(p.Have, demand)
	if err == nil {
		err = checkTokens(steps)
	}
	return p.Plan, steps, err
}

// Apply makes the PKI in dir what its pki.yaml says, and returns the steps that
// it took, and those that wait. Killed at any moment, the next Apply goes on where this one stopped.
func Apply(ctx context.Context, dir string, o Options) ([]Step, error) {
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		return nil, fmt.Errorf("no PKI directory: %w", err)
	}
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return apply(ctx, dir, o)
}

// run is one Apply on its way.
type run struct {
	*PKI
	o  Options
	db *store.DB

	linter  *ca.Linter
	issuers map[string]*ca.Issuer
	now     time.Time // one moment for all, so that equal validities end together
	done    int
	total   int
	created []string // files that this run made and the store doesn't need yet

	inTokens []*keys.TokenKey // like created

	made      map[string]bool             // entries whose key this run made
	requested map[string]crypto.PublicKey // at a ceremony: the keys of requests, by entry
}

// What a run may need on the disk, in octets: the store with its journal, and for
// each step a file and rows.
const (
	spaceBase = 256 << 10
	spaceStep = 16 << 10
)

// apply is Apply under the caller's lock.
func apply(ctx context.Context, dir string, o Options) (steps []Step, err error) {
	// 1. What is to do?
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	r := &run{PKI: p, o: o, made: map[string]bool{}}
	if err := r.sweep(); err != nil {
		return nil, err
	}
	if err := r.restoreCRLs(ctx); err != nil {
		return nil, err
	}
	all, err := r.Plan.Steps(r.Have, o.Demand)
	if err != nil {
		return nil, err
	}
	steps, later := Waiting(all) // in this order
	if len(steps) == 0 {
		return later, nil
	}
	if err := checkTokens(steps); err != nil {
		return nil, err
	}
	if err := durable.CheckSpace(dir, spaceBase+spaceStep*int64(len(steps)), int64(len(steps))+4); err != nil {
		return nil, err
	}
	r.total, r.now, r.issuers = len(steps), o.Now().UTC().Truncate(time.Second), map[string]*ca.Issuer{}
	if r.linter, err = ca.NewLinter(); err != nil {
		return nil, err
	}
	// 2. Keys. They are made first, and written when all are there: whatever
	// fails before leaves nothing behind.
	storePath := StorePath(dir)
	if _, err := os.Lstat(storePath); errors.Is(err, fs.ErrNotExist) && r.Plan.Store == "" {
		r.created = append(r.created, storePath)
	}
	defer func() {
		if err != nil {
			r.undo()
		}
	}()
	for _, s := range steps {
		if s.Kind == SwitchKey {
			if err := r.switchKey(s.Entry); err != nil {
				return nil, fmt.Errorf("key of %s: %w", s.Entry.Name, err)
			}
		}
	}
	if err := r.generate(ctx, steps); err != nil {
		return nil, err
	}
	if r.db, err = r.OpenStore(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	r.db.Now = o.Now
	// 3. Certificates, one level of the tree after the other.
	for _, level := range levels(steps) {
		if err := r.issue(ctx, level); err != nil {
			return nil, err
		}
	}
	// 4. UEFI variables.
	for _, s := range steps {
		if s.Kind == SignVariable {
			if err := r.signVariable(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	// 5. Files.
	for _, s := range steps {
		if s.Kind == PublishFile {
			if err := r.publish(s); err != nil {
				return nil, err
			}
		}
	}
	// 6. Certificates beside their keys in tokens.
	for _, s := range steps {
		if s.Kind == StoreCertificate {
			if err := r.storeCertificate(s); err != nil {
				return nil, err
			}
		}
	}
	// 7. What only offline keys can sign.
	if steps[len(steps)-1].Kind == RequestCeremony {
		if _, err := r.request(ctx, later); err != nil {
			return nil, err
		}
	}
	return append(steps, later...), nil
}

// sweep removes what killed runs left in the directories of this PKI.
func (r *run) sweep() error {
	dirs := map[string]bool{r.Dir: true}
	for _, e := range r.Plan.Entries {
		if !e.inToken() {
			dirs[filepath.Dir(e.Key.FilePath(r.Dir))] = true
		}
	}
	for _, f := range r.Plan.Published {
		dirs[filepath.Dir(filepath.Join(r.Dir, filepath.FromSlash(f.File)))] = true
	}
	for dir := range dirs {
		if err := durable.Sweep(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// undo removes what a failed run made and nothing recorded needs: its keys
// before their first certificate was intended, and an empty store.
func (r *run) undo() {
	for _, path := range r.created {
		os.Remove(path)
	}
	for _, k := range r.inTokens {
		if err := k.Destroy(); err != nil && r.o.Warn != nil {
			r.o.Warn(fmt.Sprintf("a key of this run stays in its token, and the next run takes it: %v", err))
		}
	}
}

func (r *run) progress(s Step) {
	r.done++
	if r.o.Progress != nil {
		r.o.Progress(r.done, r.total, s)
	}
}

func (r *run) generate(ctx context.Context, steps []Step) error {
	var entries, inTokens []*Entry
	var types []spki.KeyType
	for _, s := range steps {
		switch {
		case s.Kind != GenerateKey:
		case s.Entry.inToken():
			inTokens = append(inTokens, s.Entry)
		default:
			entries, types = append(entries, s.Entry), append(types, s.Entry.KeyType)
		}
	}
	// PINs and passphrases first: nobody wants to be asked after a minute, or in vain.
	for _, e := range inTokens {
		if err := keys.Login(e.Key, true); err != nil {
			return fmt.Errorf("key of %s: %w", e.Name, err)
		}
	}
	for _, e := range entries {
		if _, err := r.ring.passphrase(e, true); err != nil {
			return err
		}
		if err := r.opensSiblings(e); err != nil {
			return err
		}
	}
	if len(inTokens) > 0 {
		if err := r.generateInTokens(ctx, inTokens); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if err := r.private(r.Dir); err != nil {
		return err
	}
	signers, err := keys.GenerateAll(ctx, types, func(i int) { r.progress(Step{Kind: GenerateKey, Entry: entries[i]}) })
	if err != nil {
		return err
	}
	for i, e := range entries {
		pem, err := r.ring.add(e, signers[i])
		if err != nil {
			return err
		}
		path := e.Key.FilePath(r.Dir)
		if err := makeDir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := durable.CreateFile(path, pem, 0o600); err != nil {
			return fmt.Errorf("key of %s: %w", e.Name, err)
		}
		r.created = append(r.created, path)
		r.made[e.Name] = true
		r.Have.Keys[e.Name] = KeyFile{File{pem, 0o600}, e.KeyType}
	}
	return nil
}

// opensSiblings refuses a passphrase for a new key that opens none of the keys
// which have theirs from the same source: nobody would look for another one
// there. No passphrase at all opens none either, so that a lost secret does not
// leave a plain key among encrypted ones.
func (r *run) opensSiblings(e *Entry) error {
	if e.NoPassphrase {
		return nil
	}
	var failed error
	for _, o := range r.Plan.Entries {
		key, ok := r.Have.Keys[o.Name]
		if !ok || key.Type != (spki.KeyType{}) || o.NoPassphrase || o.Passphrase != e.Passphrase {
			continue
		}
		_, err := r.ring.signer(o)
		if err == nil {
			return nil
		}
		if failed == nil {
			failed = fmt.Errorf("the key of %s gets its passphrase from where that of %s has it, which does not open: %w", e.Name, o.Name, err)
		}
	}
	return failed
}

// private takes everybody else's rights on a directory that is about to hold keys.
func (r *run) private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(dir, 0o700)
}

// makeDir makes a directory and those above it, for keys too.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// levels groups the certificates to issue, so that issuers come before what they
// issue, and the store needs two transactions for a level.
func levels(steps []Step) [][]Step {
	var out [][]Step
	rank := -1
	for _, s := range steps {
		if s.Kind != IssueCertificate {
			continue
		}
		if s.Entry.rank() != rank {
			rank = s.Entry.rank()
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}

// issue takes the road of package ca for the certificates of one level.
func (r *run) issue(ctx context.Context, level []Step) error {
	issuers := make([]*ca.Issuer, len(level))
	prepared := make([]*ca.Prepared, len(level))
	records := make([]store.Record, len(level))
	for i, s := range level {
		var err error
		if issuers[i], err = r.issuer(s.Entry); err != nil {
			return err
		}
		if prepared[i], err = r.prepare(issuers[i], s.Entry); err != nil {
			return err
		}
		records[i] = prepared[i].Record(r.o.Actor)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.db.Intend(ctx, records...); err != nil {
		return fmt.Errorf("recording the intent: %w", err)
	}
	// From here on the store needs the keys, and an interruption would only leave
	// intents behind.
	r.created, r.inTokens = nil, nil
	ctx = context.WithoutCancel(ctx)
	certs := make([]*ca.Certificate, len(level))
	err := parallel(len(level), func(i int) (err error) {
		certs[i], err = issuers[i].Sign(prepared[i])
		return err
	})
	if err != nil {
		return err
	}
	completed := make([]store.Completed, len(level))
	for i, c := range certs {
		completed[i] = store.Completed{Serial: prepared[i].Serial(), DER: c.Raw}
	}
	if err := r.db.Complete(ctx, completed...); err != nil {
		return fmt.Errorf("recording the certificates: %w", err)
	}
	for i, s := range level {
		r.Have.Certificates[s.Entry.Name] = certs[i]
		delete(r.issuers, s.Entry.Name) // an issuer with a new certificate
		r.progress(s)
	}
	return nil
}

func (r *run) issuer(e *Entry) (*ca.Issuer, error) {
	by := e.Signer()
	signer, err := r.ring.signer(by)
	if err != nil {
		return nil, err
	}
	if e.Issuer == nil {
		return ca.NewSelfIssuer(e.Base(), e.Subject, signer, by.Algorithm, r.linter)
	}
	if i := r.issuers[by.Name]; i != nil {
		return i, nil
	}
	if err := r.CheckRevoked(by); err != nil {
		return nil, err
	}
	i, err := ca.NewIssuer(by.Base(), r.Have.Certificates[by.Name], signer, by.Algorithm, r.linter)
	if err != nil {
		return nil, err
	}
	r.issuers[by.Name] = i
	return i, nil
}

func (r *run) prepare(issuer *ca.Issuer, e *Entry) (*ca.Prepared, error) {
	public, err := r.publicKey(e)
	if err != nil {
		return nil, err
	}
	return issuer.Prepare(e.Profile, ca.Request{
		Name:            e.Base(),
		Subject:         e.Subject,
		PublicKey:       public,
		SubjectAltNames: e.SubjectAltNames,
		NotBefore:       r.now,
		KeyURI:          e.Key.String(),
		Rollover:        e.Kind == Cross,
	})
}

func (r *run) signVariable(ctx context.Context, s Step) error {
	v := s.Variable
	if err := r.drawOwner(ctx, v); err != nil {
		return err
	}
	for _, file := range v.Files {
		if err := r.Plan.CheckTarget(r.Have.Vendors[file].Certificate); err != nil && r.o.Warn != nil {
			r.o.Warn(fmt.Sprintf("%s: %v", file, err))
		}
	}
	content, err := v.database(r.Have)
	if err != nil {
		return err
	}
	value, err := uefi.ParseSignatureLists(content)
	if err != nil {
		return err
	}
	signer, err := r.ring.signer(v.Signer)
	if err != nil {
		return err
	}
	u := update{v, Planned, value, r.Have.nextTime(v.ID(), r.now), v.Signer, r.Have.Certificates[v.Signer.Name], signer, r.o.Actor}
	signed, err := u.sign(ctx, r.db)
	if err != nil {
		return err
	}
	r.Have.Variables[v.ID()] = signed
	r.progress(s)
	return nil
}

// drawOwner gives the UEFI entries of a variable an owner, unless they have one.
func (r *run) drawOwner(ctx context.Context, v *Variable) error {
	if r.Have.Owners[v.Platform] != "" {
		return nil
	}
	owner := uefi.NewGUID().String()
	if err := r.db.SetSetting(ctx, r.o.Actor, ownerSetting(v.Platform), owner); err != nil {
		return err
	}
	r.Have.Owners[v.Platform] = owner
	return nil
}

func (r *run) publish(s Step) error {
	if s.Published.Form == FormKeyCertificate {
		// Whoever reads the file takes for granted that the two belong together.
		if _, err := r.Signer(s.Published.Entry); err != nil {
			return fmt.Errorf("%s: %w", s.Published.File, err)
		}
	}
	content, err := s.Published.render(r.Have)
	if err != nil {
		return err
	}
	path := filepath.Join(r.Dir, filepath.FromSlash(s.Published.File))
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := r.keepsKeys(path); err != nil {
		return fmt.Errorf("%s: %w", s.Published.File, err)
	}
	if err := durable.WriteFile(path, content, s.Published.mode()); err != nil {
		return err
	}
	r.progress(s)
	return nil
}

// keepsKeys refuses to replace a file that is a key under another name, such as
// one in other case where the file system doesn't tell cases apart.
func (r *run) keepsKeys(path string) error {
	is, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range r.Plan.Entries {
		if e.inToken() {
			continue
		}
		if key, err := os.Lstat(e.Key.FilePath(r.Dir)); err == nil && os.SameFile(is, key) {
			return fmt.Errorf("the key of %s is there: it stays untouched", e.KeyOwner().Name)
		}
	}
	return nil
}

// parallel calls do for 0 to n-1 on all cores and returns the first error by
// number.
func parallel(n int, do func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
