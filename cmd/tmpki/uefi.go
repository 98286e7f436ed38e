package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/signing"
	"tmpki/uefi"
)

func (a *app) uefiCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uefi",
		Short: "Secure Boot: keys for each platform, updates of PK, KEK, db and dbx",
		Long: `uefi makes what the firmware of a platform is configured with. What is in PK, KEK
and db for good stands in pki.yaml, and apply signs it; the verbs here are for what
comes beside: platforms, revocations, single updates.

Without --platform they are about the base set, the PK, KEK and DB of the build.`,
		Args: a.noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.uefiKeysCmd(), a.uefiESLCmd(), a.uefiAuthCmd(), a.uefiDBXCmd(), a.uefiShowCmd())
	return cmd
}

func (a *app) uefiKeysCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "keys PLATFORM",
		Short: "A PK, KEK and db of its own for one platform",
		Long: `keys adds a platform under uefi.platforms in pki.yaml and applies the plan: all that
stands under uefi.keys is made once more, with own keys, subjects and owner, and
published in platforms/PLATFORM. The rest of pki.yaml stays as it is, comments
included.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			p := a.newProgress()
			o := a.options(os.Stderr)
			o.Progress = p.step
			steps, err := plan.Edit(cmd.Context(), dir, o, plan.AddPlatform(args[0]))
			p.close()
			if err != nil {
				return err
			}
			a.notePCR7(signedVariables(steps, true)...)
			return a.printSteps(steps, false)
		},
	}
}

// entriesFlags are what signature lists are made of.
type entriesFlags struct {
	certificates []string // files, or entries of the plan
	images       []string
	hashes       []string
}

func (e *entriesFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&e.images, "image", nil, "the Authenticode SHA-256 of this EFI `file`")
	cmd.Flags().StringArrayVar(&e.hashes, "hash", nil, "an Authenticode SHA-256, in `hex`")
}

// database makes signature lists. p may be nil: then certificates are files.
func (e *entriesFlags) database(p *plan.PKI, owner uefi.GUID, warn func(string)) (uefi.SignatureDatabase, error) {
	var db uefi.SignatureDatabase
	for _, name := range e.certificates {
		c, err := certificateOf(p, name)
		if err != nil {
			return nil, err
		}
		if _, err := db.AddCertificate(owner, c.Raw); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if p != nil {
			if err := p.Plan.CheckTarget(c); err != nil {
				warn(fmt.Sprintf("%s: %v", name, err))
			}
		}
	}
	for _, file := range e.images {
		sum, err := signing.EFIDigest(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if _, err := db.AddHash(owner, sum); err != nil {
			return nil, err
		}
	}
	for _, text := range e.hashes {
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != 32 {
			return nil, usagef("--hash %q: not the 64 hexadecimal digits of a SHA-256", text)
		}
		if _, err := db.AddHash(owner, [32]byte(sum)); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// certificateOf returns the certificate of an entry of the plan, else of a file.
func certificateOf(p *plan.PKI, name string) (*ca.Certificate, error) {
	if p != nil && p.Plan.Entry(name) != nil {
		if c := p.Have.Certificates[p.Plan.Entry(name).Name]; c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("%s has no certificate yet: tmpki apply makes it", name)
	}
	return plan.ReadCertificate(name)
}

func (a *app) uefiESLCmd() *cobra.Command {
	var e entriesFlags
	var out, owner, platform string
	cmd := &cobra.Command{
		Use:   "esl [--owner GUID] [--hash HEX]... [--image FILE]... [FILE|NAME...] -o OUT.esl",
		Short: "Make a signature list of certificates and hashes",
		Long: `esl writes an EFI signature list with certificates, each an entry of the plan or a
