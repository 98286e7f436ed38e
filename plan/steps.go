package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
	"tmpki/uefi"
)

// Inventory is what is: the store's certificates and signed variables, which
// keys are there, and the published files. takeInventory fills it; Steps only
// reads it.
type Inventory struct {
	Certificates map[string]*ca.Certificate  // the newest by entry name
	Variables    map[string]SignedVariable   // by Variable.ID, the newest that the plan asked for
	Updates      map[string]VariableRecord   // by Variable.ID, with dbx and what was signed beside the plan
	Owners       map[string]string           // by platform, GUIDs of UEFI entries; "" if not drawn yet
	Vendors      map[string]VendorFile       // by path
	Keys         map[string]KeyFile          // by entry name, those that are at their URI
	Tokens       map[string]keys.Sight       // by entry name, what shows at places in tokens
	Files        map[string]File             // published files that exist
	Revoked      map[string]store.Revocation // of Certificates, by entry name: revoked or on hold
	Misplaced    map[string]bool             // by entry name: its key is not yet where that of the active generation belongs
	Unrecorded   map[string]*ca.Certificate  // published files that begin with one of ours that the store lacks
	Request      *OpenRequest                // the newest that waits for a ceremony, or nil
	Offline      bool                        // this is the machine of the ceremonies
	DueCRLs      map[string]string           // of authorities that a ceremony makes the CRLs of: why one is due
	revokedLast  map[string]int64            // of those, the ledger entry of the last revocation
}

// SignedVariable is an update of a UEFI variable, parsed and as it was signed.
type SignedVariable struct {
	*uefi.Auth
	Raw []byte
}

// KeyFile is what shows of a private key without its passphrase or PIN.
type KeyFile struct {
	File              // empty for a key in a token
	Type spki.KeyType // zero if encrypted, or hidden in a token
}

// File is a published file as it is.
type File struct {
	Content []byte
	Mode    fs.FileMode
}

// StepKind is what a step does.
type StepKind string

// The kinds of steps, in the order in which they are taken.
const (
	SwitchKey        StepKind = "switch key" // the file of the active generation
	GenerateKey      StepKind = "generate key"
	IssueCertificate StepKind = "issue certificate"
	SignVariable     StepKind = "sign variable"
	PublishFile      StepKind = "publish"
	StoreCertificate StepKind = "store certificate" // beside its key in a token
	SignCRL          StepKind = "sign CRL"          // of an authority whose key is offline
	RequestCeremony  StepKind = "request ceremony"  // for all steps that wait for one
)

// WaitsCeremony is what a step waits for whose signer's key is used at ceremonies
// only.
const WaitsCeremony = "a ceremony"

// Step is one thing to do. Steps of one kind are in an order that works.
type Step struct {
	Kind      StepKind
	Entry     *Entry     // SwitchKey, GenerateKey, IssueCertificate, StoreCertificate, SignCRL
	Variable  *Variable  // SignVariable
	Published *Published // PublishFile
	Reason    string     // why again, if it is not the first time

	// Waits says what Apply can't take the step before: a ceremony, or what comes
	// of one. "" if it can.
	Waits string
}

// Name returns what the step is about: an entry, a variable, a file.
func (s Step) Name() string {
	switch {
	case s.Kind == RequestCeremony:
		return "offline keys"
	case s.Entry != nil:
		return s.Entry.Name
	case s.Variable != nil:
		return s.Variable.ID()
	default:
		return s.Published.File
	}
}

// Detail says in a few words what comes of the step.
func (s Step) Detail() string {
	detail := ""
	switch s.Kind {
	case SwitchKey:
		detail = fmt.Sprintf("generation %d moves to %v, and the other one to a place of its own", s.Entry.Generation, s.Entry.Key)
	case GenerateKey:
		detail = fmt.Sprintf("%v at %v", s.Entry.KeyType, s.Entry.Key)
	case IssueCertificate:
		signer := "self-signed"
		if s.Entry.Kind == Cross {
			signer = "cross-certificate by " + s.Entry.Issuer.Name
		} else if s.Entry.Issuer != nil {
			signer = "by " + s.Entry.Issuer.Name
		} else if s.Entry.TwinOf != nil {
			signer = "twin of " + s.Entry.TwinOf.Name
		}
		detail = fmt.Sprintf("%s, %s, %s", s.Entry.Subject, signer, days(s.Entry))
	case StoreCertificate:
		detail = "at " + s.Entry.Key.String()
	case SignVariable:
		detail = "by " + s.Variable.Signer.Name
	case PublishFile:
		detail = string(s.Published.Form)
	case SignCRL:
		detail = fmt.Sprintf("for %s", period(s.Entry.CRL.Validity))
	case RequestCeremony:
		detail = "a file in " + requestsDir
	}
	if s.Reason != "" {
		detail += " (" + s.Reason + ")"
	}
	if s.Waits != "" {
		detail += ", waits for " + s.Waits
	}
	return detail
}

