package plan

import (
	"crypto/sha1" // names files, protects nothing
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"tmpki/artifact/ima"
	"tmpki/ca"
)

// Consumer is who trusts an anchor: a verifier of the platform, or a backend.
type Consumer string

// The consumers of trust anchors.
const (
	ForEFI     Consumer = "efi"     // firmware: PK, KEK, db
	ForKernel  Consumer = "kernel"  // Linux: the keyring that is built in
	ForIMA     Consumer = "ima"     // Linux: the keyring .ima
	ForDevice  Consumer = "device"  // the platform's daemon: the base system's root
	ForGuestOS Consumer = "guestos" // the platform's daemon: its store of GuestOS CAs
	ForBackend Consumer = "backend" // who talks with devices and users over TLS
)

// Consumers lists all consumers, in the order in which a device boots.
func Consumers() []Consumer {
	return []Consumer{ForEFI, ForKernel, ForIMA, ForDevice, ForGuestOS, ForBackend}
}

// TrustAnchor is a certificate that a consumer trusts.
type TrustAnchor struct {
	Consumer    Consumer
	Variable    *Variable // ForEFI: the one that holds it
	Entry       *Entry    // whose certificate it is; nil: a vendor's
	Certificate *ca.Certificate
	Name        string   // of the entry, or of the vendor's file
	File        string   // where TrustFiles puts it, relative; "": nowhere yet
	Form        Form     // of that file: FormESL, FormDER, or FormCertificate for any number in PEM
	LetsIn      string   // what the consumer takes because of it, in plain words
	Warnings    []string // where it lets in more than it is for, or less
}

// TrustAnchors returns what a consumer has to trust in this PKI. Of an entry that
// has several certificates in use, that is each of them.
func (p *PKI) TrustAnchors(consumer Consumer) []TrustAnchor {
	s := anchorSet{plan: p.Plan, have: p.Have, consumer: consumer}
	switch consumer {
	case ForEFI:
		s.efi()
	case ForKernel:
		s.kernel()
	case ForIMA:
		s.ima()
	case ForDevice:
		s.device()
	case ForGuestOS:
		s.guestos()
	case ForBackend:
		s.backend()
	}
	return s.list
}

// ConfigRoots returns the anchor of each signer of a kind of artifact that is
// verified by its chain: the nearest twin of an authority above it, or the root.
func (p *PKI) ConfigRoots(artifact string) []*ca.Certificate {
	s := anchorSet{plan: p.Plan, have: p.Have}
	for _, e := range p.Plan.signersOf(artifact) {
		s.add(p.Plan.anchorOf(e), nil, TrustAnchor{})
	}
	var out []*ca.Certificate
	for _, a := range s.list {
		out = append(out, a.Certificate)
	}
	return out
}

// anchorSet collects the anchors of one consumer.
type anchorSet struct {
	plan     *Plan
	have     Inventory
	consumer Consumer
	list     []TrustAnchor
}

// add adds the certificates of an entry that are not in the set yet. file, if not
// nil, returns the name of the file for one certificate.
func (s *anchorSet) add(e *Entry, file func(c *ca.Certificate) string, a TrustAnchor) {
	if a.Form == "" {
		a.Form = FormCertificate
	}
	for _, g := range s.trusted(e, a.Variable) {
		c := s.have.Certificates[g.Name]
		if c == nil {
			continue
		}
		known := slices.ContainsFunc(s.list, func(o TrustAnchor) bool { return o.Variable == a.Variable && o.Certificate.Equal(c) })
		if known {
			continue
		}
		a := a
		a.Consumer, a.Entry, a.Name, a.Certificate = s.consumer, g, g.Name, c
		if file != nil {
			a.File = file(c)
		}
		a.Warnings = slices.Clone(a.Warnings)
		if r, ok := s.have.Revoked[g.Name]; ok {
			a.Warnings = append(a.Warnings, fmt.Sprintf("it is revoked since %s (%v): consumers that look at no CRL trust it until it is taken out", r.Time.Local().Format(time.DateOnly), r.Reason))
		}
		s.list = append(s.list, a)
	}
}