file in PEM or DER, and with hashes of EFI images. It is not signed: see auth. A
name of the plan goes before a file of that name, which is then ./NAME.`,
		Args: between(0, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.certificates = args
			if len(args)+len(e.images)+len(e.hashes) == 0 {
				return usagef("esl: nothing to put into the list: %s", cmd.UseLine())
			}
			// A PKI is not needed where an owner is given and all else are files.
			var p *plan.PKI
			dir, err := a.existing(nil)
			if err == nil {
				p, err = plan.Open(cmd.Context(), dir)
			}
			if err != nil && (owner == "" || !errors.Is(err, errNoPKI) || a.dir != "") {
				return err
			}
			var guid uefi.GUID
			if owner != "" {
				if guid, err = uefi.ParseGUID(owner); err != nil {
					return usagef("--owner: %w", err)
				}
			} else if guid, err = p.Owner(platform); err != nil {
				return err
			}
			db, err := e.database(p, guid, a.warn)
			if err != nil {
				return err
			}
			raw, err := db.Marshal()
			if err != nil {
				return err
			}
			if err := p.CheckOutput(out); err != nil {
				return err
			}
			if err := durable.WriteFile(out, raw, 0o644); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": out, "owner": guid.String(), "entries": entriesJSON(p, db)})
			}
			a.printf("%s: %s\n", out, count(len(db.Entries()), "entry", "entries"))
			return nil
		},
	}
	e.add(cmd)
	cmd.Flags().StringVar(&owner, "owner", "", "the owner of the entries, a `GUID` (default: that of the PKI)")
	cmd.Flags().StringVar(&platform, "platform", "", "take the owner of this `platform`")
	addOutput(cmd, &out, "OUT.esl")
	return cmd
}

func (a *app) uefiAuthCmd() *cobra.Command {
	var out string
	var appendWrite, del bool
	r := plan.UpdateRequest{Mode: plan.Replace}
	cmd := &cobra.Command{
		Use:   "auth [--platform P] [--as NAME] [--append|--delete] VAR [FILE.esl] -o OUT.auth",
		Short: "Sign an update of a variable",
		Long: `auth signs a new value of PK, KEK, db or dbx, what is to be appended to it, or, with
--delete, its removal; without its PK, a platform is open again (setup mode). The
update's time is later than that of all before. It is recorded, and then written.

The plan stays as it is: what shall be in db or KEK for good stands in pki.yaml.`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Variable = args[0]
			if _, err := uefi.SecureBootVariable(r.Variable); err != nil {
				return &usageError{err}
			}
			switch {
			case appendWrite && del:
				return usagef("auth: --append and --delete exclude each other")
			case del && len(args) > 1:
				return usagef("auth: --delete takes no content, but %q is given", args[1])
			case !del && len(args) < 2:
				return usagef("auth: without FILE.esl there is nothing to sign: %s", cmd.UseLine())
			case del:
				r.Mode = plan.Delete
			case appendWrite:
				r.Mode = plan.Append
			}
			if !del {
				raw, _, err := durable.ReadFile(args[1], uefi.MaxDatabaseSize)
				if err != nil {
					return err
				}
				if len(raw) == 0 {
					return fmt.Errorf("%s is empty: an update without content deletes the variable, which --delete is for", args[1])
				}
				if r.Value, err = uefi.ParseSignatureLists(raw); err != nil {
					return fmt.Errorf("%s: %w", args[1], err)
				}
			}
			r.File = out
			return a.signUpdate(cmd, r)
		},
	}
	cmd.Flags().StringVar(&r.As, "as", "", "sign with this entry of the plan (default: the signer of the variable)")
	cmd.Flags().StringVar(&r.Platform, "platform", "", "for this `platform`")
	cmd.Flags().BoolVar(&appendWrite, "append", false, "add the entries to what the platform has")
	cmd.Flags().BoolVar(&del, "delete", false, "remove the variable")
	addOutput(cmd, &out, "OUT.auth")
	return cmd
}

func (a *app) uefiDBXCmd() *cobra.Command {
	var e entriesFlags
	var out string
	var appendWrite bool
	r := plan.UpdateRequest{Variable: "dbx", Mode: plan.Replace, Accumulate: true}
	cmd := &cobra.Command{
		Use:   "dbx [--platform P] [--certificate FILE|NAME]... [--image FILE]... [--hash HEX]... [--append] -o OUT.auth",
		Short: "Revoke certificates and images",
		Long: `dbx signs an update of dbx, the firmware's list of what must not boot: certificates,
