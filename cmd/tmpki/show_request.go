package main

import (
	"errors"
	"time"

	"tmpki/ca"
	"tmpki/spki"
)

// requestFacts is a PKCS#10 request.
type requestFacts struct {
	Kind       string           `json:"kind"` // "request"
	Subject    string           `json:"subject"`
	Key        keyFacts         `json:"key"`
	Signature  string           `json:"signature"`
	Proof      string           `json:"proof_of_possession"` // "good", "bad" or "unknown"
	Reason     string           `json:"reason,omitempty"`    // of a proof that is not good
	Extensions []extensionFacts `json:"extensions"`          // that it asks for
}

func describeRequest(der []byte) (item, error) {
	r, err := ca.ParseUnprovenRequest(der)
	if err != nil {
		return nil, err
	}
	f := &requestFacts{
		Kind:       "request",
		Subject:    r.Subject().String(),
		Key:        newKeyFacts(r.Key),
		Signature:  signatureName(r.Algorithm, r.AlgorithmError),
		Proof:      "good",
		Extensions: []extensionFacts{},
	}
	if err := r.CheckProof(); err != nil {
		f.Proof, f.Reason = "unknown", "see signature"
		if errors.Is(err, spki.ErrSignature) {
			f.Proof, f.Reason = "bad", err.Error()
		}
	}
	for _, x := range r.Extensions {
		f.Extensions = append(f.Extensions, newExtensionFacts(ca.DescribeExtension(x)))
	}
	return f, nil
}

func (f *requestFacts) title() string { return "certificate request" }

func (f *requestFacts) describe(t *table, _ time.Time) {
	t.add("subject", f.Subject)
	f.Key.describe(t)
	t.add("signature", f.Signature)
	proof := f.Proof + ": the sender has the private key"
	if f.Reason != "" {
		proof = f.Proof + ": " + f.Reason
	}
	t.add("possession", proof)
	for _, x := range f.Extensions {
		x.describe(t)
	}
}
