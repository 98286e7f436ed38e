package plan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/cms"
	"tmpki/store"
	"tmpki/uefi"
)

// UnconfirmedError says that a response brings certificates that nothing on record
// vouches for: new roots, or platform keys. Whoever compares the digest with the
// one that the ceremony has shown can confirm them all by it.
type UnconfirmedError struct {
	Digest ceremony.Digest
	New    []string // what is new, in words
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("the response brings what only its digest can vouch for, which is %s", e.Digest.Short())
}

// TakeResponse checks the response of a ceremony to a request of this PKI and
// records what it has signed. confirm is called with the error if somebody has to
// compare the response's digest, and returns nil if it is right. Steps that
// waited for the response are then for Apply. Taken in part by a run that was
// killed, it can be taken again.
func TakeResponse(ctx context.Context, dir string, bundle []byte, o Options, confirm func(*UnconfirmedError) error) (_ *Answer, err error) {
	response, err := ceremony.ParseResponse(bundle)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		return nil, fmt.Errorf("no PKI directory: %w", err)
	}
	lock, err := LockPKI(ctx, dir, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.Now = o.Now
	t := &taking{PKI: p, db: db, o: o, response: response}
	// 1. For which request?
	if err := t.findRequest(ctx); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	// 2. What is in it?
	for _, check := range []func() error{t.certificates, t.variables, t.crls, t.signatures, t.transcript} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("response: %w", err)
		}
	}
	if len(t.unvouched) > 0 {
		if err := confirm(&UnconfirmedError{response.Digest(), t.unvouched}); err != nil {
			return nil, err
		}
	}
	// 3. Record it. The response comes last: by that, the request is answered.
	if err := t.record(ctx); err != nil {
		return nil, err
	}
	file, err := writeTranscript(dir, response)
	return &Answer{response, false, file}, err
}

// taking is a response on its way into the record.
type taking struct {
	*PKI
	db       *store.DB
	o        Options
	response *ceremony.Response
	request  *ceremony.Request

	issued    map[string]*ca.Certificate // new, by entry
	signed    []store.Object             // variables
	unvouched []string                   // self-signed certificates that are new
}

// findRequest finds the request that is answered.
func (t *taking) findRequest(ctx context.Context) error {
	r := t.response
	id, err := t.db.Setting(ctx, pkiSetting)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("this PKI has never asked for a ceremony: %w", ErrUnknown)
	}
	if err != nil {
		return err
	}
	if id != r.PKI {
		return fmt.Errorf("for the PKI %s, but this one is %s: %w", r.PKI, id, ErrOtherPKI)
	}
	// 1. Is it on record, and not answered?
	o, err := findVersion(ctx, t.db, requestObject, digestDetail, r.Request)
	if err != nil {
		return err
	}
	if o == nil {
		return fmt.Errorf("to request number %d with the digest %s…: %w", r.Number, r.Request[:8], ErrUnknown)
	}
	if t.request, err = ceremony.ParseRequest(o.Content); err != nil {
		return fmt.Errorf("the store's %s: %w", requestObject, err)
	}
	answer, err := findVersion(ctx, t.db, responseObject, requestDetail, r.Request)
	if err != nil {
		return err
	}
	if answer != nil {
		return fmt.Errorf("request number %d was answered on %s: %w", t.request.Number, answer.Time.Local().Format("2006-01-02 15:04:05"), ErrReplayed)
	}
	// 2. Is it for the plan of that request, and is that still the plan?
	if asked := sha256.Sum256([]byte(t.request.Plan)); r.Plan != hex.EncodeToString(asked[:]) || r.Number != t.request.Number {
		return fmt.Errorf("its number or plan is not that of request number %d: %w", t.request.Number, ErrNotAsked)
	} else if asked != t.Plan.SHA256 {
		return fmt.Errorf("%s has changed since request number %d: %w. Put that plan back and take the response, then change it again", FileName, t.request.Number, ErrOtherPlan)
	}
	return nil
}

// certificates holds each certificate against what was asked for.
func (t *taking) certificates() error {
	t.issued = map[string]*ca.Certificate{}
	asked := map[string]ceremony.CertificateItem{}
	for _, c := range t.request.Certificates {
		asked[c.Entry] = c
	}
	if len(asked) != len(t.response.Certificates) {
		return fmt.Errorf("%d certificates, of %d that were asked for: %w", len(t.response.Certificates), len(asked), ErrNotAsked)
	}
	for _, c := range t.response.Certificates {
		item, ok := asked[c.Entry]
		if !ok {
			return fmt.Errorf("certificate %s: %w", c.Entry, ErrNotAsked)
		}
		e := t.Plan.Entry(c.Entry)
		if e == nil {
			return fmt.Errorf("certificate %s: not an entry of the plan: %w", c.Entry, ErrNotAsked)
		}
		cert, err := ca.ParseCertificate(c.Certificate)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", c.Entry, err)
		}
		if err := t.checkCertificate(e, item, cert); err != nil {
			return fmt.Errorf("certificate %s: %w", c.Entry, err)
		}
		t.issued[e.Name] = cert
	}
	for _, c := range t.response.Certificates {
		e := t.Plan.Entry(c.Entry)
		if err := t.checkChain(e, t.issued[e.Name]); err != nil {
			return fmt.Errorf("certificate %s: %w: %w", c.Entry, err, ErrNotAsked)
		}
	}
	return nil
}

