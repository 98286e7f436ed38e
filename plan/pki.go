package plan

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"tmpki/ca"
	"tmpki/spki"
)

// PKI is a PKI directory that was looked at: its plan, and what is there. It
// holds nothing open, and needs no right to write.
type PKI struct {
	Dir  string
	Plan *Plan
	Have Inventory

	ring *keyring
}

// Open loads the plan and takes the inventory.
func Open(ctx context.Context, dir string) (*PKI, error) {
	p, faults, err := look(ctx, dir)
	if err == nil && len(faults) > 0 {
		err = faults[0].err
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// look is Open that goes on where something in the directory is damaged. Without
// a good plan it can't, and that is an error.
func look(ctx context.Context, dir string) (*PKI, []fault, error) {
	path := filepath.Join(dir, FileName)
	f, err := readFile(path, maxFile)
	if err != nil {
		return nil, nil, err
	}
	is, err := Load(path, f.Content)
	if err != nil {
		return nil, nil, err
	}
	if is.Store != "" && ofCeremonies(ctx, dir) {
		is.Store = ""
	}
	return lookWith(ctx, dir, is)
}

// lookWith is look with a plan that need not be the one in the directory.
func lookWith(ctx context.Context, dir string, is *Plan) (*PKI, []fault, error) {
	p := &PKI{Dir: dir, Plan: is, ring: newKeyring(dir)}
	if err := p.checkPlaces(); err != nil {
		return nil, nil, err
	}
	var faults []fault
	db, err := p.OpenStoreReadOnly(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Have, faults = takeInventory(ctx, p.Plan, dir, nil)
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil:
		faults = []fault{{"pki", err}}
	default:
		p.Have, faults = takeInventory(ctx, p.Plan, dir, db)
		err = db.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	p.ring.places = p.movedPlaces()
	return p, faults, ctx.Err()
}

// checkPlaces refuses a published file in the place of a key. Load has compared
// the paths as they are written; only here it shows that an absolute one, or one
// through a link, leads to the other.
func (p *PKI) checkPlaces() error {
	place := func(path string) string {
		if is, err := resolved(path); err == nil {
			return is
		}
		return abs(path) // its directory is not there yet
	}
	owners := map[string]*Entry{}
	for _, e := range p.Plan.Entries {
		if e.inToken() {
			continue
		}
		owners[place(e.Key.FilePath(p.Dir))] = e.KeyOwner()
	}
	for _, f := range p.Plan.Published {
		if e := owners[place(filepath.Join(p.Dir, filepath.FromSlash(f.File)))]; e != nil {
			return fmt.Errorf("publish.%s: is the place of the key of %s: %s", f.File, e.Name, e.Key)
		}
	}
	return nil
}

// Signer returns the private key of an entry and checks that it is the one of
// its certificate.
func (p *PKI) Signer(e *Entry) (crypto.Signer, error) {
	cert := p.Have.Certificates[e.Name]
	if cert == nil {
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", e.Name)
	}
	s, err := p.ring.signer(e)
	if errors.Is(err, fs.ErrNotExist) && !e.inToken() {
		return nil, missingKey(e.KeyOwner(), "to sign")
	}
	if err != nil {
		return nil, err
	}
	if !spki.Equal(s.Public(), cert.Key) {
		return nil, fmt.Errorf("the key at %s is not the key of the certificate of %s", e.Key, e.Name)
	}
	return s, nil
}

// Chain returns the certificates from the entry up to its root.
func (p *PKI) Chain(e *Entry) ([]*ca.Certificate, error) {
	var chain []*ca.Certificate
	for _, c := range e.Chain() {
		cert := p.Have.Certificates[c.Name]
		if cert == nil {
			return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", c.Name)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// Above returns the certificates that go along with one that the entry has issued,
// as chain files have them: with cross-certificates that are in date, so that either
// of two anchors is enough. The root is the last.
func (p *PKI) Above(e *Entry, now time.Time) ([]*ca.Certificate, error) {
	var out []*ca.Certificate
	for _, c := range aboveIn(e.Chain(), true) {
		cert := p.Have.Certificates[c.Name]
		switch {
		case cert == nil && (c == e || c.Active == nil):
			return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", c.Name)
		case cert == nil: // it waits for a ceremony, and the chain is good without it
		case c.Kind == Cross && !now.Before(cert.NotAfter):
		default:
			out = append(out, cert)
		}
	}
	return out, nil
}

// Embedded returns the certificates from the entry up, without its root, as chain
// files have them, but for those that are not in date: see Entry.chainFile.
func (p *PKI) Embedded(e *Entry, now time.Time) []*ca.Certificate {
	var out []*ca.Certificate
	for i, c := range e.chainFile(false) {
		cert := p.Have.Certificates[c.Name]
		if cert != nil && (i == 0 || now.Before(cert.NotAfter)) {
			out = append(out, cert)
		}
	}
	return out
}
