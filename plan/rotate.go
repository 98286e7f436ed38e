package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/spki"
	"tmpki/store"
)

// Renew issues the certificate of an entry again, with its key, and with it all that
// is made of that key: anchor twins and cross-certificates. What the key has signed
// stays good.
func Renew(ctx context.Context, dir string, o Options, name string) ([]Step, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	e, err := p.renewable(name, o.Now())
	if err != nil {
		return nil, err
	}
	o.Demand.Renew = []string{e.Name}
	for _, t := range p.Plan.Entries {
		if t.TwinOf == e {
			o.Demand.Renew = append(o.Demand.Renew, t.Name)
		}
	}
	return Apply(ctx, dir, o)
}

// renewable returns the entry whose certificate renewing name issues again.
func (p *PKI) renewable(name string, now time.Time) (*Entry, error) {
	e := p.Plan.Entry(name)
	if e == nil {
		return nil, fmt.Errorf("%q is not an entry of the plan", name)
	}
	e = e.KeyOwner()
	if e.IsOld() {
		return nil, fmt.Errorf("%s is an old generation of %s, which goes when nothing needs it: see tmpki rollout %s", e.Name, e.Base(), e.Base())
	}
	if p.Have.Certificates[e.Name] == nil {
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", e.Name)
	}
	if r, ok := p.Have.Revoked[e.Name]; ok && r.Reason == ca.CertificateHold {
		return nil, fmt.Errorf("the certificate of %s is on hold: lift that, or revoke it for good, before it is renewed", e.Name)
	}
	if p.Have.compromised(e) {
		return nil, fmt.Errorf("the key of %s is revoked (%v), and must not get another certificate: tmpki rotate %s", e.Name, p.Have.Revoked[e.Name].Reason, e.Base())
	}
	return e, p.checkIssuer(e, now)
}

// checkIssuer fails if the issuer of an entry can't issue its certificate now.
func (p *PKI) checkIssuer(e *Entry, now time.Time) error {
	i := e.Issuer
	if i == nil {
		return nil
	}
	if err := p.CheckRevoked(i); err != nil {
		return err
	}
	cert := p.Have.Certificates[i.Name]
	if cert == nil {
		return fmt.Errorf("%s has no certificate yet: tmpki apply makes it", i.Name)
	}
	if end := now.UTC().Truncate(time.Second).Add(e.Profile.Validity()); end.After(cert.NotAfter) {
		word := "ends"
		if now.After(cert.NotAfter) {
			word = "has ended"
		}
		return fmt.Errorf("a certificate of %s is valid for %s, but its issuer %s %s on %s: tmpki renew %s first, or shorten %s.validity",
			e.Name, days(e), i.Name, word, cert.NotAfter.Local().Format(time.DateOnly), i.Base(), e.key)
	}
	return nil
}

// Rotate gives an entry another key beside the one it has. The new one gets its
// certificates and is published for those who are to trust it; the old one goes on
// signing until Switch. keyType is zero for the type that the entry has.
func Rotate(ctx context.Context, dir string, o Options, name string, keyType spki.KeyType) ([]Step, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	e, err := p.rotatable(name)
	if err != nil {
		return nil, err
	}
	if p.Have.Certificates[e.Name] == nil {
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", e.Name)
	}
	if err := p.checkIssuer(e, o.Now()); err != nil {
		return nil, err
	}
	if pending, err := p.Plan.Steps(p.Have, o.Demand); err != nil {
		return nil, err
	} else if len(pending) > 0 {
		return nil, fmt.Errorf("the PKI is not yet what its plan says (%s %s): tmpki apply first", pending[0].Kind, pending[0].Name())
	}
	return Edit(ctx, dir, o, func(is *Plan, text []byte) ([]byte, error) {
		e := is.Entry(e.Name)
		if e == nil || e.Generations != p.Plan.Entry(e.Name).Generations {
			return nil, errors.New("the plan changed meanwhile: look again")
		}
		g := e.Generations
		g.Newest++
		var to *spki.KeyType
		if keyType != (spki.KeyType{}) && keyType != e.KeyType {
			to = &keyType
		}
		return setGenerations(text, e, g, to)
	})
}