// checkCertificate compares a certificate with the request and the plan.
func (t *taking) checkCertificate(e *Entry, item ceremony.CertificateItem, cert *ca.Certificate) error {
	if item.CSR != nil {
		r, err := ca.ParseRequest(item.CSR)
		if err != nil {
			return err
		}
		if !bytes.Equal(r.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			return fmt.Errorf("it has another key: %w", ErrNotAsked)
		}
	} else if is := t.Have.Certificates[e.Name]; is != nil && !bytes.Equal(is.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("it has another key than the one before: %w", ErrNotAsked)
	}
	if hex.EncodeToString(cert.SerialNumber.Bytes()) == item.Have {
		return fmt.Errorf("it is the one that was here already: %w", ErrNotAsked)
	}
	reason, err := e.driftBelow(cert, t.certificate)
	if err == nil && reason != "" {
		err = errors.New(reason)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrNotAsked)
	}
	return nil
}

// certificate returns that of an entry as it will be.
func (t *taking) certificate(e *Entry) *ca.Certificate {
	if c := t.issued[e.Name]; c != nil {
		return c
	}
	return t.Have.Certificates[e.Name]
}

// checkChain verifies the certificate up to its root.
func (t *taking) checkChain(e *Entry, cert *ca.Certificate) error {
	if e.Issuer == nil {
		if owner := t.certificate(e.KeyOwner()); owner == nil || !bytes.Equal(owner.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			return errors.New("it does not have the key of " + e.KeyOwner().Name)
		}
		if _, err := ca.Verify(cert, ca.VerifyOptions{Roots: []*ca.Certificate{cert}, Time: t.o.Now()}); err != nil {
			return err
		}
		if is := t.Have.Certificates[e.Name]; is == nil && e.TwinOf == nil {
			t.unvouched = append(t.unvouched, fmt.Sprintf("%s: %s, SHA-256 %x", e.Name, cert.Subject(), sha256.Sum256(cert.Raw)))
		}
		return nil
	}
	var chain []*ca.Certificate
	for _, i := range e.Chain()[1:] {
		c := t.certificate(i)
		if c == nil {
			return fmt.Errorf("its issuer %s has no certificate", i.Name)
		}
		chain = append(chain, c)
	}
	if err := cert.CheckSignature(chain[0].Key); err != nil { // by the issuer of the plan, not one of its name
		return err
	}
	_, err := ca.Verify(cert, ca.VerifyOptions{Roots: chain[len(chain)-1:], Intermediates: chain[:len(chain)-1], Time: t.o.Now()})
	return err
}

// variables holds each UEFI variable against what was asked for.
func (t *taking) variables() error {
	if len(t.request.Variables) != len(t.response.Variables) {
		return fmt.Errorf("%d variables, of %d that were asked for: %w", len(t.response.Variables), len(t.request.Variables), ErrNotAsked)
	}
	have := t.Have
	have.Certificates = map[string]*ca.Certificate{}
	for _, e := range t.Plan.Entries {
		if c := t.certificate(e); c != nil {
			have.Certificates[e.Name] = c
		}
	}
	for i, r := range t.response.Variables {
		item := t.request.Variables[i]
		v := t.Plan.variable(r.ID)
		if v == nil || r.ID != item.ID {
			return fmt.Errorf("variable %s: %w", r.ID, ErrNotAsked)
		}
		auth, err := uefi.ParseAuth(r.Content)
		if err != nil {
			return fmt.Errorf("variable %s: %w", r.ID, err)
		}
		want, err := v.database(have)
		if err != nil {
			return err
		}
		if is, err := auth.Value.Marshal(); err != nil || !bytes.Equal(is, want) {
			return fmt.Errorf("variable %s: its content is not that of the plan: %w", r.ID, ErrNotAsked)
		}
		signer := have.Certificates[v.Signer.Name]
		if signer == nil {
			return fmt.Errorf("variable %s: its signer %s has no certificate", r.ID, v.Signer.Name)
		}
		if err := auth.Verify(v.Variable, false, signer.Raw); err != nil {
			return fmt.Errorf("variable %s: %w", r.ID, err)
		}
		last := t.Have.Updates[r.ID].Last
		if last != nil && bytes.Equal(last.Raw, r.Content) {
			continue // recorded by a run that was killed
		}
		if !auth.Time.After(item.After) || last != nil && !auth.Time.After(last.Time) {
			return fmt.Errorf("variable %s: firmware would refuse it, since it is not later than the last one: %w", r.ID, ErrNotAsked)
		}
		t.signed = append(t.signed, variableObject(v, Planned, r.Content, auth.Time, v.Signer, signer, t.o.Actor))
	}
	return nil
}