// Demand is what a caller asks for beyond the plan.
type Demand struct {
	PlatformKeys bool     // make the UEFI part where the plan has it on request
	Renew        []string // names of entries whose certificates are issued again, with their keys
}

// Steps compares the plan with what is, and returns what is to do, in order;
// then what waits. It is pure. It returns an error where no step can help: a lost
// key, or a change that would need a new key.
func (p *Plan) Steps(have Inventory, demand Demand) ([]Step, error) {
	if have.Offline {
		return nil, ErrOffline
	}
	withBase := p.wantsUEFI(have, demand)
	wanted := func(platform string) bool { return platform != "" || withBase }
	var switches, generate, issue, sign, publish []Step
	pending := map[*Entry]bool{} // new certificates that Apply makes
	waiting := map[*Entry]bool{} // and those that wait
	addIssue := func(e *Entry, reason string) {
		s := Step{Kind: IssueCertificate, Entry: e, Reason: reason, Waits: have.waits(e, waiting)}
		issue = append(issue, s)
		pending[e], waiting[e] = s.Waits == "", s.Waits != ""
	}
	for _, e := range p.Entries {
		if e.Kind == PlatformKey && !wanted(e.Platform) {
			continue
		}
		if have.Misplaced[e.Name] {
			switches = append(switches, Step{Kind: SwitchKey, Entry: e})
		}
		cert := have.Certificates[e.Name]
		if cert == nil {
			key, hasKey := have.Keys[e.Name]
			switch {
			case e.TwinOf != nil || e.AtCeremony:
			case e.inToken():
				step, err := have.tokenKeyStep(e)
				if err != nil {
					return nil, err
				}
				generate = append(generate, step)
			case !hasKey:
				generate = append(generate, Step{Kind: GenerateKey, Entry: e})
			}
			if hasKey && !e.AtCeremony && key.Type != (spki.KeyType{}) && key.Type != e.KeyType {
				return nil, fmt.Errorf("%s: the key at %s is of type %v, but the plan wants %v: take that file away, or change the plan", e.key, e.Key, key.Type, e.KeyType)
			}
			addIssue(e, "")
			continue
		}
		reason, err := p.reissueReason(e, cert, have, demand)
		if err != nil {
			return nil, err
		}
		if reason != "" {
			addIssue(e, reason)
		}
	}
	// Whoever signs must have its key at hand, unless it is about to get one.
	for _, s := range issue {
		signer := s.Entry.Signer()
		if s.Waits == "" && have.lacksKey(signer) {
			return nil, have.missingKey(signer, "to issue the certificate of "+s.Entry.Name)
		}
	}
	pendingVariables, waitingVariables := map[*Variable]bool{}, map[*Variable]bool{}
	if p.UEFI != nil {
		for _, v := range p.UEFI.All() {
			if !wanted(v.Platform) {
				continue
			}
			renewed := pending
			if v.Signer.AtCeremony {
				renewed = either(pending, waiting)
			}
			reason, err := p.variableDrift(v, have, renewed)
			if err != nil {
				return nil, err
			}
			if reason == "-" {
				continue
			}
			s := Step{Kind: SignVariable, Variable: v, Reason: reason, Waits: have.variableWaits(v, waiting)}
			if s.Waits == "" && have.lacksKey(v.Signer) {
				return nil, have.missingKey(v.Signer, "to sign the variable "+v.ID())
			}
			sign = append(sign, s)
			pendingVariables[v], waitingVariables[v] = s.Waits == "", s.Waits != ""
		}
	}
	for i := range p.Published {
		f := &p.Published[i]
		if f.UEFI() && !wanted(f.platform()) {
			continue
		}
		waits := have.fileWaits(f, waiting, waitingVariables)
		if _, exists := have.Files[f.File]; exists && waits != "" && !f.hasGenerations() {
			return nil, notOurs(f, strings.TrimPrefix(waits, "the "))
		}
		reason := ""
		if waits == "" {
			var err error
			if reason, err = p.fileDrift(f, have, pending, pendingVariables); err != nil {
				return nil, err
			}
		}
		if reason != "-" {
			publish = append(publish, Step{Kind: PublishFile, Published: f, Reason: reason, Waits: waits})
		}
	}
	all := slices.Concat(switches, generate, issue, sign, p.crlSteps(have), publish, p.certificateSteps(have, pending))
	now, later := Waiting(all)
	if p.needsRequest(have, now, later) {
		now = append(now, Step{Kind: RequestCeremony})
	}
	return append(now, later...), nil
}