// trusted returns the generations of an entry that consumers trust now, the active
// one first. The variable PK holds one certificate.
func (s *anchorSet) trusted(e *Entry, v *Variable) []*Entry {
	if v != nil && v.Name == "PK" {
		return []*Entry{e}
	}
	return e.Trusted()
}

// fixed names one file for all certificates.
func fixed(name string) func(*ca.Certificate) string {
	return func(*ca.Certificate) string { return name }
}

// efi: what the firmware reads of each variable. Only db lets images in.
func (s *anchorSet) efi() {
	if s.plan.UEFI == nil {
		return
	}
	for _, v := range s.plan.UEFI.All() {
		if v.Platform == "" && s.plan.UEFI.Create == "never" {
			continue
		}
		var file func(*ca.Certificate) string
		var missing []string
		if _, made := s.have.Variables[v.ID()]; made {
			file = fixed(v.file("esl"))
		} else {
			missing = []string{fmt.Sprintf("variable %s is not made yet: %s", v.ID(), howToMake(v))}
		}
		for _, e := range v.Certificates {
			a := TrustAnchor{Variable: v, Form: FormESL, LetsIn: "updates of PK and KEK", Warnings: missing}
			switch v.Name {
			case "KEK":
				a.LetsIn = "updates of db and dbx"
			case "db":
				a.LetsIn = "EFI images that are signed with its key"
				if e.Profile.CA() {
					a.LetsIn += s.plan.andBelow(e)
					a.Warnings = append(slices.Clone(missing), s.plan.wider(e, "EFI images", "efi")...)
				}
			}
			s.add(e, file, a)
		}
		for _, f := range v.Files {
			if c := s.have.Vendors[f].Certificate; c != nil {
				a := TrustAnchor{Consumer: ForEFI, Variable: v, Form: FormESL, Certificate: c, Name: f, Warnings: missing}
				a.LetsIn = map[string]string{"KEK": "whatever the vendor puts into db and dbx", "db": "whatever the vendor has signed, for anybody"}[v.Name]
				if file != nil {
					a.File = file(c)
				}
				s.list = append(s.list, a)
			}
		}
	}
}

// file names a file of the variable, as the plans publish it.
func (v *Variable) file(extension string) string {
	return path.Join("efi", v.Platform, strings.ToUpper(v.Name)+"."+extension)
}

func howToMake(v *Variable) string {
	if v.Platform != "" {
		return "tmpki apply makes it"
	}
	return "tmpki apply --platform-keys makes it"
}

// kernel: a module's signer must itself be in the keyring (the kernel builds no
// chains), and what user space may add to .ima must be signed by a key in there.
func (s *anchorSet) kernel() {
	file := fixed("kernel/system_trusted_keys.pem")
	for _, e := range s.plan.signersOf("module") {
		lets := "kernel modules that are signed with its key"
		if e.Profile.CA() {
			lets += "; certificates that it issued, into .ima"
		}
		s.add(e, file, TrustAnchor{LetsIn: lets})
	}
	for _, e := range s.plan.signersOf("ima") {
		for _, above := range e.Chain()[1:] {
			s.add(above, file, TrustAnchor{LetsIn: fmt.Sprintf("certificates that it issued (%s), into .ima; modules that are signed with its key, which signs none", entryNamesOf(above.Children))})
		}
	}
}

// ima: the signers. The kernel looks them up by key identifier.
func (s *anchorSet) ima() {
	first, _ := s.plan.DefaultSigner("ima", "")
	for _, e := range s.plan.signersOf("ima") {
		a := TrustAnchor{Form: FormDER, LetsIn: "files with an IMA signature by its key"}
		if c := s.have.Certificates[e.Name]; c != nil {
			if err := ima.CheckKeyring(c.Certificate); err != nil {
				a.Warnings = []string{err.Error()}
			}
		}
		s.add(e, s.imaFile(e == first), a)
	}
}

