package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
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
	var f logFilter
	var since string
	cmd := &cobra.Command{
		Use:   "log [DIR]",
		Short: "Who issued and signed what, and when",
		Long: `log prints the ledger: every certificate, signed variable, setting and artifact
signature, oldest first. With --artifact only the signatures of that artifact: its
SHA-256 without the signature, in hexadecimal, or the beginning of it.

The last line is the number of entries and the root hash of the Merkle tree over
them (RFC 6962). A ledger that was rewritten as a whole has another one: so have
"tmpki log checkpoint" sign it, and keep that elsewhere.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			if err := f.parse(since, time.Now()); err != nil {
				return err
			}
			db, err := plan.ReadStore(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			return a.printLog(cmd.Context(), db, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.artifact, "artifact", "", "only signatures of the artifact with this `SHA-256`")
	flags.StringVar(&f.kind, "kind", "", "only entries of this `kind`, such as issue, sign, revoke")
	flags.StringVar(&f.name, "name", "", "only entries of this `name`")
	flags.StringVar(&since, "since", "", "only entries since this `time`: 2026-01-31, RFC 3339, or 30d for 30 days ago")
	flags.Int64Var(&f.last, "last", 0, "only the last `N` of them")
	cmd.AddCommand(a.logVerifyCmd(), a.logCheckpointCmd(), a.logKeyCmd(), a.logProveCmd(), a.logCheckProofCmd())
	return cmd
}

// logFilter says which entries of a ledger are wanted.
type logFilter struct {
	artifact, kind, name string
	since                time.Time
	last                 int64 // 0: all
}

// maxLast limits --last: those are in memory at once.
const maxLast = 100_000

func (f *logFilter) parse(since string, now time.Time) error {
	f.artifact = strings.ToLower(f.artifact)
	if _, err := hex.DecodeString(f.artifact + strings.Repeat("0", len(f.artifact)%2)); err != nil || len(f.artifact) > 64 {
		return usagef("--artifact %q is not the beginning of a SHA-256 in hexadecimal", f.artifact)
	}
	if f.last < 0 || f.last > maxLast {
		return usagef("--last %d is not between 1 and %d", f.last, maxLast)
	}
	if since == "" {
		return nil
	}
	if d, err := parseDays(since); err == nil {
		f.since = now.Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, since, time.Local); err == nil {
			f.since = t
			return nil
		}
	}
	return usagef("--since %q is neither a date such as 2026-01-31, nor a time by RFC 3339, nor days such as 30d", since)
}

// all reports whether nothing is filtered out.
func (f *logFilter) all() bool { return *f == logFilter{} }

func (f *logFilter) wants(e store.Entry) bool {
	return (f.artifact == "" || e.Kind == store.KindSign && strings.HasPrefix(e.SHA256, f.artifact)) &&
		(f.kind == "" || string(e.Kind) == f.kind) &&
		(f.name == "" || e.Name == f.name) &&
		!e.Time.Before(f.since)
}

// pageSize is how many entries are read, and aligned, at once.
const pageSize = 1000

// each calls do with the wanted entries of a ledger of this size, oldest first.
func (f *logFilter) each(ctx context.Context, db *store.DB, size int64, do func(store.Entry) error) error {
	if f.last > 0 {
		return f.eachOfLast(ctx, db, size, do)
	}
	for from := int64(0); from < size; from += pageSize {
		entries, err := db.Entries(ctx, from, int(min(pageSize, size-from)))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if f.wants(e) {
				if err := do(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// eachOfLast looks for the last ones from the end.
func (f *logFilter) eachOfLast(ctx context.Context, db *store.DB, size int64, do func(store.Entry) error) error {
	var found []store.Entry // newest first
	for end := size; end > 0 && int64(len(found)) < f.last; {
		from := max(0, end-pageSize)
		entries, err := db.Entries(ctx, from, int(end-from))
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(entries) {
			if f.wants(e) && int64(len(found)) < f.last {
				found = append(found, e)
			}
		}
		end = from
	}
	for _, e := range slices.Backward(found) {
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printLog(ctx context.Context, db *store.DB, f *logFilter) error {
	size, root, err := db.Root(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printLogJSON(ctx, db, f, size)
	}
	if a.quiet {
		return nil
	}
	n := 0
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	err = f.each(ctx, db, size, func(e store.Entry) error {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.Time.Local().Format(time.DateTime), visible(e.Actor), e.Kind, ca.Printable(e.Name), visible(logDetail(e)))
		if n++; n%pageSize == 0 {
			return w.Flush() // the columns of a page, not of a million lines in memory
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case n == 0:
		a.printf("nothing\n")
	case f.all():
		a.printf("%d entries, root hash %x\n", size, root[:])
	}
	return nil
}

// printLogJSON writes one array, entry by entry.
func (a *app) printLogJSON(ctx context.Context, db *store.DB, f *logFilter, size int64) error {
	out := a.cmd.OutOrStdout()
	before := "["
	err := f.each(ctx, db, size, func(e store.Entry) error {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("  ", "  ")
		if err := enc.Encode(e); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%s\n  %s", before, strings.TrimSuffix(b.String(), "\n"))
		before = ","
		return err
	})
	if err != nil {
		return err
	}
	if before == "[" {
		_, err = io.WriteString(out, "[]\n")
	} else {
		_, err = io.WriteString(out, "\n]\n")
	}
	return err
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
	default: // an act that tells of itself
		var words []string
		if e.Serial != "" {
			words = append(words, "serial "+e.Serial)
		}
		for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
			words = append(words, key+" "+e.Detail[key])
		}
		return strings.Join(words, ", ")
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
