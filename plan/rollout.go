package plan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"tmpki/store"
)

// Rollout is the change of one key, from making it to taking its predecessor away,
// step by step.
type Rollout struct {
	Entry    *Entry // the active generation
	Old, New int    // generations
	Steps    []RolloutStep

	pki       *PKI
	switched  time.Time // zero: not yet
	switchAt  int64     // its ledger entry
	below     int       // certificates outside the plan, in use, by the old key
	chains    int       // those by authorities below it, from before the switch
	belowPlan []string  // entries whose newest certificate is by the old key
	belowOld  []*Entry  // old generations, which are not issued again
	artifacts int       // that were signed before the switch
	now       time.Time
}

// RolloutState is how far a step is.
type RolloutState string

// The states of steps.
const (
	RolloutDone    RolloutState = "done"
	RolloutNext    RolloutState = "next"    // can be done now
	RolloutWaiting RolloutState = "waiting" // for those before it
)

// The steps that are not about one kind of consumer. Those are "add-" and
// "remove-" with its name.
const (
	StepKey     = "key"
	StepSwitch  = "switch"
	StepReissue = "reissue"
	StepChains  = "chains"
	StepRetire  = "retire"
)

// RolloutStep is one of them.
type RolloutStep struct {
	ID    string
	Title string
	How   []string // commands and works
	State RolloutState
	Time  time.Time // when it was done, where the record says so
	Actor string
	Note  string

	manual bool // only people see that it is done
}

// Rollouts returns the rollouts that are under way: those of entries with two
// generations, and those of which the old anchors are not recorded as removed.
func Rollouts(ctx context.Context, dir string, now time.Time) ([]*Rollout, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []*Rollout
	for _, e := range p.Plan.Entries {
		if e.Active != nil || e.TwinOf != nil || e.Platform != "" || e.Generations.Newest == 1 {
			continue
		}
		r, err := p.rollout(ctx, e, now)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(r.Steps, func(s RolloutStep) bool { return s.State != RolloutDone }) {
			out = append(out, r)
		}
	}
	return out, nil
}

// OpenRollout returns the newest rollout of an entry, under way or over.
func OpenRollout(ctx context.Context, dir, name string, now time.Time) (*Rollout, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	e, err := p.Plan.rolled(name)
	if err != nil {
		return nil, err
	}
	if e.Generations.Newest == 1 {
		return nil, fmt.Errorf("%s has its first key: tmpki rotate %s makes another", e.Name, e.Name)
	}
	return p.rollout(ctx, e, now)
}

func (p *PKI) rollout(ctx context.Context, e *Entry, now time.Time) (_ *Rollout, err error) {
	g := e.Generations
	r := &Rollout{Entry: e, Old: g.Newest - 1, New: g.Newest, pki: p, now: now}
	// 1. What the record knows.
	db, err := p.OpenStoreReadOnly(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", e.Name)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	done := map[string]store.Entry{}
	if err := r.readLedger(ctx, db, done); err != nil {
		return nil, err
	}
	if err := errors.Join(r.countBelow(ctx, db), r.countChains(ctx, db)); err != nil {
		return nil, err
	}
	// 2. The steps.
	r.plan()
	for i := range r.Steps {
		s := &r.Steps[i]
		if entry, ok := done[s.ID]; ok && (s.manual || s.State == RolloutDone) {
			s.Time, s.Actor, s.Note = entry.Time, entry.Actor, entry.Detail["note"]
			if s.manual {
				s.State = RolloutDone
			}
		}
	}
	// 3. Which of them can be done now? Those for consumers in any order.
	blocked := false
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.State == RolloutDone {
			continue
		}
		s.State = RolloutNext
		if blocked && (i == 0 || !s.manual || r.Steps[i-1].State == RolloutWaiting || !r.Steps[i-1].manual && r.Steps[i-1].State != RolloutDone) {
			s.State = RolloutWaiting
		}
		blocked = true
	}
	return r, nil
}

// readLedger finds what was recorded of this rollout, and counts the artifacts that
// the entry, or one below it, has signed before the switch.
func (r *Rollout) readLedger(ctx context.Context, db *store.DB, done map[string]store.Entry) error {
	serials, err := r.signerSerials(ctx, db)
	if err != nil {
		return err
	}
	const page = 1000
	signed := 0
	for from := int64(0); ; from += page {
		entries, err := db.Entries(ctx, from, page)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch {
			case e.Kind == store.KindRollout && e.Name == r.Entry.Name && e.Detail["generation"] == strconv.Itoa(r.New):
				done[e.Detail["step"]] = e
				if e.Detail["step"] == StepSwitch {
					r.switched, r.switchAt, r.artifacts = e.Time, e.Seq, signed
				}
			case e.Kind == store.KindSign && serials[e.Serial]:
				signed++
			}
		}
		if len(entries) < page {
			break
		}
	}
	// Recorded, and then killed before the plan was changed: see Rollout.take.
	if r.switched.IsZero() || r.Entry.Generations.Active != r.New {
		r.switched, r.artifacts = time.Time{}, signed
	}
	return nil
}

