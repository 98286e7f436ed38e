package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
)

func (a *app) trustCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust list|export",
		Short: "The trust anchors: who has to trust what, and what that lets in",
		Args:  a.noSubcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.trustListCmd(), a.trustExportCmd())
	return cmd
}

// trustFlags choose anchors.
type trustFlags struct {
	consumers []string
	platform  string
}

func (f *trustFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.consumers, "for", nil, "`consumers`: efi, kernel, ima, device, guestos, backend (default: all)")
	cmd.Flags().StringVar(&f.platform, "platform", "", "of the UEFI keys, those of this `platform` only")
}

// anchors returns the chosen anchors of the PKI.
func (f *trustFlags) anchors(p *plan.PKI) ([]plan.TrustAnchor, error) {
	consumers := plan.Consumers()
	for _, c := range f.consumers {
		if !slices.Contains(consumers, plan.Consumer(c)) {
			return nil, usagef("--for %q: use efi, kernel, ima, device, guestos or backend", c)
		}
	}
	if f.platform != "" && (p.Plan.UEFI == nil || p.Plan.UEFI.Platform(f.platform) == nil) {
		return nil, fmt.Errorf("platform %q is not in the plan: tmpki uefi keys gives it keys of its own", f.platform)
	}
	list := []plan.TrustAnchor{}
	for _, c := range consumers {
		if len(f.consumers) > 0 && !slices.Contains(f.consumers, string(c)) {
			continue
		}
		for _, t := range p.TrustAnchors(c) {
			if f.platform == "" || t.Variable == nil || t.Variable.Platform == f.platform {
				list = append(list, t)
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there is no such trust anchor in this PKI: tmpki apply makes what the plan has, tmpki tree draws it")
	}
	return list, nil
}

// anchorJSON is a trust anchor for programs.
type anchorJSON struct {
	Consumer  plan.Consumer `json:"consumer"`
	Platform  string        `json:"platform,omitempty"`
	Variable  string        `json:"variable,omitempty"`
	Name      string        `json:"name"`
	Subject   string        `json:"subject"`
	Serial    string        `json:"serial"`
	SHA256    string        `json:"sha256"` // of the certificate
	NotBefore time.Time     `json:"not_before"`
	NotAfter  time.Time     `json:"not_after"`
	File      string        `json:"file,omitempty"` // of an export
	LetsIn    string        `json:"lets_in"`
	Warnings  []string      `json:"warnings"`
}

func newAnchorJSON(t plan.TrustAnchor) anchorJSON {
	sum := sha256.Sum256(t.Certificate.Raw)
	j := anchorJSON{
		Consumer: t.Consumer, Name: t.Name, Subject: t.Certificate.Subject().String(), Serial: serialHex(t.Certificate.SerialNumber),
		SHA256: hex.EncodeToString(sum[:]), NotBefore: t.Certificate.NotBefore.UTC(), NotAfter: t.Certificate.NotAfter.UTC(),
		File: t.File, LetsIn: t.LetsIn, Warnings: append([]string{}, t.Warnings...),
	}
	if t.Variable != nil {
		j.Platform, j.Variable = t.Variable.Platform, t.Variable.Name
	}
	return j
}

func (a *app) trustListCmd() *cobra.Command {
	var f trustFlags
	cmd := &cobra.Command{
		Use:   "list [--for CONSUMER]... [--platform P]",
		Short: "List trust anchors by consumer, and what each lets in",
		Long: `list tells for each consumer which certificates it has to trust: firmware (efi),
the Linux kernel's built-in keyring (kernel) and its keyring for IMA (ima), the
platform's daemon for the base system (device) and for GuestOSes (guestos), and
TLS servers that devices and users connect to (backend). Each comes with the file
of "tmpki trust export" that it is in, and with what it lets in. Where that is more
than the anchor is for, a warning says so.`,
		Example: `  tmpki trust list
  tmpki trust list --for efi --platform board-a`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			anchors, err := f.anchors(p)
			if err != nil {
				return err
			}
			if a.json {
				list := []anchorJSON{}
				for _, t := range anchors {
					list = append(list, newAnchorJSON(t))
				}
				return a.printJSON(list)
			}
			return a.printAnchors(anchors)
		},
	}
	f.add(cmd)
	return cmd
}

// consumerTitle says in a few words who trusts an anchor, and where.
func consumerTitle(t plan.TrustAnchor) string {
	switch t.Consumer {
	case plan.ForEFI:
		return "firmware, in " + t.Variable.ID()
	case plan.ForKernel:
		return "kernel, in its built-in keyring"
	case plan.ForIMA:
		return "kernel, in .ima"
	case plan.ForDevice:
		return "platform's daemon, as root of the base system"
	case plan.ForGuestOS:
		return "platform's daemon, by ca_register"
	case plan.ForBackend:
		return "backend"
	default:
		return string(t.Consumer)
	}
}

func (a *app) printAnchors(anchors []plan.TrustAnchor) error {
	if a.quiet {
		return nil
	}
	out := a.cmd.OutOrStdout()
	t := &table{colour: colour(out)}
	for _, anchor := range anchors {
		j := newAnchorJSON(anchor)
		t.heading("%s: %s", j.Consumer, ca.Printable(j.Name))
		t.add("trusted by", consumerTitle(anchor))
		t.add("subject", j.Subject)
		t.add("SHA-256", j.SHA256)
		until := anchor.Certificate.NotAfter.Local().Format(time.DateOnly)
		if time.Now().After(anchor.Certificate.NotAfter) {
			until += ", expired"
		}
		t.add("not after", until)
		t.add("file", j.File)
		t.add("lets in", visible(j.LetsIn))
		for _, w := range j.Warnings {
			t.add("warning", visible(w))
		}
	}
	return t.flush(out)
}

func (a *app) trustExportCmd() *cobra.Command {
	var f trustFlags
	var out string
	cmd := &cobra.Command{
		Use:   "export [--for CONSUMER]... [--platform P] -o DIR|FILE.tar|-",
		Short: "Write trust anchors in the formats of their consumers",
		Long: `export writes each anchor of "tmpki trust list" in the format of its consumer, with
SHA256SUMS:

  efi/DB.esl, DB.auth             signature list and signed update; PK, KEK; efi/PLATFORM
  kernel/system_trusted_keys.pem  CONFIG_SYSTEM_TRUSTED_KEYS
  ima/x509_ima.der                CONFIG_IMA_X509_PATH; other signers in x509_ima-KEYID.der,
                                  which user space loads: the kernel reads one from a file
  device/ssig_rootca.cert         tokens/ssig_rootca.cert
  guestos/ca/SHA1                 tokens/ca, as ca_register puts it there
  backend/*.pem                   who clients are known by, for a TLS server

DIR appears in one step, or takes the place of an older export in one step. What
ends in .tar is an archive, a dash is one on standard output; the same anchors
give the same archive.`,
		Example: `  tmpki trust export -o anchors
  tmpki trust export --for device,guestos -o - | tar -tv`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			anchors, err := f.anchors(p)
			if err != nil {
				return err
			}
			set, err := p.TrustFiles(anchors)
			if err != nil {
				return err
			}
			if len(set.Names()) == 0 {
				return errors.New(strings.Join(anchors[0].Warnings, "; "))
			}
			var certs []*ca.Certificate
			for _, t := range anchors {
				certs = append(certs, t.Certificate)
			}
			if err := a.writeSet(p, set, out, newest(certs)); err != nil {
				return err
			}
			for _, t := range anchors {
				for _, w := range t.Warnings {
					if t.File != "" {
						a.warn(fmt.Sprintf("%s: %s: %s", t.Consumer, t.Name, w))
					}
				}
			}
			return nil
		},
	}
	f.add(cmd)
	addOutput(cmd, &out, "DIR")
	return cmd
}
