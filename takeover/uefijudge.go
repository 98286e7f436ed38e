package takeover

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/spki"
	"tmpki/uefi"
)

// bootChain are the certificates below one of which what signs the kernel is.
func (f *Found) bootChain() (out []*certificate) {
	for _, c := range f.entries {
		if c.name == "ssig" || c.name == "ssig_subca" {
			for up := c; up != nil; up = up.issuer {
				out = append(out, up)
			}
		}
	}
	return out
}

// judgeBoot looks for what signs the kernel in db.
func (f *Found) judgeBoot() {
	u := f.uefi
	db := u.variables[2]
	chain := f.bootChain()
	if slices.ContainsFunc(db.ours, func(c *certificate) bool { return slices.Contains(chain, c) }) {
		return
	}
	if slices.Contains(db.ours, u.keys[2]) && u.keys[2].key != nil {
		u.efiByDB = true
		f.add(plan.Warn, db.file(u, ".esl"), "of what could sign the kernel it trusts DB only, neither ssig_subca nor ssig: in the plan DB signs EFI images")
		return
	}
	f.add(plan.Bad, db.file(u, ".esl"), "lacks what signs the kernel: neither ssig_subca nor ssig, nor DB with its key")
}

// judgeAuth finds out who signed an update, and holds it against the list.
func (f *Found) judgeAuth(v *variable, a *uefi.Auth, list uefi.SignatureDatabase, now time.Time) {
	u := f.uefi
	path := v.file(u, ".auth")
	// 1. Who signed it?
	allowed := []*certificate{u.keys[0]}
	if v.Name == "db" {
		allowed = []*certificate{u.keys[1], u.keys[0]}
	}
	v.mode = plan.Replace
	var err error
	for _, c := range allowed {
		e := a.Verify(v.Variable, false, c.Raw)
		if err == nil || e == nil {
			err = e
		}
		if e == nil {
			v.mode, v.by = plan.Planned, c
			break
		}
		if a.Verify(v.Variable, true, c.Raw) == nil {
			v.mode, v.by, err = plan.Append, c, nil
			break
		}
	}
	switch {
	case len(a.Value) == 0:
		f.add(plan.Bad, path, "deletes the variable")
		v.mode, v.by = plan.Replace, nil
	case v.by == nil:
		f.add(plan.Bad, path, "is not signed by %s%s: firmware refuses it, or in setup mode takes it unseen: %v", allowed[0].name, u.otherSigner(a, allowed), err)
	case v.mode == plan.Append:
		f.add(plan.Warn, path, "only adds to the variable: the plan needs its whole value")
	case v.by != v.signer:
		f.add(plan.Note, path, "is signed by %s, and not by %s: so it is in the plan", v.by.name, v.signer.name)
		v.signer = v.by
	}
	// 2. When?
	if a.Time.After(now) {
		f.add(plan.Warn, path, "has a time in the future, %s (other tools take local time for UTC): the next update gets a later one", a.Time.Format(time.RFC3339))
	}
	if a.Time.Before(v.own.NotBefore.Add(-24 * time.Hour)) {
		f.add(plan.Warn, path, "is of %s, older than the certificate of %s", a.Time.Format(time.RFC3339), v.own.name)
	}
	// 3. Does it say the same as the list?
	lacks, more := namesWithout(list, a.Value), namesWithout(a.Value, list)
	if v.mode == plan.Append || len(a.Value) == 0 || len(lacks)+len(more) == 0 {
		return
	}
	text := "holds something else than " + v.stem + ".esl"
	if len(lacks) > 0 {
		text += ", lacks " + strings.Join(lacks, ", ")
	}
	if len(more) > 0 {
		text += ", has also " + strings.Join(more, ", ")
	}
	switch at, list := u.files[v.stem+".auth"].modified, u.files[v.stem+".esl"].modified; {
	case at.Before(list):
		text += "; its file is the older one"
	case at.After(list):
		text += "; its file is the newer one"
	}
	f.add(plan.Warn, path, "%s: the plan has what the list holds", text)
	if v.Name == "db" && !slices.ContainsFunc(f.bootChain(), func(c *certificate) bool { return a.Value.Contains(uefi.CertX509, c.Raw) }) {
		f.add(plan.Warn, path, "lacks what signs the kernel: a platform that has taken it refuses kernels of ssig and ssig_subca")
	}
}

// otherSigner names who of the set has signed, if it is one who may not.
func (u *uefiKeys) otherSigner(a *uefi.Auth, allowed []*certificate) string {
	for _, c := range u.keys {
		if _, err := a.SignedData.SignerOf(c.Raw); err == nil && !slices.Contains(allowed, c) {
			return " but by " + c.name
		}
	}
	return ""
}

