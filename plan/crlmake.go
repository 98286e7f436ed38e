package plan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/store"
)

// CRLOptions say which CRLs MakeCRLs makes, and where it puts them.
type CRLOptions struct {
	Authorities []string // by name; none: see CRLAuthorities
	All         bool
	Delta       bool // delta CRLs only
	Force       bool // also those that are not due
	PEM         bool
	Dir         string // in place of the directory of each file in the plan; "": as planned

	Actor   string
	Now     time.Time
	Waiting func() // as in Options

	// Made, if not nil, is called after each CRL that is in its place.
	Made func(MadeCRL)
}

// MadeCRL is a CRL that was made.
type MadeCRL struct {
	store.CRL
	File   string // where it is
	Reason string // why it was due
}

// MakeCRLs makes the CRLs that are due. One that can't be made, such as that of an
// authority whose key is not here, does not keep the others from being made; the
// error tells of all of them. The number of each is recorded, durably, before its
// file gets its name: whatever is killed, no two CRLs of a key have one number.
func MakeCRLs(ctx context.Context, dir string, o CRLOptions) (made []MadeCRL, err error) {
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = func() time.Time { return o.Now }
	entries, err := p.crlEntries(ctx, db, o)
	if err != nil {
		return nil, err
	}
	linter, err := ca.NewLinter()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return made, err
		}
		if err := p.makeCRLs(ctx, db, e, linter, o, func(m MadeCRL) {
			made = append(made, m)
			if o.Made != nil {
				o.Made(m)
			}
		}); err != nil {
			failed = append(failed, err)
		}
	}
	return made, errors.Join(failed...)
}

// crlEntries returns the authorities that the options name, each with the older
// generation of its key: what that has issued is still out there, and revoked under
// the one name.
func (p *PKI) crlEntries(ctx context.Context, db *store.DB, o CRLOptions) ([]*Entry, error) {
	if len(o.Authorities) == 0 {
		return p.CRLAuthorities(ctx, db, o.All)
	}
	var out []*Entry
	for _, name := range o.Authorities {
		e, err := p.CRLAuthority(name)
		if err != nil {
			return nil, err
		}
		for _, g := range e.Trusted() {
			if (g == e || g.IsOld()) && p.Have.Certificates[g.Name] != nil && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out, nil
}

// CRLAuthority returns an authority that may sign CRLs.
func (p *PKI) CRLAuthority(name string) (*Entry, error) {
	e := p.Plan.Entry(name)
	switch {
	case e == nil:
		return nil, fmt.Errorf("%q is not an entry of the plan: CRLs are made by %s", name, strings.Join(crlNames(p.Plan), ", "))
	case e.CRL == nil:
		return nil, fmt.Errorf("%s makes no CRLs: it is no authority, or its key_usage lacks cRLSign", name)
	case p.Have.Certificates[name] == nil:
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", name)
	}
	return e, nil
}

func (p *PKI) makeCRLs(ctx context.Context, db *store.DB, e *Entry, linter *ca.Linter, o CRLOptions, done func(MadeCRL)) error {
	if o.Delta && e.CRL.Delta == 0 {
		if len(o.Authorities) > 0 {
			return fmt.Errorf("%s has no delta CRLs: %s.crl.delta is missing in the plan", e.Name, e.key)
		}
		return nil
	}
	k, err := p.keeper(ctx, db, e, o.Now)
	if err != nil {
		return err
	}
	k.force, k.dir = o.Force, o.Dir
	tasks, err := k.tasks(ctx, o.Delta)
	if err != nil || len(tasks) == 0 {
		return err
	}
	if e.AtCeremony && !p.Have.Offline {
		if len(o.Authorities) == 0 {
			return nil // apply asks a ceremony for it
		}
		return fmt.Errorf("the CRL of %s is due (%s), and its key is used at ceremonies only: tmpki apply writes the request", e.Name, tasks[0].Reason)
	}
	signer, err := p.Signer(e)
	if err != nil {
		return fmt.Errorf("the CRL of %s is due (%s): %w", e.Name, tasks[0].Reason, err)
	}
	issuer, err := ca.NewIssuer(e.Name, k.cert, signer, e.Algorithm, linter)
	if err != nil {
		return err
	}
	if err := k.fixPartitions(ctx, o.Actor); err != nil {
		return err
	}
	for _, t := range tasks {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := k.path(t.File())
		var record store.CRL
		write := func(w io.Writer) error {
			var pemBody bytes.Buffer
			to := io.Writer(w)
			if o.PEM {
				to = &pemBody
			}
			issued, err := issuer.WriteCRL(to, t.Request(), t.from(k.revocations(ctx, t.Partition, t.BaseCovers)))
			if err != nil {
				return err
			}
			if record = t.Record(issued, o.Actor); !o.PEM {
				return nil
			}
			return pem.Encode(w, &pem.Block{Type: "X509 CRL", Bytes: pemBody.Bytes()})
		}
		if err := p.putCRL(ctx, db, &record, path, write); err != nil {
			return err
		}
		done(MadeCRL{record, path, t.Reason})
	}
	return nil
}

// putCRL has write fill a file that has no name yet, and the record; makes the
// record durable; and only then gives the file its name.
func (p *PKI) putCRL(ctx context.Context, db *store.DB, record *store.CRL, path string, write func(io.Writer) error) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := p.CheckReserved(path); err != nil {
		return err
	}
	f, err := durable.NewFile(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := db.RecordCRL(ctx, *record); err != nil {
		return fmt.Errorf("recording the CRL: %w", err)
	}
	return f.Commit()
}

// path returns where a CRL of the plan is put.
func (k *crlKeeper) path(file string) string {
	if k.dir != "" {
		return filepath.Join(k.dir, filepath.Base(file))
	}
	return filepath.Join(k.Dir, filepath.FromSlash(file))
}

// there reports whether the file of a CRL holds the one that was recorded.
func (k *crlKeeper) there(file string, want *store.CRL) bool {
	f, info, err := durable.OpenRegular(k.path(file), 2*ca.MaxCRL)
	if err != nil {
		return false
	}
	defer f.Close()
	if info.Size() == want.Size {
		h := sha256.New()
		_, err := io.Copy(h, f)
		return err == nil && bytes.Equal(h.Sum(nil), want.SHA256[:])
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*ca.MaxCRL))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(data)
	return block != nil && sha256.Sum256(block.Bytes) == want.SHA256
}
