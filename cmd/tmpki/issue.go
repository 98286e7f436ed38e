package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/store"
)

func (a *app) issueCmd() *cobra.Command {
	var csr, key, out string
	var f subjectFlags
	r := plan.IssueRequest{}
	cmd := &cobra.Command{
		Use:   "issue PROFILE --name NAME [--csr FILE|--key URI] [--san KIND:NAME]... [-o FILE]",
		Short: "Issue a certificate outside the plan's entries: backend, user, OCSP responder",
		Long: `issue signs a certificate of a profile that has an issuer in pki.yaml. The key is
the one of a request (--csr, a dash is standard input), of which only what the
profile lets through is taken; or it is at a key URI (--key), in a file or a
token, and made there if there is none; or it is made at the plan's place.

The certificate is recorded as PROFILE/NAME and written with its chain. Issued
again for the same name with the same key, it is renewed. A name that gets another
key needs --replace, which revokes what it had.`,
		Example: `  tmpki issue backend --name web1 --san dns:web1.example
  tmpki issue user --name alice --csr alice.csr -o alice.cert
  tmpki issue ocsp --name responder --key 'pkcs11:token=ca;object=responder'`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Profile = args[0]
			if r.Name == "" {
				return usagef("issue: --name NAME is missing")
			}
			if csr != "" && key != "" {
				return usagef("issue: --csr and --key exclude each other")
			}
			var err error
			if r.Subject, err = f.subject(); err != nil {
				return err
			}
			if err := ca.CheckSubjectAltNames(r.SubjectAltNames); err != nil {
				return usagef("--san: %w", err)
			}
			if key != "" {
				uri, err := keys.ParseURI(key)
				if err != nil {
					return usagef("--key: %w", err)
				}
				r.Key = &uri
			}
			if csr != "" {
				text, err := a.readCSR(csr)
				if err != nil {
					return err
				}
				r.Request = (*plan.Request)(&text)
			}
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			if _, err := p.Plan.IssuanceOf(r.Profile, r.Name); err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(p.Dir, r.Name+".cert")
			}
			return a.issue(cmd, p, r, out)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.Name, "name", "", "the certificate's `name` among those of its profile")
	fl.StringVar(&csr, "csr", "", "take the key from this certificate request, a `file`")
	fl.StringVar(&key, "key", "", "use, or make, the key at this `URI`")
	fl.StringArrayVar(&r.SubjectAltNames, "san", nil, "subject alternative `name` such as dns:HOST, ip:ADDRESS, email:ADDRESS (may be repeated)")
	f.add(cmd)
	fl.BoolVar(&r.Replace, "replace", false, "revoke what the name has with another key")
	fl.StringVarP(&out, "output", "o", "", "`file` for the certificate with its chain, - for standard output (default: NAME.cert in the PKI directory)")
	cmd.AddCommand(a.issueListCmd())
	return cmd
}

// subjectFlags change the subject that the plan gives.
type subjectFlags struct {
	commonName string
	fields     []string
}

func (f *subjectFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.commonName, "cn", "", "common `name` (default: that of the request, or the name)")
	cmd.Flags().StringArrayVar(&f.fields, "subject", nil, "another field of the subject, such as organizational_unit=`Fleet` (may be repeated)")
}

func (f *subjectFlags) subject() (ca.SubjectConfig, error) {
	s := ca.SubjectConfig{}
	for _, field := range f.fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return s, usagef("--subject %q: use FIELD=VALUE", field)
		}
		if err := s.Set(name, value); err != nil {
			return s, usagef("--subject: %w", err)
		}
	}
	if f.commonName != "" {
		s.CommonName = f.commonName
	}
	return s, nil
}

