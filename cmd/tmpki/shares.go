package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
)

// shareFlags say where the shares of a split passphrase come from and go to.
type shareFlags struct {
	files   []string
	out     []string
	protect bool
}

func (s *shareFlags) add(cmd *cobra.Command, handOut bool) {
	cmd.Flags().StringArrayVar(&s.files, "share", nil, "an officer's share of the passphrase (`FILE`; once for each)")
	if handOut {
		cmd.Flags().StringArrayVar(&s.out, "shares-out", nil, "put new shares into `DIR`: once for all, or once for each officer in the plan's order")
		cmd.Flags().BoolVar(&s.protect, "protect-shares", false, "ask each officer for a passphrase of the own share ($TMPKI_SHARE_PASSPHRASE in tests)")
	}
}

// ownPassphrase is that of one officer for the own share.
func ownPassphrase() keys.Source { return keys.Source{Env: "TMPKI_SHARE_PASSPHRASE", Prompt: true} }

func (s *shareFlags) holders() plan.ShareHolders {
	var h plan.ShareHolders
	if len(s.files) > 0 {
		h.Shares = s.read
	}
	if len(s.out) > 0 {
		h.HandOut, h.CanHandOut = s.write, s.canWrite
	}
	return h
}

func (s *shareFlags) read(*keys.Split) ([]*keys.Share, error) {
	var list []*keys.Share
	for _, file := range s.files {
		data, _, err := durable.ReadFile(file, keys.MaxShareFile)
		if err != nil {
			return nil, err
		}
		share, err := keys.ParseShare(data, func(officer string) (*keys.Passphrase, error) { return ownPassphrase().Read("the share of " + officer) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, share)
	}
	return list, nil
}

// canWrite checks the directories for new shares.
func (s *shareFlags) canWrite(split *keys.Split) error {
	if n := len(split.Officers); len(s.out) != 1 && len(s.out) != n {
		return usagef("--shares-out: %d directories for %d officers: name one for all, or one for each", len(s.out), n)
	}
	for _, dir := range s.out {
		if info, err := os.Stat(dir); err != nil {
			return err
		} else if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
	}
	return nil
}

// write puts each share into a file that nobody else can read.
func (s *shareFlags) write(split *keys.Split, shares []*keys.Share) error {
	if err := s.canWrite(split); err != nil {
		return err
	}
	for i, share := range shares {
		dir := s.out[min(i, len(s.out)-1)]
		var own *keys.Passphrase
		if s.protect {
			var err error
			if own, err = ownPassphrase().ReadNew("the share of " + share.Officer()); err != nil {
				return err
			}
		}
		data, err := share.Marshal(own)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, fmt.Sprintf("share-%d-of-%d-%s.tmpki", share.Index, len(shares), split.ID()[:8]))
		if err := durable.CreateFile(file, data, 0o600); err != nil {
			return fmt.Errorf("the share of %s: %w", share.Officer(), err)
		}
	}
	return nil
}

func (a *app) reshareCmd() *cobra.Command {
	var s shareFlags
	cmd := &cobra.Command{
		Use:   "reshare --pki DIR --share FILE... --shares-out DIR...",
		Short: "Split the passphrase of the offline keys anew",
		Long: `reshare makes new shares for the officers in DIR/pki.yaml, for when one has left,
come, or lost a share. It takes as many old shares as are needed to open the keys.

The old shares then open nothing in DIR. They still open a copy of the old
` + plan.SplitName + `: destroy its copies in backups too.`,
		Example: `  tmpki ceremony reshare --pki /media/root-pki --share a/share-1-of-3-5d41402a.tmpki \
      --share b/share-2-of-3-5d41402a.tmpki --shares-out a --shares-out b --shares-out d`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			if len(s.files) == 0 || len(s.out) == 0 {
				return usagef("reshare: which shares, and where to? Use --share and --shares-out")
			}
			split, err := plan.Reshare(cmd.Context(), dir, a.options(os.Stderr), s.holders())
			if err != nil {
				return err
			}
			return a.tellSplit(split, "split anew")
		},
	}
	s.add(cmd, true)
	return cmd
}

func (a *app) testSharesCmd() *cobra.Command {
	var s shareFlags
	cmd := &cobra.Command{
		Use:     "test-shares --pki DIR --share FILE...",
		Short:   "Do these shares open the offline keys?",
		Long:    "test-shares puts the split passphrase together and opens the keys with it. It changes nothing.",
		Example: "  tmpki ceremony test-shares --pki /media/root-pki --share a.tmpki --share b.tmpki",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			split, err := plan.CheckShares(cmd.Context(), dir, s.holders())
			if err != nil {
				return err
			}
			return a.tellSplit(split, "the shares open the keys")
		},
	}
	s.add(cmd, false)
	return cmd
}

func (a *app) tellSplit(s *keys.Split, what string) error {
	if a.json {
		return a.printJSON(map[string]any{"split": s.ID(), "threshold": s.Threshold, "officers": s.Officers})
	}
	a.printf("%s: split %s, %d of %d officers\n", what, s.ID(), s.Threshold, len(s.Officers))
	return nil
}
