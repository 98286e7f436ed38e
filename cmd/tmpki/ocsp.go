package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
)

func (a *app) ocspCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ocsp",
		Short: "Say of single certificates whether they are revoked",
		Args:  a.cmd.Args,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.ocspRespondCmd(), a.ocspPregenerateCmd())
	return cmd
}

// ocspValidity is a flag that says how long an answer is good.
func ocspValidity(s string) (time.Duration, error) {
	d, err := plan.ParsePeriod(s)
	if err != nil {
		return 0, usagef("--validity: %w", err)
	}
	return d, nil
}

func (a *app) ocspRespondCmd() *cobra.Command {
	var in, out, validity string
	cmd := &cobra.Command{
		Use:   "respond [-i REQUEST] [-o RESPONSE]",
		Short: "Answer an OCSP request (RFC 6960)",
		Long: `respond reads one request in DER, from a file or standard input, and writes the
response. It is signed by an entry of the plan that the authority has issued with
OCSPSigning, or by the authority itself. A serial that was never issued is unknown.

A request that can't be answered gets a response that says why (malformedRequest,
unauthorized, internalError), and the command fails.`,
		Example: `  openssl ocsp -issuer pki/device_subca.cert -cert device.cert -reqout request.der
  tmpki ocsp respond -i request.der -o response.der`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			good, err := ocspValidity(validity)
			if err != nil {
				return err
			}
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			request, err := a.readRequest(in)
			if err != nil {
				return err
			}
			if out != "-" {
				p, err := plan.Open(cmd.Context(), dir)
				if err != nil {
					return err
				}
				if err := p.CheckOutput(out); err != nil {
					return err
				}
			}
			response, err := respond(cmd.Context(), dir, request, good, time.Now())
			if status := ca.OCSPError(0); err != nil {
				if !errors.As(err, &status) {
					status = ca.OCSPInternalError
				}
				response = status.Marshal()
			}
			return errors.Join(err, a.writeResponse(out, response))
		},
	}
	cmd.Flags().StringVarP(&in, "input", "i", "-", "`file` with the request; - is standard input")
	cmd.Flags().StringVarP(&out, "output", "o", "-", "`file` for the response; - is standard output")
	cmd.Flags().StringVar(&validity, "validity", "1d", "how long the answer is good, such as 12h or 7d")
	return cmd
}

func (a *app) readRequest(file string) ([]byte, error) {
	if file != "-" {
		data, _, err := durable.ReadFile(file, ca.MaxOCSPRequest+1)
		return data, err
	}
	data, err := io.ReadAll(io.LimitReader(a.cmd.InOrStdin(), ca.MaxOCSPRequest+1))
	if err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	return data, nil
}

func (a *app) writeResponse(file string, response []byte) error {
	if file == "-" {
		_, err := a.cmd.OutOrStdout().Write(response)
		return err
	}
	return durable.WriteFile(file, response, 0o644)
}

// respond answers one request. An error that is a ca.OCSPError can be told to whoever
// asked.
func respond(ctx context.Context, dir string, request []byte, validity time.Duration, now time.Time) ([]byte, error) {
	r, err := ca.ParseOCSPRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ca.OCSPMalformedRequest, err)
	}
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	authority := p.OCSPAuthority(r)
	if authority == nil {
		return nil, fmt.Errorf("%w: it is about certificates of none of this PKI's authorities", ca.OCSPUnauthorized)
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	o, err := p.NewOCSP(db, authority, validity, now)
	if err != nil {
		return nil, err
	}
	return o.Answer(ctx, r, now)
}

func (a *app) ocspPregenerateCmd() *cobra.Command {
	var issuers []string
	var out, validity string
	cmd := &cobra.Command{
		Use:   "pregenerate --issuer AUTHORITY... -o DIR [--validity 7d]",
		Short: "Sign an answer for each certificate that has not expired, for a web server",
		Long: `pregenerate signs one response for each certificate of an authority that has not
expired (RFC 5019), and writes it to DIR/AUTHORITY/NAME. NAME is the request for it,
with SHA-1 and without a nonce, in base64url without padding: a web server finds
the file for a GET request when it maps "+" to "-", "/" to "_", and leaves "=" out.

Run it again before the answers end, and after each revocation.`,
		Example: `  tmpki ocsp pregenerate --issuer device_subca -o /srv/ocsp`,
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			good, err := ocspValidity(validity)
			if err != nil {
				return err
			}
			if len(issuers) == 0 || out == "" {
				return usagef("ocsp pregenerate: --issuer and -o are needed: %s", cmd.UseLine())
			}
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			return a.pregenerate(cmd.Context(), dir, issuers, out, good)
		},
	}
	cmd.Flags().StringArrayVar(&issuers, "issuer", nil, "`authority` whose certificates are answered for; again for more")
	cmd.Flags().StringVarP(&out, "output", "o", "", "`directory` for the responses")
	cmd.Flags().StringVar(&validity, "validity", "7d", "how long an answer is good")
	return cmd
}

// pregeneratedJSON tells of the answers for one authority.
type pregeneratedJSON struct {
	Authority string `json:"authority"`
	Signer    string `json:"signer"`
	Directory string `json:"directory"`
	Responses int    `json:"responses"`
}

func (a *app) pregenerate(ctx context.Context, dir string, issuers []string, out string, validity time.Duration) error {
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return err
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	now := time.Now()
	list := []pregeneratedJSON{}
	var authorities []*plan.Entry
	for _, name := range issuers {
		e, err := ocspAuthority(p, name)
		if err != nil {
			return err
		}
		authorities = append(authorities, e)
		for _, other := range e.Others {
			if other.IsOld() { // it has certificates out there
				authorities = append(authorities, other)
			}
		}
	}
	for _, e := range authorities {
		f, err := a.pregenerateOne(ctx, p, db, e, out, validity, now)
		if err != nil {
			return err
		}
		list = append(list, f)
		a.printf("%s: %d responses by %s in %s, %.0f a second\n", f.Authority, f.Responses, f.Signer, visible(f.Directory), float64(f.Responses)/time.Since(now).Seconds())
	}
	if a.json {
		return a.printJSON(map[string]any{"pregenerated": list})
	}
	return nil
}

// ocspAuthority returns an authority by its name.
func ocspAuthority(p *plan.PKI, name string) (*plan.Entry, error) {
	if e := p.Plan.Entry(name); e != nil && e.Kind == plan.Authority {
		return e, nil
	}
	var names []string
	for _, e := range p.Plan.Entries {
		if e.Kind == plan.Authority {
			names = append(names, e.Name)
		}
	}
	return nil, fmt.Errorf("%q is not an authority of the plan: those are %s", name, strings.Join(names, ", "))
}

// pregenerateOne makes the answers about what one generation of an authority's key
// has issued. Their names tell the key, so all generations have one directory.
func (a *app) pregenerateOne(ctx context.Context, p *plan.PKI, db *store.DB, e *plan.Entry, out string, validity time.Duration, now time.Time) (pregeneratedJSON, error) {
	o, err := p.NewOCSP(db, e, validity, now)
	if err != nil {
		return pregeneratedJSON{}, err
	}
	to := filepath.Join(out, e.Base())
	if err := os.MkdirAll(to, 0o755); err != nil {
		return pregeneratedJSON{}, err
	}
	bar := a.newProgress()
	defer bar.close()
	n, err := o.Pregenerate(ctx, to, now, bar.count)
	return pregeneratedJSON{e.Name, o.Signer.Name, ca.Printable(to), n}, err
}
