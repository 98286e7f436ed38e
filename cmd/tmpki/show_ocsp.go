package main

import (
	"fmt"
	"math/big"
	"time"

	"tmpki/ca"
)

// ocspRequestFacts is an OCSP request.
type ocspRequestFacts struct {
	Kind  string        `json:"kind"` // "ocsp_request"
	Nonce string        `json:"nonce,omitempty"`
	Asks  []ocspIDFacts `json:"asks"`
}

// ocspIDFacts names a certificate.
type ocspIDFacts struct {
	Serial     string `json:"serial"` // "" if no certificate can have it
	Hash       string `json:"hash"`
	IssuerName string `json:"issuer_name_hash"`
	IssuerKey  string `json:"issuer_key_hash"`
}

func newOCSPIDFacts(id ca.CertID) ocspIDFacts {
	f := ocspIDFacts{Hash: "unknown", IssuerName: fmt.Sprintf("%x", id.NameHash), IssuerKey: fmt.Sprintf("%x", id.KeyHash)}
	if id.Hash != 0 {
		f.Hash = id.Hash.String()
	}
	if id.Serial != nil {
		f.Serial = serialHex(new(big.Int).SetBytes(id.Serial))
	}
	return f
}

func describeOCSPRequest(r *ca.OCSPRequest) item {
	f := &ocspRequestFacts{Kind: "ocsp_request", Nonce: fmt.Sprintf("%x", r.Nonce), Asks: []ocspIDFacts{}}
	for _, id := range r.CertIDs {
		f.Asks = append(f.Asks, newOCSPIDFacts(id))
	}
	return f
}

func (f *ocspRequestFacts) title() string { return "OCSP request" }

func (f *ocspRequestFacts) describe(t *table, _ time.Time) {
	t.add("nonce", f.Nonce)
	var serials []string
	for _, id := range f.Asks {
		serials = append(serials, fmt.Sprintf("serial %s, issuer key %s (%s)", id.Serial, id.IssuerKey, id.Hash))
	}
	t.add("asks for", serials...)
}

// ocspResponseFacts is an OCSP response.
type ocspResponseFacts struct {
	Kind         string            `json:"kind"`   // "ocsp_response"
	Status       string            `json:"status"` // "successful", or the error
	Responder    string            `json:"responder,omitempty"`
	ProducedAt   *time.Time        `json:"produced_at,omitempty"`
	Nonce        string            `json:"nonce,omitempty"`
	Signature    string            `json:"signature,omitempty"`
	Answers      []ocspAnswerFacts `json:"answers"`
	Certificates []string          `json:"certificates"` // subjects
}

type ocspAnswerFacts struct {
	ID         ocspIDFacts `json:"certificate"`
	Status     string      `json:"status"`
	Revoked    *time.Time  `json:"revoked,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	ThisUpdate time.Time   `json:"this_update"`
	NextUpdate *time.Time  `json:"next_update,omitempty"`
}

func describeOCSPResponse(r *ca.OCSPResponse) item {
	f := &ocspResponseFacts{Kind: "ocsp_response", Status: "successful", Answers: []ocspAnswerFacts{}, Certificates: []string{}}
	if r.Status != 0 {
		f.Status = r.Status.Error()
		return f
	}
	f.Responder = "key " + fmt.Sprintf("%x", r.ResponderKey)
	if r.Responder != nil {
		f.Responder = r.Responder.String()
	}
	f.ProducedAt, f.Nonce, f.Signature = &r.ProducedAt, fmt.Sprintf("%x", r.Nonce), signatureName(r.Algorithm, r.AlgorithmError)
	for _, c := range r.Certificates {
		f.Certificates = append(f.Certificates, c.Subject().String())
	}
	for _, a := range r.Responses {
		x := ocspAnswerFacts{ID: newOCSPIDFacts(a.CertID), Status: a.Status.String(), ThisUpdate: a.ThisUpdate}
		if a.Status == ca.OCSPRevoked {
			x.Revoked, x.Reason = &a.RevokedAt, a.Reason.String()
		}
		if !a.NextUpdate.IsZero() {
			x.NextUpdate = &a.NextUpdate
		}
		f.Answers = append(f.Answers, x)
	}
	return f
}

func (f *ocspResponseFacts) title() string { return "OCSP response" }

func (f *ocspResponseFacts) describe(t *table, now time.Time) {
	t.add("status", f.Status)
	t.add("responder", f.Responder)
	if f.ProducedAt != nil {
		t.add("produced", localTime(*f.ProducedAt))
		t.add("signature", f.Signature+" (not checked)")
	}
	t.add("nonce", f.Nonce)
	t.add("certificates", f.Certificates...)
	var answers []string
	for _, a := range f.Answers {
		text := fmt.Sprintf("%s  %s", a.ID.Serial, a.Status)
		if a.Revoked != nil {
			text += fmt.Sprintf(" since %s (%s)", localTime(*a.Revoked), a.Reason)
		}
		if a.NextUpdate != nil {
			text += "; " + validity(a.ThisUpdate, *a.NextUpdate, now)
		} else {
			text += "; as of " + localTime(a.ThisUpdate)
		}
		answers = append(answers, text)
	}
	t.add("answers", answers...)
}
