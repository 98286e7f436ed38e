package main

import (
	"time"

	"tmpki/ca"
	"tmpki/plan"
)

// treeFacts is the picture for programs.
type treeFacts struct {
	Directory   string           `json:"directory"`
	Plan        string           `json:"plan"`
	Hierarchies []hierarchyFacts `json:"hierarchies"`
	UEFI        *uefiFacts       `json:"uefi,omitempty"` // none: the plan has no such part
}

type hierarchyFacts struct {
	Name    string      `json:"name"`
	Roots   []nodeFacts `json:"roots"`
	Anchors []nodeFacts `json:"anchors"`
}

type nodeFacts struct {
	Name     string     `json:"name"`
	CA       bool       `json:"ca"`
	Subject  string     `json:"subject"`
	KeyType  string     `json:"key_type"`
	KeyURI   string     `json:"key_uri"`
	KeyState string     `json:"key_state"`
	Custody  string     `json:"custody"`
	State    string     `json:"state"`
	Waits    string     `json:"waits_for,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"` // none: not made yet
	Signs    []string   `json:"signs"`
	TwinOf   string     `json:"twin_of,omitempty"`

	Generation int  `json:"generation"`
	Active     bool `json:"active"` // of the generations, the one that signs

	Children []nodeFacts `json:"children"`
}

type uefiFacts struct {
	Create    string          `json:"create"`
	Variables []variableFacts `json:"variables"`
}

type variableFacts struct {
	Name         string      `json:"name"`
	Signer       string      `json:"signer"`
	Signed       *time.Time  `json:"signed,omitempty"` // none: not made yet
	State        string      `json:"state"`
	Certificates []nodeFacts `json:"certificates"`
}

func newTreeFacts(dir string, d *plan.Drawing) treeFacts {
	f := treeFacts{Directory: dir, Plan: d.Plan.Name, Hierarchies: []hierarchyFacts{}}
	for _, h := range d.Hierarchies {
		f.Hierarchies = append(f.Hierarchies, hierarchyFacts{ca.Printable(h.Name), newNodeFacts(h.Roots), newNodeFacts(h.Anchors)})
	}
	if d.Plan.UEFI == nil {
		return f
	}
	f.UEFI = &uefiFacts{d.Plan.UEFI.Create, []variableFacts{}}
	for _, v := range d.Variables {
		vf := variableFacts{Name: v.ID(), Signer: v.Signer.Name, State: string(v.State), Certificates: newNodeFacts(v.Certificates)}
		if !v.Signed.IsZero() {
			vf.Signed = &v.Signed
		}
		f.UEFI.Variables = append(f.UEFI.Variables, vf)
	}
	return f
}

func newNodeFacts(nodes []*plan.Node) []nodeFacts {
	list := []nodeFacts{}
	for _, n := range nodes {
		f := nodeFacts{
			Name:     n.Name,
			CA:       n.Profile.CA(),
			Subject:  n.Subject.String(),
			KeyType:  n.KeyType.String(),
			KeyURI:   n.Key.String(),
			KeyState: string(n.KeyState),
			Custody:  string(n.Custody),
			State:    string(n.State),
			Waits:    n.Waits,
			Signs:    append([]string{}, n.Signs...),
			Children: newNodeFacts(n.Children),

			Generation: n.Generation,
			Active:     n.Entry.Active == nil,
		}
		if n.Certificate != nil {
			end := n.Certificate.NotAfter.UTC()
			f.NotAfter = &end
		}
		if n.TwinOf != nil {
			f.TwinOf = n.TwinOf.Name
		}
		list = append(list, f)
	}
	return list
}
