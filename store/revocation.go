package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Reason says why a certificate is revoked, as a CRLReason does (RFC 5280,
// Section 5.3.1).
type Reason int

// The reasons of RFC 5280. The value 7 is not used.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6 // until a final reason comes, or RemoveFromCRL
	RemoveFromCRL        Reason = 8 // ends a hold
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

// reasonNames are those of RFC 5280, by number.
func reasonNames() [11]string {
	return [...]string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
		"certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}
}

// String returns the name that ParseReason reads, or "reason N" for a number that
// has none.
func (r Reason) String() string {
	if !r.Valid() {
		return fmt.Sprintf("reason %d", int(r))
	}
	return reasonNames()[r]
}

// ParseReason reads the name of a reason, in any case of its letters.
func ParseReason(s string) (Reason, error) {
	var known []string
	for i, name := range reasonNames() {
		if name == "" {
			continue
		}
		if strings.EqualFold(name, s) {
			return Reason(i), nil
		}
		known = append(known, name)
	}
	return 0, fmt.Errorf("reason %q is unknown: use one of %s", s, strings.Join(known, ", "))
}

// Valid reports whether RFC 5280 has the reason.
func (r Reason) Valid() bool {
	return r >= 0 && int(r) < len(reasonNames()) && reasonNames()[r] != ""
}

// state is that of a certificate whose newest revocation has the reason.
func (r Reason) state() State {
	switch r {
	case CertificateHold:
		return Held
	case RemoveFromCRL:
		return Issued
	default:
		return Revoked
	}
}

// Revocation tells that a certificate, or the serial of one that may have been
// signed and was never recorded, is no longer good; or, with RemoveFromCRL, that
// a hold is over. The caller fills the first group for Revoke; the store knows
// the rest.
type Revocation struct {
	Serial     []byte
	Issuer     string // name of the authority; "" if only one has given the serial
	Reason     Reason
	Time       time.Time // since when, to the second; zero: now
	Invalidity time.Time // when the key is thought to have been lost; zero: not known
	Actor      string    // who revokes

	Name        string    // of the certificate
	Profile     string    // of the certificate
	IssuerKeyID []byte    // key identifier of the key that signed; nil if not known
	NotAfter    time.Time // of the certificate: after that it needs no place in a CRL
	Certificate int64     // ledger entry of the certificate; -1: it was only intended
	Entry       int64     // ledger entry of the revocation

	tbsHash [32]byte // of what was only intended
}

// AlreadyRevokedError says that a serial is revoked, as Revocation tells.
type AlreadyRevokedError struct {
	Revocation Revocation
}

func (e *AlreadyRevokedError) Error() string {
	r := e.Revocation
	return fmt.Sprintf("serial %x (%q) is revoked since %s: %v", r.Serial, r.Name, r.Time.Format(time.RFC3339), r.Reason)
}

// Revoke records revocations and their ledger entries, all or none. A serial may
// be that of a certificate or of an intent, whose process is then taken for dead:
// its certificate, if it signed one, can no longer be completed. A revocation is
// final (*AlreadyRevokedError), but for CertificateHold: RemoveFromCRL ends that,
// and each other reason makes it final. A serial that the store does not know is
// ErrNotFound.
func (db *DB) Revoke(ctx context.Context, list ...Revocation) error {
	for _, r := range list {
		if err := r.check(); err != nil {
			return fmt.Errorf("revoking serial %x: %w", r.Serial, err)
		}
	}
	return db.write(ctx, func(ctx context.Context, tx *writing) error {
		for _, r := range list {
			if err := tx.revoke(ctx, r); err != nil {
				return fmt.Errorf("revoking serial %x: %w", r.Serial, err)
			}
		}
		return nil
	})
}

func (tx *writing) revoke(ctx context.Context, r Revocation) error {
	// 1. What has the serial, and is it revoked already?
	all, err := bySerial(ctx, tx, r.Serial)
	if err != nil {
		return err
	}
	targets := ofIssuer(all, r.Issuer)
	switch {
	case len(targets) == 0:
		return ErrNotFound
	case len(targets) > 1:
		return fmt.Errorf("both %q and %q have given it: name the issuer", targets[0].Issuer, targets[1].Issuer)
	}
	target := targets[0]
	before, err := currentRevocation(ctx, tx, target.Issuer, r.Serial)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	state := Issued
	if err == nil {
		state = before.Reason.state()
	}
	switch {
	case state == Revoked, state == Held && r.Reason == CertificateHold:
		return &AlreadyRevokedError{before}
	case r.Reason == RemoveFromCRL && state != Held:
		return fmt.Errorf("it is not on hold, so %v does not apply", r.Reason)
	case r.Reason == CertificateHold && target.State == Intended:
		return errors.New("what was only intended can't be put on hold: revoke it for good")
	}
	// 2. The ledger.
	r.Issuer, r.Profile, r.Name, r.NotAfter, r.IssuerKeyID = target.Issuer, target.Profile, target.Name, target.NotAfter, target.IssuerKeyID
	if r.Time.IsZero() {
		r.Time = tx.now
	}
	entry := r.entry()
	var tbsHash []byte
	var certificate any
	if target.DER != nil {
		entry.SHA256, certificate = digest(target.DER), target.Entry
	} else {
		entry.SHA256, entry.Detail["intended"], tbsHash = hex.EncodeToString(target.TBSHash[:]), "true", target.TBSHash[:]
	}
	seq, err := tx.append(ctx, entry)
	if err != nil {
		return err
	}
	// 3. The rows.
	class, err := tx.class(ctx, class{target.Profile, target.Issuer, string(target.IssuerKeyID)})
	if err != nil {
		return err
	}
	actor, err := tx.actor(ctx, r.Actor)
	if err != nil {
		return err
	}
	if before.Serial != nil {
		if _, err := tx.ExecContext(ctx, "UPDATE revocation SET superseded = $1 WHERE entry = $2", seq, before.Entry); err != nil {
			return err
		}
	}
	var invalidity any
	if !r.Invalidity.IsZero() {
		invalidity = r.Invalidity.Unix()
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO revocation (entry, serial, class, certificate, tbs_sha256, name, not_after, reason, time, invalidity, actor)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		seq, r.Serial, class, certificate, tbsHash, r.Name, r.NotAfter.Unix(), int64(r.Reason), r.Time.Unix(), invalidity, actor)
	if err != nil {
		return err
	}
	if target.DER != nil {
		_, err = tx.ExecContext(ctx, "UPDATE certificate SET state = $1 WHERE entry = $2", int64(r.Reason.state()), target.Entry)
		return err
	}
	batches, err := tx.batches(ctx)
	if err != nil {
		return err
	}
	intent, ok := find(batches, map[string]bool{string(r.Serial): true})[string(r.Serial)]
	if !ok {
		return ErrNotFound
	}
	return tx.settle(ctx, intent.batch.id, 1)
}

// check fails on a revocation that Revoke does not take.
func (r Revocation) check() error {
	if err := checkSerial(r.Serial); err != nil {
		return err
	}
	if !r.Reason.Valid() {
		return fmt.Errorf("%v is unknown", r.Reason)
	}
	for _, t := range []time.Time{r.Time, r.Invalidity} {
		if !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999) {
			return fmt.Errorf("time %v is outside of 1970 to 9999", t)
		}
	}
	return checkText("actor", r.Actor)
}