// signatures checks that each key that has signed something in the response has
// signed the response.
func (t *taking) signatures() error {
	var signers []*Entry
	add := func(e *Entry) {
		if e = e.KeyOwner(); !slices.Contains(signers, e) {
			signers = append(signers, e)
		}
	}
	for _, c := range t.response.Certificates {
		add(t.Plan.Entry(c.Entry).Signer())
	}
	for _, v := range t.response.Variables {
		add(t.Plan.variable(v.ID).Signer)
	}
	for _, c := range t.response.CRLs {
		add(t.Plan.Entry(c.Authority))
	}
	if n := len(t.response.Signatures()); n != len(signers) {
		return fmt.Errorf("%d signatures, where %d keys have signed: %w", n, len(signers), ErrNotSigned)
	}
	for _, e := range signers {
		cert := t.certificate(e)
		i := slices.IndexFunc(t.response.Signatures(), func(s ceremony.Signature) bool { return s.Entry == e.Name })
		if i < 0 || cert == nil {
			return fmt.Errorf("lacks the signature of %s: %w", e.Name, ErrNotSigned)
		}
		if err := t.response.Verify(t.response.Signatures()[i], cert.Key, e.Algorithm); err != nil {
			return fmt.Errorf("the signature of %s: %w: %w", e.Name, err, ErrNotSigned)
		}
	}
	return nil
}

// transcript checks the transcript's own signature.
func (t *taking) transcript() error {
	r := t.response
	if r.TranscriptSignature == nil {
		return nil // the response's own signatures cover it
	}
	e := t.Plan.Entry(r.TranscriptSigner)
	if e == nil || !e.AtCeremony || t.certificate(e) == nil {
		return fmt.Errorf("its transcript is signed by %s: %w", r.TranscriptSigner, ErrNotSigned)
	}
	message, err := cms.Parse(r.TranscriptSignature)
	if err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	signer, err := message.SignerOf(t.certificate(e).Raw)
	if err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	if err := message.Verify(signer, t.certificate(e).Key, []byte(r.Transcript)); err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	return nil
}

// record puts all of it into the store. What a killed run has put there is passed
// over.
func (t *taking) record(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var list []store.Imported
	for _, c := range t.response.Certificates {
		imported := t.imported(t.Plan.Entry(c.Entry), t.issued[c.Entry])
		is, err := t.db.ByIssuerSerial(ctx, imported.Issuer, imported.Serial)
		switch {
		case errors.Is(err, store.ErrNotFound):
			list = append(list, imported)
		case err != nil:
			return err
		case !bytes.Equal(is.DER, imported.DER):
			return fmt.Errorf("the serial %x of the certificate of %s is taken by another one", imported.Serial, c.Entry)
		}
	}
	if len(list) > 0 {
		if err := t.db.Import(ctx, list...); err != nil {
			return err
		}
	}
	for _, o := range t.signed {
		if err := t.db.PutObject(ctx, o); err != nil {
			return err
		}
	}
	if err := t.putCRLs(ctx); err != nil {
		return err
	}
	return recordResponse(ctx, t.db, t.o.Actor, t.response)
}

// imported is what the store keeps of a certificate that the ceremony has signed.
func (t *taking) imported(e *Entry, cert *ca.Certificate) store.Imported {
	issuer, by := e.Base(), cert
	if e.Issuer != nil {
		issuer, by = e.Issuer.Base(), t.certificate(e.Issuer)
	}
	return store.Imported{
		Record: store.Record{
			Serial:       cert.SerialNumber.Bytes(),
			Name:         e.Base(),
			Profile:      e.Profile.Name(),
			Issuer:       issuer,
			IssuerKeyID:  by.SubjectKeyId,
			Actor:        t.o.Actor,
			KeyURI:       e.Key.String(),
			SubjectKeyID: cert.SubjectKeyId,
			NotBefore:    cert.NotBefore,
			NotAfter:     cert.NotAfter,
			DER:          cert.Raw,
		},
		Detail: map[string]string{"ceremony": fmt.Sprint(t.response.Number), requestDetail: t.response.Request},
	}
}
