package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tmpki/internal/durable"
	"tmpki/spki"
)

// Outcome says what Generate found or made.
type Outcome struct {
	Steps   []Step    // taken; none: everything was there
	Adopted bool      // a PKI of somebody else's making was checked and completed
	Derived []string  // Adopted: files that were missing and are derived now
	Notes   []string  // what the caller should tell
	Checks  []Finding // Adopted: what is wrong with it, below the level of an error
}

// Generate is what the platform's build calls: afterwards dir holds a PKI. It
// makes one with the development plan where there is none, and completes one
// where something is missing. keyType is zero if the caller doesn't care.
//
// A new directory appears by one rename. A directory that a symbolic link leads
// to is a release PKI: Adopt checks it, and no key is ever made there. Any number
// of processes may call Generate for one directory at once.
func Generate(ctx context.Context, dir string, keyType spki.KeyType, o Options) (*Outcome, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for {
		out, err := generateOnce(ctx, dir, keyType, o)
		if !errors.Is(err, errAgain) {
			return out, err
		}
	}
}

// errAgain: another process changed the directory meanwhile; look again.
var errAgain = errors.New("the directory changed")

func generateOnce(ctx context.Context, dir string, keyType spki.KeyType, o Options) (*Outcome, error) {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return generateNew(ctx, dir, keyType, o)
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return Adopt(ctx, dir, o)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	names, err := entryNames(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case names[FileName]:
		return generateInPlace(ctx, dir, keyType, o)
	case len(names) == 0:
		return generateInPlace(ctx, dir, keyType, o)
	case names["ssig_rootca.cert"]:
		if keyType != (spki.KeyType{}) {
			if err := adoptedKeyType(dir, keyType); err != nil {
				return nil, err
			}
		}
		return Adopt(ctx, dir, o)
	default:
		return nil, fmt.Errorf("%s is neither empty nor a PKI directory: it holds %s; it stays untouched. Name another directory, or empty it", dir, some(names))
	}
}

// entryNames lists a directory without the strays of dead runs.
func entryNames(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		if !durable.IsStray(e) {
			names[e.Name()] = true
		}
	}
	return names, nil
}

func some(names map[string]bool) string {
	list := sortedKeys(names)
	if len(list) > 3 {
		list = append(list[:3], fmt.Sprintf("and %d more", len(list)-3))
	}
	return strings.Join(list, ", ")
}

// text returns the plan for a new directory.
func (o Options) text(keyType spki.KeyType) ([]byte, error) {
	if o.newPlan != nil {
		return o.newPlan, nil
	}
	return developmentPlan(keyType)
}

// developmentPlan returns the text of the plan for a new directory.
func developmentPlan(keyType spki.KeyType) ([]byte, error) {
	if keyType == (spki.KeyType{}) {
		keyType = DefaultKeyType()
	}
	return Template(Development, keyType, DefaultPlace)
}

// DefaultKeyType is that of the platform's build.
func DefaultKeyType() spki.KeyType { return spki.KeyType{Kind: spki.RSA, Bits: 4096} }

// generateNew builds a directory that is not there yet.
func generateNew(ctx context.Context, dir string, keyType spki.KeyType, o Options) (*Outcome, error) {
	text, err := o.text(keyType)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	var steps []Step
	err = Create(ctx, dir, o.Waiting, func(staging string) error {
		if err := durable.WriteFile(filepath.Join(staging, FileName), text, 0o644); err != nil {
			return err
		}
		steps, err = apply(ctx, staging, o)
		return err
	})
	if errors.Is(err, ErrAppeared) {
		return nil, errAgain
	}
	if err != nil {
		return nil, err
	}
	return outcome(dir, steps, keyType)
}