// rotatable returns the entry that a name means, if it can get another key.
func (p *PKI) rotatable(name string) (*Entry, error) {
	e, err := p.Plan.rolled(name)
	if err != nil {
		return nil, err
	}
	g := e.Generations
	switch {
	case g.Newest > g.Active:
		return nil, fmt.Errorf("%s has a new key already, generation %d, which waits to be switched to: tmpki rollout %s", e.Name, g.Newest, e.Name)
	case g.Oldest < g.Newest:
		return nil, fmt.Errorf("generation %d of %s is still trusted, and two stand together at most: retire it first, see tmpki rollout %s", g.Oldest, e.Name, e.Name)
	}
	return e, nil
}

// rolled returns the entry with a key of its own that a name means.
func (p *Plan) rolled(name string) (*Entry, error) {
	e := p.Entry(name)
	switch {
	case e == nil:
		return nil, fmt.Errorf("%q is not an entry of the plan", name)
	case e.Kind == Cross:
		return nil, fmt.Errorf("%s is a cross-certificate: name %s", name, e.Active.Name)
	case e.TwinOf != nil:
		e = e.TwinOf // they have one key
	}
	if e.Active != nil {
		e = e.Active
	}
	if e.Platform != "" {
		return nil, fmt.Errorf("%s is what %s is on platform %s: name %s, which changes on all platforms", e.Name, strings.TrimPrefix(e.Name, e.Platform+"_"), e.Platform, strings.TrimPrefix(e.Name, e.Platform+"_"))
	}
	return e, nil
}

// setGenerations writes the generations of an entry into the text of a plan. from,
// if not nil, is the key type from the newest on.
func setGenerations(text []byte, e *Entry, g Generations, from *spki.KeyType) ([]byte, error) {
	var c fileConfig
	if _, err := decodeStrict(FileName, text, &c); err != nil {
		return nil, err
	}
	is := (&loader{config: c}).entryConfig(e).Generations
	now := generationsConfig{Newest: g.Newest, Active: g.Active, Oldest: g.Oldest}
	if is != nil && len(is.Keys) > 0 || from != nil {
		now.Keys = map[int]string{}
	}
	if is != nil {
		for n, t := range is.Keys {
			now.Keys[n] = t
		}
	}
	if from != nil {
		now.Keys[g.Newest] = from.String()
	}
	value := fmt.Sprintf("{newest: %d, active: %d, oldest: %d", now.Newest, now.Active, now.Oldest)
	if len(now.Keys) > 0 {
		var list []string
		for _, n := range slices.Sorted(maps.Keys(now.Keys)) {
			list = append(list, fmt.Sprintf("%d: %q", n, now.Keys[n]))
		}
		value += ", keys: {" + strings.Join(list, ", ") + "}"
	}
	return setLine(text, e, "generations", value+"}", func(c *entryConfig) { c.Generations = &now })
}

// Switch lets the newest generation of an entry sign in place of the one that does
// now. What stands below it is issued again. With force it does so before the
// rollout has come that far; why is recorded.
func Switch(ctx context.Context, dir string, o Options, name, force string) ([]Step, error) {
	r, err := OpenRollout(ctx, dir, name, o.Now())
	if err != nil {
		return nil, err
	}
	e := r.Entry
	if e.Generations.Newest == e.Generations.Active {
		return nil, fmt.Errorf("generation %d of %s is the newest and signs already: tmpki rotate %s makes another", e.Generation, e.Name, e.Name)
	}
	if open := r.before(StepSwitch); len(open) > 0 && force == "" {
		return nil, fmt.Errorf("%s must not sign with its new key yet: what it signs would be refused where the key is not known. Not done: %s. See tmpki rollout %s", e.Name, strings.Join(open, ", "), e.Name)
	}
	g := e.Generations
	g.Active = g.Newest
	return r.take(ctx, dir, o, StepSwitch, g, force)
}

