package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
)

// maxBelow is up to where revoke counts what is below an authority.
const maxBelow = 1_000_000

// revokeFlags are what revoke is told.
type revokeFlags struct {
	reason, since  string
	yes, abandoned bool
	parsed         ca.Reason
	invalidity     time.Time
}

func (a *app) revokeCmd() *cobra.Command {
	var o revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke SERIAL|FILE|UUID|NAME... --reason REASON [--invalid-since TIME] [--yes]",
		Short: "Declare certificates no longer good",
		Long: `revoke records that certificates are no longer good, and tells who will notice and
how: the platform's verifiers look at no CRL. An argument is the serial number in
hexadecimal, a certificate file (PEM or DER; of a chain the first), the UUID of a
device, or a name. A word that means several certificates is refused, with a list.

Reasons (RFC 5280): keyCompromise, cACompromise, affiliationChanged, superseded,
cessationOfOperation, privilegeWithdrawn, aACompromise, unspecified. certificateHold
can be lifted by removeFromCRL; all else is for good.

With --abandoned it revokes the serials that runs, killed more than an hour ago, were
about to sign: a certificate may exist that nobody has a record of.`,
		Example: `  tmpki revoke 1b4e28ba-2fa1-11d2-883f-0016d3cca427 --reason keyCompromise
  tmpki revoke ssig_cml --reason superseded
  tmpki revoke device.cert --reason keyCompromise --invalid-since 2026-03-01
  tmpki revoke --abandoned`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.revoke(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "why")
	f.StringVar(&o.since, "invalid-since", "", "since when the key must not be trusted: a `time` such as 2026-03-01 or 2026-03-01T12:00:00Z")
	f.BoolVar(&o.yes, "yes", false, "do not ask before revoking an authority")
	f.BoolVar(&o.abandoned, "abandoned", false, "what killed runs were about to sign")
	return cmd
}

// revokedJSON is a revocation for programs.
type revokedJSON struct {
	Serial    string       `json:"serial"`
	Name      string       `json:"name"`
	Issuer    string       `json:"issuer"`
	Profile   string       `json:"profile"`
	Reason    string       `json:"reason"`
	Below     int          `json:"certificates_below,omitempty"`
	Artifacts int          `json:"artifacts_signed,omitempty"`
	Reach     []plan.Reach `json:"reach"`
}

func (a *app) revoke(ctx context.Context, o revokeFlags, args []string) (err error) {
	// 1. What is asked for?
	if err := o.check(args); err != nil {
		return err
	}
	dir, err := a.existing(nil)
	if err != nil {
		return err
	}
	lock, err := plan.LockPKI(ctx, dir, a.options(os.Stderr).Waiting)
	if err != nil {
		return err
	}
	defer lock.Close()
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return err
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// 2. Which certificates?
	var records []store.Record
	if o.abandoned {
		records, err = abandoned(ctx, db, time.Now())
	} else {
		records, err = findAll(ctx, p, db, args, o.parsed)
	}
	if err != nil {
		return err
	}
	var list []store.Revocation
	out := []revokedJSON{}
	for _, r := range records {
		if err := p.CheckRevocable(r); err != nil {
			return err
		}
		facts, err := a.revocationFacts(ctx, p, db, r, o.parsed)
		if err != nil {
			return err
		}
		if err := a.confirm(r, facts, o); err != nil {
			return err
		}
		out = append(out, facts)
		list = append(list, store.Revocation{Serial: r.Serial, Issuer: r.Issuer, Reason: o.parsed, Invalidity: o.invalidity, Actor: actor()})
	}
	// 3. Record.
	if len(list) > 0 {
		if err := db.Revoke(ctx, list...); err != nil {
			return err
		}
	}
	// 4. The truth about reach.
	if a.json {
		return a.printJSON(map[string]any{"revoked": out})
	}
	if len(out) == 0 {
		a.printf("no serial is abandoned\n")
	}
	for _, facts := range out {
		if err := a.printRevoked(facts); err != nil {
			return err
		}
	}
	return nil
}

// check reads the flags.
func (o *revokeFlags) check(args []string) error {
	var err error
	switch {
	case o.abandoned && (len(args) > 0 || o.since != ""):
		return usagef("revoke: --abandoned takes no names and no --invalid-since")
	case o.abandoned && o.reason == "":
		o.parsed = ca.Unspecified
	case !o.abandoned && len(args) == 0:
		return usagef("revoke: which certificate? Give a serial, file, UUID or name")
	case o.reason == "":
		return usagef("revoke: --reason is missing: why?")
	default:
		if o.parsed, err = ca.ParseReason(o.reason); err != nil {
			return usagef("revoke: --reason: %w", err)
		}
	}
	if o.abandoned && (o.parsed == ca.CertificateHold || o.parsed == ca.RemoveFromCRL) {
		return usagef("revoke: --abandoned is for good, and not %v", o.parsed)
	}
	if o.since == "" {
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if o.invalidity, err = time.ParseInLocation(layout, o.since, time.Local); err == nil {
			break
		}
	}
	if err != nil {
		return usagef("revoke: --invalid-since %q is no time such as 2026-03-01 or 2026-03-01T12:00:00Z", o.since)
	}
	if o.invalidity.After(time.Now()) {
		return usagef("revoke: --invalid-since %s lies in the future", o.since)
	}
	return nil
}

