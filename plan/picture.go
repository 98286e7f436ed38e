package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// ErrNoPlan says that a PKI directory has no pki.yaml, and so nothing to draw.
var ErrNoPlan = errors.New("there is no plan")

// Drawing is a PKI as one looks at it: the hierarchies and the UEFI variables,
// what is there of them, and in which state. Renderers are in cmd/tmpki.
type Drawing struct {
	Plan        *Plan
	Hierarchies []*Hierarchy // in the order of their roots in the file
	Variables   []*VariableNode

	byName map[string]*Node
}

// Hierarchy is a tree of authorities.
type Hierarchy struct {
	Name    string
	Roots   []*Node
	Anchors []*Node // twins of sub CAs, each self-signed
}

// Node is an entry of the plan with what there is of it.
type Node struct {
	*Entry
	Certificate *ca.Certificate // nil: not made yet
	Record      *store.Record   // of that certificate
	State       State
	KeyState    KeyState
	Waits       string  // what its next certificate waits for, such as a ceremony
	Anchors     []*Node // the twins of this one
	Children    []*Node // what it issues
}

// VariableNode is a UEFI variable with the certificates in it.
type VariableNode struct {
	*Variable
	Signed       time.Time // the time in the signed update; zero: not made yet
	State        State     // StateOK or StatePlanned
	SignerNode   *Node
	Certificates []*Node
}

// State says in one word how it is with an entry.
type State string

// The states. Of two, the one that stands first is told.
const (
	StatePlanned    State = "not made yet"
	StateExpired    State = "expired"
	StateNotYet     State = "not valid yet"
	StateKeyMissing State = "key missing" // it ought to be here
	StateSoon       State = "expires soon"
	StateKeyOffline State = "key offline" // as it ought to be
	StateOK         State = "ok"
)

// KeyState says where a private key is, as far as one can see without opening it.
type KeyState string

// The states of keys.
const (
	KeyHere    KeyState = "here"
	KeyToken   KeyState = "in a token" // which may be elsewhere
	KeyOffline KeyState = "offline"    // its custody is offline or hsm, and it is not here
	KeyMissing KeyState = "missing"
)

// Node returns the node of an entry, or nil.
func (d *Drawing) Node(name string) *Node {
	if e := d.Plan.Entry(name); e != nil {
		name = e.Name // NAME-gN of an active one
	}
	return d.byName[name]
}

// Picture draws the PKI in dir as it is at the time now. It changes nothing and
// opens no key. Without a pki.yaml the error is ErrNoPlan.
func Picture(ctx context.Context, dir string, now time.Time) (*Drawing, error) {
	p, err := Open(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) && missing(dir, FileName) {
		return nil, fmt.Errorf("%w in %q: a PKI that was made elsewhere has no %s", ErrNoPlan, dir, FileName)
	}
	if err != nil {
		return nil, err
	}
	d := draw(p.Plan, p.Have, now)
	return d, d.readRecords(ctx, dir)
}

// draw is Picture without the records. It is pure.
func draw(p *Plan, have Inventory, now time.Time) *Drawing {
	d := &Drawing{Plan: p, byName: map[string]*Node{}}
	// 1. Nodes. Issuers come before what they issue, and twins after their
	// owners, so that each finds its place.
	for _, e := range p.Entries {
		n := &Node{Entry: e, Certificate: have.Certificates[e.Name], KeyState: keyState(e.KeyOwner(), have)}
		n.State = n.state(now)
		d.byName[e.Name] = n
		switch {
		case e.Kind == PlatformKey, e.Kind == Cross: // in no tree
		case e.TwinOf != nil:
			owner := d.byName[e.TwinOf.Name]
			owner.Anchors = append(owner.Anchors, n)
			h := d.hierarchy(e.Hierarchy)
			h.Anchors = append(h.Anchors, n)
		case e.Issuer != nil:
			issuer := d.byName[e.Issuer.Name]
			issuer.Children = append(issuer.Children, n)
		default:
			h := d.hierarchy(e.Hierarchy)
			h.Roots = append(h.Roots, n)
		}
	}
	if steps, err := p.Steps(have, Demand{}); err == nil {
		for _, s := range steps {
			if s.Kind == IssueCertificate {
				d.byName[s.Entry.Name].Waits = s.Waits
			}
		}
	}
	// 2. Variables.
	if p.UEFI == nil {
		return d
	}
	for _, v := range p.UEFI.All() {
		n := &VariableNode{Variable: v, State: StatePlanned, SignerNode: d.byName[v.Signer.Name]}
		if signed, ok := have.Variables[v.ID()]; ok {
			n.State, n.Signed = StateOK, signed.Time
		}
		for _, e := range v.entries() {
			n.Certificates = append(n.Certificates, d.byName[e.Name])
		}
		d.Variables = append(d.Variables, n)
	}
	return d
}

// hierarchy returns the hierarchy with this name, a new one the first time.
func (d *Drawing) hierarchy(name string) *Hierarchy {
	i := slices.IndexFunc(d.Hierarchies, func(h *Hierarchy) bool { return h.Name == name })
	if i >= 0 {
		return d.Hierarchies[i]
	}
	h := &Hierarchy{Name: name}
	d.Hierarchies = append(d.Hierarchies, h)
	return h
}

func keyState(e *Entry, have Inventory) KeyState {
	_, here := have.Keys[e.Name]
	switch {
	case e.inToken():
		return KeyToken
	case here:
		return KeyHere
	case e.Custody != Online:
		return KeyOffline
	default:
		return KeyMissing
	}
}

func (n *Node) state(now time.Time) State {
	c := n.Certificate
	switch {
	case c == nil:
		return StatePlanned
	case now.After(c.NotAfter):
		return StateExpired
	case now.Before(c.NotBefore):
		return StateNotYet
	case n.KeyState == KeyMissing:
		return StateKeyMissing
	case c.NotAfter.Sub(now) < soon:
		return StateSoon
	case n.KeyState == KeyOffline:
		return StateKeyOffline
	default:
		return StateOK
	}
}

// readRecords adds what the store knows of the certificates.
func (d *Drawing) readRecords(ctx context.Context, dir string) (err error) {
	db, err := ReadStore(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, n := range d.byName {
		if n.Certificate == nil {
			continue
		}
		record, err := db.BySerial(ctx, n.Certificate.SerialNumber.Bytes())
		if err != nil {
			return err
		}
		n.Record = &record
	}
	return nil
}

// Files lists the published files that are made of the entry's own certificate.
func (d *Drawing) Files(n *Node) []Published {
	var files []Published
	for _, f := range d.Plan.Published {
		if f.Entry == n.Entry {
			files = append(files, f)
		}
	}
	return files
}

// VariablesOf lists the UEFI variables that hold the entry's certificate.
func (d *Drawing) VariablesOf(n *Node) []*VariableNode {
	var list []*VariableNode
	for _, v := range d.Variables {
		if slices.Contains(v.Certificates, n) {
			list = append(list, v)
		}
	}
	return list
}
