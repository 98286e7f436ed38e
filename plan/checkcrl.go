package plan

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// revoked tells of a certificate that is revoked, and is still in the plan.
func (f *findings) revoked(r *PKI, e *Entry) {
	if rev, ok := r.Have.Revoked[e.Name]; ok {
		out := "renew or rotate it"
		switch {
		case e.IsOld():
			out = "retire it: tmpki rollout retire " + e.Base()
		case r.Have.compromised(e):
			out = "tmpki rotate " + e.Base()
		}
		f.add(Bad, e.Name, "its certificate %x is revoked since %s (%v), and still published: %s", rev.Serial, rev.Time.Local().Format(time.DateOnly), rev.Reason, out)
	}
	if e.TwinOf == nil {
		return
	}
	if rev, ok := r.Have.Revoked[e.TwinOf.Name]; ok {
		f.add(Bad, e.Name, "is the anchor twin of %s, which is revoked since %s: whoever trusts the twin sees nothing of it; take it off the devices", e.TwinOf.Name, rev.Time.Local().Format(time.DateOnly))
	}
}

// crls tells of CRLs that are missing, have expired, or are due. Where the plan has
// no word about CRLs and nothing was revoked, none is missed.
func (f *findings) crls(ctx context.Context, r *PKI, now time.Time) error {
	db, err := r.OpenStoreReadOnly(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // told elsewhere
	}
	if err != nil {
		return err
	}
	defer db.Close()
	entries, err := r.CRLAuthorities(ctx, db, false)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if r.Have.Offline {
			continue // they are kept on the other machine
		}
		by := "tmpki crl " + e.Name
		if e.AtCeremony {
			by = "a ceremony makes it, after tmpki apply"
		}
		states, err := r.CRLStates(ctx, db, e, now)
		if err != nil {
			return err
		}
		for _, s := range states {
			switch {
			case s.Overdue && s.Latest == nil && s.Delta:
				// The full CRL says enough; the first delta follows it.
			case s.Overdue && s.Latest == nil:
				f.add(Bad, e.Name, "its CRL %s was never made: %s", s.File, by)
			case s.Overdue:
				f.add(Bad, e.Name, "its CRL %s has expired on %s: %s", s.File, s.Latest.NextUpdate.Local().Format(time.DateTime), by)
			case s.Due != "":
				f.add(Warn, e.Name, "its CRL %s is due: %s: %s", s.File, s.Due, by)
				f.list[len(f.list)-1].Ends = true
			}
		}
	}
	return nil
}
