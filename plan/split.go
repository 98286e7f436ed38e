package plan

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/store"
)

// SplitName is the file on the offline machine with what is public of a split
// passphrase, and the passphrase under the shares.
const SplitName = "split.tmpki"

// splitSource is the source of every passphrase that is split: there is one.
var splitSource = keys.Source{Split: true}

// ShareHolders are the people among whom a passphrase is split.
type ShareHolders struct {
	// Shares asks for enough of them; nil: nobody is there to be asked.
	Shares func(*keys.Split) ([]*keys.Share, error)

	// HandOut gives new shares away, durably; nil: there is nowhere to put them.
	// CanHandOut says, before anybody is asked, whether it will be able to.
	HandOut    func(*keys.Split, []*keys.Share) error
	CanHandOut func(*keys.Split) error
}

// splitPassphrase is a split passphrase in a ceremony.
type splitPassphrase struct {
	split  *keys.Split
	shares []*keys.Share // new ones, to be handed out
	from   []string      // the officers whose shares opened it
}

// vetSplit puts a split passphrase together, or makes one for the first keys.
func (c *conduct) vetSplit() error {
	needed, old := false, false
	for _, e := range c.signers {
		if e.Passphrase.Split && !e.inToken() {
			needed, old = true, old || c.hasKey(e)
		}
	}
	for _, s := range c.generate {
		needed = needed || s.Entry.Passphrase.Split && !s.Entry.inToken()
	}
	if !needed {
		return nil
	}
	split, err := readSplit(c.Dir)
	switch {
	case err == nil:
		if split.PKI != c.request.PKI {
			return fmt.Errorf("%s: of PKI %s: %w", SplitName, split.PKI, ErrOtherPKI)
		}
		c.split = &splitPassphrase{split: split}
		return c.split.combine(c.ring, c.o.ShareHolders)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case old:
		return fmt.Errorf("%s is missing, without which no shares open the keys: restore it", filepath.Join(c.Dir, SplitName))
	}
	if c.o.HandOut == nil {
		return errors.New("the passphrase of new keys is split among the officers: where do their shares go?")
	}
	p, err := keys.RandomPassphrase()
	if err != nil {
		return err
	}
	c.split = &splitPassphrase{}
	c.split.split, c.split.shares, err = keys.NewSplit(c.request.PKI, c.Plan.Ceremony.Officers, c.Plan.Ceremony.Quorum, p)
	if err != nil {
		return err
	}
	c.ring.passphrases[splitSource] = p
	return c.o.CanHandOut(c.split.split)
}

func readSplit(dir string) (*keys.Split, error) {
	f, err := readFile(filepath.Join(dir, SplitName), keys.MaxShareFile)
	if err != nil {
		return nil, err
	}
	split, err := keys.ParseSplit(f.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, SplitName), err)
	}
	return split, nil
}

// combine asks for shares and puts the passphrase on the ring.
func (s *splitPassphrase) combine(ring *keyring, holders ShareHolders) error {
	if holders.Shares == nil {
		return fmt.Errorf("%d of %d shares open the keys: %w", s.split.Threshold, len(s.split.Officers), keys.ErrTooFewShares)
	}
	shares, err := holders.Shares(s.split)
	if err != nil {
		return err
	}
	p, err := s.split.Combine(shares...)
	if err != nil {
		return err
	}
	for _, share := range shares {
		s.from = append(s.from, share.Officer())
	}
	ring.passphrases[splitSource] = p
	return nil
}

// describe says in one line whose shares open the keys.
func (s *splitPassphrase) describe() string {
	text := fmt.Sprintf("The passphrase of the keys is split among %s; any %d of them open it (split %s).",
		ca.Printable(strings.Join(s.split.Officers, ", ")), s.split.Threshold, s.split.ID())
	if s.from == nil {
		return "NEW SHARES. " + text
	}
	return text + " It was opened by the shares of " + ca.Printable(strings.Join(s.from, ", ")) + "."
}

// handOut gives new shares away, and only then writes down what is public of them:
// killed between, the shares are of no use and harm.
func (s *splitPassphrase) handOut(ctx context.Context, r *run, holders ShareHolders) error {
	if s == nil || s.shares == nil {
		return nil
	}
	if err := holders.HandOut(s.split, s.shares); err != nil {
		return err
	}
	file := s.split.Marshal()
	err := r.db.RecordEvent(ctx, store.Event{
		Kind: store.KindCeremony, Name: "split passphrase", Actor: r.o.Actor, SHA256: sha256.Sum256(file),
		Detail: map[string]string{"split": s.split.ID(), "threshold": fmt.Sprint(s.split.Threshold), "officers": strings.Join(s.split.Officers, ", ")},
	})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(r.Dir, SplitName), file, 0o600)
}

// CheckShares puts the split passphrase together, and opens with it each key that
// is under it. It changes nothing.
func CheckShares(ctx context.Context, dir string, holders ShareHolders) (*keys.Split, error) {
	_, s, err := openSplit(ctx, dir, holders)
	if err != nil {
		return nil, err
	}
	return s.split, nil
}

// openSplit is CheckShares that also returns what it has opened.
func openSplit(ctx context.Context, dir string, holders ShareHolders) (*PKI, *splitPassphrase, error) {
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	split, err := readSplit(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("no passphrase was split here: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	s := &splitPassphrase{split: split}
	if err := s.combine(p.ring, holders); err != nil {
		return nil, nil, err
	}
	for _, e := range p.Plan.Entries {
		if _, here := p.Have.Keys[e.Name]; !here || !e.Passphrase.Split || e.inToken() {
			continue
		}
		if _, err := p.ring.signer(e); err != nil {
			return nil, nil, err
		}
	}
	return p, s, nil
}

// Reshare splits the passphrase anew, among the officers of the plan in dir, and
// returns the new split. From then on the old shares open nothing here; they still
// open a copy of the old file SplitName, so that must be destroyed everywhere.
func Reshare(ctx context.Context, dir string, o Options, holders ShareHolders) (_ *keys.Split, err error) {
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		return nil, fmt.Errorf("no PKI directory: %w", err)
	}
	lock, err := durable.LockDir(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	p, old, err := openSplit(ctx, dir, holders)
	if err != nil {
		return nil, err
	}
	if p.Plan.Ceremony == nil || !p.Have.Offline {
		return nil, errors.New("this is not the directory of the offline keys")
	}
	s := &splitPassphrase{}
	s.split, s.shares, err = keys.NewSplit(old.split.PKI, p.Plan.Ceremony.Officers, p.Plan.Ceremony.Quorum, p.ring.passphrases[splitSource])
	if err != nil {
		return nil, err
	}
	r := &run{PKI: p, o: o}
	if r.db, err = p.OpenStore(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	r.db.Now = o.Now
	return s.split, s.handOut(ctx, r, holders)
}
