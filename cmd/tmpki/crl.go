package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/store"
)

func (a *app) crlCmd() *cobra.Command {
	var o plan.CRLOptions
	cmd := &cobra.Command{
		Use:   "crl [AUTHORITY...|--all] [--delta] [--force] [--pem] [-o DIR]",
		Short: "Make the certificate revocation lists that are due",
		Long: `crl makes the CRLs that are due: never made, ending soon, their file missing, or
something revoked since. Without a name it looks at the authorities that have crl
settings in pki.yaml, and those that have revoked something or made a CRL before.
Run from cron, it does nothing as long as nothing is due.

The number of a CRL is recorded before the file is there: a killed run may waste a
number, and never gives one twice. Files are replaced in one step.`,
		Example: `  tmpki crl
  tmpki crl device_subca --force -o /srv/crl
  tmpki crl list`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.All && len(args) > 0 {
				return usagef("crl: --all and the name %q exclude each other", args[0])
			}
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			o.Authorities, o.Actor, o.Now, o.Waiting = args, actor(), time.Now(), a.options(os.Stderr).Waiting
			made, err := plan.MakeCRLs(cmd.Context(), dir, o)
			if printErr := a.printCRLs(made, err == nil); printErr != nil {
				return printErr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.All, "all", false, "every authority that may sign CRLs")
	f.BoolVar(&o.Delta, "delta", false, "delta CRLs only")
	f.BoolVar(&o.Force, "force", false, "make them even if they are not due")
	f.BoolVar(&o.PEM, "pem", false, "write PEM instead of DER")
	f.StringVarP(&o.Dir, "output", "o", "", "`directory` to put them into, instead of the plan's")
	cmd.AddCommand(a.crlListCmd())
	return cmd
}

// crlJSON is a CRL for programs.
type crlJSON struct {
	Authority  string     `json:"authority"`
	Partition  int        `json:"partition"`
	Delta      bool       `json:"delta"`
	File       string     `json:"file"`
	Number     uint64     `json:"number,omitempty"`
	Base       uint64     `json:"base,omitempty"`
	ThisUpdate *time.Time `json:"this_update,omitempty"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Entries    int64      `json:"entries"`
	SHA256     string     `json:"sha256,omitempty"`
	Size       int64      `json:"size,omitempty"`
	Due        string     `json:"due,omitempty"` // why it was or is due
}

func newCRLJSON(c *store.CRL, file, due string) crlJSON {
	return crlJSON{c.Issuer, c.Partition, c.Delta, ca.Printable(file), c.Number, c.Base, &c.ThisUpdate, &c.NextUpdate, c.Entries, fmt.Sprintf("%x", c.SHA256), c.Size, due}
}

// printCRLs tells which CRLs were made. Without any, it says so if all went well.
func (a *app) printCRLs(made []plan.MadeCRL, fine bool) error {
	if a.json {
		list := []crlJSON{}
		for _, m := range made {
			list = append(list, newCRLJSON(&m.CRL, m.File, m.Reason))
		}
		return a.printJSON(map[string]any{"crls": list})
	}
	if len(made) == 0 && fine {
		a.printf("nothing is due\n")
	}
	if a.quiet || len(made) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, m := range made {
		kind := fmt.Sprintf("CRL %d", m.Number)
		if m.Delta {
			kind = fmt.Sprintf("delta CRL %d to %d", m.Number, m.Base)
		}
		fmt.Fprintf(w, "%s\t%s\t%d revoked\tuntil %s\t%s\t(%s)\n", m.Issuer, kind, m.Entries, localTime(m.NextUpdate), visible(m.File), m.Reason)
	}
	return w.Flush()
}

func (a *app) crlListCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list [AUTHORITY|--all]",
		Short: "The CRLs of each authority: number, dates, entries, what is due",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			states, err := crlStates(cmd, dir, args, all)
			if err != nil {
				return err
			}
			if a.json {
				list := []crlJSON{}
				for _, s := range states {
					latest := s.Latest
					if latest == nil {
						list = append(list, crlJSON{Authority: s.Entry.Name, Partition: s.Partition, Delta: s.Delta, File: s.File, Due: s.Due})
						continue
					}
					list = append(list, newCRLJSON(latest, s.File, s.Due))
				}
				return a.printJSON(map[string]any{"crls": list})
			}
			if a.quiet {
				return nil
			}
			w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "AUTHORITY\tFILE\tNUMBER\tMADE\tNEXT\tENTRIES\tDUE\n")
			for _, s := range states {
				number, this, next, entries, due := "-", "-", "-", "-", s.Due
				if l := s.Latest; l != nil {
					number, this, next, entries = fmt.Sprint(l.Number), localTime(l.ThisUpdate), localTime(l.NextUpdate), fmt.Sprint(l.Entries)
				}
				if due == "" {
					due = "no"
				}
				fmt.Fprintln(w, strings.Join([]string{s.Entry.Name, visible(s.File), number, this, next, entries, due}, "\t"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every authority that may sign CRLs")
	return cmd
}

func crlStates(cmd *cobra.Command, dir string, args []string, all bool) (out []plan.CRLState, err error) {
	ctx := cmd.Context()
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	db, err := p.OpenStoreReadOnly(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	entries, err := p.CRLAuthorities(ctx, db, all)
	if err != nil {
		return nil, err
	}
	if len(args) > 0 {
		e, err := p.CRLAuthority(args[0])
		if err != nil {
			return nil, err
		}
		entries = []*plan.Entry{e}
	}
	for _, e := range entries {
		states, err := p.CRLStates(ctx, db, e, time.Now())
		if err != nil {
			return nil, err
		}
		out = append(out, states...)
	}
	return out, nil
}
