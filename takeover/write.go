package takeover

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
)

// batch is how many certificates are recorded at once.
const batch = 1000

// Result says what Write has made.
type Result struct {
	Entries      int `json:"entries"`
	Certificates int `json:"certificates"` // recorded, those of entries included
	Revocations  int `json:"revocations"`
	Keys         int `json:"keys"` // copied

	Variables int      `json:"variables"`        // signed UEFI variables that were recorded
	Signed    []string `json:"signed,omitempty"` // UEFI variables that had to be signed anew
}

// Write makes the PKI directory dir of what was found, whole or not at all. env is
// the environment variable with the passphrase of encrypted keys.
func (f *Found) Write(ctx context.Context, dir, env string, o plan.Options) (*Result, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	text, err := f.plan(dir, env)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	result := &Result{Entries: len(f.all())}
	err = plan.Create(ctx, dir, o.Waiting, func(staging string) error {
		if err := durable.CreateFile(filepath.Join(staging, plan.FileName), text, 0o644); err != nil {
			return err
		}
		if result.Keys, err = f.copyKeys(staging); err != nil {
			return err
		}
		if err := f.copyVendors(staging); err != nil {
			return err
		}
		if err := f.record(ctx, staging, o, result); err != nil {
			return err
		}
		// What apply has to do now is to publish, and to sign what the findings say;
		// what it would do else would be a surprise.
		_, steps, err := plan.Preview(ctx, staging, o.Demand)
		if err != nil {
			return fmt.Errorf("the new directory: %w", err)
		}
		for _, s := range steps {
			if s.Kind != plan.PublishFile && s.Kind != plan.StoreCertificate && !f.resigns(s) {
				return fmt.Errorf("the plan would %s %s: %s", s.Kind, s.Name(), s.Reason)
			}
		}
		_, err = plan.Fill(ctx, staging, o)
		return err
	})
	return result, err
}

// plan returns the text of the plan, with as_issued where a certificate is not
// what its profile says.
func (f *Found) plan(dir, env string) ([]byte, error) {
	path := filepath.Join(dir, plan.FileName)
	p, err := plan.Load(path, f.planText(env, nil))
	if err != nil {
		return nil, fmt.Errorf("no plan can describe this: %w", err)
	}
	asIssued := map[string]bool{}
	for _, c := range f.all() {
		if e := p.Entry(c.name); e.TwinOf == nil && e.Profile.Drift(c.Certificate, e.SubjectAltNames) != "" {
			asIssued[c.name] = true
		}
	}
	for _, c := range f.twins() { // a twin is as its original
		if e := p.Entry(c.name); e.Profile.Drift(c.Certificate, e.SubjectAltNames) != "" {
			asIssued[c.twin.name] = true
		}
	}
	text := f.planText(env, asIssued)
	_, err = plan.Load(path, text)
	return text, err
}

