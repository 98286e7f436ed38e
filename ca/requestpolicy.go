package ca

import (
	"fmt"
	"slices"
	"strings"
)

// RequestConfig says what a request may contribute to a certificate, as a file
// says it: see RequestPolicy for what is trusted. The public key always comes from
// the request; everything that is not let through here comes from the profile.
type RequestConfig struct {
	Subject         []string `yaml:"subject,omitempty"`           // fields of SubjectConfig, such as common_name
	UUID            string   `yaml:"uuid,omitempty"`              // required, optional or none; none if empty
	SubjectAltNames []string `yaml:"subject_alt_names,omitempty"` // kinds: dns, email, uri, ip
	Extensions      string   `yaml:"extensions,omitempty"`        // what the profile does not let through: refuse or drop; refuse if empty
}

// UUIDRule says whether a request brings the UUID of a device.
type UUIDRule string

// The rules for UUIDs.
const (
	UUIDRequired UUIDRule = "required"
	UUIDOptional UUIDRule = "optional"
	UUIDNone     UUIDRule = "none" // one that is there is an extension that isn't let through
)

// RequestPolicy is a checked RequestConfig; only NewRequestPolicy makes one.
type RequestPolicy struct {
	subject []string // names of fields, in the order of encoding
	uuid    UUIDRule
	kinds   []string // of subject alternative names
	drop    bool
}

// NewRequestPolicy checks a configuration. Errors name the key of the file at fault.
func NewRequestPolicy(c RequestConfig) (*RequestPolicy, error) {
	p := &RequestPolicy{uuid: UUIDRule(c.UUID)}
	for i, field := range c.Subject {
		if !slices.Contains(subjectFields(), field) {
			return nil, fmt.Errorf("subject: %q is unknown: use %s", field, strings.Join(subjectFields(), ", "))
		}
		if slices.Contains(c.Subject[:i], field) {
			return nil, fmt.Errorf("subject: %q stands twice", field)
		}
	}
	for _, field := range subjectFields() {
		if slices.Contains(c.Subject, field) {
			p.subject = append(p.subject, field)
		}
	}
	switch p.uuid {
	case "":
		p.uuid = UUIDNone
	case UUIDRequired, UUIDOptional, UUIDNone:
	default:
		return nil, fmt.Errorf("uuid: %q is unknown: use required, optional or none", c.UUID)
	}
	for i, kind := range c.SubjectAltNames {
		switch kind {
		case "dns", "email", "uri", "ip":
		default:
			return nil, fmt.Errorf("subject_alt_names: %q is unknown: use dns, email, uri or ip", kind)
		}
		if slices.Contains(c.SubjectAltNames[:i], kind) {
			return nil, fmt.Errorf("subject_alt_names: %q stands twice", kind)
		}
	}
	p.kinds = slices.Clone(c.SubjectAltNames)
	switch c.Extensions {
	case "", "refuse":
	case "drop":
		p.drop = true
	default:
		return nil, fmt.Errorf("extensions: %q is unknown: use drop or refuse", c.Extensions)
	}
	return p, nil
}

// UUID returns the policy's rule for UUIDs.
func (p *RequestPolicy) UUID() UUIDRule { return p.uuid }

// subjectFields lists the names of the fields of a subject in a file.
func subjectFields() []string {
	var fields []string
	for _, a := range attributes {
		fields = append(fields, a.yaml)
	}
	return fields
}
