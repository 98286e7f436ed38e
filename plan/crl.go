package plan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"strconv"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// CRLTask is one CRL that is to be made, complete but for its signature: what it
// holds comes from Entries, the rest from Request. So it can be signed here
// (MakeCRLs), or asked of a ceremony.
type CRLTask struct {
	Entry       *Entry          // the authority
	Certificate *ca.Certificate // of its key
	Partition   int
	Delta       bool
	Number      uint64
	Base        uint64 // Delta: number of the full CRL that it builds on
	ThisUpdate  time.Time
	NextUpdate  time.Time
	Reason      string // why it is due

	// BaseCovers is the last ledger entry that the base knows, and Before the full
	// CRL before this one, if there is one.
	BaseCovers int64
	Before     *store.CRL

	covers int64
}

// File returns the path of the CRL relative to the PKI directory, with slashes.
func (t *CRLTask) File() string { return t.Entry.CRL.File(t.Partition, t.Delta) }

// Request returns what ca.Issuer.WriteCRL wants to know.
func (t *CRLTask) Request() ca.CRLRequest {
	r := t.Entry.CRL.Request(t.Partition, t.Delta)
	r.Number, r.ThisUpdate, r.NextUpdate = new(big.Int).SetUint64(t.Number), t.ThisUpdate, t.NextUpdate
	if t.Delta {
		r.BaseNumber = new(big.Int).SetUint64(t.Base)
	}
	return r
}

// Entries yields what goes into the CRL. It goes through all of them before Record
// knows how far the CRL sees.
func (t *CRLTask) Entries(ctx context.Context, db *store.DB) iter.Seq2[ca.RevokedCertificate, error] {
	return t.from(db.RevokedSerials(ctx, t.Entry.Base(), t.Certificate.SubjectKeyId, t.BaseCovers))
}

