package plan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/internal/durable"
	"tmpki/store"
)

// crlSteps returns the CRLs that a ceremony has to sign: those that are due, and
// the first ones of authorities that the plan wants CRLs of.
func (p *Plan) crlSteps(have Inventory) []Step {
	if p.Ceremony == nil {
		return nil
	}
	var steps []Step
	for _, e := range p.Entries {
		if !e.AtCeremony || e.CRL == nil || e.TwinOf != nil {
			continue
		}
		step := Step{Kind: SignCRL, Entry: e, Waits: WaitsCeremony}
		if have.Certificates[e.Name] != nil {
			if step.Reason = have.DueCRLs[e.Name]; step.Reason == "" {
				continue
			}
		} else if !e.CRL.Planned {
			continue
		}
		steps = append(steps, step)
	}
	return steps
}

// readDueCRLs looks which CRLs a ceremony has to sign, by the clock.
func (have *Inventory) readDueCRLs(ctx context.Context, p *Plan, dir string, db *store.DB) error {
	have.DueCRLs, have.revokedLast = map[string]string{}, map[string]int64{}
	if have.Offline {
		return nil
	}
	k := &PKI{Dir: dir, Plan: p, Have: *have}
	entries, err := k.CRLAuthorities(ctx, db, false)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.AtCeremony || e.TwinOf != nil {
			continue
		}
		states, err := k.CRLStates(ctx, db, e, time.Now())
		if err != nil {
			return err
		}
		for _, s := range states {
			have.DueCRLs[e.Name] = s.Due
		}
		last := int64(-1)
		for r, err := range db.RevokedSerials(ctx, e.Name, have.Certificates[e.Name].SubjectKeyId, -1) {
			if err != nil {
				return err
			}
			last = max(last, r.Entry)
		}
		have.revokedLast[e.Name] = last
	}
	return nil
}

// crlItem asks for the CRL of an authority.
func (r *run) crlItem(ctx context.Context, e *Entry) (ceremony.CRLItem, error) {
	item := ceremony.CRLItem{Authority: e.Name, Number: 1, Covers: -1, Validity: int64(e.CRL.Validity / time.Second)}
	if r.Have.Certificates[e.Name] == nil {
		return item, nil // the first one, of a key that is about to be made
	}
	tasks, err := r.CRLTasks(ctx, r.db, e, r.now, true)
	if err != nil {
		return item, err
	}
	if len(tasks) != 1 {
		return item, fmt.Errorf("%s: %d CRLs are due, not one", e.Name, len(tasks))
	}
	t := tasks[0]
	for x, err := range t.Entries(ctx, r.db) {
		if err != nil {
			return item, err
		}
		name := ""
		if is, err := r.db.ByIssuerSerial(ctx, e.Name, x.Serial); err == nil {
			name = is.Name
		} else if !errors.Is(err, store.ErrNotFound) {
			return item, err
		}
		item.Revoked = append(item.Revoked, ceremony.Revoked{
			Name: name, Reason: int(x.Reason), Serial: hex.EncodeToString(x.Serial),
			Time: x.Time.UTC().Truncate(time.Second), Invalidity: x.Invalidity.UTC().Truncate(time.Second),
		})
	}
	slices.SortFunc(item.Revoked, func(a, b ceremony.Revoked) int { return strings.Compare(a.Serial, b.Serial) })
	item.Number, item.Covers = int64(t.Number), t.covers
	return item, nil
}

// revokedCertificates are the entries of a CRL that a request asks for.
func revokedCertificates(item ceremony.CRLItem) ([]ca.RevokedCertificate, error) {
	var list []ca.RevokedCertificate
	for _, r := range item.Revoked {
		serial, err := hex.DecodeString(r.Serial)
		if err != nil {
			return nil, err
		}
		list = append(list, ca.RevokedCertificate{Serial: serial, Reason: ca.Reason(r.Reason), Time: r.Time, Invalidity: r.Invalidity})
	}
	return list, nil
}

// vetCRLs checks the CRLs that are asked for.
func (c *conduct) vetCRLs(items map[string]ceremony.CertificateItem) error {
	for _, item := range c.request.CRLs {
		e := c.Plan.Entry(item.Authority)
		if e == nil || !e.AtCeremony || e.CRL == nil || e.TwinOf != nil {
			return fmt.Errorf("CRL of %s: no authority of the plan whose CRLs a ceremony makes", item.Authority)
		}
		if item.Validity != int64(e.CRL.Validity/time.Second) {
			return fmt.Errorf("CRL of %s: valid for %s, but the plan wants %s", e.Name, time.Duration(item.Validity)*time.Second, e.CRL.Validity)
		}
		if _, asked := items[e.Name]; !asked && c.Have.Certificates[e.Name] == nil {
			return fmt.Errorf("CRL of %s: it has no certificate here, and none is asked for", e.Name)
		}
		c.signsFor(e)
	}
	return nil
}