// Retire ends the trust in the old generation of an entry. artifacts says that what
// was signed by it, or below it, needs not be accepted any more.
func Retire(ctx context.Context, dir string, o Options, name string, artifacts bool, force string) ([]Step, error) {
	r, err := OpenRollout(ctx, dir, name, o.Now())
	if err != nil {
		return nil, err
	}
	e := r.Entry
	switch {
	case e.Generations.Oldest == e.Generations.Newest:
		return nil, fmt.Errorf("%s has one generation, %d: there is none to retire", e.Name, e.Generation)
	case e.Generations.Active < e.Generations.Newest:
		return nil, fmt.Errorf("generation %d of %s signs: tmpki rollout switch %s first", e.Generation, e.Name, e.Name)
	}
	why := r.needs(artifacts)
	for _, id := range r.before(StepRetire) {
		why = append(why, fmt.Sprintf("not done: %s, %s", id, r.step(id).Title))
	}
	if len(why) > 0 && force == "" {
		return nil, fmt.Errorf("generation %d of %s is still needed:\n%s", e.Generations.Oldest, e.Name, strings.Join(why, "\n"))
	}
	g := e.Generations
	g.Oldest = g.Newest
	return r.take(ctx, dir, o, StepRetire, g, force)
}

// take records a step of the rollout, changes the generations of the entry in the
// plan, and applies that. It is recorded first, since an overlap begins with a switch:
// one that was killed in between is taken again, and the last one counts.
func (r *Rollout) take(ctx context.Context, dir string, o Options, step string, g Generations, force string) ([]Step, error) {
	return Edit(ctx, dir, o, func(is *Plan, text []byte) ([]byte, error) {
		e := is.Entry(r.Entry.Name)
		if e == nil || e.Generations != r.Entry.Generations {
			return nil, errors.New("the plan changed meanwhile: look again")
		}
		text, err := setGenerations(text, e, g, nil)
		if err != nil {
			return nil, err
		}
		if err := possible(ctx, dir, text, o.Demand); err != nil {
			return nil, err
		}
		return text, r.record(ctx, o, step, force)
	})
}

// possible fails if Apply could not do what a plan wants of a directory.
func possible(ctx context.Context, dir string, text []byte, demand Demand) error {
	is, err := Load(FileName, text)
	if err != nil {
		return fmt.Errorf("the change would spoil the plan: %w", err)
	}
	p, faults, err := lookWith(ctx, dir, is)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return faults[0].err
	}
	_, err = is.Steps(p.Have, demand)
	return err
}

func (r *Rollout) record(ctx context.Context, o Options, step, note string) (err error) {
	db, err := r.pki.OpenStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	detail := map[string]string{"step": step, "generation": fmt.Sprint(r.Entry.Generations.Newest)}
	if note != "" {
		detail["note"] = note
	}
	return db.RecordEvent(ctx, store.Event{Kind: store.KindRollout, Name: r.Entry.Name, Actor: o.Actor, Detail: detail})
}

// Done records that a step of a rollout is done that this program can't see: an
// anchor was added to, or removed from, a kind of consumer.
func Done(ctx context.Context, dir string, o Options, name, step, note string) error {
	r, err := OpenRollout(ctx, dir, name, o.Now())
	if err != nil {
		return err
	}
	s := r.step(step)
	if s == nil {
		var ids []string
		for _, s := range r.Steps {
			if s.manual {
				ids = append(ids, s.ID)
			}
		}
		if len(ids) == 0 {
			return fmt.Errorf("the rollout of %s has no step %q, and none that is done by hand", r.Entry.Name, step)
		}
		return fmt.Errorf("the rollout of %s has no step %q: those that are done by hand are %s", r.Entry.Name, step, strings.Join(ids, ", "))
	}
	switch {
	case !s.manual:
		return fmt.Errorf("%s of %s is not done by hand, and shows by itself when it is", step, r.Entry.Name)
	case s.State == RolloutDone:
		return fmt.Errorf("%s of %s is done already, since %s", step, r.Entry.Name, s.Time.Local().Format(time.DateTime))
	case s.State == RolloutWaiting:
		return fmt.Errorf("%s of %s comes later: %s first", step, r.Entry.Name, strings.Join(r.before(step), ", "))
	}
	return r.record(ctx, o, step, note)
}