// namesWithout returns the names of what is in a and not in b.
func namesWithout(a, b uefi.SignatureDatabase) (out []string) {
	for _, e := range a.Entries() {
		if b.Contains(e.Type, e.Data) {
			continue
		}
		name := fmt.Sprintf("a hash (%s)", e.TypeName())
		if der := e.Certificate(); der != nil {
			name = "a certificate that can't be read"
			if c, err := ca.ParseCertificate(der); err == nil {
				name = fmt.Sprintf("%q", ca.Printable(c.Subject().String()))
			}
		}
		out = append(out, name)
	}
	return out
}

// judgeResign decides whether a variable stays as it was signed.
func (f *Found) judgeResign(v *variable, a *uefi.Auth) {
	u := f.uefi
	if u == nil {
		return
	}
	path := v.file(u, ".auth")
	switch _, ok := u.files[v.stem+".auth"]; {
	case !ok:
		v.resign = "it is not here"
	case a == nil || v.mode != plan.Planned:
		v.resign = "what is here can't be used"
	case !bytes.Equal(u.marshal(v), mustMarshal(a.Value)):
		v.resign = "it is not as the plan has it (content, order or owners)"
	default:
		return
	}
	switch k := v.signer.key; {
	case k == nil:
		f.add(plan.Bad, path, "%s, so it must be signed anew, but the key of %s is not here: the UEFI keys stay behind", v.resign, v.signer.name)
		f.uefi = nil
	case k.public == nil:
		f.add(plan.Bad, path, "%s, so it must be signed anew, but the key of %s was not opened: the UEFI keys stay behind (give its passphrase)", v.resign, v.signer.name)
		f.uefi = nil
	case a != nil:
		f.add(plan.Warn, path, "%s: it is signed anew by %s, with a later time than %s; enroll the new one%s", v.resign, v.signer.name, a.Time.Format(time.RFC3339), v.measured())
	default:
		f.add(plan.Warn, path, "%s: it is signed by %s with the time of now; firmware that has a later one refuses it", v.resign, v.signer.name)
	}
}

// measured tells what else depends on the variable's content.
func (v *variable) measured() string {
	if v.Name == "db" {
		return ", which changes PCR 7: disk encryption bound to that must be bound anew"
	}
	return ""
}

// marshal returns a variable's value as the plan has it.
func (u *uefiKeys) marshal(v *variable) []byte {
	var value uefi.SignatureDatabase
	for _, c := range v.ours {
		if _, err := value.AddCertificate(u.owner, c.Raw); err != nil {
			return nil
		}
	}
	for _, o := range v.vendors {
		if _, err := value.AddCertificate(u.owner, o.Raw); err != nil {
			return nil
		}
	}
	return mustMarshal(value)
}

// mustMarshal writes lists that were read, or made by Add.
func mustMarshal(value uefi.SignatureDatabase) []byte {
	b, err := value.Marshal()
	if err != nil {
		return nil
	}
	return b
}

// judgePlatformKey holds PK, KEK or DB against what firmware reads: the key alone.
func (f *Found) judgePlatformKey(c *certificate, now time.Time) {
	if c.AlgorithmError != nil {
		f.add(plan.Warn, c.name, "its signature can't be verified (%v): firmware does not look at it", c.AlgorithmError)
	}
	switch signsCerts := c.KeyUsage&x509.KeyUsageCertSign != 0; {
	case c.Version < 3:
		f.add(plan.Note, c.name, "is of version %d, without extensions: firmware does not mind", c.Version)
	case c.IsCA && !signsCerts && c.KeyUsage != 0:
		f.add(plan.Warn, c.name, "says that it is a CA, and that it signs no certificates: firmware does not mind, others do")
	case c.IsCA:
		f.add(plan.Note, c.name, "says that it is a CA, which it is not: firmware does not mind")
	case signsCerts:
		f.add(plan.Warn, c.name, "says that it is no CA, and signs certificates (keyCertSign): firmware does not mind, others do")
	}
	switch {
	case now.After(c.NotAfter):
		f.add(plan.Warn, c.name, "has ended on %s: firmware does not mind, tools may", c.NotAfter.Local().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		f.add(plan.Warn, c.name, "begins on %s only", c.NotBefore.Local().Format(time.DateOnly))
	}
	if k := c.KeyType(); k.Kind == spki.RSA && k.Bits > 2048 {
		f.add(plan.Note, c.name, "has an RSA key of %d bits: many boards take 2048 only", k.Bits)
	}
	if c.key == nil {
		f.add(plan.Note, c.name, "its key is not here: the plan has it as offline")
	}
}
