package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"tmpki/plan"
	"tmpki/spki"
)

func (a *app) renewCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "renew NAME",
		Short: "Issue a certificate again, with the same key",
		Long: `renew issues the certificate of an entry again, valid from now on for as long as
the plan says, with its key and name. What it has signed stays good, and so does
what is below it. Its anchor twins and cross-certificates are renewed with it.

Where the certificate itself is an anchor, consumers have to get the new one before
the old one ends: see tmpki trust export.`,
		Example: `  tmpki renew device_subca`,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKeys(cmd.Context(), func(ctx context.Context, dir string, o plan.Options) ([]plan.Step, error) {
				return plan.Renew(ctx, dir, o, args[0])
			})
		},
	}
}

func (a *app) rotateCmd() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "rotate [--key TYPE] NAME",
		Short: "Make another key for an entry, beside the one that it has",
		Long: `rotate gives an entry another key: generation 2, 3 and so on. It is made, and
certified, and published as an anchor beside the one that is there. Nothing else
changes: the old key goes on signing until "tmpki rollout switch", and stays trusted
until "tmpki rollout retire". "tmpki rollout NAME" tells what to do in between.

An anchor twin changes with its CA. Two generations stand together at most.`,
		Example: `  tmpki rotate ssig_rootca
  tmpki rotate --key ec:P-384 gen_rootca
  tmpki rollout gen_rootca`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var keyType spki.KeyType
			if key != "" {
				var err error
				if keyType, err = spki.ParseKeyType(key); err != nil {
					return usagef("rotate: --key: %w", err)
				}
			}
			if err := a.changeKeys(cmd.Context(), func(ctx context.Context, dir string, o plan.Options) ([]plan.Step, error) {
				return plan.Rotate(ctx, dir, o, args[0], keyType)
			}); err != nil {
				return err
			}
			a.printf("what comes next: tmpki rollout %s\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the `type` of the new key (default: that of the old one)")
	return cmd
}

// changeKeys runs what changes keys or certificates of the PKI, and prints the steps
// that it took.
func (a *app) changeKeys(ctx context.Context, change func(ctx context.Context, dir string, o plan.Options) ([]plan.Step, error)) error {
	dir, err := a.existing(nil)
	if err != nil {
		return err
	}
	o := a.options(os.Stderr)
	p := a.newProgress()
	o.Progress = p.step
	steps, err := change(ctx, dir, o)
	p.close()
	if err != nil {
		return err
	}
	a.notePCR7(signedVariables(steps, true)...)
	return a.printSteps(steps, false)
}

// reason returns the reason of a --force, which must be told.
func reason(verb string, force bool, text string) (string, error) {
	switch {
	case force && text == "":
		return "", usagef("%s: --force needs --note: why? The record keeps it", verb)
	case !force && text != "":
		return "", usagef("%s: --note is for --force", verb)
	case len(text) > 1000:
		return "", &usageError{errors.New(verb + ": --note is longer than 1000 octets")}
	default:
		return text, nil
	}
}
