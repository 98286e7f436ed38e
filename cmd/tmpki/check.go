package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/plan"
)

func (a *app) checkCmd() *cobra.Command {
	var within string
	cmd := &cobra.Command{
		Use:   "check [--within 90d] [DIR]",
		Short: "Is the PKI in good health?",
		Long: `check looks at chains, expiry dates, file modes, whether keys and certificates
belong together, missing and changed files, and recomputes the record. It
changes nothing and asks for no passphrase. It exits with 3 if something is bad.

With --within also if a certificate ends within that many days: of the plan, or of
those that were issued outside it and have no successor. Of CRLs those that are due.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			var list []plan.Finding
			if within == "" {
				list, err = plan.Check(cmd.Context(), dir, time.Now())
			} else if d, wrong := parseDays(within); wrong != nil {
				return usagef("--within %v", wrong)
			} else {
				list, err = plan.CheckWithin(cmd.Context(), dir, time.Now(), d)
			}
			if err != nil {
				return err
			}
			counts, ends := map[plan.Level]int{}, false
			for _, f := range list {
				counts[f.Level]++
				ends = ends || f.Ends && within != ""
			}
			if a.json {
				err = a.printJSON(map[string]any{"directory": dir, "healthy": counts[plan.Bad] == 0, "findings": append([]plan.Finding{}, list...)})
			} else if !a.quiet || counts[plan.Bad] > 0 || ends {
				err = a.printFindings(dir, list, counts, within != "")
			}
			if err == nil && (counts[plan.Bad] > 0 || ends) {
				return noError{}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&within, "within", "", "exit with 3 also if something ends within so many `days`, such as 90d")
	return cmd
}

// printFindings prints findings: with --quiet those that are bad, and if asked for
// what ends.
func (a *app) printFindings(dir string, list []plan.Finding, counts map[plan.Level]int, ends bool) error {
	out := a.cmd.OutOrStdout()
	err := a.printFindingList(list, func(f plan.Finding) bool { return !a.quiet || f.Level == plan.Bad || ends && f.Ends })
	if err != nil {
		return err
	}
	if a.quiet {
		return nil
	}
	verdict := "in good health"
	if counts[plan.Bad] > 0 {
		verdict = fmt.Sprintf("%d things are bad", counts[plan.Bad])
	}
	if n := counts[plan.Warn]; n > 0 {
		verdict += fmt.Sprintf(", %d warnings", n)
	}
	_, err = fmt.Fprintf(out, "%s: %s\n", visible(dir), verdict)
	return err
}

// printFindingList prints those findings that are wanted.
func (a *app) printFindingList(list []plan.Finding, wanted func(plan.Finding) bool) error {
	out := a.cmd.OutOrStdout()
	paint := func(level plan.Level) string {
		codes := map[plan.Level]string{plan.Bad: "\x1b[31m", plan.Warn: "\x1b[33m", plan.Note: "\x1b[2m"}
		if !colour(out) {
			return string(level)
		}
		return codes[level] + string(level) + "\x1b[0m"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range list {
		if wanted(f) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", paint(f.Level), visible(f.Name), visible(f.Text))
		}
	}
	return w.Flush()
}
