package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tmpki/artifact/ima"
	"tmpki/ca"
	"tmpki/internal/tree"
	"tmpki/signing"
)

func (a *app) signEFICmd() *cobra.Command {
	var o signing.EFIOptions
	cmd := &cobra.Command{
		Use:   "efi [--as NAME] [--replace] [-o OUT] IMAGE.efi",
		Short: "Sign a kernel, boot loader or unified kernel image (Authenticode)",
		Long: `efi adds a signature beside those that the image has, or with --replace in their
place. The result must be one that firmware with this PKI's db would boot. With
SOURCE_DATE_EPOCH set, no signing time is put in, and the same input gives the
same image.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			o.Reproducible = os.Getenv("SOURCE_DATE_EPOCH") != ""
			return a.signEach(args, "efi", func(file string) (*signing.Signer, error) { return s.SignEFI(cmd.Context(), file, o) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.As, "as", "", "sign with this entry of the plan")
	f.StringVarP(&o.Out, "output", "o", "", "`file` to write (default: the image itself)")
	f.BoolVar(&o.Replace, "replace", false, "leave out the signatures that are there")
	return cmd
}

func (a *app) signModuleCmd() *cobra.Command {
	var o signing.TreeOptions
	cmd := &cobra.Command{
		Use:   "module [--as NAME] FILE.ko|DIR...",
		Short: "Sign kernel modules in place, whole trees of them",
		Long: `module signs .ko, .ko.gz, .ko.xz and .ko.zst files, and all of them below
directories, in place and on all cores. Compressed modules are signed inside. A
signature that is there is replaced: the kernel looks at the last one only. A
file that can't be signed stays as it is, and stops no other.`,
		Args: between(1, 10000),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			p := a.newProgress()
			o.Progress = p.files
			signer, results, err := s.SignModules(cmd.Context(), args, o)
			p.close()
			return a.printTree("module", signer, results, err)
		},
	}
	cmd.Flags().StringVar(&o.As, "as", "", "sign with this entry of the plan")
	return cmd
}

func (a *app) signIMACmd() *cobra.Command {
	var o signing.TreeOptions
	var sigfile bool
	cmd := &cobra.Command{
		Use:   "ima [--as NAME] [--sigfile] FILE|DIR...",
		Short: "Sign files for IMA: security.ima, or FILE.sig",
		Long: `ima signs files, and all regular files below directories, on all cores. The
signature goes into the extended attribute security.ima, which only root may set,
or with --sigfile into FILE.sig.`,
		Args: between(1, 10000),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			p := a.newProgress()
			o.Progress = p.files
			signer, results, err := s.SignIMA(cmd.Context(), args, imaPlace(sigfile), o)
			p.close()
			if signer != nil && len(results) > 0 && !a.quiet {
				if warning := ima.CheckKeyring(signer.Certificate().Certificate); warning != nil {
					fmt.Fprintf(os.Stderr, "tmpki: warning: %v\n", warning)
				}
			}
			return a.printTree("ima", signer, results, err)
		},
	}
	cmd.Flags().StringVar(&o.As, "as", "", "sign with this entry of the plan")
	cmd.Flags().BoolVar(&sigfile, "sigfile", false, "write FILE.sig in place of the attribute")
	return cmd
}

func imaPlace(sigfile bool) ima.Place {
	if sigfile {
		return ima.SigFile
	}
	return ima.Xattr
}

// printTree tells what was signed, also when some files were not.
func (a *app) printTree(kind string, signer *signing.Signer, results []tree.Result, failed error) error {
	if signer == nil {
		return failed
	}
	if a.json {
		list := []signedJSON{}
		for _, r := range results {
			list = append(list, signedJSON{r.Path, kind, signer.Entry.Name, serialHex(signer.Certificate().SerialNumber)})
		}
		return errors.Join(a.printJSON(list), failed)
	}
	for _, r := range results {
		a.printf("%s: signed by %s\n", ca.Printable(r.Path), signer.Entry.Name)
	}
	return failed
}
