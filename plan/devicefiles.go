package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/internal/fileset"
	"tmpki/store"
)

// deviceKind are the names of the files that DeviceFiles makes.
var deviceKind = []string{"device.cert", "ssig_rootca.cert", "ca/*"}

// DeviceFiles derives what goes into a device's directory /data/cml/tokens: the
// anchors of its daemon, as it looks for them, and, if chain is not nil, the
// device's certificate with those above it. It holds no secret.
func (p *PKI) DeviceFiles(chain []*ca.Certificate) (*fileset.Set, []TrustAnchor, error) {
	anchors := append(p.TrustAnchors(ForDevice), p.TrustAnchors(ForGuestOS)...)
	if len(anchors) == 0 {
		return nil, nil, errors.New("there are no trust anchors for devices in this PKI yet: tmpki apply makes what the plan has")
	}
	trust, err := p.TrustFiles(anchors)
	if err != nil {
		return nil, nil, err
	}
	set := &fileset.Set{Kind: deviceKind}
	for _, name := range trust.Names() {
		_, file, _ := strings.Cut(name, "/")
		if err := set.Add(file, trust.Content(name)); err != nil {
			return nil, nil, err
		}
	}
	if chain == nil {
		return set, anchors, nil
	}
	text := ca.MarshalPEM(chain...)
	// The device stores what it is handed as it is, and reads it line by line.
	if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----\n")) || !bytes.HasSuffix(text, []byte("\n-----END CERTIFICATE-----\n")) || bytes.ContainsRune(text, '\r') {
		return nil, nil, errors.New("the device's certificate is not in the form that the device takes")
	}
	return set, anchors, set.Add("device.cert", text)
}

// IssuedChain returns a certificate of the record, by its name there, with those
// above it, the root last. One that is revoked, on hold, or not valid at the time
// now is refused, and so is one below an authority of which that is true.
func (p *PKI) IssuedChain(ctx context.Context, name string, now time.Time) (chain []*ca.Certificate, err error) {
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	record, err := db.Latest(ctx, name)
	if err != nil {
		return nil, err
	}
	leaf, err := ca.ParseCertificate(record.DER)
	if err != nil {
		return nil, fmt.Errorf("the store's certificate of %s: %w", name, err)
	}
	issuer, err := p.issuerGeneration(record.Issuer, leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	above, err := p.Above(issuer, now)
	if err != nil {
		return nil, err
	}
	chain = append([]*ca.Certificate{leaf}, above...)
	if _, err := ca.Verify(leaf, ca.VerifyOptions{Roots: chain[len(chain)-1:], Intermediates: chain[1:], Time: now}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if record.State == store.Revoked || record.State == store.Held {
		r, err := db.Revocation(ctx, record.Issuer, record.Serial)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the certificate of %s is revoked since %s: %v", name, r.Time.Local().Format(time.DateOnly), r.Reason)
	}
	return chain, p.CheckRevoked(issuer)
}

// issuerGeneration returns the generation of an authority that has signed a
// certificate.
func (p *PKI) issuerGeneration(authority string, c *ca.Certificate) (*Entry, error) {
	e := p.Plan.Entry(authority)
	if e == nil {
		return nil, fmt.Errorf("it was issued by %s, which is not in the plan any more", authority)
	}
	for _, g := range e.Trusted() {
		if by := p.Have.Certificates[g.Name]; by != nil && c.CheckSignature(by.Key) == nil {
			return g, nil
		}
	}
	return nil, fmt.Errorf("it was issued by a key of %s that is not in use any more: issue it anew", authority)
}