// readCSR reads a certificate request from a file, or standard input.
func (a *app) readCSR(path string) ([]byte, error) {
	const limit = 2 * ca.MaxCertificate
	if path != "-" {
		text, _, err := durable.ReadFile(path, limit)
		return text, err
	}
	text, err := io.ReadAll(io.LimitReader(a.cmd.InOrStdin(), limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	return text, nil // one octet too many is seen by whoever parses it
}

// issue issues a certificate, writes it and tells about it.
func (a *app) issue(cmd *cobra.Command, p *plan.PKI, r plan.IssueRequest, out string) error {
	if out != "-" {
		if err := p.CheckOutput(out); err != nil {
			return err
		}
	}
	issued, err := p.Issue(cmd.Context(), a.options(os.Stderr), r)
	if issued == nil || issued.Certificate == nil {
		return err
	}
	text := ca.MarshalPEM(issued.Chain...)
	if out == "-" {
		_, writeErr := a.cmd.OutOrStdout().Write(text)
		return errors.Join(err, writeErr)
	}
	if writeErr := durable.WriteFile(out, text, 0o644); writeErr != nil {
		return errors.Join(err, fmt.Errorf("%s is issued and on record (serial %s), but not written: %w", issued.Name, serialHex(issued.Certificate.SerialNumber), writeErr))
	}
	return errors.Join(a.printIssued(issued, out), err)
}

// issuedJSON is an issued certificate for programs.
type issuedJSON struct {
	Name     string    `json:"name"`
	Profile  string    `json:"profile"`
	Issuer   string    `json:"issuer"`
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Key      string    `json:"key,omitempty"`
	KeyMade  bool      `json:"key_made"`
	Renewed  bool      `json:"renewed"`
	Revoked  []string  `json:"revoked"` // serials
	File     string    `json:"file"`
}

func (a *app) printIssued(i *plan.Issued, file string) error {
	j := issuedJSON{
		Name: i.Name, Profile: i.Profile, Issuer: i.Issuer, Subject: i.Certificate.Subject().String(), Serial: serialHex(i.Certificate.SerialNumber),
		NotAfter: i.Certificate.NotAfter.UTC(), Key: i.KeyURI, KeyMade: i.KeyMade, Renewed: i.Renewed, Revoked: []string{}, File: file,
	}
	for _, r := range i.Revoked {
		j.Revoked = append(j.Revoked, fmt.Sprintf("%x", r.Serial))
	}
	if a.json {
		return a.printJSON(j)
	}
	verb := "issued"
	if i.Renewed {
		verb = "renewed"
	}
	a.printf("%s: %s by %s until %s, serial %s\n", i.Name, verb, i.Issuer, i.Certificate.NotAfter.Local().Format(time.DateOnly), j.Serial)
	a.printf("  subject  %s\n", j.Subject)
	if i.KeyURI != "" {
		made := ""
		if i.KeyMade {
			made = " (made)"
		}
		a.printf("  key      %s%s\n", visible(i.KeyURI), made)
	}
	a.printf("  file     %s\n", visible(file))
	for _, serial := range j.Revoked {
		a.printf("  revoked  serial %s, superseded: tmpki crl publishes that\n", serial)
	}
	return nil
}

func (a *app) issueListCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list [--all] [PROFILE]",
		Short: "List certificates that were issued outside the plan's entries",
		Long: `list shows the certificates of the profiles that have an issuer in pki.yaml, but for
devices, which "tmpki device list" shows: those that are good, or with --all also
those that are revoked, or over.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			profile := ""
			if len(args) > 0 {
				profile = args[0]
			}
			list, err := p.IssuedList(cmd.Context(), profile)
			if err != nil {
				return err
			}
			return a.printIssuedList(list, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what is revoked, or over")
	return cmd
}

// recordRow is a certificate of the record for programs.
type recordRow struct {
	Name      string    `json:"name"`
	Profile   string    `json:"profile"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	State     string    `json:"state"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Subject   string    `json:"subject"`
	Key       string    `json:"key,omitempty"`
}

func (a *app) printIssuedList(list []store.Record, all bool) error {
	rows := []recordRow{}
	now := time.Now()
	for _, c := range list {
		state := c.State.String()
		if c.State == store.Issued {
			state = "good"
			if now.After(c.NotAfter) {
				state = "expired"
			}
		}
		if state != "good" && !all {
			continue
		}
		row := recordRow{c.Name, c.Profile, c.Issuer, fmt.Sprintf("%x", c.Serial), state, c.NotBefore.UTC(), c.NotAfter.UTC(), "", c.KeyURI}
		if cert, err := ca.ParseCertificate(c.DER); err == nil {
			row.Subject = cert.Subject().String()
		}
		rows = append(rows, row)
	}
	if a.json {
		return a.printJSON(rows)
	}
	if a.quiet {
		return nil
	}
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", visible(r.Name), r.State, r.NotAfter.Local().Format(time.DateOnly), r.Serial, r.Subject)
	}
	return w.Flush()
}
