package plan

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/store"
)

// IssueRequest asks for one certificate of a profile that issues outside the
// entries of the plan. Its key comes from one of Request, Key and Public, or it is
// made, or found, at the place that the plan has for it.
type IssueRequest struct {
	Profile         string
	Name            string           // among the certificates of the profile; letters, digits, _ and -
	Subject         ca.SubjectConfig // laid over what the plan says, and the request
	SubjectAltNames []string         // beside those of the request
	Request         *Request         // nil: none
	Key             *keys.URI        // where the key is, or is to be made; relative to the PKI directory
	Public          crypto.PublicKey // of a key that the caller keeps
	Replace         bool             // revoke what the name has with another key
}

// Request is a certificate request, in DER or PEM.
type Request []byte

// Issued is a certificate with what belongs to it.
type Issued struct {
	Name        string // in the store: the profile's and the certificate's
	Profile     string
	Issuer      string
	Certificate *ca.Certificate
	Chain       []*ca.Certificate // the certificate, then those above it; the root last
	KeyURI      string            // "" if it is elsewhere
	KeyMade     bool
	Renewed     bool               // the name had a good certificate with the same key
	Revoked     []store.Revocation // what had another key
}

// IssuedName is what the store knows a certificate by that is no entry of the plan.
func IssuedName(profile, name string) string { return profile + "/" + name }

// DevicePrefix begins the names under which the store has the certificates of
// devices; the UUID follows in small letters, whatever the profile. So a device
// keeps its name when it changes from one product line to another.
const DevicePrefix = "device/"

// DeviceName is what the store knows the certificates of a device by.
func DeviceName(uuid string) string { return DevicePrefix + strings.ToLower(uuid) }

// Issue issues one certificate by the plan's issuer for the profile, and records
// it. A *ca.RejectedError is the requester's to mend.
func (p *PKI) Issue(ctx context.Context, o Options, r IssueRequest) (_ *Issued, err error) {
	i, err := p.Plan.IssuanceOf(r.Profile, r.Name)
	if err != nil {
		return nil, err
	}
	// 1. One at a time: two must not take one name.
	lock, err := LockPKI(ctx, p.Dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	db, err := p.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	issuer, err := p.issuerOf(i, o.Now())
	if err != nil {
		return nil, err
	}
	// 2. What is asked for, and by which key?
	out := &Issued{Name: IssuedName(i.Name, r.Name), Profile: i.Name, Issuer: i.Issuer.Name}
	names, err := db.ByName(ctx, out.Name)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(c store.Record) bool { return !good(c, o.Now()) })
	if r.Request == nil {
		if err := checkServer(i, r.SubjectAltNames); err != nil {
			return nil, err // before a key is made
		}
	}
	key, err := p.issuedKey(i, r, names)
	if err != nil {
		return nil, err
	}
	undo := key.undo
	defer func() {
		if err != nil {
			undo()
		}
	}()
	out.KeyURI, out.KeyMade = key.uri, key.made
	request := ca.Request{Name: out.Name, PublicKey: key.public, SubjectAltNames: r.SubjectAltNames, NotBefore: o.Now(), KeyURI: key.uri}
	if key.vetted == nil {
		request.Subject, err = ca.NewName(ca.SubjectConfig{CommonName: r.Name}.Merge(i.Subject).Merge(r.Subject))
	} else {
		request.SubjectAltNames = append(slices.Clone(key.vetted.SubjectAltNames), r.SubjectAltNames...)
		request.Subject = key.vetted.Subject
		if r.Subject != (ca.SubjectConfig{}) || key.vetted.Fields.CommonName == "" {
			request.Subject, err = ca.NewName(ca.SubjectConfig{CommonName: r.Name}.Merge(key.vetted.Fields).Merge(r.Subject))
		}
	}
	if err != nil {
		return nil, err
	}
	if err := checkServer(i, request.SubjectAltNames); err != nil {
		return nil, err
	}
	replaced, err := sameKey(ctx, db, out, key.public, names, r.Replace)
	if err != nil {
		return nil, err
	}
	// 3. Prepare, record the intent, sign, record.
	prepared, err := issuer.Prepare(i.Profile, request)
	if err != nil {
		return nil, err
	}
	if err := claim(ctx, db, prepared.Record(o.Actor), replaced); err != nil {
		return nil, err
	}
	undo = func() {} // from here on the store needs the key
	ctx = context.WithoutCancel(ctx)
	if out.Certificate, err = issuer.Sign(prepared); err != nil {
		return nil, err
	}
	if err := db.Complete(ctx, store.Completed{Serial: prepared.Serial(), DER: out.Certificate.Raw}); err != nil {
		return nil, fmt.Errorf("recording the certificate: %w", err)
	}
	above, err := p.Above(i.Issuer, o.Now())
	if err != nil {
		return nil, err
	}
	out.Chain = append([]*ca.Certificate{out.Certificate}, above...)
	// 4. What it takes the place of.
	for _, old := range replaced {
		out.Revoked = append(out.Revoked, store.Revocation{Serial: old.Serial, Issuer: old.Issuer, Reason: store.Superseded, Actor: o.Actor})
	}
	if len(out.Revoked) > 0 {
		if err := db.Revoke(ctx, out.Revoked...); err != nil {
			return out, fmt.Errorf("%s is issued, but revoking what it replaces failed: %w", out.Name, err)
		}
	}
	return out, nil
}

