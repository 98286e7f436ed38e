package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/plan"
)

func (a *app) applyCmd() *cobra.Command {
	var dryRun, platformKeys bool
	var response, digest string
	cmd := &cobra.Command{
		Use:   "apply [--dry-run] [--response FILE] [DIR]",
		Short: "Make the PKI what its pki.yaml says",
		Long: `apply compares pki.yaml with what is there and takes the steps between: it
generates keys, issues certificates, signs UEFI variables and publishes files. A
second apply has nothing to do. Whatever interrupts it, the next one goes on.

Where the plan has a section ceremony, apply writes what offline keys have to
sign into a file in DIR/requests. What the ceremony has signed comes back with
--response. The first response brings the roots: compare its digest with the one
that the ceremony has shown, or give that with --digest.`,
		Example: `  tmpki apply --dry-run pki
  tmpki apply --response response.tmpki pki`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			demand := plan.Demand{PlatformKeys: platformKeys}
			if digest != "" && response == "" {
				return usagef("--digest is that of a response: name it with --response")
			}
			if dryRun && response != "" {
				return usagef("--dry-run and --response exclude each other")
			}
			if dryRun {
				_, steps, err := plan.Preview(cmd.Context(), dir, demand)
				if err != nil {
					return err
				}
				return a.printSteps(steps, true)
			}
			start := time.Now()
			o := a.options(os.Stderr)
			o.Demand = demand
			if response != "" {
				if err := a.takeResponse(cmd.Context(), dir, response, digest, o); err != nil {
					return err
				}
			}
			p := a.newProgress()
			o.Progress = p.step
			steps, err := plan.Apply(cmd.Context(), dir, o)
			p.close()
			if err != nil {
				return err
			}
			a.notePCR7(signedVariables(steps, true)...)
			if err := a.printSteps(steps, false); err != nil {
				return err
			}
			now, later := plan.Waiting(steps)
			if len(now) > 0 {
				a.printf("%s: done in %s\n", dir, time.Since(start).Round(time.Millisecond))
			}
			if len(later) == 0 {
				return nil
			}
			return a.tellRequest(cmd.Context(), dir, later)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the steps and take none")
	cmd.Flags().StringVar(&response, "response", "", "take what a ceremony has signed from this `FILE`")
	cmd.Flags().StringVar(&digest, "digest", "", "the `DIGEST` of the response, as the ceremony has shown it")
	cmd.Flags().BoolVar(&platformKeys, "platform-keys", false, "make the UEFI part, where the plan has it on request")
	return cmd
}

// tellRequest says how it goes on where steps wait for a ceremony.
func (a *app) tellRequest(ctx context.Context, dir string, later []plan.Step) error {
	asked := 0
	for _, s := range later {
		if s.Waits == plan.WaitsCeremony {
			asked++
		}
	}
	a.printf("%d steps wait for a ceremony, %d more for what it signs (see tmpki apply --dry-run)\n", asked, len(later)-asked)
	p, err := plan.Open(ctx, dir)
	if err != nil || p.Have.Request == nil {
		return err
	}
	r := p.Have.Request
	a.printf("next: take %s to the machine with the offline keys\n", filepath.Join(dir, filepath.FromSlash(r.File)))
	a.printf("      there:  tmpki ceremony --pki DIR -o response.tmpki %s\n", r.FileName())
	a.printf("      here:   tmpki apply --response response.tmpki %s\n", dir)
	a.printf("      digest: %s\n", r.Digest().Short())
	return nil
}

// stepJSON is a step for programs.
type stepJSON struct {
	Step   string `json:"step"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Waits  string `json:"waits_for,omitempty"`
}

func (a *app) printSteps(steps []plan.Step, dryRun bool) error {
	if a.json {
		list := []stepJSON{}
		for _, s := range steps {
			list = append(list, stepJSON{string(s.Kind), s.Name(), s.Detail(), s.Waits})
		}
		return a.printJSON(map[string]any{"dry_run": dryRun, "steps": list})
	}
	if now, _ := plan.Waiting(steps); len(now) == 0 {
		a.printf("nothing to do\n")
	}
	if a.quiet {
		return nil
	}
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, s := range steps {
		if !dryRun && s.Waits != "" {
			continue // tellRequest counts them
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Kind, s.Name(), s.Detail())
	}
	return w.Flush()
}
