package plan

import (
	"tmpki/ca"
)

// What pki.yaml says, before it is checked: see Plan for what is trusted.

type fileConfig struct {
	Version      int                        `yaml:"version"`
	Plan         string                     `yaml:"plan"`
	Store        string                     `yaml:"store,omitempty"` // URL of a database; none: the file pki.db
	Subject      ca.SubjectConfig           `yaml:"subject"`
	Targets      map[string]targetConfig    `yaml:"targets"`
	Keys         keysConfig                 `yaml:"keys"`
	Hierarchies  map[string]hierarchyConfig `yaml:"hierarchies"`
	Profiles     map[string]profileConfig   `yaml:"profiles"`
	Authorities  map[string]entryConfig     `yaml:"authorities"`
	Certificates map[string]entryConfig     `yaml:"certificates"`
	Anchors      map[string]anchorConfig    `yaml:"anchors"`
	Signers      map[string]string          `yaml:"signers"` // artifact: entry
	UEFI         *uefiConfig                `yaml:"uefi"`
	Publish      map[string]publishedConfig `yaml:"publish"`
	Ceremony     *ceremonyConfig            `yaml:"ceremony"`
	Log          logConfig                  `yaml:"log,omitempty"`
}

// ceremonyConfig says that offline keys are used at ceremonies only, and who
// must be there.
type ceremonyConfig struct {
	Officers []string `yaml:"officers"`
	Quorum   int      `yaml:"quorum,omitempty"` // how many must confirm; 0: all
}

// logConfig says which key signs checkpoints of the ledger.
type logConfig struct {
	Key        string            `yaml:"key,omitempty"`  // a key URI; default: keys.place for the name "log"
	Type       string            `yaml:"type,omitempty"` // ed25519 or ec:CURVE; default: ed25519 in a file, ec:P-256 in a token
	Passphrase *passphraseConfig `yaml:"passphrase,omitempty"`
}

// targetConfig lists the key types that a consumer can verify.
type targetConfig struct {
	Signers     []string `yaml:"signers"`     // keys that sign what the consumer checks
	Authorities []string `yaml:"authorities"` // keys of the CAs above such a signer
}

// keysConfig says where keys live, by a key URI in which {name} stands for the
// entry's name, and what opens them.
type keysConfig struct {
	Place      string            `yaml:"place,omitempty"`
	Passphrase *passphraseConfig `yaml:"passphrase,omitempty"`
}

type hierarchyConfig struct {
	Subject ca.SubjectConfig `yaml:"subject,omitempty"`
	Keys    keysConfig       `yaml:",inline"`
}

// passphraseConfig says where a passphrase comes from. A passphrase itself has
// no place in a plan.
type passphraseConfig struct {
	Env      string `yaml:"env,omitempty"`
	File     string `yaml:"file,omitempty"`
	Prompt   bool   `yaml:"prompt,omitempty"`
	Optional bool   `yaml:"optional,omitempty"` // no passphrase to be had: plain keys
	None     bool   `yaml:"none,omitempty"`     // plain keys, whatever stands under keys
	Split    bool   `yaml:"split,omitempty"`    // shared by the officers of the ceremony
}

// templateConfig is what profiles give and entries may give better.
type templateConfig struct {
	Certificate ca.ProfileConfig `yaml:",inline"`

	Keys keysConfig `yaml:",inline"`

	KeyType string   `yaml:"key,omitempty"`     // key type
	Hash    string   `yaml:"hash,omitempty"`    // of the signatures on certificates that the key makes
	Scheme  string   `yaml:"scheme,omitempty"`  // pkcs1v15 or pss, where the key leaves a choice
	Custody string   `yaml:"custody,omitempty"` // online, offline or hsm
	Signs   []string `yaml:"signs,omitempty"`   // kinds of artifacts
	Overlap string   `yaml:"overlap,omitempty"` // how long an old key stays trusted beside its successor

	CRL *crlConfig `yaml:"crl,omitempty"` // of a CA
}

// profileConfig is a profile: what entries begin with, and, if it has an issuer,
// how certificates are issued that are no entries of the plan.
type profileConfig struct {
	Template templateConfig `yaml:",inline"`

	Subject ca.SubjectConfig `yaml:"subject,omitempty"` // how every subject begins
	Issuer  string           `yaml:"issuer,omitempty"`  // an authority
	Request *requestConfig   `yaml:"request,omitempty"` // nil: no request may use the profile
}

type requestConfig struct {
	Policy ca.RequestConfig `yaml:",inline"`

	AllowList       string `yaml:"allow_list,omitempty"`       // a file
	CompromisedKeys string `yaml:"compromised_keys,omitempty"` // a file
}

type entryConfig struct {
	Template templateConfig `yaml:",inline"`

	Profile         string           `yaml:"profile"`
	Hierarchy       string           `yaml:"hierarchy,omitempty"` // of a root
	Issuer          string           `yaml:"issuer,omitempty"`    // none: a root
	Subject         ca.SubjectConfig `yaml:"subject"`
	SubjectDER      string           `yaml:"subject_der,omitempty"` // in hexadecimal: a name that subject can't say
	SubjectAltNames []string         `yaml:"subject_alt_names,omitempty"`
	AsIssued        bool             `yaml:"as_issued,omitempty"` // taken over: not issued again where it differs from the profile

	Generations *generationsConfig `yaml:"generations,omitempty"`
}

// generationsConfig says which keys of an entry there are. "tmpki rotate" and
// "tmpki rollout" write it.
type generationsConfig struct {
	Newest int `yaml:"newest"` // the youngest that exists
	Active int `yaml:"active"` // the one that signs
	Oldest int `yaml:"oldest"` // the oldest that is still trusted

	// Keys are key types by the generation from which on they hold; before, it is
	// the entry's.
	Keys map[int]string `yaml:"keys,omitempty"`
}

type anchorConfig struct {
	TwinOf string `yaml:"twin_of"`
}

type uefiConfig struct {
	Create    string                    `yaml:"create"` // always, never or on-request
	Owner     string                    `yaml:"owner,omitempty"`
	Platforms []string                  `yaml:"platforms,omitempty"`
	Keys      map[string]entryConfig    `yaml:"keys"`
	Variables map[string]variableConfig `yaml:"variables"`
}

type variableConfig struct {
	Certificates []string `yaml:"certificates"`
	Files        []string `yaml:"files,omitempty"` // certificates of vendors
	Signer       string   `yaml:"signer"`
}

type publishedConfig struct {
	Of       string `yaml:"of,omitempty"`       // an entry
	Variable string `yaml:"variable,omitempty"` // or a UEFI variable
	As       string `yaml:"as"`
}