// entry is the ledger entry of the revocation, but for its seq, time and digest.
func (r Revocation) entry() Entry {
	detail := map[string]string{"reason": r.Reason.String(), "time": r.Time.UTC().Truncate(time.Second).Format(time.RFC3339)}
	if !r.Invalidity.IsZero() {
		detail["invalidity"] = r.Invalidity.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	return Entry{
		Kind: KindRevoke, Actor: r.Actor, Name: r.Name, Profile: r.Profile, Issuer: r.Issuer,
		Serial: hex.EncodeToString(r.Serial), Detail: detail,
	}
}

// Revocation returns the newest revocation of a serial by an authority, "" being
// any, or an error that is ErrNotFound. Its reason may be RemoveFromCRL.
func (db *DB) Revocation(ctx context.Context, issuer string, serial []byte) (Revocation, error) {
	r, err := currentRevocation(ctx, db.sql, issuer, serial)
	if err != nil {
		return Revocation{}, fmt.Errorf("revocation of serial %x: %w", serial, err)
	}
	return r, nil
}

func currentRevocation(ctx context.Context, q querier, issuer string, serial []byte) (Revocation, error) {
	list, err := revocations(ctx, q, "WHERE r.serial = $1 AND r.superseded IS NULL AND (k.issuer = $2 OR $2 = '') ORDER BY r.entry", serial, issuer)
	switch {
	case err != nil:
		return Revocation{}, err
	case len(list) == 0:
		return Revocation{}, ErrNotFound
	case len(list) > 1:
		return Revocation{}, fmt.Errorf("both %q and %q have given it: name the issuer", list[0].Issuer, list[1].Issuer)
	}
	return list[0], nil
}

// History returns all revocations of a serial by an authority, newest first.
func (db *DB) History(ctx context.Context, issuer string, serial []byte) ([]Revocation, error) {
	list, err := revocations(ctx, db.sql, "WHERE k.issuer = $1 AND r.serial = $2 ORDER BY r.entry DESC", issuer, serial)
	if err != nil {
		return nil, fmt.Errorf("revocations of serial %x: %w", serial, err)
	}
	return list, nil
}

// Revocations yields the newest revocation of each serial of an authority and its
// key, in the order of their ledger entries from the one behind after on (-1: all),
// or an error and then no more. A key identifier of nil stands for all keys. What
// was on hold and is no longer is among them, with RemoveFromCRL: a full CRL
// leaves it out, and a delta CRL lists it. It reads in pages, so that the loop may
// use the store.
func (db *DB) Revocations(ctx context.Context, issuer string, issuerKeyID []byte, after int64) iter.Seq2[Revocation, error] {
	return func(yield func(Revocation, error) bool) {
		fail := func(err error) {
			yield(Revocation{}, fmt.Errorf("listing revocations of %q: %w", issuer, err))
		}
		classes, err := classIDs(ctx, db.sql, Query{Issuer: issuer, IssuerKeyID: issuerKeyID})
		if err != nil {
			fail(err)
			return
		}
		for len(classes) > 0 {
			terms := make([]string, len(classes))
			for i, class := range classes {
				terms[i] = fmt.Sprintf("SELECT entry FROM revocation WHERE superseded IS NULL AND class = %d AND entry > $1 ORDER BY entry LIMIT %d", class, revocationPage)
			}
			list, err := revocations(ctx, db.sql, "WHERE r.entry IN ("+firstOf(terms, "entry", revocationPage)+") ORDER BY r.entry", after)
			if err != nil {
				fail(err)
				return
			}
			for _, r := range list {
				if !yield(r, nil) {
					return
				}
				after = r.Entry
			}
			if len(list) < revocationPage {
				return
			}
		}
	}
}

// revocationPage is how many revocations Revocations reads at once.
const revocationPage = 4096

// revocations returns the revocations r that where selects, of class k.
func revocations(ctx context.Context, q querier, where string, args ...any) ([]Revocation, error) {
	rows, err := q.QueryContext(ctx, `SELECT r.entry, r.serial, k.profile, k.issuer, k.issuer_key, coalesce(r.certificate, -1), r.tbs_sha256,
		r.name, r.not_after, r.reason, r.time, r.invalidity, a.name
		FROM revocation r JOIN class k ON k.id = r.class JOIN actor a ON a.id = r.actor `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Revocation
	for rows.Next() {
		var r Revocation
		var tbsHash []byte
		var notAfter, seconds int64
		var invalidity sql.NullInt64
		err := rows.Scan(&r.Entry, &r.Serial, &r.Profile, &r.Issuer, &r.IssuerKeyID, &r.Certificate, &tbsHash,
			&r.Name, &notAfter, &r.Reason, &seconds, &invalidity, &r.Actor)
		if err != nil {
			return nil, err
		}
		if !r.Reason.Valid() || tbsHash != nil && len(tbsHash) != len(r.tbsHash) {
			return nil, fmt.Errorf("revocation of serial %x is damaged", r.Serial)
		}
		copy(r.tbsHash[:], tbsHash)
		r.IssuerKeyID, r.NotAfter, r.Time = orNil(r.IssuerKeyID), utc(notAfter), utc(seconds)
		if invalidity.Valid {
			r.Invalidity = utc(invalidity.Int64)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