// signerSerials lists the certificates of signers at or below the entry. What they
// signed before the switch names, or carries, a chain of the old key.
func (r *Rollout) signerSerials(ctx context.Context, db *store.DB) (map[string]bool, error) {
	out := map[string]bool{}
	for _, b := range append(below(r.Entry), r.Entry) {
		if len(b.Signs) == 0 {
			continue
		}
		list, err := db.ByName(ctx, b.Name)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			out[hex.EncodeToString(c.Serial)] = true
		}
	}
	return out, nil
}

// countBelow counts what the old key has issued that is in use.
func (r *Rollout) countBelow(ctx context.Context, db *store.DB) error {
	e := r.Entry
	old := r.old()
	if old == nil || !e.Profile.CA() {
		return nil
	}
	cert := r.pki.Have.Certificates[old.Name]
	if cert == nil {
		return nil
	}
	own := map[string]bool{}
	for _, o := range r.pki.Plan.Entries {
		own[o.Name], own[o.Base()] = true, true // below, or its newest is by the new key
		if o.KeyOwner().Base() == e.Name || o.Kind == Cross {
			continue
		}
		is := r.pki.Have.Certificates[o.Name]
		if o.Issuer != e || is == nil || string(is.AuthorityKeyId) != string(cert.SubjectKeyId) {
			continue
		}
		switch {
		case o.Active == nil:
			r.belowPlan = append(r.belowPlan, o.Name)
		case o.IsOld():
			r.belowOld = append(r.belowOld, o)
		}
	}
	return r.inUse(ctx, db, store.Query{IssuerKeyID: cert.SubjectKeyId}, func(c store.Record) {
		if !own[c.Name] {
			r.below++
		}
	})
}

