package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/signing"
)

func (a *app) verifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify KIND FILE...",
		Short: "Would the platform accept it?",
		Long: `verify holds an artifact against the trust anchors that its consumer has in this
PKI, or against those in --trust files, with the rules of that consumer. It
prints who signed, the chain and the verdict, and exits with 3 if one is no.`,
		Args: a.noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// The flag, if a kind has one, says where the signature is.
	add := func(kind, short string, verify func(ctx context.Context, v *signing.Verifier, file string, flag bool) signing.Verdict) {
		var trust []string
		var flag bool
		sub := &cobra.Command{
			Use:   kind + " [--trust FILE]... FILE...",
			Short: short,
			Args:  between(1, 1000),
			RunE: func(cmd *cobra.Command, args []string) error {
				v, err := a.verifier(cmd, kind, trust)
				if err != nil {
					return err
				}
				return a.verifyEach(args, func(file string) signing.Verdict { return verify(cmd.Context(), v, file, flag) })
			},
		}
		sub.Flags().StringArrayVar(&trust, "trust", nil, "trust the certificates in this `file` only (may be repeated)")
		switch kind {
		case "guestos", "container":
			sub.Flags().BoolVar(&flag, "cms", false, "verify NAME.p7s")
		case "ima":
			sub.Flags().BoolVar(&flag, "sigfile", false, "verify FILE.sig in place of the attribute")
		}
		cmd.AddCommand(sub)
	}
	for _, kind := range []string{"guestos", "container"} {
		add(kind, "Verify a signed "+kind+" config: NAME.conf with NAME.sig and NAME.cert", func(ctx context.Context, v *signing.Verifier, file string, p7s bool) signing.Verdict {
			return v.VerifyConfig(ctx, kind, file, p7s)
		})
	}
	add("efi", "Verify an EFI image as firmware does; trust is what db holds", func(_ context.Context, v *signing.Verifier, file string, _ bool) signing.Verdict {
		return v.VerifyEFI(file)
	})
	add("module", "Verify a kernel module; trust is what the keyring holds", func(_ context.Context, v *signing.Verifier, file string, _ bool) signing.Verdict {
		return v.VerifyModule(file)
	})
	add("ima", "Verify a file's IMA signature; trust is what .ima holds", func(_ context.Context, v *signing.Verifier, file string, sigfile bool) signing.Verdict {
		return v.VerifyIMA(file, imaPlace(sigfile))
	})
	add("file", "Verify FILE with FILE.p7s", func(_ context.Context, v *signing.Verifier, file string, _ bool) signing.Verdict {
		return v.VerifyFile(file)
	})
	return cmd
}

// verifier takes the anchors from files, or from the PKI.
func (a *app) verifier(cmd *cobra.Command, kind string, trust []string) (*signing.Verifier, error) {
	v := &signing.Verifier{Time: time.Now()}
	var err error
	if len(trust) > 0 {
		v.Trust, err = signing.ReadTrust(trust)
		return v, err
	}
	s, err := a.session(cmd)
	if err != nil {
		return nil, err
	}
	if v.Trust = s.Anchors(kind); len(v.Trust) == 0 {
		return nil, fmt.Errorf("nobody signs %s in this PKI, so it has no trust anchor: name one with --trust", kind)
	}
	return v, nil
}

// verdictJSON is a verdict for programs.
type verdictJSON struct {
	File     string   `json:"file"`
	Accepted bool     `json:"accepted"`
	Reason   string   `json:"reason,omitempty"`
	Signer   string   `json:"signer,omitempty"`
	Serial   string   `json:"serial,omitempty"`
	Chain    []string `json:"chain,omitempty"`
}

func (a *app) verifyEach(files []string, verify func(file string) signing.Verdict) error {
	list, no := []verdictJSON{}, false
	for _, f := range files {
		v := verify(f)
		j := verdictJSON{File: f, Accepted: v.Err == nil}
		if v.Signer != nil {
			j.Signer, j.Serial = v.Signer.Subject().String(), serialHex(v.Signer.SerialNumber)
		}
		for _, c := range v.Chain {
			j.Chain = append(j.Chain, c.Subject().String())
		}
		if v.Err != nil {
			no, j.Reason = true, v.Err.Error()
		}
		list = append(list, j)
		a.printVerdict(j)
	}
	if a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	}
	if no {
		return noError{}
	}
	return nil
}

func (a *app) printVerdict(v verdictJSON) {
	out := a.cmd.OutOrStdout()
	verdict, code := "accepted", "\x1b[32m"
	if !v.Accepted {
		verdict, code = "refused", "\x1b[31m"
	}
	if colour(out) {
		verdict = code + verdict + "\x1b[0m"
	}
	a.printf("%s: %s\n", ca.Printable(filepath.Base(v.File)), verdict)
	if v.Reason != "" { // a line for each of several
		lines := strings.Split(v.Reason, "\n")
		for i, line := range lines {
			lines[i] = ca.Printable(line)
		}
		a.printf("  reason  %s\n", strings.Join(lines, "\n          "))
	}
	if v.Signer != "" {
		a.printf("  signer  %s (serial %s)\n", v.Signer, v.Serial)
	}
	for i, c := range v.Chain {
		if i > 0 {
			a.printf("  below   %s\n", c)
		}
	}
}
