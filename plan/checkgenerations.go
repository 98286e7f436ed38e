package plan

import (
	"context"
	"time"
)

// generations tells of rotations that are under way, or overdue.
func (f *findings) generations(ctx context.Context, r *PKI, now time.Time) error {
	for _, e := range r.Plan.Entries {
		c := r.Have.Certificates[e.Name]
		if c == nil || e.Active != nil || e.TwinOf != nil || e.Platform != "" {
			continue
		}
		f.rotationDue(r, e, now)
		if len(e.Others) == 0 {
			continue
		}
		rollout, err := r.rollout(ctx, e, now)
		if err != nil {
			return err
		}
		g := e.Generations
		end := rollout.switched.Add(e.Overlap)
		switch {
		case g.Active < g.Newest:
			f.add(Note, e.Name, "generation %d waits to take over: tmpki rollout %s", g.Newest, e.Name)
		case rollout.switched.IsZero():
			f.add(Note, e.Name, "generation %d is still trusted: tmpki rollout %s", g.Oldest, e.Name)
		case now.Before(end):
			f.add(Note, e.Name, "generation %d stays trusted until %s, as the plan wants it", g.Oldest, end.Local().Format(time.DateOnly))
		case e.Overlap > 0:
			f.add(Warn, e.Name, "the overlap with generation %d has run out on %s: tmpki rollout retire %s", g.Oldest, end.Local().Format(time.DateOnly), e.Name)
		default:
			f.add(Note, e.Name, "generation %d is still trusted: tmpki rollout %s", g.Oldest, e.Name)
		}
	}
	return nil
}

// rotationDue warns of an authority that ends before what it would issue today. A
// plan that gives both the same time has been warned of by whoever wrote it.
func (f *findings) rotationDue(r *PKI, e *Entry, now time.Time) {
	c := r.Have.Certificates[e.Name]
	if !e.Profile.CA() || !now.Before(c.NotAfter) {
		return
	}
	left := c.NotAfter.Sub(now)
	warn := func(what string, validity time.Duration, words string) bool {
		if validity <= left || validity >= e.Profile.Validity() {
			return false
		}
		f.add(Warn, e.Name, "ends on %s, and can issue %s (%s) no more: tmpki renew %s, or tmpki rotate %s",
			c.NotAfter.Local().Format(time.DateOnly), what, words, e.Name, e.Name)
		return true
	}
	for _, b := range e.Children {
		if warn(b.Name, b.Profile.Validity(), days(b)) {
			return
		}
	}
	for _, i := range r.Plan.issuances() {
		if i.Issuer == e && warn("certificates of the profile "+i.Name, i.Profile.Validity(), inDays(i.Profile)) {
			return
		}
	}
}
