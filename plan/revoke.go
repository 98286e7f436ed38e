package plan

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/store"
)

// AmbiguousError says that a word means several certificates.
type AmbiguousError struct {
	What       string
	Candidates []store.Record
}

func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q means %d certificates: name one by its serial", e.What, len(e.Candidates))
	for i, r := range e.Candidates {
		if i == 20 {
			fmt.Fprintf(&b, "\n… and %d more", len(e.Candidates)-i)
			break
		}
		fmt.Fprintf(&b, "\n%x  %s  by %s, until %s, %v", r.Serial, ca.Printable(r.Name), r.Issuer, r.NotAfter.Local().Format("2006-01-02"), r.State)
	}
	return b.String()
}

var (
	uuidPattern   = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	serialPattern = regexp.MustCompile(`^(0[xX])?[0-9a-fA-F]{1,40}$`)
)

// FindCertificate returns the certificate that a word means: a serial number in
// hexadecimal, with colons or without, a UUID, or a name. Among several of one name it
// is the only one that is in one of the states; else the error is an
// *AmbiguousError. A word that means nothing is store.ErrNotFound.
func FindCertificate(ctx context.Context, db *store.DB, what string, states ...store.State) (store.Record, error) {
	var found []store.Record
	add := func(list ...store.Record) {
		for _, r := range list {
			if !slices.ContainsFunc(found, func(o store.Record) bool { return bytes.Equal(o.Serial, r.Serial) && o.Issuer == r.Issuer }) {
				found = append(found, r)
			}
		}
	}
	// 1. A serial. Intents have one too.
	if plain := strings.ReplaceAll(what, ":", ""); serialPattern.MatchString(plain) {
		plain = strings.TrimPrefix(strings.ToLower(plain), "0x")
		serial, err := hex.DecodeString(strings.Repeat("0", len(plain)%2) + plain)
		if err == nil {
			serial = bytes.TrimLeft(serial, "\x00")
		}
		if err == nil && len(serial) > 0 {
			switch r, err := db.BySerial(ctx, serial); {
			case err == nil:
				add(r)
			case !errors.Is(err, store.ErrNotFound):
				return store.Record{}, err
			}
		}
	}
	// 2. A name. UUIDs are names in one case of their letters, behind what begins
	// those of devices, or, in records from elsewhere, behind nothing.
	names := []string{what}
	if uuidPattern.MatchString(what) {
		names = append(names, DeviceName(what), strings.ToLower(what), strings.ToUpper(what))
	}
	for _, name := range names {
		list, err := db.ByName(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return store.Record{}, err
		}
		add(list...)
	}
	if len(found) == 0 {
		return store.Record{}, fmt.Errorf("%q is no serial, UUID, name or file of a certificate of this PKI: %w", what, store.ErrNotFound)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var wanted []store.Record
	for _, r := range found {
		if slices.Contains(states, r.State) {
			wanted = append(wanted, r)
		}
	}
	if len(wanted) == 1 {
		return wanted[0], nil
	}
	if len(wanted) == 0 {
		wanted = found
	}
	return store.Record{}, &AmbiguousError{what, wanted}
}

// FindFile returns what the store knows of a certificate at hand, PEM or DER.
func FindFile(ctx context.Context, db *store.DB, data []byte) (store.Record, error) {
	var cert *ca.Certificate
	var err error
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		var certs []*ca.Certificate
		if certs, err = ca.ParsePEM(data); err == nil {
			cert = certs[0] // the leaf of a chain
		}
	} else {
		cert, err = ca.ParseCertificate(data)
	}
	if err != nil {
		return store.Record{}, err
	}
	list, err := db.ByKey(ctx, cert.SubjectKeyId)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Record{}, err
	}
	for _, r := range list {
		if bytes.Equal(r.DER, cert.Raw) {
			return r, nil
		}
	}
	return store.Record{}, fmt.Errorf("certificate %x of %s is not one that this PKI has issued: %w", cert.SerialNumber, cert.Subject(), store.ErrNotFound)
}

