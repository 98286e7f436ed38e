package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
)

// Level says how bad a finding is.
type Level string

// The levels of findings. Bad means that something doesn't work, or is open to
// others; Warn, that it soon will be; Note, what one should know.
const (
	Bad  Level = "bad"
	Warn Level = "warning"
	Note Level = "note"
)

// Finding is one thing that a check found.
type Finding struct {
	Level Level  `json:"level"`
	Name  string `json:"name"` // an entry, a file, or "pki"
	Text  string `json:"text"`
	Ends  bool   `json:"ends,omitempty"` // it is that something ends soon
}

// findings are those of one check.
type findings struct {
	list []Finding
	soon time.Duration // how long before its end a certificate is warned of
}

func (f *findings) add(level Level, name, format string, args ...any) {
	f.list = append(f.list, Finding{Level: level, Name: name, Text: fmt.Sprintf(format, args...)})
}

// soon is how long before its end a certificate is warned of unless another time
// is asked for.
const soon = 30 * 24 * time.Hour

// expiry warns of a certificate that ends soon. One that has ended fails the
// check of its chain.
func (f *findings) expiry(name string, c *ca.Certificate, now time.Time) {
	f.ends(name, now, c.NotAfter, "")
}

// ends warns of an end in the time that is asked for.
func (f *findings) ends(name string, now, end time.Time, what string) {
	left := end.Sub(now)
	if left <= 0 || left >= f.soon {
		return
	}
	f.add(Warn, name, "%sexpires on %s, in %d days", what, end.Local().Format(time.DateOnly), int(left.Hours()/24))
	f.list[len(f.list)-1].Ends = true
}

// Check looks at the health of a PKI directory: the store and its ledger,
// chains, dates, keys, file modes, published files. It changes nothing. Keys that
// need a passphrase are checked if the passphrase is in the environment or a
// file; nobody is asked.
func Check(ctx context.Context, dir string, now time.Time) ([]Finding, error) {
	return check(ctx, dir, now, findings{soon: soon}, false)
}

// CheckWithin is Check that tells what ends within another time than the month
// that Check warns of, and also what was issued outside the entries. Of CRLs it tells
// those that are due, whatever their dates: most live shorter than the time asked
// for.
func CheckWithin(ctx context.Context, dir string, now time.Time, within time.Duration) ([]Finding, error) {
	return check(ctx, dir, now, findings{soon: within}, true)
}

