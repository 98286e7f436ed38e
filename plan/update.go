package plan

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/store"
	"tmpki/uefi"
)

// UpdateMode is what an update does with the value that a platform has.
type UpdateMode string

// The modes of updates. Planned is a whole value, like Replace, but one that
// Apply made of the plan.
const (
	Planned UpdateMode = "planned"
	Replace UpdateMode = "replace"
	Append  UpdateMode = "append"
	Delete  UpdateMode = "delete"
)

// updateDetail is where the ledger says the mode. What the plan asked for has
// none.
const updateDetail = "update"

// SignedUpdate is an update as it was signed, with who did it.
type SignedUpdate struct {
	SignedVariable
	Mode   UpdateMode
	Signer string // the entry whose key signed it
	Actor  string
}

// VariableRecord is what the record tells of one variable.
type VariableRecord struct {
	Last  *SignedUpdate          // the newest update; nil: none yet
	Value uefi.SignatureDatabase // of a platform that has taken every update
	plan  *SignedVariable        // the newest that the plan asked for
}

// readVariable reads the updates of a variable, newest first, back to the one
// that makes all before it meaningless. planned is false for dbx, of which the
// plan says nothing.
func readVariable(ctx context.Context, db *store.DB, id string, planned bool) (VariableRecord, error) {
	var r VariableRecord
	var appended []uefi.SignatureDatabase // newest first
	whole := false
	for o, err := range db.Versions(ctx, variablePrefix+id) {
		if err != nil {
			return r, err
		}
		auth, err := uefi.ParseAuth(o.Content)
		if err != nil {
			return r, fmt.Errorf("the store's variable %s: %w", id, err)
		}
		signed := SignedVariable{auth, o.Content}
		mode := UpdateMode(o.Detail[updateDetail])
		if mode == "" {
			mode = Planned
		}
		if r.Last == nil {
			r.Last = &SignedUpdate{signed, mode, o.Detail["signer"], o.Actor}
		}
		if mode == Planned && r.plan == nil {
			r.plan = &signed
		}
		switch {
		case whole:
		case mode == Append:
			appended = append(appended, auth.Value)
		default:
			r.Value, whole = auth.Value, true
		}
		if whole && (r.plan != nil || !planned) {
			break
		}
	}
	for _, a := range slices.Backward(appended) {
		merged, err := union(r.Value, a)
		if err != nil {
			return r, fmt.Errorf("the store's variable %s: %w", id, err)
		}
		r.Value = merged
	}
	return r, nil
}

