package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/plan"
)

func (a *app) checkCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check [DIR]",
		Short: "Is the PKI in good health?",
		Long: `check looks at chains, expiry dates, file modes, whether keys and certificates
belong together, missing and changed files, and recomputes the record. It
changes nothing and asks for no passphrase. It exits with 3 if something is bad.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			list, err := plan.Check(cmd.Context(), dir, time.Now())
			if err != nil {
				return err
			}
			counts := map[plan.Level]int{}
			for _, f := range list {
				counts[f.Level]++
			}
			if a.json {
				err = a.printJSON(map[string]any{"directory": dir, "healthy": counts[plan.Bad] == 0, "findings": append([]plan.Finding{}, list...)})
			} else if !a.quiet || counts[plan.Bad] > 0 {
				err = a.printFindings(dir, list, counts)
			}
			if err == nil && counts[plan.Bad] > 0 {
				return noError{}
			}
			return err
		},
	}
}

func (a *app) printFindings(dir string, list []plan.Finding, counts map[plan.Level]int) error {
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
		if a.quiet && f.Level != plan.Bad {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", paint(f.Level), visible(f.Name), visible(f.Text))
	}
	if err := w.Flush(); err != nil {
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
	_, err := fmt.Fprintf(out, "%s: %s\n", visible(dir), verdict)
	return err
}