// imaFile names the file of a certificate for .ima. Of a file the kernel reads one
// certificate and no more (tried on Linux 6.18), so each has its own.
func (s *anchorSet) imaFile(first bool) func(*ca.Certificate) string {
	return func(c *ca.Certificate) string {
		if first {
			// Of several generations the active one comes first.
			if !slices.ContainsFunc(s.list, func(a TrustAnchor) bool { return a.File == imaDefault }) {
				return imaDefault
			}
		}
		return fmt.Sprintf("ima/x509_ima-%s.der", hex.EncodeToString(c.SubjectKeyId[max(0, len(c.SubjectKeyId)-4):]))
	}
}

const imaDefault = "ima/x509_ima.der"

// device: tokens/ssig_rootca.cert, which the platform's daemon asks first.
func (s *anchorSet) device() {
	hierarchy := s.plan.baseHierarchy()
	for _, e := range s.plan.configSigners() {
		if e.Hierarchy == hierarchy {
			s.config(s.plan.anchorOf(e), fixed("device/ssig_rootca.cert"))
		}
	}
}

// guestos: tokens/ca, where ca_register puts anchors under the SHA-1 of the file.
func (s *anchorSet) guestos() {
	hierarchy := s.plan.baseHierarchy()
	file := func(c *ca.Certificate) string { return "guestos/" + registeredName(c) }
	for _, e := range s.plan.configSigners() {
		if e.Hierarchy != hierarchy {
			s.config(s.plan.anchorOf(e), file)
		}
	}
	// An anchor that waits for its first GuestOS goes onto devices, too.
	for _, e := range s.plan.Entries {
		if e.Kind == Anchor && e.Active == nil && e.Hierarchy != hierarchy && len(e.TwinOf.Children) == 0 && len(s.plan.issuedBelow(e.TwinOf)) == 0 {
			s.config(e, file)
		}
	}
}

// registeredName is the name of an anchor in a device's tokens directory.
func registeredName(c *ca.Certificate) string {
	digest := sha1.Sum(ca.MarshalPEM(c))
	return "ca/" + hex.EncodeToString(digest[:])
}

// config adds an anchor of the platform's daemon, which checks chains, and no
// purpose.
func (s *anchorSet) config(e *Entry, file func(*ca.Certificate) string) {
	a := TrustAnchor{LetsIn: "configs of GuestOSes and containers by any certificate below it" + s.plan.namesBelow(e)}
	a.Warnings = s.plan.wider(e, "GuestOS configs", "efi", "module", "ima", "guestos", "container", "file")
	if len(a.Warnings) > 0 && e.TwinOf == nil {
		a.Warnings[0] += ". Put a twin of the GuestOS sub CA under anchors in the plan"
	}
	s.add(e, file, a)
}

