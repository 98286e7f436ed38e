package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/signing"
)

func (a *app) signCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign KIND FILE...",
		Short: "Sign what the platform verifies",
		Long: `sign signs an artifact with a key of the PKI, verifies the result the way its
consumer does, records it, and only then puts it in place. The signer is the one
that pki.yaml names under signers, unless --as names another; a signer that is
not for that kind of artifact is refused.`,
		Args: a.noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.signConfigCmd("guestos", "Sign GuestOS configs"), a.signConfigCmd("container", "Sign container configs"), a.signFileCmd(),
		a.signEFICmd(), a.signModuleCmd(), a.signIMACmd())
	return cmd
}

// noSubcommand refuses arguments of a command that only has subcommands.
func (a *app) noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s: unknown kind %q", cmd.Name(), args[0])
	}
	return nil
}

// session opens the PKI of --pki for signing.
func (a *app) session(cmd *cobra.Command) (*signing.Session, error) {
	dir, err := a.existing(nil)
	if err != nil {
		return nil, err
	}
	return signing.Open(cmd.Context(), dir, actor(), time.Now)
}

// signedJSON is a signature for programs.
type signedJSON struct {
	File   string `json:"file"`
	Kind   string `json:"kind"`
	Signer string `json:"signer"`
	Serial string `json:"serial"`
}

func (a *app) signConfigCmd(kind, short string) *cobra.Command {
	o := signing.ConfigOptions{Artifact: kind}
	cmd := &cobra.Command{
		Use:   kind + " [--as NAME] [--cms] FILE.conf...",
		Short: short,
		Long: short + `: NAME.sig, the raw signature, and NAME.cert, the signer's certificate
with its issuers, beside NAME.conf. With --cms it is NAME.p7s, a detached CMS
signature over the octets of the file. A config that the platform's daemon would
refuse, or read differently, is not signed.`,
		Args: between(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			return a.signEach(args, kind, func(file string) (*signing.Signer, error) { return s.SignConfig(cmd.Context(), file, o) })
		},
	}
	cmd.Flags().StringVar(&o.As, "as", "", "sign with this entry of the plan")
	cmd.Flags().BoolVar(&o.CMS, "cms", false, "write NAME.p7s")
	return cmd
}

func (a *app) signFileCmd() *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "file [--as NAME] FILE...",
		Short: "Sign any file: FILE.p7s, a detached CMS signature",
		Args:  between(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			return a.signEach(args, "file", func(file string) (*signing.Signer, error) { return s.SignFile(cmd.Context(), file, as) })
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "sign with this entry of the plan")
	return cmd
}

// signEach signs files one after the other and stops at the first that fails. It
// tells what was signed, also when some files were not.
func (a *app) signEach(files []string, kind string, sign func(file string) (*signing.Signer, error)) error {
	list := []signedJSON{}
	var failed error
	for _, f := range files {
		var signer *signing.Signer
		if signer, failed = sign(f); failed != nil {
			break
		}
		list = append(list, signedJSON{f, kind, signer.Entry.Name, serialHex(signer.Certificate().SerialNumber)})
		a.printf("%s: signed by %s\n", ca.Printable(f), signer.Entry.Name)
	}
	if a.json {
		return errors.Join(a.printJSON(list), failed)
	}
	return failed
}
