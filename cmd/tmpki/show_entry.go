package main

import (
	"fmt"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/plan"
)

// entryFacts is an entry of the plan with what the record knows.
type entryFacts struct {
	Name      string          `json:"name"`
	Hierarchy string          `json:"hierarchy,omitempty"`
	State     string          `json:"state"`
	Issuer    string          `json:"issuer,omitempty"` // none: self-signed
	TwinOf    string          `json:"twin_of,omitempty"`
	Profile   string          `json:"profile"`
	Subject   string          `json:"subject"` // that the plan wants
	KeyType   string          `json:"key_type"`
	KeyURI    string          `json:"key_uri"`
	KeyState  string          `json:"key_state"`
	Custody   string          `json:"custody"`
	Signs     []string        `json:"signs"`
	Variables []string        `json:"uefi_variables"` // that hold it
	Published []publishedFile `json:"published"`

	Generation  int          `json:"generation"`
	Generations []generation `json:"generations"`      // that stand beside each other, with this one
	Record      *recordFacts `json:"record,omitempty"` // none: not made yet
}

// generation is one key of an entry that has several.
type generation struct {
	Name       string     `json:"name"`
	Generation int        `json:"generation"`
	State      string     `json:"state"`
	NotAfter   *time.Time `json:"not_after,omitempty"` // none: not made yet
	Note       string     `json:"note,omitempty"`
}

type publishedFile struct {
	File string `json:"file"`
	As   string `json:"as"`
}

// recordFacts is what the store knows of a certificate beside its content.
type recordFacts struct {
	Issued      time.Time `json:"issued"`
	Actor       string    `json:"actor"`
	LedgerEntry int64     `json:"ledger_entry"`
}

func newEntryFacts(d *plan.Drawing, n *plan.Node) *entryFacts {
	f := &entryFacts{
		Name:      n.Name,
		Hierarchy: ca.Printable(n.Hierarchy),
		State:     string(n.State),
		Profile:   ca.Printable(n.Profile.Name()),
		Subject:   n.Subject.String(),
		KeyType:   n.KeyType.String(),
		KeyURI:    n.Key.String(),
		KeyState:  string(n.KeyState),
		Custody:   string(n.Custody),
		Signs:     append([]string{}, n.Signs...),
		Variables: []string{},
		Published: []publishedFile{},
	}
	if n.Issuer != nil {
		f.Issuer = n.Issuer.Name
	}
	if n.TwinOf != nil {
		f.TwinOf = n.TwinOf.Name
	}
	f.Generation, f.Generations = n.Generation, []generation{}
	plain := n.Entry
	if plain.Active != nil && plain.Kind != plan.Cross {
		plain = plain.Active
	}
	if len(plain.Others) > 0 || n.Kind == plan.Cross {
		for _, g := range append(plain.Trusted(), plain.Crosses...) {
			node := d.Node(g.Name)
			facts := generation{Name: g.Name, Generation: g.Generation, State: string(node.State), Note: generationNote(g)}
			if node.Certificate != nil {
				end := node.Certificate.NotAfter.UTC()
				facts.NotAfter = &end
			}
			f.Generations = append(f.Generations, facts)
		}
	}
	for _, v := range d.VariablesOf(n) {
		f.Variables = append(f.Variables, v.ID())
	}
	for _, p := range d.Files(n) {
		f.Published = append(f.Published, publishedFile{ca.Printable(p.File), string(p.Form)})
	}
	if r := n.Record; r != nil {
		f.Record = &recordFacts{r.Issued, ca.Printable(r.Actor), r.Entry}
	}
	return f
}

func (f *entryFacts) title() string {
	switch {
	case f.TwinOf != "":
		return fmt.Sprintf("%s: trust anchor, twin of %s", f.Name, f.TwinOf)
	case f.Hierarchy == "":
		return f.Name + ": UEFI key"
	case f.Issuer == "":
		return fmt.Sprintf("%s: root of the hierarchy %q", f.Name, f.Hierarchy)
	default:
		return fmt.Sprintf("%s: in the hierarchy %q, issued by %s", f.Name, f.Hierarchy, f.Issuer)
	}
}

func (f *entryFacts) describe(t *table) {
	t.add("state", f.State)
	t.add("key", fmt.Sprintf("%s at %s (custody %s, %s)", f.KeyType, f.KeyURI, f.Custody, f.KeyState))
	var generations []string
	for _, g := range f.Generations {
		text := g.Name + ": " + g.Note
		if g.NotAfter != nil {
			text += ", until " + g.NotAfter.Local().Format(time.DateOnly)
		}
		generations = append(generations, text)
	}
	t.add("keys", generations...)
	t.add("profile", f.Profile)
	t.add("signs", strings.Join(f.Signs, ", "))
	t.add("UEFI", strings.Join(f.Variables, ", "))
	if f.Record == nil {
		t.add("subject", f.Subject)
	} else {
		t.add("issued", fmt.Sprintf("%s by %s, ledger entry %d", localTime(f.Record.Issued), f.Record.Actor, f.Record.LedgerEntry))
	}
	var files []string
	for _, p := range f.Published {
		files = append(files, fmt.Sprintf("%s (%s)", p.File, p.As))
	}
	t.add("published", files...)
}