// IssuanceOf returns how a profile is issued outside the entries, if the name is
// one that its certificates can have.
func (p *Plan) IssuanceOf(profile, name string) (*Issuance, error) {
	i, err := p.Issuance(profile)
	switch {
	case err != nil:
		return nil, err
	case !namePattern.MatchString(name):
		return nil, fmt.Errorf("%q is not a name of letters, digits, _ and -", name)
	case p.Entry(name) != nil:
		return nil, fmt.Errorf("%q is an entry of the plan, which tmpki apply issues: take another name", name)
	case i.Request != nil && i.Request.UUID() == ca.UUIDRequired:
		return nil, fmt.Errorf("profile %q is one of devices, which are known by their UUID: tmpki device sign takes their requests", profile)
	}
	return i, nil
}

// good reports whether a certificate is neither revoked nor over.
func good(c store.Record, now time.Time) bool {
	return (c.State == store.Issued || c.State == store.Held) && now.Before(c.NotAfter)
}

// issuerOf returns the issuer of a profile, if it may issue now.
func (p *PKI) issuerOf(i *Issuance, now time.Time) (*ca.Issuer, error) {
	if err := p.CheckRevoked(i.Issuer); err != nil {
		return nil, err
	}
	signer, err := p.Signer(i.Issuer)
	if err != nil {
		return nil, err
	}
	chain, err := p.Chain(i.Issuer)
	if err != nil {
		return nil, err
	}
	for n, c := range chain {
		if now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
			return nil, fmt.Errorf("%s can't issue now: the certificate of %s is valid from %s to %s", i.Issuer.Name, i.Issuer.Chain()[n].Name,
				c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	linter, err := ca.NewLinter()
	if err != nil {
		return nil, err
	}
	return ca.NewIssuer(i.Issuer.Name, chain[0], signer, i.Issuer.Algorithm, linter)
}

// checkServer refuses a TLS server without a name that clients could check.
func checkServer(i *Issuance, names []string) error {
	if !i.Profile.ExtKeyUsage("serverAuth") {
		return nil
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "dns:") || strings.HasPrefix(n, "ip:") }) {
		return nil
	}
	return &ca.RejectedError{Reason: fmt.Sprintf("no client accepts a server of profile %q without its host name: name it with --san dns:HOST, or ip:ADDRESS", i.Name)}
}

// sameKey holds a key against what it and the name are certified for already. It
// returns what is to be revoked.
func sameKey(ctx context.Context, db *store.DB, out *Issued, key crypto.PublicKey, names []store.Record, replace bool) ([]store.Record, error) {
	if err := ca.CheckKey(key); err != nil {
		return nil, err
	}
	encoded, err := spki.MarshalPublicKey(key)
	if err != nil {
		return nil, err
	}
	id, err := spki.KeyID(encoded)
	if err != nil {
		return nil, err
	}
	// 1. A key is one name's.
	others, err := db.ByKey(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, c := range others {
		if c.Name != out.Name {
			return nil, &ca.RejectedError{Reason: fmt.Sprintf("%s: its key is that of %s: each has a key of its own", out.Name, c.Name)}
		}
		if c.State != store.Revoked {
			continue
		}
		r, err := db.Revocation(ctx, c.Issuer, c.Serial)
		if err != nil {
			return nil, err
		}
		switch r.Reason {
		case store.KeyCompromise, store.CACompromise, store.AACompromise:
			return nil, &ca.RejectedError{Reason: fmt.Sprintf("%s: its key had the certificate %x, which is revoked (%v): take another key", out.Name, c.Serial, r.Reason)}
		}
	}
	// 2. A name has one key.
	var replaced []store.Record
	for _, c := range names {
		if slices.Equal(c.SubjectKeyID, id) {
			out.Renewed = true
			continue
		}
		if !replace {
			return nil, fmt.Errorf("%s has the certificate %x with another key until %s: --replace revokes that", out.Name, c.Serial, c.NotAfter.Local().Format(time.DateOnly))
		}
		replaced = append(replaced, c)
	}
	return replaced, nil
}

// claim records the intent for a certificate, if what sameKey has found is still
// true: who issues for devices takes no lock of the PKI, but claims as well.
func claim(ctx context.Context, db *store.DB, r store.Record, replaced []store.Record) error {
	c := store.Claim{Record: r}
	for {
		err := db.Claim(ctx, c)
		var taken *store.TakenError
		if !errors.As(err, &taken) {
			return err
		}
		for _, other := range taken.Taken[0] {
			over := other.State != store.Intended && !good(other, r.NotBefore) ||
				slices.ContainsFunc(replaced, func(old store.Record) bool { return slices.Equal(old.Serial, other.Serial) })
			switch {
			case other.Name != r.Name:
				return &ca.RejectedError{Reason: fmt.Sprintf("%s: its key is that of %s: each has a key of its own", r.Name, other.Name)}
			case !over && !slices.Equal(other.SubjectKeyID, r.SubjectKeyID):
				return &ca.RejectedError{Reason: fmt.Sprintf("%s is being issued with another key, with serial %x: try again; if that was given up, revoke the serial", r.Name, other.Serial)}
			}
			c.Known = append(c.Known, other.Serial)
		}
	}
}

// IssuedList returns the certificates outside the entries, by name, newest first:
// of one profile, or for "" of all that issue but those of devices.
func (p *PKI) IssuedList(ctx context.Context, profile string) (out []store.Record, err error) {
	profiles := p.Plan.issuances()
	if profile != "" {
		i, err := p.Plan.Issuance(profile)
		if err != nil {
			return nil, err
		}
		profiles = []*Issuance{i}
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, i := range profiles {
		if i.Request != nil && i.Request.UUID() == ca.UUIDRequired && profile == "" {
			continue
		}
		var after store.Cursor
		for {
			page, next, err := db.Page(ctx, store.Query{NamePrefix: IssuedName(i.Name, "")}, after, 1000)
			if err != nil {
				return nil, err
			}
			out = append(out, page...)
			if after = next; after == "" {
				break
			}
		}
	}
	return out, nil
}