// generateInPlace fills an empty directory, or completes one with a plan.
func generateInPlace(ctx context.Context, dir string, keyType spki.KeyType, o Options) (*Outcome, error) {
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAgain
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	names, err := entryNames(dir)
	if err != nil {
		return nil, err
	}
	if !names[FileName] {
		if len(names) > 0 {
			return nil, errAgain
		}
		return fillEmpty(ctx, dir, keyType, o)
	}
	if err := sameKeyType(filepath.Join(dir, FileName), keyType); err != nil {
		return nil, err
	}
	steps, err := apply(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	if err := hasKeys(ctx, dir); err != nil {
		return nil, err
	}
	return outcome(dir, steps, keyType)
}

// fillEmpty is generateInPlace for an empty directory, which may be a mount point, or
// have a parent that we may not write to: so it can't come by a rename. If it
// fails, the directory is empty again; if it is killed, the next run goes on.
func fillEmpty(ctx context.Context, dir string, keyType spki.KeyType, o Options) (*Outcome, error) {
	text, err := o.text(keyType)
	if err != nil {
		return nil, err
	}
	p, err := Load(FileName, text)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(dir, FileName), text, 0o644); err != nil {
		return nil, err
	}
	steps, err := apply(ctx, dir, o)
	if err != nil {
		// What the run has signed, nobody has seen.
		p.remove(dir)
		return nil, err
	}
	return outcome(dir, steps, keyType)
}

// remove takes away what apply makes in dir, and nothing else. It goes as far as
// it can.
func (p *Plan) remove(dir string) {
	files := []string{StoreName, StoreName + "-journal"}
	for _, e := range p.Entries {
		if !e.inToken() {
			files = append(files, e.Key.FilePath(""))
		}
	}
	for _, f := range p.Published {
		files = append(files, filepath.FromSlash(f.File))
	}
	dirs := map[string]bool{}
	for _, f := range append(files, FileName) { // the plan last: with it, the next run goes on
		os.Remove(filepath.Join(dir, f))
		dirs[filepath.Dir(f)] = true
	}
	for d := range dirs {
		durable.Sweep(filepath.Join(dir, d))
		if d != "." {
			os.Remove(filepath.Join(dir, d)) // fails unless it is empty
		}
	}
}

// hasKeys refuses to call a PKI complete that has lost a key.
func hasKeys(ctx context.Context, dir string) error {
	p, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range p.Plan.Entries {
		if e.TwinOf == nil && e.Custody == Online && p.Have.lacksKey(e) {
			return p.Have.missingKey(e, "by whoever uses this PKI")
		}
	}
	return nil
}

// sameKeyType refuses to call a PKI one of keyType that was made with another.
func sameKeyType(path string, keyType spki.KeyType) error {
	if keyType == (spki.KeyType{}) {
		return nil
	}
	f, err := readFile(path, maxFile)
	if err != nil {
		return err
	}
	is, err := Load(path, f.Content)
	if err != nil {
		return err
	}
	text, err := developmentPlan(keyType)
	if err != nil {
		return err
	}
	want, err := Load(FileName, text)
	if err != nil {
		return err
	}
	for _, w := range want.Entries {
		if e := is.Entry(w.Name); e != nil && e.KeyType != w.KeyType {
			return fmt.Errorf("%s has keys of another type: %s is %v, and would be %v with key type %v. Remove the directory to make it anew, or call without a key type to keep it",
				filepath.Dir(path), e.Name, e.KeyType, w.KeyType, keyType)
		}
	}
	return nil
}

func outcome(dir string, steps []Step, keyType spki.KeyType) (*Outcome, error) {
	out := &Outcome{Steps: steps}
	if len(steps) == 0 || (keyType.Kind != spki.EC && keyType.Kind != spki.Ed25519) {
		return out, nil
	}
	path := filepath.Join(dir, FileName)
	f, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	p, err := Load(path, f.Content)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, s := range steps {
		if s.Kind == IssueCertificate && s.Entry.TwinOf == nil && s.Entry.KeyType != keyType {
			kept = append(kept, fmt.Sprintf("%s (%v)", s.Entry.Name, s.Entry.KeyType))
		}
	}
	if len(kept) > 0 {
		var reasons []string
		for _, t := range p.Targets {
			reasons = append(reasons, targets[t.Name])
		}
		out.Notes = append(out.Notes, fmt.Sprintf("%v only where it can be verified: %s stay RSA, because %s can verify nothing else there (see targets in %s)",
			keyType, strings.Join(kept, ", "), strings.Join(reasons, ", "), FileName))
	}
	return out, nil
}