// copyKeys writes the keys as they are, encryption included.
func (f *Found) copyKeys(dir string) (n int, err error) {
	for _, c := range f.all() {
		if c.key == nil || c.key.content == nil || c.twin != nil {
			continue
		}
		if err := durable.CreateFile(filepath.Join(dir, c.name+".key"), c.key.content, 0o600); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// record fills the store: certificates, revocations, CRL numbers.
func (f *Found) record(ctx context.Context, dir string, o plan.Options, result *Result) (err error) {
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return err
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	// 1. Certificates. Of one name the newest comes last: that is the entry's.
	var list []store.Imported
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		err := db.Import(ctx, list...)
		result.Certificates += len(list)
		list = nil
		return err
	}
	for _, last := range []bool{false, true} {
		for _, c := range f.ordered(last) {
			list = append(list, c.imported(p, o.Actor))
			if len(list) == batch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	// 2. Revocations.
	for _, x := range f.indexes {
		if err := f.revoke(ctx, db, x, o, result); err != nil {
			return fmt.Errorf("%s: %w", x.file, err)
		}
	}
	// 3. Numbers of CRLs.
	if err := f.recordCRLs(ctx, db, o); err != nil {
		return err
	}
	// 4. UEFI variables.
	return f.recordUEFI(ctx, p, db, o, result)
}

// ordered returns the certificates to record: those that are only records, then
// those of the entries.
func (f *Found) ordered(entries bool) (out []*certificate) {
	if entries {
		return f.all()
	}
	for _, c := range f.certs {
		if c.name != "" || c.root() == nil || c.SerialNumber.Sign() <= 0 || len(c.SerialNumber.Bytes()) > 20 {
			continue
		}
		if c.platformKey() {
			continue
		}
		out = append(out, c)
	}
	return out
}

func (c *certificate) imported(p *plan.PKI, actor string) store.Imported {
	r := store.Record{
		Serial: c.SerialNumber.Bytes(), Name: c.record, Profile: "issued", Issuer: c.record, Actor: actor,
		SubjectKeyID: c.SubjectKeyId, NotBefore: c.NotBefore, NotAfter: c.NotAfter, DER: c.Raw,
	}
	if len(r.SubjectKeyID) > 64 {
		r.SubjectKeyID = nil
	}
	if c.issuer != nil {
		r.Issuer, r.IssuerKeyID = c.issuer.record, c.issuer.SubjectKeyId
	} else {
		r.IssuerKeyID = c.SubjectKeyId
	}
	if e := p.Plan.Entry(c.name); e != nil {
		r.Profile, r.KeyURI = e.Profile.Name(), e.Key.String()
	}
	return store.Imported{Record: r, Detail: map[string]string{"from": filepath.Base(c.file)}}
}

// revoke records what an index.txt says of its CA's certificates. A certificate
// that is not here has a serial at least, for CRLs: it is revoked as one that was
// only intended.
func (f *Found) revoke(ctx context.Context, db *store.DB, x *index, o plan.Options, result *Result) error {
	issuer := f.issuerOf(x)
	if issuer == nil {
		return nil
	}
	for _, l := range x.lines {
		if l.status != 'R' {
			continue
		}
		_, err := db.ByIssuerSerial(ctx, issuer.record, l.serial)
		if errors.Is(err, store.ErrNotFound) {
			err = db.Intend(ctx, store.Record{
				Serial: l.serial, Name: fmt.Sprintf("serial-%x", l.serial), Profile: "issued", Issuer: issuer.record, Actor: o.Actor,
				IssuerKeyID: issuer.SubjectKeyId, NotBefore: minTime(issuer.NotBefore, l.expires), NotAfter: l.expires,
			})
		}
		if err == nil {
			err = db.Revoke(ctx, store.Revocation{Serial: l.serial, Issuer: issuer.record, Reason: l.reason, Time: l.revoked, Invalidity: l.invalidity, Actor: o.Actor})
		}
		if already := new(store.AlreadyRevokedError); errors.As(err, &already) {
			continue // a line that is there twice, and accepted
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", l.number, err)
		}
		result.Revocations++
	}
	return nil
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// recordCRLs makes the next CRL of each authority go on from the last one.
func (f *Found) recordCRLs(ctx context.Context, db *store.DB, o plan.Options) error {
	for _, c := range f.entries {
		if !c.authority() || c.twin != nil {
			continue
		}
		crl := store.CRL{Issuer: c.record, IssuerKeyID: c.SubjectKeyId, Covers: -1, Actor: o.Actor}
		for _, l := range f.crls {
			if l.list.Number == nil || !l.list.Number.IsUint64() || string(l.list.RawIssuer) != string(c.RawSubject) || l.list.Number.Uint64() < crl.Number {
				continue
			}
			crl.Number, crl.ThisUpdate, crl.NextUpdate = l.list.Number.Uint64(), l.list.ThisUpdate, l.list.NextUpdate
			crl.SHA256, crl.Size, crl.Entries = sha256.Sum256(l.list.Raw), l.size, int64(len(l.list.RevokedCertificateEntries))
		}
		for _, x := range f.indexes {
			if f.issuerOf(x) == c && x.crlNumber > 0 && x.crlNumber-1 > crl.Number {
				// The last one is not here: its number is what counts, and its size, of
				// which nothing is known, must be one.
				crl = store.CRL{Issuer: c.record, IssuerKeyID: c.SubjectKeyId, Covers: -1, Actor: o.Actor, Number: x.crlNumber - 1, Size: 1}
				crl.ThisUpdate = o.Now().UTC().Truncate(time.Second)
				crl.NextUpdate = crl.ThisUpdate.Add(24 * time.Hour) // time to make the next one
			}
		}
		if crl.Number == 0 {
			continue
		}
		if crl.NextUpdate.IsZero() { // a CRL need not have one
			crl.NextUpdate = crl.ThisUpdate.Add(24 * time.Hour)
		}
		if err := db.RecordCRL(ctx, crl); err != nil {
			return err
		}
	}
	return nil
}
