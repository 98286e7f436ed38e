// Package enroll issues certificates on request: one for a device that sends its
// request, or a million for a factory line. What a request may say stands in the
// plan (profiles with an issuer), and is held against it by package ca; here
// stands what the record of the PKI has to say about a request: whether the device
// or the key has a certificate already, or must not have one.
//
// Everything goes the road of package ca: vet, prepare, record the intent, sign,
// record the certificate, and only then hand it out. A batch goes it in groups on
// all cores. Whatever is killed and whenever, the same requests lead to the same
// certificates: a device never has two.
//
// It knows no terminal and no network: see cmd/tmpki.
package enroll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/store"
)

// NamePrefix begins the names under which the store has the certificates of
// devices.
const NamePrefix = plan.DevicePrefix

// Options are what a Registrar needs beside the PKI.
type Options struct {
	Actor string           // for the record
	Now   func() time.Time // the clock

	// Replace lets a device that has a certificate have another one for another
	// key, profile, or after it was revoked, or its issuer's key was taken out of
	// use. The old one is revoked: superseded.
	Replace bool

	// Renew lets a device whose certificate ends within that time have another one
	// for the same key. The old one stays good until it ends. It must be shorter
	// than the validity of the profile, or the new one would be due at once.
	Renew time.Duration

	AllowList string // file with the devices that may have a certificate; "": the plan's, if it names one
}

// Registrar issues the certificates of one profile. It is safe for concurrent use.
type Registrar struct {
	pki      *plan.PKI
	issuance *plan.Issuance
	issuer   *ca.Issuer
	chain    []*ca.Certificate            // the issuer's certificate and those above it
	chains   map[string][]*ca.Certificate // the same of all that issued, by key identifier
	db       *store.DB
	o        Options

	reserved    plan.Reserved
	caKeys      map[string]string // by key identifier, the entries of the plan
	allowed     *AllowList        // nil: all
	compromised *ca.CompromisedKeys
}

// Open opens the profile of a PKI for issuing. Close it.
func Open(ctx context.Context, pki *plan.PKI, profile string, o Options) (*Registrar, error) {
	i, err := pki.Plan.Issuance(profile)
	if err != nil {
		return nil, err
	}
	if i.Request == nil {
		return nil, fmt.Errorf("profiles.%s.request: missing in the plan: no request may use the profile", profile)
	}
	r := &Registrar{pki: pki, issuance: i, o: o, reserved: pki.Reserved(), chains: map[string][]*ca.Certificate{}, caKeys: map[string]string{}}
	// 1. Who signs.
	if err := pki.CheckRevoked(i.Issuer); err != nil {
		return nil, err
	}
	signer, err := pki.Signer(i.Issuer)
	if err != nil {
		return nil, err
	}
	if r.chain, err = pki.Chain(i.Issuer); err != nil {
		return nil, err
	}
	// What was issued before may be by another generation of the key, or, after a
	// change of the plan, by another authority.
	for _, e := range pki.Plan.Entries {
		if e.Kind != plan.Authority {
			continue
		}
		for _, g := range e.Trusted() {
			if above, err := pki.Above(g, o.Now()); err == nil && pki.CheckRevoked(g) == nil {
				r.chains[string(above[0].SubjectKeyId)] = above
			}
		}
	}
	now := o.Now()
	for _, c := range r.chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return nil, fmt.Errorf("%s can't sign now: %s is valid from %s to %s", i.Issuer.Name, c.Subject(), c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	if o.Renew < 0 || o.Renew >= i.Profile.Validity() {
		return nil, fmt.Errorf("renewing %d days before the end: certificates of profile %s live %d days", int(o.Renew.Hours()/24), i.Name, int(i.Profile.Validity().Hours()/24))
	}
	if days := i.Profile.Validity(); now.Add(days).After(r.chain[0].NotAfter) {
		return nil, fmt.Errorf("certificates of %dd would outlive %s, which ends on %s: shorten profiles.%s.validity, or renew %s",
			int(days.Hours()/24), i.Issuer.Name, r.chain[0].NotAfter.Local().Format(time.DateOnly), i.Name, i.Issuer.Name)
	}
	linter, err := ca.NewLinter()
	if err != nil {
		return nil, err
	}
	if r.issuer, err = ca.NewIssuer(i.Issuer.Name, r.chain[0], signer, i.Issuer.Algorithm, linter); err != nil {
		return nil, err
	}
	// 2. Who may have a certificate.
	for name, c := range pki.Have.Certificates {
		r.caKeys[string(c.SubjectKeyId)] = name
	}
	list := o.AllowList
	if list == "" && i.AllowList != "" {
		list = r.path(i.AllowList)
	}
	if list != "" {
		if r.allowed, err = LoadAllowList(list); err != nil {
			return nil, err
		}
	}
	if r.compromised, err = pki.CompromisedKeys(i); err != nil {
		return nil, err
	}
	if r.db, err = pki.OpenStore(ctx); err != nil {
		return nil, err
	}
	r.db.Now = o.Now
	return r, nil
}

// Close closes the store.
func (r *Registrar) Close() error { return r.db.Close() }

// path returns where a file of the plan is.
func (r *Registrar) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(r.pki.Dir, file)
}