// countChains counts the certificates in use that authorities below the entry issued
// outside the plan before the switch. Their holders show a chain to the old key.
func (r *Rollout) countChains(ctx context.Context, db *store.DB) error {
	for _, b := range below(r.Entry) {
		if b.Kind != Authority {
			continue
		}
		err := r.inUse(ctx, db, store.Query{Issuer: b.Name}, func(c store.Record) {
			if r.pki.Plan.Entry(c.Name) == nil && (r.switched.IsZero() || c.Entry < r.switchAt) {
				r.chains++
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inUse visits the certificates of a query that can be used now, or after a hold.
func (r *Rollout) inUse(ctx context.Context, db *store.DB, q store.Query, visit func(store.Record)) error {
	q.States, q.ExpiresFrom = []store.State{store.Issued, store.Held}, r.now
	for place := store.Cursor(""); ; {
		list, next, err := db.Page(ctx, q, place, 1000)
		if err != nil {
			return err
		}
		for _, c := range list {
			visit(c)
		}
		if place = next; next == "" {
			return nil
		}
	}
}

// old returns the entry of the old generation, nil if it is retired.
func (r *Rollout) old() *Entry {
	if r.Entry.Generation == r.Old {
		return r.Entry
	}
	for _, o := range r.Entry.Others {
		if o.Generation == r.Old {
			return o
		}
	}
	return nil
}

// new returns the entry of the new generation.
func (r *Rollout) new() *Entry {
	if r.Entry.Generation == r.New {
		return r.Entry
	}
	return r.Entry.Others[0]
}

// plan lists the steps, with those done that show by themselves.
func (r *Rollout) plan() {
	e, g := r.Entry, r.Entry.Generations
	state := func(done bool) RolloutState {
		if done {
			return RolloutDone
		}
		return RolloutWaiting
	}
	add := func(s RolloutStep) { r.Steps = append(r.Steps, s) }
	made := r.pki.Have.Certificates[r.new().Name] != nil
	add(RolloutStep{ID: StepKey, Title: fmt.Sprintf("make generation %d: key and certificates", r.New), How: []string{"tmpki apply"}, State: state(made)})
	consumers := r.consumers()
	for _, c := range consumers {
		add(RolloutStep{ID: "add-" + string(c.consumer), Title: "add the new certificate to " + c.what, How: c.add, State: RolloutWaiting, manual: true})
	}
	add(RolloutStep{ID: StepSwitch, Title: fmt.Sprintf("sign with generation %d", r.New), How: []string{"tmpki rollout switch " + e.Name}, State: state(g.Active == r.New)})
	if e.Profile.CA() {
		how := []string{"tmpki apply"}
		if len(r.belowPlan) > 0 {
			how = append(how, "by the old key: "+strings.Join(r.belowPlan, ", "))
		}
		add(RolloutStep{ID: StepReissue, Title: "issue again what is below it in the plan", How: how, State: state(g.Active == r.New && len(r.belowPlan) == 0)})
	}
	if r.chains > 0 {
		add(RolloutStep{ID: StepChains, State: RolloutWaiting, manual: true,
			Title: fmt.Sprintf("bring the new chain to the holders of what was issued below it before the switch, outside the plan: %d certificates", r.chains),
			How: []string{
				"the certificates stay; what stands above them leads to the old one, and whoever trusts only the new one refuses that",
				"tmpki device sign with the same request, or tmpki device bundle, gives out the new chain",
				"or give those who verify them the authorities below " + e.Name + " too (tmpki trust export -o DIR)",
			}})
	}
	retire := RolloutStep{ID: StepRetire, Title: fmt.Sprintf("stop trusting generation %d", r.Old), How: []string{"tmpki rollout retire " + e.Name}, State: state(g.Oldest == r.New)}
	if retire.State != RolloutDone {
		retire.How = append(retire.How, r.needs(false)...)
		for _, c := range consumers {
			if c.consumer == ForEFI {
				retire.How = append(retire.How, "before, if its key may be in wrong hands: tmpki uefi dbx --certificate "+generationName(e.Name, r.Old)+" -o dbx.auth")
			}
		}
	}
	add(retire)
	for _, c := range consumers {
		add(RolloutStep{ID: "remove-" + string(c.consumer), Title: "remove the old certificate from " + c.what, How: c.remove, State: RolloutWaiting, manual: true})
	}
}

// needs says what still needs the old generation.
func (r *Rollout) needs(acceptArtifacts bool) []string {
	e := r.Entry
	var why []string
	if len(r.belowPlan) > 0 {
		why = append(why, fmt.Sprintf("it has issued the certificates of %s: tmpki apply issues them again", strings.Join(r.belowPlan, ", ")))
	}
	for _, o := range r.belowOld {
		why = append(why, fmt.Sprintf("it has issued the certificate of %s, which is still trusted: tmpki rollout retire %s first", o.Name, o.Base()))
	}
	if r.below > 0 {
		why = append(why, fmt.Sprintf("%d certificates outside the plan that it has issued are in use: renew or revoke them, or wait until they end", r.below))
	}
	if end := r.switched.Add(e.Overlap); !r.switched.IsZero() && r.now.Before(end) {
		why = append(why, fmt.Sprintf("the overlap of %dd lasts until %s", int(e.Overlap.Hours()/24), end.Local().Format(time.DateOnly)))
	}
	if r.artifacts > 0 && !acceptArtifacts {
		why = append(why, fmt.Sprintf("%d artifacts were signed with it or below it, and whoever trusts only the new one refuses them (%s): sign anew those that are in use, then --accept-artifacts", r.artifacts, strings.Join(r.consumerNames(), ", ")))
	}
	return why
}

func (r *Rollout) consumerNames() []string {
	var out []string
	for _, c := range r.consumers() {
		out = append(out, c.what)
	}
	if len(out) == 0 {
		out = []string{"consumers of its chain"}
	}
	return out
}

// before lists the steps before one that are not done.
func (r *Rollout) before(id string) []string {
	var out []string
	for _, s := range r.Steps {
		if s.ID == id {
			break
		}
		if s.State != RolloutDone {
			out = append(out, s.ID)
		}
	}
	return out
}

// step returns one of the steps.
func (r *Rollout) step(id string) *RolloutStep {
	i := slices.IndexFunc(r.Steps, func(s RolloutStep) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Steps[i]
}

// rolledConsumer is a kind of consumer that trusts the entry, or its twin, itself.
type rolledConsumer struct {
	consumer    Consumer
	what        string
	add, remove []string
}

// consumers lists who has to learn of the new certificate, in the order in which a
// device boots.
func (r *Rollout) consumers() []rolledConsumer {
	var out []rolledConsumer
	for _, c := range Consumers() {
		var mine []TrustAnchor
		for _, a := range r.pki.TrustAnchors(c) {
			if a.Entry != nil && a.Entry.KeyOwner().Base() == r.Entry.Name {
				mine = append(mine, a)
			}
		}
		// Keys of platforms change with those of the base set.
		for _, a := range r.pki.TrustAnchors(c) {
			if a.Entry != nil && a.Entry.Platform != "" && a.Entry.Base() == a.Entry.Platform+"_"+r.Entry.Name {
				mine = append(mine, a)
			}
		}
		if len(mine) > 0 {
			out = append(out, r.consumerOf(c, mine))
		}
	}
	if len(out) == 0 && r.Entry.isAnchor() {
		out = append(out, rolledConsumer{
			consumer: "others", what: "whoever trusts " + r.Entry.Name,
			add:    []string{"give the published files of " + r.Entry.Name + ", which hold both, to all who verify with it"},
			remove: []string{"give them the published files again, without the old one"},
		})
	}
	return out
}

func (r *Rollout) consumerOf(c Consumer, anchors []TrustAnchor) rolledConsumer {
	out := rolledConsumer{consumer: c}
	export := fmt.Sprintf("tmpki trust export --for %s -o DIR", c)
	var files []string
	for _, a := range anchors {
		if a.File != "" && !slices.Contains(files, a.File) {
			files = append(files, a.File)
		}
	}
	where := strings.Join(files, ", ")
	switch c {
	case ForEFI:
		out.what = "the firmware"
		out.add, out.remove = r.firmware(anchors)
	case ForKernel:
		out.what = "the kernel's built-in keyring"
		out.add = []string{export, "build the kernel with " + where + " and roll that image out"}
		out.remove = out.add
	case ForIMA:
		out.what = "the keyring .ima"
		out.add = []string{export, "put " + where + " into the initramfs (one file for each key), and roll that image out"}
		out.remove = out.add
	case ForDevice:
		out.what = "tokens/ssig_rootca.cert of devices"
		out.add = []string{export, "roll " + where + " out: it holds both roots until the old one is retired"}
		out.remove = []string{export, "roll " + where + " out, with the new root alone"}
	case ForGuestOS:
		out.what = "the GuestOS store of devices (tokens/ca)"
		out.add = []string{export, "register the new file of " + where + " on each device (ca_register)"}
		out.remove = []string{"remove the old file below tokens/ca on each device"}
	case ForBackend:
		out.what = "backends (TLS)"
		out.add = []string{export, "install " + where + " on each backend"}
		out.remove = out.add
	}
	return out
}

// firmware says how a certificate gets into the firmware, and its predecessor out
// of it. Each update is signed by a key that is enrolled when it comes.
func (r *Rollout) firmware(anchors []TrustAnchor) (add, remove []string) {
	var seen []*Variable
	for _, a := range anchors {
		v := a.Variable
		if slices.Contains(seen, v) {
			continue
		}
		seen = append(seen, v)
		platform, file := "", v.Name
		if v.Platform != "" {
			platform, file = "--platform "+v.Platform+" ", v.Platform+"-"+v.Name
		}
		name := r.new().Name
		if r.Entry.Generation == r.New {
			name = r.Entry.Name
		}
		if v.Platform != "" {
			name = v.Platform + "_" + name
		}
		old := generationName(r.Entry.Name, r.Old)
		if v.Platform != "" {
			old = v.Platform + "_" + old
		}
		if v.Name == "PK" {
			// It holds one certificate, and signs its own successor.
			add = append(add, fmt.Sprintf("tmpki uefi esl %s%s -o %s.esl", platform, name, file),
				fmt.Sprintf("tmpki uefi auth %s--as %s PK %s.esl -o %s.auth", platform, old, file, file),
				fmt.Sprintf("install %s.auth on each device: from then on the new PK signs KEK", file))
			continue
		}
		add = append(add, fmt.Sprintf("tmpki uefi esl %s%s -o %s.esl", platform, name, file),
			fmt.Sprintf("tmpki uefi auth %s--append %s %s.esl -o %s.auth", platform, v.Name, file, file),
			fmt.Sprintf("install %s.auth on each device; PCR 7 changes, and disk encryption that is bound to it must be bound anew", file))
		remove = append(remove, fmt.Sprintf("tmpki trust export --for efi -o DIR, and install %s, which replaces %s, on each device; PCR 7 changes", v.file("auth"), v.Name))
	}
	if remove == nil {
		remove = []string{"nothing: the new PK took the place of the old one"}
	}
	return add, remove
}