// describeCRL says what a CRL will be.
func (c *conduct) describeCRL(b *strings.Builder, n int, item ceremony.CRLItem) {
	fmt.Fprintf(b, "\n%d. CRL of %s\n\n", n, item.Authority)
	rows := [][2]string{{"   Signed by", item.Authority}, {"   Valid", fmt.Sprintf("%d days", item.Validity/(24*3600))}}
	if len(item.Revoked) == 0 {
		rows = append(rows, [2]string{"   Revoked", "nothing"})
	}
	for _, r := range item.Revoked {
		rows = append(rows, [2]string{"   Revoked", fmt.Sprintf("%s, serial %s, on %s: %v", r.Name, r.Serial, r.Time.Format(time.DateOnly), ca.Reason(r.Reason))})
	}
	facts(b, rows)
}

// signCRL signs a CRL and records it. One that a killed run has signed is replaced
// by another with the next number.
func (c *conduct) signCRL(ctx context.Context, item ceremony.CRLItem) error {
	e := c.Plan.Entry(item.Authority)
	cert := c.Have.Certificates[e.Name]
	key, err := c.ring.signer(e)
	if err != nil {
		return err
	}
	issuer, err := ca.NewIssuer(e.Name, cert, key, e.Algorithm, c.linter)
	if err != nil {
		return err
	}
	number := uint64(item.Number)
	last, err := c.db.LatestCRL(ctx, e.Name, cert.SubjectKeyId, 0, false)
	if err == nil {
		number = max(number, last.Number+1)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	revoked, err := revokedCertificates(item)
	if err != nil {
		return err
	}
	next := c.now.Add(e.CRL.Validity)
	if next.After(cert.NotAfter) {
		next = cert.NotAfter
	}
	r := e.CRL.Request(0, false)
	r.Number, r.ThisUpdate, r.NextUpdate = new(big.Int).SetUint64(number), c.now, next
	var der bytes.Buffer
	issued, err := issuer.WriteCRL(&der, r, func(yield func(ca.RevokedCertificate, error) bool) {
		for _, x := range revoked {
			if x.Time.After(c.now) { // a clock that differs
				x.Time = c.now
			}
			if !yield(x, nil) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	err = c.db.RecordCRL(ctx, store.CRL{
		Issuer: e.Name, IssuerKeyID: cert.SubjectKeyId, Number: number, Covers: -1, ThisUpdate: c.now, NextUpdate: next,
		SHA256: issued.SHA256, Size: issued.Size, Entries: issued.Entries, Actor: c.o.Actor,
	})
	if err != nil {
		return err
	}
	c.crls = append(c.crls, ceremony.CRL{Authority: e.Name, Content: der.Bytes()})
	c.progress(Step{Kind: SignCRL, Entry: e})
	return nil
}

// crls holds each CRL against what was asked for.
func (t *taking) crls() error {
	if len(t.request.CRLs) != len(t.response.CRLs) {
		return fmt.Errorf("%d CRLs, of %d that were asked for: %w", len(t.response.CRLs), len(t.request.CRLs), ErrNotAsked)
	}
	for i, c := range t.response.CRLs {
		item := t.request.CRLs[i]
		e := t.Plan.Entry(c.Authority)
		if c.Authority != item.Authority || e == nil || t.certificate(e) == nil {
			return fmt.Errorf("CRL of %s: %w", c.Authority, ErrNotAsked)
		}
		if err := checkCRL(e, t.certificate(e), item, c.Content); err != nil {
			return fmt.Errorf("CRL of %s: %w", c.Authority, err)
		}
	}
	return nil
}

// checkCRL compares a CRL with what was asked for.
func checkCRL(e *Entry, authority *ca.Certificate, item ceremony.CRLItem, der []byte) error {
	list, err := ca.ParseCRL(der)
	if err != nil {
		return err
	}
	if err := list.CheckSignature(authority.Key); err != nil {
		return err
	}
	asked := func(ok bool, what string) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s: %w", what, ErrNotAsked)
	}
	validity := list.NextUpdate.Sub(list.ThisUpdate)
	if err := errors.Join(
		asked(bytes.Equal(list.Issuer(), authority.RawSubject), "another issuer"),
		asked(list.Number != nil && list.Number.IsInt64() && list.Number.Int64() >= item.Number, "its number is below that of the request"),
		asked(list.BaseNumber == nil, "a delta CRL"),
		asked(validity == e.CRL.Validity || validity < e.CRL.Validity && list.NextUpdate.Equal(authority.NotAfter), "another validity"),
	); err != nil {
		return err
	}
	r := e.CRL.Request(0, false)
	r.Number, r.ThisUpdate, r.NextUpdate = list.Number, list.ThisUpdate, list.NextUpdate
	if err := list.CheckExtensions(r, authority); err != nil {
		return fmt.Errorf("%w: %w", err, ErrNotAsked)
	}
	want, err := revokedCertificates(item)
	if err != nil {
		return err
	}
	n := 0
	for is := range list.Entries() {
		if n < len(want) {
			w := want[n]
			if w.Time.After(list.ThisUpdate) {
				w.Time = list.ThisUpdate
			}
			if !bytes.Equal(is.Serial, w.Serial) || is.Reason != w.Reason || !is.Time.Equal(w.Time) || !is.Invalidity.Equal(w.Invalidity) {
				return asked(false, fmt.Sprintf("revocation %d", n+1))
			}
		}
		n++
	}
	return asked(n == len(want), fmt.Sprintf("%d revocations, of %d", n, len(want)))
}

// putCRLs records the CRLs of the response and puts them into their places.
func (t *taking) putCRLs(ctx context.Context) error {
	for i, c := range t.response.CRLs {
		e := t.Plan.Entry(c.Authority)
		cert := t.certificate(e)
		list, err := ca.ParseCRL(c.Content)
		if err != nil {
			return err
		}
		record := store.CRL{
			Issuer: e.Name, IssuerKeyID: cert.SubjectKeyId, Number: list.Number.Uint64(), Covers: t.request.CRLs[i].Covers,
			ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, SHA256: sha256.Sum256(c.Content),
			Size: int64(len(c.Content)), Entries: int64(len(t.request.CRLs[i].Revoked)), Actor: t.o.Actor,
		}
		if err := t.putTaken(ctx, e, record, c.Content); err != nil {
			return err
		}
	}
	return nil
}

// putTaken is putCRL for a CRL that may be on record by now.
func (t *taking) putTaken(ctx context.Context, e *Entry, record store.CRL, content []byte) error {
	path := filepath.Join(t.Dir, filepath.FromSlash(e.CRL.File(0, false)))
	last, err := t.db.LatestCRL(ctx, e.Name, record.IssuerKeyID, 0, false)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && last.SHA256 == record.SHA256 {
		return restoreCRL(path, content)
	}
	return t.putCRL(ctx, t.db, &record, path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// restoreCRL puts a CRL that is on record into its place again.
func restoreCRL(path string, content []byte) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteFile(path, content, 0o644)
}

// restoreCRLs puts the CRLs of ceremonies whose files are gone into their places
// again: a response on record has them, and nobody must come together for that.
func (r *run) restoreCRLs(ctx context.Context) error {
	if r.Plan.Ceremony == nil || len(r.Have.DueCRLs) == 0 {
		return nil
	}
	db, err := r.OpenStoreReadOnly(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer db.Close()
	for _, name := range sortedKeys(r.Have.DueCRLs) {
		if r.Have.DueCRLs[name] != crlFileGone {
			continue
		}
		e := r.Plan.Entry(name)
		last, err := db.LatestCRL(ctx, name, r.Have.Certificates[name].SubjectKeyId, 0, false)
		if err != nil {
			return err
		}
		content, err := findCRL(ctx, db, name, last.SHA256)
		if err != nil {
			return err
		}
		if content == nil {
			continue // made before there were ceremonies
		}
		if err := restoreCRL(filepath.Join(r.Dir, filepath.FromSlash(e.CRL.File(0, false))), content); err != nil {
			return err
		}
		r.Have.DueCRLs[name] = ""
	}
	return nil
}

// findCRL looks for a CRL in the responses on record; nil if none has it.
func findCRL(ctx context.Context, db *store.DB, authority string, sum [32]byte) ([]byte, error) {
	for o, err := range db.Versions(ctx, responseObject) {
		if err != nil {
			return nil, err
		}
		response, err := ceremony.ParseResponse(o.Content)
		if err != nil {
			return nil, fmt.Errorf("the store's %s: %w", responseObject, err)
		}
		for _, c := range response.CRLs {
			if c.Authority == authority && sha256.Sum256(c.Content) == sum {
				return c.Content, nil
			}
		}
	}
	return nil, nil
}