// Chain says what follows a certificate that is handed out.
type Chain string

// The chains. A device that authenticates itself sends the sub CA too; whoever
// verifies has the root.
const (
	Leaf        Chain = "leaf"
	WithIssuers Chain = "issuers" // all but the root
	WithRoot    Chain = "root"
)

// PEM returns a certificate with its chain as a device takes it: from the first
// line to the last nothing but PEM, the device's own first.
func (r *Registrar) PEM(c *ca.Certificate, chain Chain) ([]byte, error) {
	list := []*ca.Certificate{c}
	above := r.chains[string(c.AuthorityKeyId)]
	if len(above) == 0 {
		return nil, fmt.Errorf("certificate %x was issued by a key that is not in use any more", c.SerialNumber)
	}
	switch chain {
	case Leaf:
	case WithIssuers:
		list = append(list, above[:len(above)-1]...)
	case WithRoot:
		list = append(list, above...)
	default:
		return nil, fmt.Errorf("chain %q is unknown: use %s, %s or %s", chain, Leaf, WithIssuers, WithRoot)
	}
	return ca.MarshalPEM(list...), nil
}

// Result is what became of one request.
type Result struct {
	Index       int    // of the batch, from 0
	Source      string // as the Request has it
	UUID        string // "" if the request has none, or could not be read
	CommonName  string // may hold anything: see ca.Printable
	Certificate *ca.Certificate
	Known       bool  // it was issued before, for the same key
	Err         error // why there is no certificate; a *ca.RejectedError
}

// Sign issues the certificate for one request, DER or PEM, or returns the one that
// was issued for it before. The error is that of the result, or ours.
func (r *Registrar) Sign(ctx context.Context, request []byte) (Result, error) {
	var result Result
	_, err := r.signAll(ctx, func(yield func(Request) bool) { yield(Request{Data: request}) }, func(one Result) error {
		result = one
		return one.Err
	})
	return result, err
}

// item is one request on its way.
type item struct {
	result Result
	data   []byte

	vetted   *ca.Vetted
	name     string // in the store
	prepared *ca.Prepared
	known    [][]byte // serials that don't stand in the way
	recorded bool     // the intent is in the store
	leader   *item    // an earlier request of this batch for the same
}

func rejectf(format string, args ...any) error {
	return &ca.RejectedError{Reason: fmt.Sprintf(format, args...)}
}

// vet holds a request against the plan and prepares its certificate. It asks no store.
func (r *Registrar) vet(i *item) error {
	parsed, err := ca.ParseUnprovenRequest(i.data)
	if err != nil {
		return rejectf("%v", err)
	}
	i.result.CommonName = parsed.Subject().CommonName()
	v, err := r.issuance.Request.Vet(r.issuance.Profile, r.issuance.Subject, parsed)
	if err != nil {
		return err
	}
	i.vetted, i.result.UUID, i.result.CommonName = v, v.UUID, v.Fields.CommonName
	i.name = r.name(v)
	if owner := r.caKeys[string(v.KeyID)]; owner != "" {
		return rejectf("publicKey: is the key of %s of this PKI", owner)
	}
	if r.compromised.Contains(v.Key) {
		return rejectf("publicKey: is on a list of compromised keys: others have its private key")
	}
	if r.allowed != nil && !r.allowed.Allows(v.UUID, v.Fields.SerialNumber, v.Fields.CommonName) {
		return rejectf("is not on the allow-list: neither its UUID nor its serial number")
	}
	// The issuer's own name constraints are Prepare's to check.
	for _, above := range r.issuance.Issuer.Chain()[1:] {
		if err := above.Profile.Permits(v.Subject, v.SubjectAltNames, true); err != nil {
			return rejectf("%v, which the name constraints of %s forbid", err, above.Name)
		}
	}
	i.prepared, err = r.issuer.Prepare(r.issuance.Profile, r.request(i))
	return err
}

func (r *Registrar) request(i *item) ca.Request {
	return i.vetted.Request(i.name, r.o.Now())
}