func check(ctx context.Context, dir string, now time.Time, out findings, issued bool) ([]Finding, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	if missing(dir, FileName) && !missing(dir, "ssig_rootca.cert") {
		out.add(Note, "pki", "made elsewhere: there is no %s and no record", FileName)
		list, err := checkAdopted(dir, now, out.soon)
		return append(out.list, list...), err
	}
	r, faults, err := look(ctx, dir)
	if err != nil {
		return nil, err
	}
	broken := map[string]bool{}
	for _, f := range faults {
		broken[f.name] = true
		out.add(Bad, f.name, "%v", f.err)
	}
	if broken["pki"] {
		return out.list, nil // without the record there is nothing to hold the rest against
	}
	if r.Plan.Name == Development {
		out.add(Note, "pki", "a development PKI: keys in files, fit for building and testing, not for devices in the field")
	}
	// 1. The record.
	if err := out.store(ctx, dir); err != nil {
		return nil, err
	}
	// 2. What apply would do.
	steps, err := r.Plan.Steps(r.Have, Demand{})
	if errors.Is(err, ErrOffline) {
		out.add(Note, "pki", "the directory of the offline keys: only what a ceremony has made here is checked")
	} else if err != nil {
		out.add(Bad, "pki", "%v", err)
	}
	renewed := map[*Entry]bool{}
	steps, later := Waiting(steps)
	out.waiting(r, steps, later)
	for _, s := range steps {
		if s.Kind == RequestCeremony {
			continue // told by waiting
		}
		if broken[s.Name()] {
			continue
		}
		level := Bad
		switch {
		case s.Kind == IssueCertificate && s.Reason != "":
			renewed[s.Entry] = true
			level = Warn // the plan asks for more than there is
		case s.Kind == SignVariable:
			level = Warn
		case s.Kind == PublishFile && slices.ContainsFunc(s.Published.sources(), func(e *Entry) bool { return renewed[e] }):
			level = Warn
		}
		text := "missing: tmpki apply would " + string(s.Kind)
		if s.Reason != "" {
			text = fmt.Sprintf("%s: tmpki apply would %s", s.Reason, s.Kind)
		}
		out.add(level, s.Name(), "%s", text)
	}
	// 3. Certificates and keys.
	var locked []string
	for _, e := range r.Plan.Entries {
		c := r.Have.Certificates[e.Name]
		if c == nil {
			continue
		}
		out.certificate(r, e, c, now)
		if drift := e.Profile.Drift(c, e.SubjectAltNames); e.AsIssued && drift != "" {
			out.add(Note, e.Name, "was issued elsewhere, and not as its profile says (%s): to have it issued again with the same key, take as_issued out of the plan and apply", drift)
		}
		out.revoked(r, e)
		if r.Have.Offline && !e.AtCeremony {
			continue // its key is on the other machine
		}
		if e.TwinOf == nil && !broken[e.Name] && !out.key(r, e, c) {
			locked = append(locked, e.Name)
		}
	}
	out.locked(locked)
	if err := out.generations(ctx, r, now); err != nil {
		out.add(Bad, "pki", "%v", err)
	}
	if err := out.crls(ctx, r, now); err != nil {
		out.add(Bad, "pki", "%v", err)
	}
	for _, file := range sortedKeys(r.Have.Vendors) {
		if c := r.Have.Vendors[file].Certificate; c != nil && r.Plan.CheckTarget(c) != nil {
			out.add(Warn, file, "%v", r.Plan.CheckTarget(c))
		}
	}
	if r.Plan.UEFI != nil {
		for _, v := range r.Plan.UEFI.All() {
			if last := r.Have.Updates[v.ID()].Last; last != nil && last.Mode != Planned {
				out.add(Note, v.ID(), "an update (%s) was signed beside the plan, of %s: a platform that has taken it refuses the published one, which is older; tmpki uefi auth signs that anew",
					last.Mode, last.Time.Format(time.RFC3339))
			}
		}
	}
	if issued {
		if err := out.issued(ctx, r, now); err != nil {
			return nil, err
		}
	}
	// 4. Files and directories.
	out.modes(r)
	if _, err := os.Lstat(StagingName(abs(dir))); err == nil {
		out.add(Warn, "pki", "%s is left of a killed run and may hold keys: remove it, or run tmpki generate", StagingName(abs(dir)))
	}
	return out.list, nil
}

// waiting tells what offline keys have to sign, and where the request for it is.
func (f *findings) waiting(r *PKI, now, later []Step) {
	var names []string
	after := 0
	for _, s := range later {
		if s.Waits == WaitsCeremony {
			names = append(names, s.Name())
		} else {
			after++
		}
	}
	if len(names) == 0 {
		return
	}
	text := "waits for a ceremony: " + strings.Join(names, ", ")
	if after > 0 {
		text += fmt.Sprintf(", and %d steps after that", after)
	}
	if r.Have.Request == nil || r.Plan.needsRequest(r.Have, now, later) {
		text += "; tmpki apply writes the request"
	} else {
		text += fmt.Sprintf("; the request is %s, of %s", r.Have.Request.File, r.Have.Request.Time.Local().Format(time.DateTime))
	}
	f.add(Warn, "pki", "%s", text)
}

func abs(dir string) string {
	if a, err := filepath.Abs(dir); err == nil {
		return a
	}
	return dir
}

func (f *findings) store(ctx context.Context, dir string) error {
	db, err := ReadStore(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		place := StoreName
		if url, err := storeURL(ctx, dir); err == nil && url != "" {
			place = url
		}
		f.add(Bad, "pki", "%s is missing: nothing was made yet (tmpki apply), or the record is lost", place)
		return nil
	}
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Verify(ctx); err != nil {
		f.add(Bad, "pki", "the record is not what was written: %v", err)
	}
	pending, err := db.Pending(ctx)
	if err != nil {
		return err
	}
	for _, p := range pending {
		f.add(Warn, p.Name, "a certificate with serial %x was about to be signed on %s and never recorded: the run died", p.Serial, p.Intended.Local().Format(time.DateTime))
	}
	return nil
}

