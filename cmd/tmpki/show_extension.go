package main

import (
	"encoding/hex"
	"strings"

	"tmpki/ca"
	"tmpki/spki"
)

// extensionFacts is an extension.
type extensionFacts struct {
	Name     string   `json:"name,omitempty"` // none: unknown
	OID      string   `json:"oid"`
	Critical bool     `json:"critical"`
	Values   []string `json:"values,omitempty"`
	DER      string   `json:"der"`             // of the value, in hexadecimal
	Error    string   `json:"error,omitempty"` // why it can't be read
}

func newExtensionFacts(x ca.Extension) extensionFacts {
	f := extensionFacts{Name: x.Name, OID: x.OID, Critical: x.Critical, Values: x.Values, DER: hex.EncodeToString(x.DER)}
	if x.Err != nil {
		f.Error = x.Err.Error()
	}
	return f
}

func (f extensionFacts) describe(t *table) {
	label := map[string]string{"basic_constraints": "CA", "extended_key_usage": "ext. key usage", "crl_urls": "CRL URLs", "ocsp_nocheck": "OCSP no check", "crl_number": "CRL number"}[f.Name]
	if label == "" {
		label = strings.ReplaceAll(f.Name, "_", " ")
	}
	values := f.Values
	switch {
	case f.Name == "":
		label, values = "extension", []string{f.OID + " " + f.DER}
	case f.Error != "":
		values = []string{f.Error + ": " + f.DER}
	case f.Name == "basic_constraints":
		text := strings.Join(values, ", ")
		values = []string{strings.NewReplacer("not a CA", "no", "CA", "yes").Replace(text)}
	case f.Name == "key_usage" || f.Name == "extended_key_usage":
		values = []string{strings.Join(values, ", ")}
	case len(values) == 0:
		values = []string{"yes"}
	}
	if f.Critical {
		values = append([]string{}, values...)
		values[0] = clip(values[0], maxRunes) + " (critical)"
	}
	t.add(label, values...)
}

// signatureName names an algorithm also when it can't be verified.
func signatureName(a spki.SignatureAlgorithm, err error) string {
	if err != nil {
		return "not one that this program verifies: " + err.Error()
	}
	return a.String()
}
