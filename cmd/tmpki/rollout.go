package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
)

func (a *app) rolloutCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout [NAME]",
		Short: "How far a change of keys is, and what comes next",
		Long: `rollout shows, for each key that "tmpki rotate" changes, the steps from making the
new key to taking the old one away: where its certificate has to be added before it
signs, when it may sign, what is issued again, and when and where the old one goes.

What this program sees by itself is done when it is done. What people do elsewhere
is recorded with "tmpki rollout done NAME STEP".`,
		Example: `  tmpki rollout
  tmpki rollout ssig_rootca
  tmpki rollout done ssig_rootca add-device --note "release 4.2, 12000 of 12000 devices"
  tmpki rollout switch ssig_rootca
  tmpki rollout retire ssig_rootca`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			var list []*plan.Rollout
			if len(args) == 0 {
				list, err = plan.Rollouts(cmd.Context(), dir, time.Now())
			} else {
				var one *plan.Rollout
				one, err = plan.OpenRollout(cmd.Context(), dir, args[0], time.Now())
				list = append(list, one)
			}
			if err != nil {
				return err
			}
			return a.printRollouts(list)
		},
	}
	cmd.AddCommand(a.rolloutDoneCmd(), a.rolloutSwitchCmd(), a.rolloutRetireCmd())
	return cmd
}

func (a *app) rolloutDoneCmd() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:     "done [--note TEXT] NAME STEP",
		Short:   "Record that a step is done",
		Long:    `done records in the ledger that a step of a rollout is done that people do elsewhere.`,
		Example: `  tmpki rollout done ssig_rootca add-device --note "release 4.2 is everywhere"`,
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			if len(note) > 1000 || !utf8.ValidString(note) {
				return usagef("done: --note is longer than 1000 octets, or no UTF-8")
			}
			if err := plan.Done(cmd.Context(), dir, a.options(os.Stderr), args[0], args[1], note); err != nil {
				return err
			}
			a.printf("%s: %s is done\n", args[0], args[1])
			return nil
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "what the record keeps beside it: a `text`")
	return cmd
}

func (a *app) rolloutSwitchCmd() *cobra.Command {
	var force bool
	var note string
	cmd := &cobra.Command{
		Use:   "switch [--force --note TEXT] NAME",
		Short: "Sign with the new key from now on",
		Long: `switch lets the new generation of an entry sign. What the plan has below it is issued
again by the new key; what the old key has issued stays valid.

It is refused before all steps are done that add the new certificate where it is
needed. --force does it anyway; why is recorded.`,
		Example: `  tmpki rollout switch ssig_rootca`,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := reason("switch", force, note)
			if err != nil {
				return err
			}
			return a.changeKeys(cmd.Context(), func(ctx context.Context, dir string, o plan.Options) ([]plan.Step, error) {
				return plan.Switch(ctx, dir, o, args[0], why)
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "although steps before it are not done")
	cmd.Flags().StringVar(&note, "note", "", "with --force: why, a `text` for the record")
	return cmd
}

func (a *app) rolloutRetireCmd() *cobra.Command {
	var force, artifacts bool
	var note string
	cmd := &cobra.Command{
		Use:   "retire [--accept-artifacts] [--force --note TEXT] NAME",
		Short: "Stop trusting the old key",
		Long: `retire takes the old generation of an entry out of all that is published. Its key
stays where it is: this program deletes none.

It is refused while something needs the old key: certificates that it has issued and
that are in use, artifacts that were signed by it or below it, the overlap that the
plan wants. --accept-artifacts says that these artifacts need not be accepted any
more. --force does it anyway; why is recorded.`,
		Example: `  tmpki rollout retire --accept-artifacts ssig_rootca`,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := reason("retire", force, note)
			if err != nil {
				return err
			}
			if err := a.changeKeys(cmd.Context(), func(ctx context.Context, dir string, o plan.Options) ([]plan.Step, error) {
				return plan.Retire(ctx, dir, o, args[0], artifacts, why)
			}); err != nil {
				return err
			}
			a.printf("the old key is not needed any more, and stays where it is: take it away or keep it, as you like.\nwhat comes next: tmpki rollout %s\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&artifacts, "accept-artifacts", false, "what was signed before need not be accepted any more")
	cmd.Flags().BoolVar(&force, "force", false, "although something needs the old key")
	cmd.Flags().StringVar(&note, "note", "", "with --force: why, a `text` for the record")
	return cmd
}

type rolloutJSON struct {
	Name  string            `json:"name"`
	Old   int               `json:"old_generation"`
	New   int               `json:"new_generation"`
	Signs int               `json:"active_generation"`
	Steps []rolloutStepJSON `json:"steps"`
}

type rolloutStepJSON struct {
	Step  string     `json:"step"`
	Title string     `json:"title"`
	State string     `json:"state"`
	How   []string   `json:"how"`
	Time  *time.Time `json:"time,omitempty"`
	Actor string     `json:"actor,omitempty"`
	Note  string     `json:"note,omitempty"`
}

func (a *app) printRollouts(list []*plan.Rollout) error {
	if a.json {
		out := []rolloutJSON{}
		for _, r := range list {
			j := rolloutJSON{Name: r.Entry.Name, Old: r.Old, New: r.New, Signs: r.Entry.Generation, Steps: []rolloutStepJSON{}}
			for _, s := range r.Steps {
				sj := rolloutStepJSON{Step: s.ID, Title: s.Title, State: string(s.State), How: append([]string{}, s.How...), Actor: s.Actor, Note: s.Note}
				if !s.Time.IsZero() {
					sj.Time = &s.Time
				}
				j.Steps = append(j.Steps, sj)
			}
			out = append(out, j)
		}
		return a.printJSON(map[string]any{"rollouts": out})
	}
	if a.quiet {
		return nil
	}
	if len(list) == 0 {
		a.printf("no change of keys is under way\n")
		return nil
	}
	out := a.cmd.OutOrStdout()
	for i, r := range list {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, paint(fmt.Sprintf("%s: from generation %d to %d", r.Entry.Name, r.Old, r.New), "\x1b[1m", colour(out)))
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, s := range r.Steps {
			what := s.Title
			if !s.Time.IsZero() {
				what += fmt.Sprintf(" (%s, %s", localTime(s.Time), ca.Printable(s.Actor))
				if s.Note != "" {
					what += ": " + ca.Printable(s.Note)
				}
				what += ")"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", s.State, s.ID, what)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, s := range r.Steps {
			if s.State == plan.RolloutNext {
				fmt.Fprintf(out, "\n  %s:\n    %s\n", s.ID, strings.Join(s.How, "\n    "))
			}
		}
	}
	return nil
}