// CheckRevocable refuses to revoke what no CRL can revoke: a root, an anchor twin or
// a platform key is trusted as it is, and nobody looks for a CRL before.
func (p *PKI) CheckRevocable(r store.Record) error {
	cert, err := parsed(r)
	if err != nil || cert == nil || !cert.SelfSigned() {
		return err
	}
	consumers := []string{}
	for _, c := range Consumers() {
		for _, t := range p.TrustAnchors(c) {
			if t.Certificate.Equal(cert) {
				consumers = append(consumers, fmt.Sprintf("%s: %s", c, t.LetsIn))
			}
		}
	}
	text := fmt.Sprintf("%s is self-signed, and whoever trusts it asks no CRL: it can't be revoked, only taken out where it is an anchor", ca.Printable(r.Name))
	if len(consumers) > 0 {
		text += "\n" + strings.Join(consumers, "\n")
	}
	return fmt.Errorf("%s\nmake the PKI new under another root (tmpki rotate %s), roll that out (tmpki trust export), and remove this one", text, ca.Printable(r.Name))
}

func parsed(r store.Record) (*ca.Certificate, error) {
	if r.DER == nil {
		return nil, nil
	}
	c, err := ca.ParseCertificate(r.DER)
	if err != nil {
		return nil, fmt.Errorf("the store's certificate %x: %w", r.Serial, err)
	}
	return c, nil
}

// CheckRevoked fails if the certificate of an entry, or of one that issued it, is
// revoked or on hold.
func (p *PKI) CheckRevoked(e *Entry) error {
	for _, c := range e.Chain() {
		if r, ok := p.Have.Revoked[c.Name]; ok {
			what := "is revoked"
			if r.Reason == ca.CertificateHold {
				what = "is on hold"
			}
			return fmt.Errorf("%s can't be used: the certificate %x of %s %s since %s (%v)", e.Name, r.Serial, c.Name, what,
				r.Time.Local().Format("2006-01-02 15:04"), r.Reason)
		}
	}
	return nil
}

// Reach tells of one kind of consumer how it gets to know of a revocation.
type Reach struct {
	Consumer string   `json:"consumer"`
	Notices  bool     `json:"notices"` // by what it does anyway, once the commands were run
	How      string   `json:"how"`
	Steps    []string `json:"steps,omitempty"` // commands and works, in order
}