// wantsUEFI reports whether the base set of the UEFI part should be there. Once
// begun, it is part of the PKI. The sets of platforms always are.
func (p *Plan) wantsUEFI(have Inventory, demand Demand) bool {
	if p.UEFI == nil || p.UEFI.Create == "never" {
		return false
	}
	for _, e := range p.Entries {
		if e.Kind == PlatformKey && e.Platform == "" && (have.Certificates[e.Name] != nil || have.Request.asksFor(e)) {
			return true
		}
	}
	return p.UEFI.Create == "always" || demand.PlatformKeys
}

// lacksKey reports whether the entry has a certificate, but its key is not here.
func (have Inventory) lacksKey(e *Entry) bool {
	_, ok := have.Keys[e.KeyOwner().Name]
	return have.Certificates[e.Name] != nil && !ok
}

// missingKey tells also why a token can't be looked at.
func (have Inventory) missingKey(e *Entry, purpose string) error {
	if s := have.Tokens[e.KeyOwner().Name]; s.Err != nil {
		return fmt.Errorf("the key of %s at %s is needed %s: %w", e.Name, e.Key, purpose, s.Err)
	}
	return missingKey(e, purpose)
}

func missingKey(e *Entry, purpose string) error {
	where := "restore it from your backup"
	if e.Custody != Online {
		where = fmt.Sprintf("its custody is %s: bring it here", e.Custody)
	}
	return fmt.Errorf("the key of %s is not at %s, but it is needed %s: %s", e.Name, e.Key, purpose, where)
}

// drift reports why the certificate must be issued again, or "". What would need
// another key or name is an error.
func (e *Entry) drift(cert *ca.Certificate) (string, error) {
	if cert.KeyType() != e.KeyType {
		return "", fmt.Errorf("%s: has a key of type %v, but the plan wants %v: a key is not changed in place: \"tmpki rotate %s --key %v\" makes another beside it. Put the old type back", e.key, cert.KeyType(), e.KeyType, e.Base(), e.KeyType)
	}
	if !bytes.Equal(cert.RawSubject, e.Subject) {
		return "", fmt.Errorf("%s: its subject is %q, but the plan wants %q: what it has signed names the old one. Give the new subject an entry of its own, or put the old one back", e.key, cert.Subject(), e.Subject)
	}
	return e.Profile.Drift(cert, e.SubjectAltNames), nil
}

// driftBelow is drift for a certificate that may be a cross-certificate, which ends
// with its issuer's.
func (e *Entry) driftBelow(cert *ca.Certificate, certificate func(*Entry) *ca.Certificate) (string, error) {
	reason, err := e.drift(cert)
	if err != nil || e.Kind != Cross {
		return reason, err
	}
	by := certificate(e.Issuer)
	if by == nil {
		return "", fmt.Errorf("its issuer %s has no certificate", e.Issuer.Name)
	}
	return e.Profile.RolloverDrift(cert, by), nil
}

// variableDrift returns why a variable must be signed again: "" the first time,
// "-" not at all.
func (p *Plan) variableDrift(v *Variable, have Inventory, pending map[*Entry]bool) (string, error) {
	if _, err := v.vendors(have); err != nil {
		return "", err
	}
	signed, ok := have.Variables[v.ID()]
	if !ok {
		return "", nil
	}
	for _, e := range v.entries() {
		if pending[e] {
			return "the certificate of " + e.Name + " is new", nil
		}
	}
	if pending[v.Signer] {
		return "the certificate of " + v.Signer.Name + " is new", nil
	}
	if by := have.Certificates[v.Signer.Name]; by != nil && v.Signer.Generations != (Generations{1, 1, 1}) {
		is := func(der []byte) bool { return bytes.Equal(der, by.Raw) }
		if !slices.ContainsFunc(signed.SignedData.Certificates, is) {
			return fmt.Sprintf("%s signs with generation %d", v.Signer.Name, v.Signer.Generation), nil
		}
	}
	want, err := v.database(have)
	if err != nil {
		return "", err
	}
	if is, err := signed.Value.Marshal(); err != nil || !bytes.Equal(want, is) {
		return "its content changed", nil
	}
	return "-", nil
}

