package plan

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// OCSP answers what became of the certificates of one authority.
type OCSP struct {
	Authority *Entry
	Signer    *Entry // the delegated responder, or the authority itself

	issuer    *ca.Certificate
	responder *ca.Responder
	db        *store.DB
	validity  time.Duration
}

// NewOCSP opens the key that answers for an authority: of an entry that it has
// issued for OCSP signing (OCSPSigning), or, if there is none, its own. An answer is
// good for validity, but not longer than the certificate of that key.
func (p *PKI) NewOCSP(db *store.DB, authority *Entry, validity time.Duration, now time.Time) (*OCSP, error) {
	o := &OCSP{Authority: authority, Signer: authority, issuer: p.Have.Certificates[authority.Name], db: db, validity: validity}
	if o.issuer == nil {
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", authority.Name)
	}
	usable := func(e *Entry) bool {
		c := p.Have.Certificates[e.Name]
		return p.CheckRevoked(e) == nil && now.After(c.NotBefore) && now.Before(c.NotAfter)
	}
	for _, e := range authority.Children {
		c := p.Have.Certificates[e.Name]
		if c == nil || e.Kind != EndEntity || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || c.CheckSignature(o.issuer.Key) != nil {
			continue
		}
		// The first that can sign; if none can, the error tells of the first.
		if o.Signer == authority || usable(e) && !usable(o.Signer) {
			o.Signer = e
		}
	}
	if err := p.CheckRevoked(o.Signer); err != nil {
		return nil, err
	}
	key, err := p.Signer(o.Signer)
	if err != nil {
		return nil, err
	}
	o.responder, err = ca.NewResponder(o.issuer, p.Have.Certificates[o.Signer.Name], key, o.Signer.Algorithm, now)
	return o, err
}

// OCSPAuthority returns the authority that a request is about, or nil.
func (p *PKI) OCSPAuthority(r *ca.OCSPRequest) *Entry {
	for _, id := range r.CertIDs {
		for _, e := range p.Plan.Entries {
			if c := p.Have.Certificates[e.Name]; c != nil && e.Kind == Authority && id.IssuedBy(c) {
				return e
			}
		}
	}
	return nil
}

// Answer signs the response to a request. Certificates of other authorities are
// unknown to it, as are those that were never issued.
func (o *OCSP) Answer(ctx context.Context, r *ca.OCSPRequest, now time.Time) ([]byte, error) {
	now = now.UTC().Truncate(time.Second)
	var answers []ca.SingleResponse
	for _, id := range r.CertIDs {
		a := ca.SingleResponse{CertID: id, Status: ca.OCSPUnknown, ThisUpdate: now, NextUpdate: o.until(now)}
		if o.responder.AnswersFor(id) && id.Serial != nil {
			record, err := o.db.ByIssuerSerial(ctx, o.Authority.Base(), id.Serial)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			if err == nil {
				if err := o.fill(ctx, &a, record); err != nil {
					return nil, err
				}
			}
		}
		answers = append(answers, a)
	}
	return o.responder.Sign(now, r.Nonce, answers...)
}

func (o *OCSP) until(now time.Time) time.Time {
	if until := now.Add(o.validity); until.Before(o.responder.Until()) {
		return until
	}
	return o.responder.Until()
}

// signed reports whether a certificate is by this key of the authority, not by
// another generation.
func (o *OCSP) signed(r store.Record) bool {
	return len(r.IssuerKeyID) == 0 || bytes.Equal(r.IssuerKeyID, o.issuer.SubjectKeyId)
}

// fill says in an answer what the store knows of a certificate.
func (o *OCSP) fill(ctx context.Context, a *ca.SingleResponse, r store.Record) error {
	if !o.signed(r) {
		return nil
	}
	switch r.State {
	case store.Issued:
		a.Status = ca.OCSPGood
	case store.Revoked, store.Held:
		rev, err := o.db.Revocation(ctx, r.Issuer, r.Serial)
		if err != nil {
			return err
		}
		a.Status, a.RevokedAt, a.Reason = ca.OCSPRevoked, rev.Time, rev.Reason
	}
	return nil
}

// PregeneratedName is the file that holds the answer about a certificate: the DER of
// the request for it (RFC 5019, Section 2.1.1: SHA-1, no nonce) in base64 for URLs and
// file names, without padding (RFC 4648, Section 5).
func PregeneratedName(issuer *ca.Certificate, serial []byte) (string, ca.CertID, error) {
	id, err := ca.NewCertID(issuer, serial, crypto.SHA1)
	if err != nil {
		return "", id, err
	}
	der, err := ca.MarshalOCSPRequest(ca.OCSPRequest{CertIDs: []ca.CertID{id}})
	return base64.RawURLEncoding.EncodeToString(der), id, err
}

// Pregenerate writes an answer for each certificate of the authority that has not
// expired into a directory, on all cores and in constant memory, each file in one
// step. It returns how many. progress may be nil.
func (o *OCSP) Pregenerate(ctx context.Context, dir string, now time.Time, progress func(done int)) (int, error) {
	now = now.UTC().Truncate(time.Second)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	records := make(chan store.Record, 256)
	var mu sync.Mutex
	done := 0
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for r := range records {
				if ctx.Err() != nil {
					continue
				}
				if err := o.pregenerate(ctx, dir, r, now); err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				done++
				if progress != nil {
					progress(done)
				}
				mu.Unlock()
			}
		})
	}
	err := o.live(ctx, now, records)
	close(records)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return done, err
}

// live sends all certificates that have not expired.
func (o *OCSP) live(ctx context.Context, now time.Time, to chan<- store.Record) error {
	query := store.Query{Issuer: o.Authority.Base(), ExpiresFrom: now}
	for place := store.Cursor(""); ; {
		list, next, err := o.db.Page(ctx, query, place, 1000)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Name == r.Issuer || !o.signed(r) {
				continue // a root's own, for which no responder answers, or by another generation
			}
			select {
			case to <- r:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if place = next; next == "" {
			return nil
		}
	}
}

func (o *OCSP) pregenerate(ctx context.Context, dir string, r store.Record, now time.Time) error {
	name, id, err := PregeneratedName(o.issuer, r.Serial)
	if err != nil {
		return err
	}
	a := ca.SingleResponse{CertID: id, Status: ca.OCSPUnknown, ThisUpdate: now, NextUpdate: o.until(now)}
	if err := o.fill(ctx, &a, r); err != nil {
		return err
	}
	der, err := o.responder.Sign(now, nil, a)
	if err != nil {
		return err
	}
	// Not synced: after a power cut one makes them anew. A name in two steps, so
	// that the web server never sees half a file.
	temporary := filepath.Join(dir, "."+name)
	if err := os.WriteFile(temporary, der, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, name))
}