// ReachOf tells who notices that a certificate is revoked, and how.
func (p *PKI) ReachOf(r store.Record) ([]Reach, error) {
	cert, err := parsed(r)
	if err != nil {
		return nil, err
	}
	e := p.Plan.Entry(r.Name)
	if e != nil && e.Profile.Name() != r.Profile {
		e = nil
	}
	var out []Reach
	// 1. Who looks at CRLs.
	crl := Reach{Consumer: "TLS backends and clients", Notices: true, Steps: []string{"tmpki crl " + r.Issuer}}
	urls, ocsp := []string{}, []string{}
	if cert != nil {
		urls, ocsp = cert.CRLDistributionPoints, cert.OCSPServer
	}
	file := "the CRL"
	issuer := p.Plan.Entry(r.Issuer)
	if cert != nil {
		if g, err := p.issuerGeneration(r.Issuer, cert); err == nil {
			issuer = g // each key has CRLs of its own
		}
	}
	if issuer != nil && issuer.CRL != nil {
		file = issuer.CRL.File(ca.Partition(r.Serial, issuer.CRL.Partitions), false)
	}
	switch {
	case len(urls) > 0 && len(ocsp) > 0:
		crl.How = fmt.Sprintf("those that check CRLs or OCSP, once %s is at %s and the responder at %s has new answers", file, shown(urls), shown(ocsp))
	case len(urls) > 0:
		crl.How = fmt.Sprintf("those that check CRLs, once %s is at %s", file, shown(urls))
	case len(ocsp) > 0:
		crl.How = fmt.Sprintf("those that check OCSP, once the responder at %s has new answers", shown(ocsp))
		crl.Steps = nil
	default:
		crl.Notices = false
		crl.How = fmt.Sprintf("only those that were given %s and check it: the certificate names neither a CRL nor a responder", file)
	}
	if len(ocsp) > 0 {
		crl.Steps = append(crl.Steps, "tmpki ocsp pregenerate --issuer "+r.Issuer+" -o DIR")
	}
	out = append(out, crl)
	if e == nil {
		return out, nil
	}
	// 2. Who does not, by what it or those below it sign.
	signs := map[string]bool{}
	for _, o := range p.Plan.Entries {
		if o.TwinOf == nil && slices.Contains(o.Chain(), e) {
			for _, artifact := range o.Signs {
				signs[artifact] = true
			}
		}
	}
	if signs["efi"] {
		out = append(out, Reach{"UEFI firmware", true, "once dbx has the certificate; PCR 7 changes with it, and disk encryption that is bound to it",
			[]string{"tmpki uefi dbx --certificate " + e.Name + " -o dbx.auth", "install dbx.auth on each platform"}})
	}
	if signs["module"] || signs["ima"] {
		out = append(out, Reach{"Linux keyrings (modules, IMA)", false, "a key in a keyring is trusted until an image without it boots",
			[]string{"tmpki rotate " + e.Name, "sign modules and firmware files anew", "build and roll out an image with the new keyring"}})
	}
	if signs["guestos"] || signs["container"] {
		anchor := p.Plan.anchorOf(e)
		steps := []string{"on each device, at once: remove the GuestOSes and containers that it signed, where they are not wanted"}
		if anchor.TwinOf != nil {
			steps = append(steps, "tmpki rotate "+anchor.TwinOf.Name, "sign the GuestOSes anew",
				"on each device: register the new anchor (tmpki trust export --for guestos) and remove the old one below tokens/ca")
		} else {
			steps = append(steps, "tmpki rotate "+anchor.Name, "sign the base system and the GuestOSes anew",
				fmt.Sprintf("on each device: replace %s.cert by the new root (tmpki trust export --for device)", anchor.Name))
		}
		out = append(out, Reach{"the platform's daemon (GuestOS and container configs)", false,
			fmt.Sprintf("it looks at no CRL: what was signed stays accepted as long as its anchor %s is there", anchor.Name), steps})
	}
	return out, nil
}

// shown lists URLs from a certificate for people.
func shown(urls []string) string {
	var out []string
	for _, u := range urls[:min(3, len(urls))] {
		out = append(out, ca.Printable(u))
	}
	return strings.Join(out, ", ")
}

// CountBelow counts the certificates in use that an authority has issued, at most
// limit.
func CountBelow(ctx context.Context, db *store.DB, issuer string, limit int) (int, error) {
	n := 0
	for place := store.Cursor(""); n < limit; {
		list, next, err := db.Page(ctx, store.Query{Issuer: issuer, States: []store.State{store.Issued, store.Held}}, place, 1000)
		if err != nil {
			return 0, err
		}
		for _, r := range list {
			if r.Name != issuer { // a root's own
				n++
			}
		}
		if place = next; next == "" {
			break
		}
	}
	return n, nil
}

// CountSigned counts the artifacts that the ledger says a certificate signed.
func CountSigned(ctx context.Context, db *store.DB, serial []byte) (int, error) {
	size, err := db.Size(ctx)
	if err != nil {
		return 0, err
	}
	n, want := 0, hex.EncodeToString(serial)
	const page = 1000
	for from := int64(0); from < size; from += page {
		entries, err := db.Entries(ctx, from, page)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.Kind == store.KindSign && e.Serial == want {
				n++
			}
		}
	}
	return n, nil
}