// certificate checks one certificate of the plan.
func (f *findings) certificate(r *PKI, e *Entry, c *ca.Certificate, now time.Time) {
	if e.IsOld() && !now.Before(c.NotAfter) {
		f.add(Warn, e.Name, "has ended on %s: tmpki rollout retire %s", c.NotAfter.Local().Format(time.DateOnly), e.Base())
		return
	}
	var roots, helpers []*ca.Certificate
	for _, i := range e.Chain() {
		list := &helpers
		if i.Issuer == nil {
			list = &roots
		}
		plain := i
		if i.Active != nil {
			plain = i.Active
		}
		for _, g := range plain.Trusted() {
			if gc := r.Have.Certificates[g.Name]; gc != nil {
				*list = append(*list, gc)
			}
		}
		for _, x := range plain.Crosses {
			if xc := r.Have.Certificates[x.Name]; xc != nil {
				helpers = append(helpers, xc)
			}
		}
	}
	if len(roots) == 0 {
		f.add(Bad, e.Name, "its root has no certificate")
		return
	}
	if _, err := ca.Verify(c, ca.VerifyOptions{Roots: roots, Intermediates: helpers, Time: now}); err != nil {
		f.add(Bad, e.Name, "%v", err)
	}
	f.expiry(e.Name, c, now)
}

// key checks the private key of a certificate. It returns false if that is
// encrypted and could not be opened.
func (f *findings) key(r *PKI, e *Entry, c *ca.Certificate) bool {
	if e.inToken() {
		f.tokenKey(r, e, c)
		return true
	}
	key, ok := r.Have.Keys[e.Name]
	if !ok {
		if e.Custody == Online {
			f.add(Bad, e.Name, "its key is not at %s", e.Key)
		} else {
			f.add(Note, e.Name, "its key is %s, not here", e.Custody)
		}
		return true
	}
	if e.Custody != Online && !r.Have.Offline {
		f.add(Warn, e.Name, "its custody is %s, but its key is here: take %s to its place", e.Custody, e.Key.FilePath(r.Dir))
	}
	if key.Mode.Perm()&0o077 != 0 {
		f.add(Bad, e.Name, "its key has mode %04o: others can read it; chmod 600 %s", key.Mode.Perm(), e.Key.FilePath(r.Dir))
	}
	if key.Type != (spki.KeyType{}) && !e.NoPassphrase && !e.Passphrase.Optional {
		f.add(Bad, e.Name, "its key is not encrypted, but the plan wants a passphrase")
	}
	quiet := *e
	quiet.Passphrase.Prompt, quiet.Passphrase.Optional = false, true
	signer, err := r.ring.signer(&quiet)
	switch {
	case errors.Is(err, keys.ErrPassphraseNeeded):
		return false
	case err != nil:
		f.add(Bad, e.Name, "%v", err)
	case !spki.Equal(signer.Public(), c.Key):
		f.add(Bad, e.Name, "the key at %s is not the key of its certificate", e.Key)
	}
	return true
}

// locked tells which keys could not be held against their certificates.
func (f *findings) locked(names []string) {
	if len(names) > 0 {
		f.add(Note, "pki", "encrypted keys were not opened, as their passphrase is not at hand: %s", strings.Join(names, ", "))
	}
}

// modes checks who may read directories with keys in them, and strays.
func (f *findings) modes(r *PKI) {
	dirs := map[string]bool{r.Dir: true}
	for _, e := range r.Plan.Entries {
		if _, ok := r.Have.Keys[e.Name]; ok && !e.inToken() {
			dirs[filepath.Dir(e.Key.FilePath(r.Dir))] = true
		}
	}
	for _, p := range r.Plan.Published {
		if _, ok := r.Have.Files[p.File]; ok && p.Form == FormKeyCertificate {
			dirs[filepath.Dir(filepath.Join(r.Dir, filepath.FromSlash(p.File)))] = true
		}
	}
	for _, dir := range sortedKeys(dirs) {
		info, err := os.Stat(dir)
		if err != nil {
			f.add(Bad, "pki", "%v", err)
			continue
		}
		if info.Mode().Perm()&0o077 != 0 {
			f.add(Bad, "pki", "directory %s has mode %04o, and keys in it; chmod 700", dir, info.Mode().Perm())
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
			f.add(Warn, "pki", "directory %s belongs to uid %d: whoever that is can put other files there", dir, stat.Uid)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			f.add(Bad, "pki", "%v", err)
			continue
		}
		for _, e := range entries {
			if durable.IsStray(e) {
				f.add(Warn, "pki", "%s is left of a killed run: tmpki apply takes it away", filepath.Join(dir, e.Name()))
			}
		}
	}
}
