package ca

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// Linter holds certificates against RFC 5280 and its companions before they are
// signed. It is safe for concurrent use.
type Linter struct {
	registry lint.Registry
}

// NewLinter makes a linter with the rules of the RFCs only: the other sources
// are rules of the web's public CAs. Control characters in a subject are let
// pass: the names of real devices hold newlines, as their firmware reports them.
// Names that a plan chooses go through NewName, which refuses them.
func NewLinter() (*Linter, error) {
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC8813},
		ExcludeNames:   []string{"e_subject_dn_not_printable_characters"},
	})
	if err != nil {
		return nil, fmt.Errorf("choosing lints: %w", err)
	}
	return &Linter{registry}, nil
}

// Check lints a certificate, signed or under a dummy signature, and reports
// each rule that it breaks.
func (l *Linter) Check(der []byte) error {
	if _, err := ParseCertificate(der); err != nil {
		return err
	}
	return l.lint(der)
}

// lint is Check for a certificate that was parsed before.
func (l *Linter) lint(der []byte) error {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("lint: %v", err)
	}
	// zcrypto finds this out by the signature, which isn't there yet.
	parsed.SelfSigned = bytes.Equal(parsed.RawIssuer, parsed.RawSubject)
	return verdict(zlint.LintCertificateEx(parsed, l.registry))
}

// CheckCRL is Check for a CRL. It is for short ones: it takes more memory than
// the CRL many times over.
func (l *Linter) CheckCRL(der []byte) error {
	if _, err := ParseCRL(der); err != nil {
		return err
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("lint: %v", err)
	}
	return verdict(zlint.LintRevocationListEx(parsed, l.registry))
}

// verdict is an error that tells of all rules that are broken, or nil.
func verdict(results *zlint.ResultSet) error {
	var broken []string
	for name, result := range results.Results {
		if result.Status >= lint.Warn {
			broken = append(broken, fmt.Sprintf("%s %s %s", result.Status, name, result.Details))
		}
	}
	if len(broken) > 0 {
		sort.Strings(broken)
		return fmt.Errorf("lint: %s", strings.Join(broken, "; "))
	}
	return nil
}