// from is Entries with the authority's revocations at hand.
func (t *CRLTask) from(revocations iter.Seq2[store.RevokedSerial, error]) iter.Seq2[ca.RevokedCertificate, error] {
	return func(yield func(ca.RevokedCertificate, error) bool) {
		t.covers = t.BaseCovers
		for r, err := range revocations {
			if err != nil {
				yield(ca.RevokedCertificate{}, err)
				return
			}
			if r.Entry <= t.BaseCovers {
				continue
			}
			t.covers = max(t.covers, r.Entry)
			if !t.lists(&r) {
				continue
			}
			e := ca.RevokedCertificate{Serial: r.Serial(), Time: time.Unix(r.Time, 0), Reason: r.Reason}
			if r.Invalidity != 0 {
				e.Invalidity = time.Unix(r.Invalidity, 0)
			}
			// A clock that was put back must not keep a CRL from being made.
			if e.Time.After(t.ThisUpdate) {
				e.Time = t.ThisUpdate
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// lists reports whether a revocation has a place in the CRL. A certificate leaves
// the full CRL when one was made after its end that had it (RFC 5280, Section 3.3).
func (t *CRLTask) lists(r *store.RevokedSerial) bool {
	if ca.Partition(r.Serial(), t.Entry.CRL.Partitions) != t.Partition {
		return false
	}
	if t.Delta {
		return true
	}
	return r.Reason != ca.RemoveFromCRL && !(t.Before != nil && r.Entry <= t.Before.Covers && r.NotAfter < t.Before.ThisUpdate.Unix())
}

// Record returns what the store keeps of the CRL, once it is signed.
func (t *CRLTask) Record(issued ca.IssuedCRL, actor string) store.CRL {
	return store.CRL{
		Issuer: t.Entry.Base(), IssuerKeyID: t.Certificate.SubjectKeyId, Partition: t.Partition, Delta: t.Delta,
		Number: t.Number, Base: t.Base, Covers: t.covers, ThisUpdate: t.ThisUpdate, NextUpdate: t.NextUpdate,
		SHA256: issued.SHA256, Size: issued.Size, Entries: issued.Entries, Actor: actor,
	}
}

// divided are the revocations of an authority by partition. They are read once for
// all partitions, in some 80 octets each.
type divided [][]store.RevokedSerial

func divide(ctx context.Context, db *store.DB, e *Entry, keyID []byte) (divided, error) {
	out := make(divided, e.CRL.Partitions)
	for r, err := range db.RevokedSerials(ctx, e.Base(), keyID, -1) {
		if err != nil {
			return nil, err
		}
		k := ca.Partition(r.Serial(), e.CRL.Partitions)
		out[k] = append(out[k], r)
	}
	return out, nil
}

// of yields the revocations of one partition.
func (d divided) of(partition int) iter.Seq2[store.RevokedSerial, error] {
	return func(yield func(store.RevokedSerial, error) bool) {
		for _, r := range d[partition] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// CRLState is how it stands with one CRL of an authority.
type CRLState struct {
	Entry     *Entry
	Partition int
	Delta     bool
	File      string     // relative to the PKI directory
	Latest    *store.CRL // nil: none was made
	Due       string     // why it is due; "": it is not
	Overdue   bool       // its next update has passed, or it was never made
}

// crlFileGone is why a CRL is due that is on record, but not in its file.
const crlFileGone = "its file is missing, or is not what was recorded"

// crlKeeper looks after the CRLs of one authority.
type crlKeeper struct {
	*PKI
	db    *store.DB
	entry *Entry
	cert  *ca.Certificate
	now   time.Time
	dir   string // where the files are, if not in the PKI directory
	parts divided
	force bool
}

// keeper returns nil if the authority has no certificate yet.
func (p *PKI) keeper(ctx context.Context, db *store.DB, e *Entry, now time.Time) (*crlKeeper, error) {
	k := &crlKeeper{PKI: p, db: db, entry: e, cert: p.Have.Certificates[e.Name], now: now.UTC().Truncate(time.Second)}
	if k.cert == nil {
		return nil, nil
	}
	if err := k.checkPartitions(ctx); err != nil {
		return nil, err
	}
	if e.CRL.Partitions > 1 {
		var err error
		if k.parts, err = divide(ctx, db, e, k.cert.SubjectKeyId); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// checkPartitions refuses another number of partitions than CRLs were made with:
// certificates would point at a CRL that doesn't list them.
func (k *crlKeeper) checkPartitions(ctx context.Context) error {
	is, err := k.db.Setting(ctx, k.partitionSetting())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if want := strconv.Itoa(k.entry.CRL.Partitions); err == nil && is != want {
		err = fmt.Errorf("%s.crl.partitions: the plan has %s, but CRLs of this key were made with %s, and its certificates name theirs: that changes only with a new key", k.entry.key, want, is)
	}
	return err
}

// fixPartitions makes the number of partitions last for the key.
func (k *crlKeeper) fixPartitions(ctx context.Context, actor string) error {
	_, err := k.db.Setting(ctx, k.partitionSetting())
	if errors.Is(err, store.ErrNotFound) {
		return k.db.SetSetting(ctx, actor, k.partitionSetting(), strconv.Itoa(k.entry.CRL.Partitions))
	}
	return err
}

func (k *crlKeeper) partitionSetting() string {
	return fmt.Sprintf("crl.partitions.%s.%x", k.entry.Base(), k.cert.SubjectKeyId)
}

func (k *crlKeeper) latest(ctx context.Context, partition int, delta bool) (*store.CRL, error) {
	c, err := k.db.LatestCRL(ctx, k.entry.Base(), k.cert.SubjectKeyId, partition, delta)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &c, err
}

// revocations yields those of one partition behind a ledger entry.
func (k *crlKeeper) revocations(ctx context.Context, partition int, after int64) iter.Seq2[store.RevokedSerial, error] {
	if k.parts == nil {
		return k.db.RevokedSerials(ctx, k.entry.Base(), k.cert.SubjectKeyId, after)
	}
	return k.parts.of(partition)
}

// changed reports whether something was revoked or lifted behind a ledger entry.
func (k *crlKeeper) changed(ctx context.Context, partition int, after int64) (bool, error) {
	for r, err := range k.revocations(ctx, partition, after) {
		if err != nil || r.Entry > after {
			return err == nil, err
		}
	}
	return false, nil
}

// state looks at one CRL.
func (k *crlKeeper) state(ctx context.Context, partition int, delta bool) (CRLState, error) {
	s := CRLState{Entry: k.entry, Partition: partition, Delta: delta, File: k.entry.CRL.File(partition, delta)}
	latest, err := k.latest(ctx, partition, delta)
	if err != nil {
		return s, err
	}
	s.Latest = latest
	settings := k.entry.CRL
	renew := settings.RenewBefore
	if delta {
		renew = settings.Delta / 2
	}
	if latest == nil {
		s.Due, s.Overdue = "none was made yet", true
		return s, nil
	}
	changed, err := k.changed(ctx, partition, latest.Covers)
	if err != nil {
		return s, err
	}
	var base *store.CRL
	if delta {
		if base, err = k.latest(ctx, partition, false); err != nil {
			return s, err
		}
	}
	switch s.Overdue = !k.now.Before(latest.NextUpdate); {
	case s.Overdue:
		s.Due = "the last one has expired"
	case delta && base != nil && latest.Number < base.Number:
		s.Due = "the last one is older than the full CRL"
	case changed && (delta || settings.Delta == 0):
		s.Due = "something was revoked or lifted since"
	case latest.NextUpdate.Sub(k.now) <= renew:
		s.Due = "the last one expires soon"
	case !k.there(s.File, latest):
		s.Due = crlFileGone
	case k.force:
		s.Due = "asked for"
	}
	return s, nil
}

// task plans one CRL.
func (k *crlKeeper) task(ctx context.Context, s CRLState, full *CRLTask) (*CRLTask, error) {
	t := &CRLTask{Entry: k.entry, Certificate: k.cert, Partition: s.Partition, Delta: s.Delta, Reason: s.Due, ThisUpdate: k.now, BaseCovers: -1, covers: -1}
	validity := k.entry.CRL.Validity
	before, err := k.latest(ctx, s.Partition, false)
	if err != nil {
		return nil, err
	}
	t.Before = before
	for _, delta := range []bool{false, true} {
		latest, err := k.latest(ctx, s.Partition, delta)
		if err != nil {
			return nil, err
		}
		if latest != nil {
			t.Number = max(t.Number, latest.Number)
		}
	}
	t.Number++
	if s.Delta {
		validity = k.entry.CRL.Delta
		if before == nil {
			return nil, nil // nothing to build on yet
		}
		t.Base, t.BaseCovers = before.Number, before.Covers
		if full != nil { // made together, so it has the same number (RFC 5280, Section 5.2.3)
			t.Number = full.Number
		}
	}
	t.NextUpdate = k.now.Add(validity)
	if end := k.cert.NotAfter; t.NextUpdate.After(end) {
		t.NextUpdate = end
	}
	if !t.NextUpdate.After(t.ThisUpdate) {
		return nil, fmt.Errorf("the certificate of %s has expired on %s: its CRLs end with it", k.entry.Name, k.cert.NotAfter.Local().Format(time.DateOnly))
	}
	return t, nil
}

// tasks plans the CRLs of the authority that are due; with onlyDelta, only delta
// CRLs.
func (k *crlKeeper) tasks(ctx context.Context, onlyDelta bool) ([]*CRLTask, error) {
	var out []*CRLTask
	for partition := range k.entry.CRL.Partitions {
		var full *CRLTask
		for _, delta := range []bool{false, true} {
			if delta && k.entry.CRL.Delta == 0 || !delta && onlyDelta {
				continue
			}
			s, err := k.state(ctx, partition, delta)
			if err != nil {
				return nil, err
			}
			if s.Due == "" && full == nil {
				continue
			}
			t, err := k.task(ctx, s, full)
			if err != nil {
				return nil, err
			}
			if t == nil {
				continue
			}
			if t.Reason == "" {
				t.Reason = "goes with the full CRL"
			}
			if !delta {
				full = t
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// CRLAuthorities returns the authorities whose CRLs somebody looks for: those that
// the plan has CRL settings for, and those that have made one or revoked something.
// With all, all that may sign CRLs.
func (p *PKI) CRLAuthorities(ctx context.Context, db *store.DB, all bool) ([]*Entry, error) {
	var out []*Entry
	for _, e := range p.Plan.Entries {
		cert := p.Have.Certificates[e.Name]
		if e.CRL == nil || cert == nil {
			continue
		}
		wanted := all || e.CRL.Planned
		if !wanted {
			_, err := db.LatestCRL(ctx, e.Base(), cert.SubjectKeyId, 0, false)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			wanted = err == nil
		}
		if !wanted {
			for _, err := range db.RevokedSerials(ctx, e.Base(), cert.SubjectKeyId, -1) {
				if err != nil {
					return nil, err
				}
				wanted = true
				break
			}
		}
		if wanted {
			out = append(out, e)
		}
	}
	return out, nil
}

// CRLTasks plans the CRLs of an authority that are due at now, or with force all
// of them.
func (p *PKI) CRLTasks(ctx context.Context, db *store.DB, e *Entry, now time.Time, force bool) ([]*CRLTask, error) {
	k, err := p.keeper(ctx, db, e, now)
	if k == nil || err != nil {
		return nil, err
	}
	k.force = force
	return k.tasks(ctx, false)
}

// CRLStates tells how it stands with each CRL of an authority.
func (p *PKI) CRLStates(ctx context.Context, db *store.DB, e *Entry, now time.Time) ([]CRLState, error) {
	k, err := p.keeper(ctx, db, e, now)
	if k == nil || err != nil {
		return nil, err
	}
	var out []CRLState
	for partition := range e.CRL.Partitions {
		for _, delta := range []bool{false, true} {
			if delta && e.CRL.Delta == 0 {
				continue
			}
			s, err := k.state(ctx, partition, delta)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// crlNames lists the authorities that have CRLs.
func crlNames(p *Plan) []string {
	var out []string
	for _, e := range p.Entries {
		if e.CRL != nil {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out
}