// name is what the store knows the certificate by.
func (r *Registrar) name(v *ca.Vetted) string {
	if v.UUID != "" {
		return NamePrefix + strings.ToLower(v.UUID)
	}
	return fmt.Sprintf("%s/%x", r.issuance.Name, v.KeyID)
}

// judge decides what others of the same name or key, certificates and open
// intents, mean for an item. It returns what is to be revoked before the item may
// be recorded; or the item has a result now, or an intent to go on with.
func (r *Registrar) judge(ctx context.Context, i *item, others []store.Record) (revoke []store.Revocation, err error) {
	now := r.o.Now()
	supersede := func(o store.Record) {
		revoke = append(revoke, store.Revocation{Serial: o.Serial, Issuer: o.Issuer, Reason: store.Superseded, Actor: r.o.Actor})
	}
	for _, o := range others {
		i.known = append(i.known, o.Serial)
		sameKey := bytes.Equal(o.SubjectKeyID, i.vetted.KeyID)
		sameName := o.Name == i.name
		switch {
		case o.State == store.Intended && sameKey && sameName && o.Profile == r.issuance.Name && now.Before(o.NotAfter):
			// A process died over it, or is about to sign. It doesn't matter: the
			// store takes the certificate once.
			p, err := r.issuer.Resume(r.issuance.Profile, r.request(i), o)
			if err == nil {
				i.prepared, i.recorded = p, true
				return nil, nil
			}
			// It may not be signed any more, as when it begins before its issuer, which
			// was renewed since; a new one may, as Prepare has found.
			var rejected *ca.RejectedError
			if !errors.Is(err, ca.ErrOther) && !errors.As(err, &rejected) {
				return nil, err
			}
			supersede(o)
		case o.State == store.Intended && sameName:
			supersede(o) // nobody has that certificate
		case o.State == store.Intended:
			return nil, rejectf("publicKey: a certificate for %s is being made for it, with serial %x; if that was given up, revoke the serial", o.Name, o.Serial)
		case o.State == store.Revoked:
			revocation, err := r.db.Revocation(ctx, o.Issuer, o.Serial)
			if err != nil {
				return nil, err
			}
			if sameKey && compromised(revocation.Reason) {
				return nil, rejectf("publicKey: its certificate %x was revoked on %s: %v", o.Serial, revocation.Time.Local().Format(time.DateOnly), revocation.Reason)
			}
			// What was wrong with the old key is mended by another one; else the device
			// itself was not to have a certificate any more.
			mended := !sameKey && (compromised(revocation.Reason) || revocation.Reason == store.Superseded)
			if sameName && !mended && !r.o.Replace && !r.alive(others, now) {
				return nil, rejectf("its certificate %x was revoked on %s: %v; --replace issues another one", o.Serial, revocation.Time.Local().Format(time.DateOnly), revocation.Reason)
			}
		case now.After(o.NotAfter) && sameName:
		case !sameName:
			return nil, rejectf("publicKey: has a certificate for %s already, with serial %x", o.Name, o.Serial)
		case o.State == store.Held:
			return nil, rejectf("its certificate %x is on hold", o.Serial)
		case sameKey && o.Profile == r.issuance.Name:
			c, err := ca.ParseCertificate(o.DER)
			if err != nil {
				return nil, fmt.Errorf("the store's certificate %x: %w", o.Serial, err)
			}
			if r.chains[string(c.AuthorityKeyId)] != nil {
				if r.o.Renew > 0 && !o.NotAfter.After(now.Add(r.o.Renew)) {
					continue // others are newest first: none that lasts longer is there
				}
				i.result.Certificate, i.result.Known = c, true
				return nil, nil
			}
			if !r.o.Replace {
				return nil, rejectf("its certificate %x is by a key of %s that is not in use any more; --replace issues another one", o.Serial, o.Issuer)
			}
			supersede(o)
		case r.o.Replace:
			supersede(o)
		case sameKey:
			return nil, rejectf("UUID: has a certificate %x of profile %s already; --replace revokes that", o.Serial, o.Profile)
		default:
			return nil, rejectf("UUID: has a certificate %x for another key already; --replace revokes that", o.Serial)
		}
	}
	return revoke, nil
}

// alive reports whether one of the certificates is in use.
func (r *Registrar) alive(list []store.Record, now time.Time) bool {
	for _, o := range list {
		if o.State == store.Issued && !now.After(o.NotAfter) {
			return true
		}
	}
	return false
}

// compromised reports whether a reason says that somebody else may have the key.
func compromised(reason store.Reason) bool {
	return reason == store.KeyCompromise || reason == store.CACompromise || reason == store.AACompromise
}