// backend: the authorities whose certificates TLS clients have, and their roots. A
// server that takes a sub CA for an anchor is better off with that alone.
func (s *anchorSet) backend() {
	file := func(e *Entry) func(*ca.Certificate) string { return fixed("backend/" + e.Name + ".pem") }
	var roots []*Entry
	for _, i := range s.plan.issuances() {
		if !i.Profile.ExtKeyUsage("clientAuth") {
			continue
		}
		chain := i.Issuer.Chain()
		s.add(i.Issuer, file(i.Issuer), TrustAnchor{LetsIn: "TLS clients with a certificate that it issued (" + s.plan.clients(i.Issuer) + ")"})
		if root := chain[len(chain)-1]; root != i.Issuer && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	for _, root := range roots {
		a := TrustAnchor{LetsIn: "TLS clients with a certificate below it (" + s.plan.clients(root) + ")"}
		if strings.Contains(s.plan.clients(root), ",") {
			a.Warnings = []string{"wider than one purpose: a server looks at the issuer of its client, or trusts a sub CA alone (OpenSSL: partial chain)"}
		}
		s.add(root, file(root), a)
	}
}

// clients names whose certificates pass for those of TLS clients below an
// authority: without any extended key usage, one passes too.
func (p *Plan) clients(e *Entry) string {
	var names []string
	for _, b := range below(e) {
		if b.Kind == EndEntity && (b.Profile.ExtKeyUsage("clientAuth") || b.Profile.ExtKeyUsage("")) {
			names = append(names, b.Name)
		}
	}
	for _, i := range p.issuedBelow(e) {
		if i.Profile.ExtKeyUsage("clientAuth") || i.Profile.ExtKeyUsage("") {
			names = append(names, "every "+i.Name)
		}
	}
	return strings.Join(names, ", ")
}

// signersOf lists the entries that may sign a kind of artifact.
func (p *Plan) signersOf(artifact string) []*Entry {
	var out []*Entry
	for _, e := range p.Entries {
		if e.TwinOf == nil && e.MaySign(artifact) == nil {
			out = append(out, e)
		}
	}
	return out
}

func (p *Plan) configSigners() []*Entry {
	return append(p.signersOf("guestos"), p.signersOf("container")...)
}

// anchorOf climbs from a signer to its anchor: the nearest twin, or the root.
func (p *Plan) anchorOf(e *Entry) *Entry {
	for _, c := range e.Chain() {
		for _, t := range p.Entries {
			if t.Kind == Anchor && t.TwinOf == c {
				return t
			}
		}
		e = c
	}
	return e
}

// baseHierarchy is the one that the base system is signed in: its root is on
// every device from the start.
func (p *Plan) baseHierarchy() string {
	for _, artifact := range []string{"container", "efi", "module", "guestos"} {
		if e, err := p.DefaultSigner(artifact, ""); err == nil {
			return e.Hierarchy
		}
	}
	return ""
}

// below lists the entries below an authority, or below the one that a twin is of.
func below(e *Entry) []*Entry {
	var out []*Entry
	for _, c := range e.KeyOwner().Children {
		out = append(append(out, c), below(c)...)
	}
	return out
}

// andBelow says that signers below a CA are let in as well.
func (p *Plan) andBelow(e *Entry) string {
	return " or by a certificate below it" + p.namesBelow(e)
}

// namesBelow names in brackets what is below an authority.
func (p *Plan) namesBelow(e *Entry) string {
	var names []string
	for _, b := range below(e) {
		names = append(names, b.Name)
	}
	for _, i := range p.issuedBelow(e) {
		names = append(names, "every "+i.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// issuances lists what is issued outside the entries, by name.
func (p *Plan) issuances() []*Issuance {
	var out []*Issuance
	for _, name := range sortedKeys(p.Issued) {
		out = append(out, p.Issued[name])
	}
	return out
}

// issuedBelow lists what is issued outside the entries by an authority and those
// below it.
func (p *Plan) issuedBelow(e *Entry) []*Issuance {
	e = e.KeyOwner()
	return slices.DeleteFunc(p.issuances(), func(i *Issuance) bool { return i.Issuer != e && !slices.Contains(below(e), i.Issuer) })
}

// wider warns of an anchor that lets in what it is not for: certificates below it
// that sign none of these kinds of artifacts.
func (p *Plan) wider(e *Entry, what string, artifacts ...string) []string {
	var others []string
	for _, b := range below(e) {
		signs := slices.ContainsFunc(artifacts, func(a string) bool { return b.MaySign(a) == nil })
		if b.Kind == EndEntity && !signs {
			others = append(others, b.Name)
		}
	}
	for _, i := range p.issuedBelow(e) {
		others = append(others, "every "+i.Name)
	}
	if len(others) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("wider than its purpose: %s below it could sign %s too", strings.Join(others, ", "), what)}
}