with all that they and those below them signed, and images by their hash. The
update holds all that was ever revoked, or, with --append, only what is new. With
nothing to revoke it signs once more what was revoked so far.`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			p, err := plan.Open(cmd.Context(), dir)
			if err != nil {
				return err
			}
			owner, err := p.Owner(r.Platform)
			if err != nil {
				return err
			}
			if r.Value, err = e.database(p, owner, a.warn); err != nil {
				return err
			}
			r.File = out
			if appendWrite {
				r.Mode = plan.Append
			}
			a.warnRevoked(p, r.Value)
			return a.signUpdate(cmd, r)
		},
	}
	cmd.Flags().StringArrayVar(&e.certificates, "certificate", nil, "a certificate: an entry of the plan or a `file`")
	e.add(cmd)
	cmd.Flags().StringVar(&r.As, "as", "", "sign with this entry of the plan (default: the signer of db)")
	cmd.Flags().StringVar(&r.Platform, "platform", "", "for this `platform`")
	cmd.Flags().BoolVar(&appendWrite, "append", false, "only what is new, to be added to what the platform has")
	addOutput(cmd, &out, "OUT.auth")
	return cmd
}

func addOutput(cmd *cobra.Command, out *string, what string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "write to this `file`")
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, list []string) error {
		if err := args(cmd, list); err != nil {
			return err
		}
		if *out == "" {
			return usagef("%s: -o %s is missing", cmd.Name(), what)
		}
		return nil
	}
}

// warnRevoked tells what of this PKI will not boot any more.
func (a *app) warnRevoked(p *plan.PKI, db uefi.SignatureDatabase) {
	for _, e := range p.Plan.Entries {
		if c := p.Have.Certificates[e.Name]; c != nil && db.Contains(uefi.CertX509, c.Raw) {
			a.warn(fmt.Sprintf("%s is of this PKI: nothing that it, or a certificate below it, has signed will boot where this update is taken", e.Name))
		}
	}
}

// roomyVariable is what common firmware has room for in a variable, in octets.
const roomyVariable = 32 << 10

// updateJSON is a signed update for programs.
type updateJSON struct {
	Variable string          `json:"variable"`
	Platform string          `json:"platform"`
	File     string          `json:"file"`
	Update   plan.UpdateMode `json:"update"`
	Time     time.Time       `json:"time"`
	Signer   string          `json:"signer"`
	Entries  int             `json:"entries"`
	Added    int             `json:"added"`
	Removed  int             `json:"removed"`
}

// signUpdate signs an update and tells what it does.
func (a *app) signUpdate(cmd *cobra.Command, r plan.UpdateRequest) error {
	dir, err := a.existing(nil)
	if err != nil {
		return err
	}
	u, err := plan.SignUpdate(cmd.Context(), dir, a.options(os.Stderr), r)
	if err != nil {
		return err
	}
	n := len(u.Value.Entries())
	if r.Variable == "dbx" && u.Removed > 0 {
		a.warn(fmt.Sprintf("%s revoked before may boot again where this update is taken", count(u.Removed, "certificate or image", "certificates or images")))
	}
	if len(u.Raw) > roomyVariable {
		a.warn(fmt.Sprintf("the update has %d octets, and much firmware has room for %d in a variable", len(u.Raw), roomyVariable))
	}
	a.notePCR7(u.ID)
	if a.json {
		return a.printJSON(updateJSON{r.Variable, r.Platform, r.File, u.Mode, u.Time, u.Signer, n, u.Added, u.Removed})
	}
	a.printf("%s: %s, %s, signed by %s at %s\n", r.File, updateText(u.Mode, u.ID), count(n, "entry", "entries"), u.Signer, u.Time.Format(time.RFC3339))
	return nil
}

// updateText says what an update does.
func updateText(mode plan.UpdateMode, variable string) string {
	switch mode {
	case plan.Append:
		return "to be appended to " + variable
	case plan.Delete:
		return "removal of " + variable
	default:
		return "new value of " + variable
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// warn tells on standard error what may go wrong later.
func (a *app) warn(text string) {
	if !a.quiet {
		fmt.Fprintf(os.Stderr, "tmpki: warning: %s\n", visible(text))
	}
}

// notePCR7 tells what changed variables mean for disk encryption.
func (a *app) notePCR7(variables ...string) {
	if a.quiet || len(variables) == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, `tmpki: note: PCR 7 will have another value where the new %s is taken. Disk encryption that
tmpki: note: is bound to PCR 7 does not unlock by itself then: have its recovery key at hand, and
tmpki: note: bind it anew after the first boot.
`, strings.Join(variables, ", "))
}

// signedVariables returns the variables that apply signed: all, or only those that
// were there before.
func signedVariables(steps []plan.Step, all bool) []string {
	var list []string
	now, _ := plan.Waiting(steps)
	for _, s := range now {
		if s.Kind == plan.SignVariable && (all || s.Reason != "") {
			list = append(list, s.Name())
		}
	}
	return list
}
