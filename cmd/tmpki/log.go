package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/store"
)

func (a *app) logCmd() *cobra.Command {
	var artifact string
	cmd := &cobra.Command{
		Use:   "log [--artifact HASH] [DIR]",
		Short: "Who issued and signed what, and when",
		Long: `log prints the ledger: every certificate, signed variable, setting and artifact
signature, oldest first. With --artifact only the signatures of that artifact: its
SHA-256 without the signature, in hexadecimal, or the beginning of it.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			prefix := strings.ToLower(artifact)
			if _, err := hex.DecodeString(prefix + strings.Repeat("0", len(prefix)%2)); err != nil || len(prefix) > 64 {
				return usagef("--artifact %q is not the beginning of a SHA-256 in hexadecimal", artifact)
			}
			list, err := readLog(cmd, dir, func(e store.Entry) bool {
				return artifact == "" || e.Kind == store.KindSign && strings.HasPrefix(e.SHA256, prefix)
			})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(append([]store.Entry{}, list...))
			}
			if len(list) == 0 {
				a.printf("nothing\n")
				return nil
			}
			if a.quiet {
				return nil
			}
			w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, e := range list {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.Time.Local().Format(time.DateTime), visible(e.Actor), e.Kind, ca.Printable(e.Name), visible(logDetail(e)))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&artifact, "artifact", "", "only signatures of the artifact with this SHA-256")
	return cmd
}

// readLog returns the ledger entries that keep wants.
func readLog(cmd *cobra.Command, dir string, keep func(store.Entry) bool) ([]store.Entry, error) {
	ctx := cmd.Context()
	db, err := store.OpenReadOnly(ctx, plan.StorePath(dir))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var out []store.Entry
	const page = 1000
	for from := int64(0); ; from += page {
		entries, err := db.Entries(ctx, from, page)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if keep(e) {
				out = append(out, e)
			}
		}
		if len(entries) < page {
			return out, nil
		}
	}
}

// logDetail says of an entry what its kind makes interesting.
func logDetail(e store.Entry) string {
	switch e.Kind {
	case store.KindIssue:
		return fmt.Sprintf("by %s, serial %s", e.Issuer, e.Serial)
	case store.KindSign:
		return fmt.Sprintf("%s by %s, SHA-256 %s", e.Detail["artifact"], e.Detail["signer"], e.SHA256)
	case store.KindSetting:
		return ca.Printable(e.Detail["value"])
	default:
		return fmt.Sprintf("%s by %s, SHA-256 %s", e.Detail["kind"], e.Detail["signer"], e.SHA256)
	}
}
