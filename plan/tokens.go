package plan

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

// inToken reports whether the place of the entry's key is a PKCS#11 token.
func (e *Entry) inToken() bool { return e.Key.Scheme == keys.SchemePKCS11 }

// TokenUse says what the entry's key must be able to do in a token.
func (e *Entry) TokenUse() keys.TokenUse {
	return keys.TokenUse{Type: e.KeyType, PSS: e.Algorithm.Scheme == spki.PSS}
}

// readTokens looks at the places of keys in tokens, without a PIN. What a token
// hides from strangers is looked for again with the PIN, if that is at hand.
func (have *Inventory) readTokens(p *Plan) []fault {
	var entries []*Entry
	var uris []keys.URI
	for _, e := range p.Entries {
		if e.inToken() && e.TwinOf == nil {
			entries, uris = append(entries, e), append(uris, e.Key)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	var faults []fault
	owners := map[string]*Entry{} // by public key
	for i, s := range keys.Look(uris...) {
		e := entries[i]
		cert := have.Certificates[e.Name]
		if s.Err == nil && s.Key == nil && !s.Sure && cert != nil && keys.PINAtHand(e.Key) {
			if err := keys.Login(e.Key, false); err != nil {
				s = keys.Sight{Err: err}
			} else {
				s = keys.Look(e.Key)[0]
			}
		}
		have.Tokens[e.Name] = s
		switch {
		case s.Err != nil:
		case s.Key != nil:
			t, err := e.TokenUse().TypeOf(s.Key)
			if err != nil {
				faults = append(faults, fault{e.Name, fmt.Errorf("key of %s at %s: %w", e.Name, e.Key, err)})
				continue
			}
			have.Keys[e.Name] = KeyFile{Type: t}
			id := tokenKeyID(s.Key)
			if o := owners[id]; o != nil {
				faults = append(faults, fault{e.Name, fmt.Errorf("%s.place: %s and %s, the place of %s, are one key", e.key, e.Key, o.Key, o.Name)})
			}
			owners[id] = e
		case cert != nil && !s.Sure:
			have.Keys[e.Name] = KeyFile{} // one can't see it
		}
	}
	return faults
}

// tokenKeyID tells keys apart, as a token does.
func tokenKeyID(key crypto.PublicKey) string {
	if k, ok := spki.RSAKey(key); ok {
		key = k
	}
	der, err := spki.MarshalPublicKey(key)
	if err != nil {
		return ""
	}
	return string(der)
}

// tokenKeyStep returns the step that gives an entry without a certificate its
// key in a token. A key that is there is taken only if a run that died can have
// left it.
func (have Inventory) tokenKeyStep(e *Entry) (Step, error) {
	step := Step{Kind: GenerateKey, Entry: e}
	s := have.Tokens[e.Name]
	switch {
	case s.Err != nil:
		return step, fmt.Errorf("%s.place: no key can be made at %s: %w", e.key, e.Key, s.Err)
	case s.Key == nil && len(s.Certificates) == 0:
		return step, nil
	case len(s.Certificates) > 0:
		return step, fmt.Errorf("%s.place: a key with a certificate is at %s already: it belongs to another PKI, or %s was lost. Restore that, or name another place", e.key, e.Key, StoreName)
	}
	if t := have.Keys[e.Name].Type; t != e.KeyType {
		return step, fmt.Errorf("%s.place: a key of type %v is at %s already, but the plan wants %v: name another place", e.key, t, e.Key, e.KeyType)
	}
	step.Reason = "it is there already, and in no use"
	return step, nil
}

// certificateSteps returns the steps that put certificates beside their keys in
// tokens. A token that is not there gets its own when it is.
func (p *Plan) certificateSteps(have Inventory, pending map[*Entry]bool) []Step {
	var steps []Step
	for _, e := range p.Entries {
		s, ok := have.Tokens[e.Name]
		if !ok || s.Err != nil || e.TwinOf != nil || e.AtCeremony {
			continue
		}
		cert := have.Certificates[e.Name]
		step := Step{Kind: StoreCertificate, Entry: e}
		switch {
		case pending[e] && cert != nil:
			step.Reason = "the certificate is new"
		case pending[e]:
		case cert == nil, len(s.Certificates) == 1 && bytes.Equal(s.Certificates[0], cert.Raw):
			continue
		case len(s.Certificates) > 0:
			step.Reason = "it differs from the record"
		}
		if have.lacksKey(e) {
			continue // told where it matters
		}
		steps = append(steps, step)
	}
	return steps
}

// checkTokens holds the steps against the tokens in which they would make keys,
// and reports all that those can't do.
func checkTokens(steps []Step) error {
	var errs []error
	for _, s := range steps {
		if s.Kind != GenerateKey || !s.Entry.inToken() {
			continue
		}
		if err := keys.CheckToken(s.Entry.Key, s.Entry.TokenUse()); err != nil {
			errs = append(errs, fmt.Errorf("%s: no key can be made at %s: %w", s.Entry.key, s.Entry.Key, err))
		}
	}
	return errors.Join(errs...)
}

// generateInTokens makes the keys of entries whose places are in tokens.
func (r *run) generateInTokens(ctx context.Context, entries []*Entry) error {
	made := make([]*keys.TokenKey, len(entries))
	signers := make([]crypto.Signer, len(entries))
	err := parallel(len(entries), func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := entries[i]
		signer, isNew, err := keys.GenerateInToken(e.Key, e.TokenUse())
		if err != nil {
			return fmt.Errorf("key of %s: %w", e.Name, err)
		}
		if isNew {
			made[i] = keys.InToken(signer)
		}
		signers[i] = signer
		return nil
	})
	for i, k := range made {
		if k != nil {
			r.inTokens = append(r.inTokens, k)
		}
		if err == nil {
			r.progress(Step{Kind: GenerateKey, Entry: entries[i]})
		}
	}
	if err != nil {
		return err
	}
	owners := map[string]*Entry{} // by public key: two spellings can be one place
	for i, e := range entries {
		id := tokenKeyID(signers[i].Public())
		if o := owners[id]; o != nil {
			return fmt.Errorf("%s.place: %s and %s, the place of %s, are one key", e.key, e.Key, o.Key, o.Name)
		}
		owners[id] = e
		r.ring.put(e, signers[i])
	}
	return nil
}

// storeCertificate puts the certificate of an entry beside its key.
func (r *run) storeCertificate(s Step) error {
	if err := keys.StoreCertificate(s.Entry.Key, r.Have.Certificates[s.Entry.Name].Raw); err != nil {
		return fmt.Errorf("certificate of %s at %s: %w", s.Entry.Name, s.Entry.Key, err)
	}
	r.progress(s)
	return nil
}

// tokenKey is findings.key for a key in a token.
func (f *findings) tokenKey(r *PKI, e *Entry, c *ca.Certificate) {
	s := r.Have.Tokens[e.Name]
	away := Warn // what is issued stays good, but nothing new can be signed
	if e.Custody != Online {
		away = Note
	}
	switch {
	case errors.Is(s.Err, keys.ErrNoToken) || errors.Is(s.Err, fs.ErrNotExist):
		f.add(away, e.Name, "its key is not here: %v", s.Err)
	case s.Err != nil:
		f.add(Warn, e.Name, "its key at %s can't be looked at: %v", e.Key, s.Err)
	case s.Key == nil && s.Sure:
		f.add(Bad, e.Name, "its key is not at %s, though the token is there", e.Key)
	case s.Key == nil:
		f.add(Warn, e.Name, "its key at %s does not show without the PIN of the token: set %s to have it looked for", e.Key, keys.EnvPIN)
	case !keys.SameKey(s.Key, c.Key):
		f.add(Bad, e.Name, "the key at %s is not the key of its certificate", e.Key)
	case e.Custody == Offline:
		f.add(Warn, e.Name, "its custody is offline, but its token is here: take it to its place")
	}
}

// KeyOwners returns the entries that a public key is of: by their certificates,
// or by what lies at their place in a token. Twins are left out.
func (p *PKI) KeyOwners(key crypto.PublicKey) []*Entry {
	var list []*Entry
	for _, e := range p.Plan.Entries {
		if e.TwinOf != nil {
			continue
		}
		cert, s := p.Have.Certificates[e.Name], p.Have.Tokens[e.Name]
		if cert != nil && keys.SameKey(cert.Key, key) || cert == nil && s.Key != nil && keys.SameKey(s.Key, key) {
			list = append(list, e)
		}
	}
	return list
}
