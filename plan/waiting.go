package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"tmpki/ceremony"
)

// ErrOffline says that a PKI directory is the one of the offline machine, in which
// ceremonies do all there is to do.
var ErrOffline = errors.New("this directory holds the offline keys: what they sign is signed in a ceremony, after a request of the machine that is used every day")

// Waiting parts steps into those that Apply can take now and those that wait.
func Waiting(steps []Step) (now, later []Step) {
	for _, s := range steps {
		if s.Waits == "" {
			now = append(now, s)
		} else {
			later = append(later, s)
		}
	}
	return now, later
}

// waits says what the certificate of an entry can't be issued before, given whose
// certificates wait already.
func (have Inventory) waits(e *Entry, waiting map[*Entry]bool) string {
	signer := e.Signer()
	is := have.Certificates[signer.Name]
	switch {
	case signer.AtCeremony:
		return WaitsCeremony
	case signer == e.KeyOwner() || !waiting[signer]:
		return ""
	case is == nil, is.NotAfter.Sub(is.NotBefore) < e.Profile.Validity():
		// One that has a certificate can go on issuing while a new one waits,
		// unless it would be outlived.
		return "the certificate of " + signer.Name
	default:
		return ""
	}
}

// variableWaits is waits for a UEFI variable.
func (have Inventory) variableWaits(v *Variable, waiting map[*Entry]bool) string {
	if v.Signer.AtCeremony {
		return WaitsCeremony
	}
	for _, e := range append(v.entries(), v.Signer) {
		if waiting[e] && have.Certificates[e.Name] == nil {
			return "the certificate of " + e.Name
		}
	}
	return ""
}

// fileWaits is waits for a published file. One that is there already is of no
// interest before what it waits for has come.
func (have Inventory) fileWaits(f *Published, waiting map[*Entry]bool, variables map[*Variable]bool) string {
	for _, e := range f.sources() {
		if waiting[e] && have.Certificates[e.Name] == nil {
			return "the certificate of " + e.Name
		}
	}
	if v := f.Variable; v != nil && variables[v] {
		_, signed := have.Variables[v.ID()]
		if f.Form == FormAuth && !signed || have.Owners[v.Platform] == "" {
			return "the variable " + v.ID()
		}
	}
	return ""
}

func either[K comparable](a, b map[K]bool) map[K]bool {
	out := maps.Clone(a)
	for k, v := range b {
		out[k] = out[k] || v
	}
	return out
}

// OpenRequest is a request that is on record and not answered yet.
type OpenRequest struct {
	*ceremony.Request
	File string // relative to the PKI directory, slashes
	Here bool   // the file is there, and is what was recorded
}

// asksFor reports whether the request is about the certificate of an entry.
func (r *OpenRequest) asksFor(e *Entry) bool {
	if r == nil {
		return false
	}
	for _, c := range r.Certificates {
		if c.Entry == e.Name {
			return true
		}
	}
	return false
}

// hasVendor reports whether the request carries a vendor's certificate as it is.
func (r *OpenRequest) hasVendor(file string, is VendorFile) bool {
	for _, v := range r.Vendors {
		if v.File == file && is.Certificate != nil {
			return bytes.Equal(v.Content, is.Certificate.Raw)
		}
	}
	return false
}

// needsRequest reports whether steps wait for a ceremony that nobody was asked for
// yet. One from before a key was certified that can sign it is refused by now. A key that is about to be made needs a new request: an older one asks for
// another key's certificate.
func (p *Plan) needsRequest(have Inventory, now, later []Step) bool {
	open := have.Request
	for _, s := range later {
		if s.Waits != WaitsCeremony {
			continue
		}
		if open == nil || !open.Here || len(open.Signatures()) == 0 && p.requestSigner(have) != nil || p.SHA256 != sha256.Sum256([]byte(open.Plan)) {
			return true
		}
		switch s.Kind {
		case IssueCertificate:
			known := ""
			if c := have.Certificates[s.Entry.Name]; c != nil {
				known = hex.EncodeToString(c.SerialNumber.Bytes())
			}
			asked := false
			for _, c := range open.Certificates {
				asked = asked || c.Entry == s.Entry.Name && c.Have == known
			}
			for _, g := range now {
				asked = asked && !(g.Kind == GenerateKey && g.Entry == s.Entry.KeyOwner())
			}
			if !asked {
				return true
			}
		case SignCRL:
			// One that was asked for before something else was revoked knows nothing
			// of that, which its ledger entry tells.
			i := slices.IndexFunc(open.CRLs, func(c ceremony.CRLItem) bool { return c.Authority == s.Entry.Name })
			if i < 0 || open.CRLs[i].Covers < have.revokedLast[s.Entry.Name] {
				return true
			}
		case SignVariable:
			asked := false
			for _, v := range open.Variables {
				asked = asked || v.ID == s.Variable.ID()
			}
			for _, file := range s.Variable.Files {
				asked = asked && open.hasVendor(file, have.Vendors[file])
			}
			if !asked {
				return true
			}
		}
	}
	return false
}
