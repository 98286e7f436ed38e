package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"tmpki/ca"
	"tmpki/uefi"
)

// signatureListFacts is the value of a UEFI variable.
type signatureListFacts struct {
	Kind    string           `json:"kind"` // "esl"
	Count   int              `json:"count"`
	Entries []signatureFacts `json:"entries"`
}

// signatureFacts is one certificate or hash that firmware knows.
type signatureFacts struct {
	Type        string            `json:"type"` // "x509", "sha256" or "x509-sha256"
	Owner       string            `json:"owner"`
	Hash        string            `json:"hash,omitempty"`
	Certificate *certificateFacts `json:"certificate,omitempty"`
	Error       string            `json:"error,omitempty"` // why the certificate can't be read
}

func describeSignatureLists(data []byte) (item, error) {
	db, err := uefi.ParseSignatureLists(data)
	if err != nil {
		return nil, err
	}
	return newSignatureListFacts(db), nil
}

func newSignatureListFacts(db uefi.SignatureDatabase) *signatureListFacts {
	f := &signatureListFacts{Kind: "esl", Entries: []signatureFacts{}}
	for _, e := range db.Entries() {
		s := signatureFacts{Type: e.TypeName(), Owner: e.Owner.String(), Hash: hex.EncodeToString(e.Hash())}
		if der := e.Certificate(); der != nil {
			if c, err := ca.ParseCertificate(der); err != nil {
				s.Error = err.Error()
			} else {
				s.Certificate = newCertificateFacts(c)
			}
		}
		f.Entries = append(f.Entries, s)
	}
	f.Count = len(f.Entries)
	return f
}

func (f *signatureListFacts) title() string {
	return fmt.Sprintf("EFI signature lists with %d entries", f.Count)
}

func (f *signatureListFacts) describe(t *table, now time.Time) {
	for i, s := range f.Entries {
		if i == maxValues {
			t.add("more", fmt.Sprintf("%d entries", f.Count-i))
			break
		}
		lines := []string{s.Type + ", owner " + s.Owner}
		switch {
		case s.Error != "":
			lines = append(lines, s.Error)
		case s.Certificate != nil:
			c := s.Certificate
			lines = append(lines, c.Subject, fmt.Sprintf("%s (id %s)", c.Key.Type, c.Key.ID), validity(c.NotBefore, c.NotAfter, now), "SHA-256 "+c.SHA256)
		default:
			lines = append(lines, s.Hash)
		}
		t.add(fmt.Sprintf("entry %d", i+1), lines...)
	}
}

// authFacts is a signed update of a UEFI variable.
type authFacts struct {
	Kind   string              `json:"kind"` // "auth"
	Time   time.Time           `json:"time"`
	For    string              `json:"variable,omitempty"` // that the signature fits; none: no good signature
	Append bool                `json:"append"`
	Signer *certificateFacts   `json:"signer,omitempty"` // whose signature is good
	Reason string              `json:"reason,omitempty"` // why none is
	Value  *signatureListFacts `json:"value"`
}

func describeAuth(data []byte) (item, error) {
	a, err := uefi.ParseAuth(data)
	if err != nil {
		return nil, err
	}
	f := &authFacts{Kind: "auth", Time: a.Time, Value: newSignatureListFacts(a.Value)}
	// Only the signature tells which variable the update is for: try all.
	f.Reason = "no certificate in it"
	for _, der := range a.SignedData.Certificates {
		for _, name := range []string{"PK", "KEK", "db", "dbx"} {
			for _, appended := range []bool{false, true} {
				v, err := uefi.SecureBootVariable(name)
				if err == nil {
					err = a.Verify(v, appended, der)
				}
				if err != nil {
					f.Reason = "it fits no variable with a certificate that is in it: the file was changed, or signed for something else"
					continue
				}
				c, err := ca.ParseCertificate(der)
				if err != nil {
					return nil, err
				}
				f.For, f.Append, f.Signer, f.Reason = name, appended, newCertificateFacts(c), ""
				return f, nil
			}
		}
	}
	return f, nil
}

func (f *authFacts) title() string { return "signed update of a UEFI variable" }

func (f *authFacts) describe(t *table, now time.Time) {
	t.add("time", f.Time.Format(time.DateTime)+" UTC")
	switch {
	case f.Signer == nil:
		t.add("signature", "bad: "+f.Reason)
	case f.Append:
		t.add("signature", "good, to be appended to "+f.For)
	default:
		t.add("signature", "good, a new value of "+f.For)
	}
	if f.Signer != nil {
		t.add("signer", f.Signer.Subject, "SHA-256 "+f.Signer.SHA256)
	}
	if f.Value.Count == 0 {
		t.add("value", "empty: it deletes the variable")
	}
	f.Value.describe(t, now)
}