// fileDrift is variableDrift for a published file.
func (p *Plan) fileDrift(f *Published, have Inventory, pending map[*Entry]bool, variables map[*Variable]bool) (string, error) {
	file, exists := have.Files[f.File]
	if !exists {
		return "", nil
	}
	if c := have.Unrecorded[f.File]; c != nil {
		return "", fmt.Errorf("%s holds a certificate that %s has signed, with serial %x, but %s does not know it, as if that were an older one. Restore the newest, or take the file away",
			f.File, f.Entry.Signer().Name, c.SerialNumber, StoreName)
	}
	for _, e := range f.sources() {
		// A file from before its first certificate is not ours to replace.
		if pending[e] && have.Certificates[e.Name] == nil && e.Active == nil && e.Generation == 1 {
			return "", notOurs(f, "certificate of "+e.Name)
		}
		if pending[e] {
			return "the certificate of " + e.Name + " is new", nil
		}
	}
	if f.Variable != nil && variables[f.Variable] {
		return "the variable is new", nil
	}
	if f.Form == FormESL && have.Owners[f.platform()] == "" {
		return "it differs from the record", nil // the owner is drawn with the first variable
	}
	want, err := f.render(have)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(want, file.Content) {
		return "it differs from the record", nil
	}
	if mode := f.mode(); file.Mode.Perm()&^mode != 0 {
		return fmt.Sprintf("its mode is %04o", file.Mode.Perm()), nil
	}
	return "-", nil
}

func notOurs(f *Published, missing string) error {
	return fmt.Errorf("%s is there, but no %s is on record: it was made elsewhere, or %s was lost. Restore that, or take the file away", f.File, missing, StoreName)
}

// sources lists the entries whose certificates are in the file.
func (f *Published) sources() []*Entry {
	switch {
	case f.Variable != nil:
		return f.Variable.entries()
	case f.Form == FormChain:
		return f.Entry.chainFile(true)
	case f.Form == FormChainWithoutRoot:
		return f.Entry.chainFile(false)
	case f.Form == FormCertificate && f.Entry.isAnchor(), f.Form == FormESL:
		return f.Entry.Trusted()
	default:
		return []*Entry{f.Entry}
	}
}

// mode is 0600 for what holds a key.
func (f *Published) mode() fs.FileMode {
	if f.Form == FormKeyCertificate {
		return 0o600
	}
	return 0o644
}

// render derives the content of a published file from what the store has, and
// from the key's file where the form demands it.
func (f *Published) render(have Inventory) ([]byte, error) {
	var certs []*ca.Certificate
	for _, e := range f.sources() {
		c := have.Certificates[e.Name]
		if c == nil {
			return nil, fmt.Errorf("%s: the store has no certificate of %s", f.File, e.Name)
		}
		certs = append(certs, c)
	}
	switch f.Form {
	case FormCertificate, FormChain, FormChainWithoutRoot:
		return ca.MarshalPEM(certs...), nil
	case FormDER:
		return certs[0].Raw, nil
	case FormKeyCertificate:
		key, ok := have.Keys[f.Entry.KeyOwner().Name]
		if !ok {
			return nil, have.missingKey(f.Entry.KeyOwner(), "for "+f.File)
		}
		return append(bytes.Clone(key.Content), ca.MarshalPEM(certs...)...), nil
	case FormESL:
		if f.Variable == nil {
			return signatureList(certs, have.Owners[f.platform()])
		}
		return f.Variable.database(have)
	case FormAuth:
		signed, ok := have.Variables[f.Variable.ID()]
		if !ok {
			return nil, fmt.Errorf("%s: the store has no signed variable %s", f.File, f.Variable.ID())
		}
		return signed.Raw, nil
	default:
		return nil, fmt.Errorf("%s: unknown form %q", f.File, f.Form)
	}
}

// database returns the content of the variable: our certificates, then those of
// vendors.
func (v *Variable) database(have Inventory) ([]byte, error) {
	var list []*ca.Certificate
	for _, e := range v.entries() {
		c := have.Certificates[e.Name]
		if c == nil {
			return nil, fmt.Errorf("variable %s: the store has no certificate of %s", v.ID(), e.Name)
		}
		list = append(list, c)
	}
	vendors, err := v.vendors(have)
	if err != nil {
		return nil, err
	}
	return signatureList(append(list, vendors...), have.Owners[v.Platform])
}

func signatureList(certs []*ca.Certificate, owner string) ([]byte, error) {
	if owner == "" {
		return nil, errors.New("the owner of the UEFI entries is not known")
	}
	guid, err := uefi.ParseGUID(owner)
	if err != nil {
		return nil, err
	}
	var db uefi.SignatureDatabase
	for _, c := range certs {
		if _, err := db.AddCertificate(guid, c.Raw); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Subject(), err)
		}
	}
	return db.Marshal()
}
