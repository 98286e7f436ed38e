// Package plan holds what a PKI should be, and makes it so. Load reads pki.yaml
// strictly, Steps compares it with what is, Apply takes the steps and derives the
// published files; Check looks at the result, and Generate and Adopt are the two
// ways in which the platform's build comes by a PKI.
//
// It knows no terminal and no exit code: see cmd/tmpki.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/uefi"
)

// FileName is the plan's name in a PKI directory, and StoreName the store's.
const (
	FileName  = "pki.yaml"
	StoreName = "pki.db"
)

// Plan is a checked pki.yaml; only Load makes one.
type Plan struct {
	Name      string      // such as "development"
	Store     string      // URL of the database with the store; "": the file StoreName
	Entries   []*Entry    // every certificate, issuers before what they issue
	UEFI      *UEFI       // nil: no UEFI part
	Published []Published // in the order of the file
	Targets   []Target
	LogKey    *Entry               // not among Entries: the key that signs checkpoints of the ledger
	Issued    map[string]*Issuance // by profile: what is issued outside the entries
	Ceremony  *Ceremony            // nil: offline keys are used where they are brought to
	SHA256    [32]byte             // of the file

	signers map[string]string // artifact: name of an entry, which may hold {name}
	byName  map[string]*Entry
}

// Kind is what an entry is.
type Kind int

// The kinds of entries.
const (
	Authority   Kind = iota + 1 // a root or a sub CA
	EndEntity                   // a signer, a server, a GuestOS
	Anchor                      // a self-signed twin of a sub CA
	PlatformKey                 // PK, KEK, DB: self-signed, outside both hierarchies
	Cross                       // one generation of an authority, certified by another
)

// Custody says where a key ought to be.
type Custody string

// The custodies of keys.
const (
	Online  Custody = "online"
	Offline Custody = "offline" // on a medium that is taken away, or another machine
	HSM     Custody = "hsm"
)

// Entry is one certificate of the plan with its key.
type Entry struct {
	Name            string
	Kind            Kind
	Hierarchy       string // "" for platform keys
	Issuer          *Entry // nil: self-signed
	TwinOf          *Entry // Anchor, Cross: whose key and subject it has
	Children        []*Entry
	Profile         *ca.Profile
	Subject         ca.Name
	SubjectAltNames []string
	KeyType         spki.KeyType
	Key             keys.URI
	Passphrase      keys.Source // zero with NoPassphrase
	NoPassphrase    bool
	Algorithm       spki.SignatureAlgorithm // of the certificates that the key signs
	Custody         Custody
	AtCeremony      bool     // its key is made and used at ceremonies only: see Ceremony
	AsIssued        bool     // the certificate stays as it is, however it differs from the profile
	Signs           []string // kinds of artifacts: see the table in targets.go

	CRL *CRLSettings // Authority: nil if it may sign none

	Platform string // PlatformKey: "" for the base set

	// An entry can have several keys at a time: see Generations. Each generation is
	// an entry of its own. The active one has the plain name, the place and all
	// that other entries refer to; another is called NAME-gN.
	Generation  int           // of this key, from 1 on
	Generations Generations   // of the name
	Active      *Entry        // the active generation, if this is another one; of a cross-certificate, whose it is
	Others      []*Entry      // the active one: the other generations that are trusted
	Crosses     []*Entry      // the active one: certificates of its key by the keys of Others
	Overlap     time.Duration // how long an old generation stays trusted after the change; 0: the plan doesn't say

	place string // of the key: a URI with {name}

	key string // in pki.yaml, such as authorities.ssig_subca
}

// KeyOwner returns the entry whose key this entry certifies: itself, or the one
// that it is a twin of.
func (e *Entry) KeyOwner() *Entry {
	if e.TwinOf != nil {
		return e.TwinOf
	}
	return e
}

// Signer returns the entry whose key signs this entry's certificate.
func (e *Entry) Signer() *Entry {
	if e.Issuer != nil {
		return e.Issuer
	}
	return e.KeyOwner()
}

// Chain returns the entry and its issuers up to the root.
func (e *Entry) Chain() []*Entry {
	chain := []*Entry{e}
	for e.Issuer != nil {
		e = e.Issuer
		chain = append(chain, e)
	}
	return chain
}

// UEFI is the plan's set of Secure Boot variables.
type UEFI struct {
	Create    string // the base set: "always", "never" or "on-request"
	Owner     string // GUID; "" draws one for each set
	Variables []*Variable
	Platforms []*Platform // each with a set of its own, made in any case
}

// Variable is the content of PK, KEK or db, and who signs it.
type Variable struct {
	Variable     uefi.Variable
	Name         string
	Platform     string // "" for the base set
	Certificates []*Entry
	Files        []string // certificates of vendors, paths in the PKI directory
	Signer       *Entry
}

// Form is the format of a published file.
type Form string

// The formats of published files.
const (
	FormCertificate      Form = "certificate"         // PEM
	FormChain            Form = "chain"               // PEM, leaf first, with the root
	FormChainWithoutRoot Form = "chain-without-root"  // PEM, leaf first
	FormDER              Form = "der"                 // one certificate
	FormKeyCertificate   Form = "key-and-certificate" // PEM, the key as it is stored
	FormESL              Form = "esl"                 // EFI_SIGNATURE_LIST
	FormAuth             Form = "auth"                // EFI_VARIABLE_AUTHENTICATION_2
)

// Published is one published file.
type Published struct {
	File     string    // relative to the PKI directory, slashes
	Entry    *Entry    // of which certificate,
	Variable *Variable // or of which UEFI variable
	Form     Form
}

// UEFI reports whether the file belongs to the UEFI part, which may be absent.
func (p Published) UEFI() bool {
	return p.Variable != nil || p.Form == FormESL || p.Entry.Kind == PlatformKey
}

// Entry returns an entry by name, or nil.
func (p *Plan) Entry(name string) *Entry { return p.byName[name] }

// rank is the depth below the root; twins and platform keys come after all.
func (e *Entry) rank() int {
	switch e.Kind {
	case Anchor:
		return 100
	case PlatformKey:
		return 101
	case Cross: // after both keys, which have certificates of their own by then
		return 102
	}
	return len(e.Chain())
}

// DefaultSigner returns the entry that signs a kind of artifact unless another
// is asked for. guestos is the name in the config of a GuestOS.
func (p *Plan) DefaultSigner(artifact, guestos string) (*Entry, error) {
	name, ok := p.signers[artifact]
	if !ok {
		return nil, fmt.Errorf("the plan names no signer for %s: put one under signers, or use --as", artifact)
	}
	name = strings.ReplaceAll(name, "{name}", guestos)
	e := p.byName[name]
	if e == nil {
		return nil, fmt.Errorf("the plan has no entry %q to sign %s: add it under certificates, or use --as", name, artifact)
	}
	return e, e.MaySign(artifact)
}

// MaySign reports, as an error, that the entry is not for a kind of artifact.
func (e *Entry) MaySign(artifact string) error {
	if slices.Contains(e.Signs, artifact) {
		return nil
	}
	if len(e.Signs) == 0 {
		return fmt.Errorf("%s signs no artifacts: see signs in the plan", e.Name)
	}
	return fmt.Errorf("%s signs %s, not %s: see signs in the plan", e.Name, strings.Join(e.Signs, ", "), artifact)
}

func days(e *Entry) string { return inDays(e.Profile) }

func inDays(p *ca.Profile) string { return fmt.Sprintf("%dd", int(p.Validity().Hours()/24)) }