// findAll returns the certificates that the arguments mean, each once.
func findAll(ctx context.Context, p *plan.PKI, db *store.DB, args []string, reason ca.Reason) ([]store.Record, error) {
	states := []store.State{store.Issued, store.Held}
	switch reason {
	case ca.RemoveFromCRL:
		states = []store.State{store.Held}
	case ca.CertificateHold:
		states = states[:1]
	}
	var out []store.Record
	seen := map[string]bool{}
	for _, arg := range args {
		r, err := findOne(ctx, p, db, arg, states)
		if err != nil {
			return nil, err
		}
		if r.State == store.Intended && time.Since(r.Intended) < abandonedAfter {
			return nil, fmt.Errorf("serial %x (%s) is being signed right now, or was when its run died on %s: after an hour tmpki revoke --abandoned takes it", r.Serial, ca.Printable(r.Name), localTime(r.Intended))
		}
		key := r.Issuer + "\x00" + string(r.Serial)
		if !seen[key] {
			seen[key] = true
			out = append(out, r)
		}
	}
	return out, nil
}

func findOne(ctx context.Context, p *plan.PKI, db *store.DB, arg string, states []store.State) (store.Record, error) {
	// The generations of a key share their name in the record.
	if e := p.Plan.Entry(arg); e != nil && arg != e.Base() && p.Have.Certificates[e.Name] != nil {
		issuer := e.Base()
		if e.Issuer != nil {
			issuer = e.Issuer.Base()
		}
		return db.ByIssuerSerial(ctx, issuer, p.Have.Certificates[e.Name].SerialNumber.Bytes())
	}
	r, err := plan.FindCertificate(ctx, db, arg, states...)
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	if _, stat := os.Lstat(arg); errors.Is(stat, fs.ErrNotExist) {
		return r, err
	}
	data, _, readErr := durable.ReadFile(arg, ca.MaxChain*ca.MaxCertificate)
	if readErr != nil {
		return r, fmt.Errorf("reading %q: %w", arg, readErr)
	}
	if r, err = plan.FindFile(ctx, db, data); err != nil {
		return r, fmt.Errorf("%q: %w", arg, err)
	}
	return r, nil
}

// abandonedAfter is how old an intent is when its process must be dead: a ceremony
// has none, and an HSM is not that slow.
const abandonedAfter = time.Hour

func abandoned(ctx context.Context, db *store.DB, now time.Time) ([]store.Record, error) {
	pending, err := db.Pending(ctx)
	if err != nil {
		return nil, err
	}
	var out []store.Record
	for _, r := range pending {
		if now.Sub(r.Intended) >= abandonedAfter {
			out = append(out, r)
		}
	}
	return out, nil
}

func (a *app) revocationFacts(ctx context.Context, p *plan.PKI, db *store.DB, r store.Record, reason ca.Reason) (revokedJSON, error) {
	facts := revokedJSON{Serial: fmt.Sprintf("%x", r.Serial), Name: ca.Printable(r.Name), Issuer: r.Issuer, Profile: r.Profile, Reason: reason.String()}
	var err error
	if facts.Reach, err = p.ReachOf(r); err != nil {
		return facts, err
	}
	e := p.Plan.Entry(r.Name)
	if e == nil {
		return facts, nil
	}
	if e.Kind == plan.Authority {
		if facts.Below, err = plan.CountBelow(ctx, db, e.Name, maxBelow); err != nil {
			return facts, err
		}
	}
	if len(e.Signs) > 0 {
		facts.Artifacts, err = plan.CountSigned(ctx, db, r.Serial)
	}
	return facts, err
}

// confirm asks before a CA is revoked.
func (a *app) confirm(r store.Record, facts revokedJSON, o revokeFlags) error {
	if r.DER == nil || o.yes || o.parsed == ca.RemoveFromCRL {
		return nil
	}
	cert, err := ca.ParseCertificate(r.DER)
	if err != nil || !cert.IsCA {
		return err
	}
	what := fmt.Sprintf("%s is an authority, with %d certificates in use below it", facts.Name, facts.Below)
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%s: nobody is there to be asked; --yes revokes it", what)
	}
	fmt.Fprintf(os.Stderr, "%s. Type its name to revoke it: ", what)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != r.Name {
		return errors.New("nothing was revoked")
	}
	return nil
}

func (a *app) printRevoked(f revokedJSON) error {
	if a.quiet {
		return nil
	}
	out := a.cmd.OutOrStdout()
	t := &table{colour: colour(out)}
	verb := "revoked"
	if f.Reason == ca.RemoveFromCRL.String() {
		verb = "no longer on hold"
	}
	t.heading("%s: %s (%s)", f.Name, verb, f.Reason)
	t.add("serial", f.Serial)
	t.add("issuer", f.Issuer)
	if f.Below > 0 {
		t.add("below it", fmt.Sprintf("%d certificates in use, which lead nowhere for who checks the CRL of %s", f.Below, f.Issuer))
	}
	if f.Artifacts > 0 {
		t.add("signed", fmt.Sprintf("%d artifacts: tmpki log has them; those that are still wanted need another signature", f.Artifacts))
	}
	for _, r := range f.Reach {
		notices := "notices"
		if !r.Notices {
			notices = "DOES NOT NOTICE by itself"
		}
		t.heading("%s: %s", r.Consumer, notices)
		t.add("how", visible(r.How))
		for i, s := range r.Steps {
			t.add(fmt.Sprintf("step %d", i+1), s)
		}
	}
	if err := t.flush(out); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}
