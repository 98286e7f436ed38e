package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/ceremony"
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
SHA-256 without the signature, in hexadecimal, or the beginning of it.

The last line is the number of entries and the root hash of the Merkle tree over
them (RFC 6962). Keep it elsewhere: a ledger that was rewritten as a whole has
another one.`,
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
			list, root, err := readLog(cmd, dir, func(e store.Entry) bool {
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
			if err := w.Flush(); err != nil {
				return err
			}
			if artifact == "" {
				a.printf("%s\n", root)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&artifact, "artifact", "", "only signatures of the artifact with this SHA-256")
	return cmd
}

// readLog returns the ledger entries that keep wants, and in words the size and
// the root hash of the whole ledger.
func readLog(cmd *cobra.Command, dir string, keep func(store.Entry) bool) (out []store.Entry, root string, err error) {
	ctx := cmd.Context()
	db, err := plan.ReadStore(ctx, dir)
	if err != nil {
		return nil, "", err
	}
	defer db.Close()
	size, hash, err := db.Root(ctx)
	if err != nil {
		return nil, "", err
	}
	const page = 1000
	for from := int64(0); from < size; from += page {
		entries, err := db.Entries(ctx, from, int(min(page, size-from)))
		if err != nil {
			return nil, "", err
		}
		for _, e := range entries {
			if keep(e) {
				out = append(out, e)
			}
		}
	}
	return out, fmt.Sprintf("%d entries, root hash %x", size, hash[:]), nil
}

// logDetail says of an entry what its kind makes interesting.
func logDetail(e store.Entry) string {
	switch e.Kind {
	case store.KindIssue:
		return fmt.Sprintf("by %s, serial %s", e.Issuer, e.Serial)
	case store.KindSign:
		return fmt.Sprintf("%s by %s, SHA-256 %s", e.Detail["artifact"], e.Detail["signer"], e.SHA256)
	case store.KindRevoke:
		text := fmt.Sprintf("serial %s of %s: %s", e.Serial, e.Issuer, e.Detail["reason"])
		if since := e.Detail["invalidity"]; since != "" {
			text += ", invalid since " + since
		}
		return text
	case store.KindCRL:
		text := "number " + e.Detail["number"]
		if base := e.Detail["base"]; base != "" {
			text += " to " + base
		}
		return fmt.Sprintf("%s, partition %s, %s revoked, until %s", text, e.Detail["partition"], e.Detail["entries"], e.Detail["next_update"])
	case store.KindObject:
		return objectDetail(e)
	case store.KindSetting:
		return ca.Printable(e.Detail["value"])
	default:
		return "SHA-256 " + e.SHA256
	}
}

// objectDetail is logDetail for a version of an object.
func objectDetail(e store.Entry) string {
	if number, ok := e.Detail["number"]; ok { // a bundle of a ceremony
		var digest ceremony.Digest
		if b, err := hex.DecodeString(e.Detail["digest"]); err == nil && len(b) == len(digest) {
			digest = ceremony.Digest(b)
		}
		return fmt.Sprintf("%s %s, digest %s", e.Detail["kind"], number, digest.Short())
	}
	return fmt.Sprintf("%s by %s, SHA-256 %s", e.Detail["kind"], e.Detail["signer"], e.SHA256)
}