// union returns db with what more adds to it, as firmware appends it.
func union(db, more uefi.SignatureDatabase) (uefi.SignatureDatabase, error) {
	out := cloneDatabase(db)
	for _, e := range more.Entries() {
		if _, err := out.Add(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// without returns the entries of db that are not in other.
func without(db, other uefi.SignatureDatabase) (uefi.SignatureDatabase, error) {
	var out uefi.SignatureDatabase
	for _, e := range db.Entries() {
		if other.Contains(e.Type, e.Data) {
			continue
		}
		if _, err := out.Add(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func cloneDatabase(db uefi.SignatureDatabase) uefi.SignatureDatabase {
	out := slices.Clone(db)
	for i := range out {
		out[i].Signatures = slices.Clone(out[i].Signatures)
	}
	return out
}

// update is one update on its way into the record.
type update struct {
	variable    *Variable
	mode        UpdateMode
	value       uefi.SignatureDatabase
	time        time.Time
	by          *Entry
	certificate *ca.Certificate // of by
	key         crypto.Signer
	actor       string
}

// sign signs the update, verifies it as the firmware does, and records it.
// Nobody may see it before.
func (u update) sign(ctx context.Context, db *store.DB) (SignedVariable, error) {
	id := u.variable.ID()
	appendWrite := u.mode == Append
	raw, err := uefi.SignVariable(uefi.Update{Variable: u.variable.Variable, Append: appendWrite, Time: u.time, Value: u.value}, u.key, u.certificate.Raw)
	if err != nil {
		return SignedVariable{}, fmt.Errorf("variable %s: %w", id, err)
	}
	auth, err := uefi.ParseAuth(raw)
	if err == nil {
		err = auth.Verify(u.variable.Variable, appendWrite, u.certificate.Raw)
	}
	if err != nil {
		return SignedVariable{}, fmt.Errorf("variable %s as signed: %w", id, err)
	}
	err = db.PutObject(ctx, variableObject(u.variable, u.mode, raw, u.time, u.by, u.certificate, u.actor))
	if err != nil {
		return SignedVariable{}, fmt.Errorf("recording the variable %s: %w", id, err)
	}
	return SignedVariable{auth, raw}, nil
}

// variableObject is an update as the store keeps it.
func variableObject(v *Variable, mode UpdateMode, raw []byte, at time.Time, by *Entry, certificate *ca.Certificate, actor string) store.Object {
	detail := map[string]string{"signer": by.Name, "time": at.Format(time.RFC3339)}
	if mode != Planned {
		detail[updateDetail] = string(mode)
	}
	return store.Object{
		Name:    variablePrefix + v.ID(),
		Kind:    "efi-variable",
		Actor:   actor,
		Serial:  certificate.SerialNumber.Bytes(),
		Content: raw,
		Detail:  detail,
	}
}

// RecordUpdate records an update that another program has signed, so that all that
// are signed after it get a later time. Planned is what the plan asks for: by, with
// its certificate, must have signed it as firmware wants it, and so must it be for
// Append. As Replace any update that can be read is recorded, of which platforms
// may have the time all the same; by is nil if nobody is known to have signed it.
func RecordUpdate(ctx context.Context, db *store.DB, v *Variable, mode UpdateMode, raw []byte, by *Entry, certificate *ca.Certificate, actor string) error {
	auth, err := uefi.ParseAuth(raw)
	if err != nil {
		return fmt.Errorf("variable %s: %w", v.ID(), err)
	}
	if mode != Replace && by == nil {
		return fmt.Errorf("variable %s: an update (%s) without a signer", v.ID(), mode)
	}
	detail := map[string]string{"signer": "unknown", "time": auth.Time.Format(time.RFC3339), updateDetail: string(mode)}
	o := store.Object{Name: variablePrefix + v.ID(), Kind: "efi-variable", Actor: actor, Content: raw, Detail: detail}
	if by != nil {
		if err := auth.Verify(v.Variable, mode == Append, certificate.Raw); err != nil {
			return fmt.Errorf("variable %s: %w", v.ID(), err)
		}
		o = variableObject(v, mode, raw, auth.Time, by, certificate, actor)
	}
	o.Detail["from"] = "another program"
	if err := db.PutObject(ctx, o); err != nil {
		return fmt.Errorf("recording the variable %s: %w", v.ID(), err)
	}
	return nil
}

// nextTime returns the time for the next update of a variable, later than that
// of all before.
func (have Inventory) nextTime(id string, now time.Time) time.Time {
	var last time.Time
	if r := have.Updates[id]; r.Last != nil {
		last = r.Last.Time
	}
	return uefi.NextTime(now, last)
}

// updateTarget returns a variable of a platform, or of the base set, and the
// entries whose keys may sign it. dbx is not in the plan: who signs db, signs it.
func (u *UEFI) updateTarget(platform, name string) (*Variable, []*Entry, error) {
	set, err := u.set(platform)
	if err != nil {
		return nil, nil, err
	}
	if name == "dbx" {
		db := set[len(set)-1]
		v := &Variable{Name: name, Platform: platform, Signer: db.Signer}
		v.Variable, err = uefi.SecureBootVariable(name)
		return v, allowedSigners(set, v), err
	}
	for i, v := range set {
		if v.Name == name {
			return v, allowedSigners(set[:i], v), nil
		}
	}
	return nil, nil, fmt.Errorf("variable %q is unknown: use PK, KEK, db or dbx", name)
}

// allowedSigners lists who may sign a variable: PK is signed by itself, KEK by
// PK, db and dbx by PK or a KEK (UEFI 2.10, Section 32.3). before are those that
// are enrolled before it.
func allowedSigners(before []*Variable, v *Variable) []*Entry {
	if len(before) == 0 {
		var own []*Entry
		for _, e := range v.Certificates {
			own = append(own, e.Trusted()...)
		}
		return own
	}
	var allowed []*Entry
	for _, b := range before {
		if b.Name == "PK" || b.Name == "KEK" {
			for _, e := range b.Certificates {
				allowed = append(allowed, e.Trusted()...)
			}
		}
	}
	return allowed
}

// UpdateRequest says which update to sign.
type UpdateRequest struct {
	Platform string // "" for the base set
	Variable string // PK, KEK, db or dbx
	Mode     UpdateMode
	Value    uefi.SignatureDatabase
	As       string // the signer; "" for the plan's
	File     string // where the update is written to

	// Accumulate lays Value over all that the updates so far have left in the
	// variable; appended is then only what is new.
	Accumulate bool
}

// UpdateResult is a signed update, and how the variable changes by it.
type UpdateResult struct {
	SignedUpdate
	ID             string
	Added, Removed int // entries, for a platform that had taken every update before
}

// SignUpdate signs an update of a variable, records it, and writes it to a file.
// The plan stays as it is: what is to be in the variable for good stands there.
func SignUpdate(ctx context.Context, dir string, o Options, r UpdateRequest) (_ *UpdateResult, err error) {
	// 1. One at a time: each update needs a later time than the one before.
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	// 2. Which variable, and who signs?
	if p.Plan.UEFI == nil {
		return nil, errNoUEFI
	}
	v, allowed, err := p.Plan.UEFI.updateTarget(r.Platform, r.Variable)
	if err != nil {
		return nil, err
	}
	by := v.Signer
	if r.As != "" {
		if by = p.Plan.Entry(r.As); by == nil {
			return nil, fmt.Errorf("%q is not an entry of the plan", r.As)
		}
		if !slices.Contains(allowed, by) {
			return nil, fmt.Errorf("firmware takes an update of %s from %s only, not from %s", v.ID(), entryNamesOf(allowed), by.Name)
		}
	}
	if _, err := p.Owner(r.Platform); err != nil {
		return nil, err
	}
	// 3. What does the variable hold afterwards?
	before := p.Have.Updates[v.ID()].Value
	value, after, err := r.values(before)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.ID(), err)
	}
	if err := v.Variable.Check(after); err != nil {
		return nil, err
	}
	// 4. Can it be written where it should?
	if err := p.CheckOutput(r.File); err != nil {
		return nil, err
	}
	// 5. Sign, verify, record, and only then write.
	key, err := p.Signer(by)
	if err != nil {
		return nil, err
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	u := update{v, r.Mode, value, p.Have.nextTime(v.ID(), o.Now()), by, p.Have.Certificates[by.Name], key, o.Actor}
	signed, err := u.sign(ctx, db)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(r.File, signed.Raw, 0o644); err != nil {
		return nil, err
	}
	added, err := without(after, before)
	if err != nil {
		return nil, err
	}
	removed, err := without(before, after)
	if err != nil {
		return nil, err
	}
	return &UpdateResult{SignedUpdate{signed, r.Mode, by.Name, o.Actor}, v.ID(), len(added.Entries()), len(removed.Entries())}, nil
}

// values returns what is to be signed, and what the variable holds afterwards,
// given what it held before.
func (r UpdateRequest) values(before uefi.SignatureDatabase) (value, after uefi.SignatureDatabase, err error) {
	switch r.Mode {
	case Delete:
		if len(r.Value) > 0 || r.Accumulate {
			return nil, nil, errors.New("a deletion has no content")
		}
		return nil, nil, nil
	case Append:
		value = r.Value
		if r.Accumulate {
			if value, err = without(r.Value, before); err != nil {
				return nil, nil, err
			}
		}
		if len(value) == 0 {
			return nil, nil, errors.New("nothing to append: all of it is in the variable already")
		}
		after, err = union(before, value)
		return value, after, err
	case Replace:
		value = r.Value
		if r.Accumulate {
			if value, err = union(before, r.Value); err != nil {
				return nil, nil, err
			}
		}
		if len(value) == 0 {
			return nil, nil, errors.New("nothing to put into it: an empty update would delete the variable")
		}
		return value, value, nil
	default:
		return nil, nil, fmt.Errorf("unknown mode of an update %q", r.Mode)
	}
}

// Owner returns the owner of the UEFI entries of a platform, or of the base set.
// The error says how a set is made that is not there.
func (p *PKI) Owner(platform string) (uefi.GUID, error) {
	if p.Plan.UEFI == nil {
		return uefi.GUID{}, errNoUEFI
	}
	if _, err := p.Plan.UEFI.set(platform); err != nil {
		return uefi.GUID{}, err
	}
	owner := p.Have.Owners[platform]
	switch {
	case owner != "":
		return uefi.ParseGUID(owner)
	case platform != "":
		return uefi.GUID{}, fmt.Errorf("the keys of platform %q are not made yet: tmpki apply makes them", platform)
	case p.Plan.UEFI.Create == "never":
		return uefi.GUID{}, errors.New("the plan has UEFI keys of platforms only (uefi.create): name one with --platform")
	case len(p.Plan.UEFI.Platforms) > 0:
		return uefi.GUID{}, errors.New("the base set of UEFI keys is not made yet: name a platform with --platform, or tmpki apply --platform-keys makes it")
	default:
		return uefi.GUID{}, errors.New("the UEFI part is not made yet: tmpki apply --platform-keys makes it")
	}
}

func entryNamesOf(entries []*Entry) string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return strings.Join(names, ", ")
}

// CheckOutput refuses to write a file over what belongs to the PKI, or over
// something that is not a file, before anything is signed. p may be nil.
func (p *PKI) CheckOutput(file string) error {
	if info, err := os.Stat(filepath.Dir(file)); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", filepath.Dir(file))
	}
	is, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p.CheckReserved(file)
	}
	if err != nil {
		return err
	}
	if !is.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file, and stays untouched", file)
	}
	return p.CheckReserved(file)
}

// CheckReserved refuses the places of the plan, the store, keys, vendor files
// and published files, there or not.
func (p *PKI) CheckReserved(file string) error { return p.Reserved().Check(file) }

// Reserved are the files that belong to a PKI, for who has many files to check.
type Reserved map[string]bool // resolved paths

// Reserved returns the files that PKI.CheckReserved refuses. p may be nil.
func (p *PKI) Reserved() Reserved {
	if p == nil {
		return nil
	}
	reserved := []string{filepath.Join(p.Dir, FileName), StorePath(p.Dir), StorePath(p.Dir) + "-journal", filepath.Join(p.Dir, SplitName)}
	for _, e := range p.Plan.Entries {
		if !e.inToken() {
			reserved = append(reserved, e.Key.FilePath(p.Dir))
		}
	}
	for _, f := range p.Plan.Published {
		reserved = append(reserved, filepath.Join(p.Dir, filepath.FromSlash(f.File)))
	}
	for f := range p.Have.Vendors {
		reserved = append(reserved, filepath.Join(p.Dir, filepath.FromSlash(f)))
	}
	set := Reserved{}
	for _, path := range reserved {
		if path, err := resolved(path); err == nil {
			set[path] = true
		}
	}
	return set
}

// Check refuses a file that is one of them.
func (r Reserved) Check(file string) error {
	if len(r) == 0 {
		return nil
	}
	is, err := resolved(file)
	if err != nil {
		return err
	}
	if r[is] {
		return fmt.Errorf("%s belongs to the PKI: name another file", file)
	}
	return nil
}

// resolved returns the absolute path of a file, through the links of its
// directory.
func resolved(file string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(file)), nil
}
