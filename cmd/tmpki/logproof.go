package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/ledger"
	"tmpki/plan"
	"tmpki/store"
)

// maxProofFile limits a checkpoint or a proof, in octets.
const maxProofFile = 256 << 10

func (a *app) logVerifyCmd() *cobra.Command {
	var checkpoints []string
	var key string
	cmd := &cobra.Command{
		Use:   "verify [--checkpoint FILE] [--key KEY] [DIR]",
		Short: "Does the ledger prove itself?",
		Long: `verify recomputes the ledger: each row of the record agrees with its entry, and the
entries give the tree. With a checkpoint that an auditor kept, it also proves that
nothing of what was there then was changed or cut off since.

The checkpoint must be signed with the log's key: that of --key, which the auditor
got when it was made, or the one that the ledger itself tells of. It exits with 3
if something is wrong.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			db, err := plan.ReadStore(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			return a.verifyLog(cmd.Context(), db, checkpoints, key)
		},
	}
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "a signed checkpoint: `file`; may be repeated")
	cmd.Flags().StringVar(&key, "key", "", "the log's public `key`, as tmpki log key prints it")
	return cmd
}

// logVerdict is what log verify found, for programs.
type logVerdict struct {
	Accepted    bool             `json:"accepted"`
	Reason      string           `json:"reason,omitempty"`
	Entries     int64            `json:"entries"`
	Root        string           `json:"root"`
	Checkpoints []checkpointJSON `json:"checkpoints,omitempty"`
}

type checkpointJSON struct {
	File    string `json:"file"`
	Origin  string `json:"origin,omitempty"`
	Entries int64  `json:"entries"`
	Reason  string `json:"reason,omitempty"`
}

func (a *app) verifyLog(ctx context.Context, db *store.DB, files []string, key string) error {
	v := logVerdict{Accepted: true}
	if err := db.Verify(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		v.Accepted, v.Reason = false, err.Error()
	}
	size, root, err := db.Root(ctx)
	if err == nil {
		v.Entries, v.Root = size, hex.EncodeToString(root[:])
	} else if v.Accepted {
		return err
	}
	if v.Accepted {
		a.printf("%d entries, root hash %s: each row agrees with its entry\n", v.Entries, v.Root)
	} else {
		a.printf("refused: %s\n", visible(v.Reason))
	}
	for _, file := range files {
		j := checkpointJSON{File: file}
		c, err := a.verifyCheckpoint(ctx, db, file, key)
		switch {
		case errors.As(err, new(*refusal)):
			v.Accepted, j.Reason = false, err.Error()
			a.printf("%s: refused: %s\n", visible(file), visible(j.Reason))
		case err != nil:
			return err
		default:
			a.printf("%s: of %d entries: the ledger continues it\n", visible(file), c.Size)
		}
		j.Origin, j.Entries = c.Origin, c.Size
		v.Checkpoints = append(v.Checkpoints, j)
	}
	if a.json {
		if err := a.printJSON(v); err != nil {
			return err
		}
	}
	if !v.Accepted {
		return noError{}
	}
	return nil
}

// refusal is a "no" of a verification, beside errors that kept it from judging.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func (a *app) verifyCheckpoint(ctx context.Context, db *store.DB, file, key string) (ledger.Checkpoint, error) {
	v, err := logVerifier(ctx, db, key)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	signed, _, err := durable.ReadFile(file, maxProofFile)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	c, err := ledger.OpenCheckpoint(signed, v)
	if err != nil {
		return c, &refusal{err}
	}
	err = ledger.Continues(ctx, db, c)
	if errors.Is(err, ledger.ErrCut) || errors.Is(err, ledger.ErrRewritten) {
		err = &refusal{err}
	}
	return c, err
}

// logVerifier is the key that was given, or the one of the ledger.
func logVerifier(ctx context.Context, db *store.DB, key string) (note.Verifier, error) {
	if key == "" {
		var err error
		if key, err = plan.LogKey(ctx, db); err != nil {
			return nil, err
		}
	}
	v, err := ledger.NewVerifier(key)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--key: %w", err)}
	}
	return v, nil
}

func (a *app) logCheckpointCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "checkpoint [-o FILE] [DIR]",
		Short: "Sign what the ledger is now, for an auditor to keep",
		Long: `checkpoint verifies the ledger and signs its size and root hash (C2SP
tlog-checkpoint). Keep it where the ledger's machine can't change it: "tmpki log
verify --checkpoint" later proves that the ledger only grew since.

The first one makes the log's key, at the place that pki.yaml names under log, else
where the other keys are. "tmpki log key" prints its public half for auditors.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			signed, c, err := a.checkpoint(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if err := a.emit(out, signed); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"origin": c.Origin, "entries": c.Size, "root": hex.EncodeToString(c.Root[:]), "checkpoint": string(signed)})
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to a new `file` instead of printing")
	return cmd
}

func (a *app) checkpoint(ctx context.Context, dir string) ([]byte, ledger.Checkpoint, error) {
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	return p.Checkpoint(ctx, a.options(os.Stderr))
}

// emit prints text, or writes it into a new file.
func (a *app) emit(file string, text []byte) error {
	if file == "" {
		a.printf("%s", text)
		return nil
	}
	if err := durable.CreateFile(file, text, 0o644); err != nil {
		return err
	}
	a.printf("%s\n", visible(file))
	return nil
}

func (a *app) logKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "key [DIR]",
		Short: "The public key that verifies this log's checkpoints",
		Long: `key prints the log's public key as NAME+HASH+BASE64 (C2SP signed-note), for
auditors. They should get it when the log begins, and from its owner.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			db, err := plan.ReadStore(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			key, err := plan.LogKey(cmd.Context(), db)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"key": key})
			}
			a.printf("%s\n", key)
			return nil
		},
	}
}

func (a *app) logProveCmd() *cobra.Command {
	var out, checkpoint string
	cmd := &cobra.Command{
		Use:   "prove SERIAL|SHA256|NUMBER [-o FILE]",
		Short: "Prove to others that an entry is in the ledger",
		Long: `prove writes a proof (C2SP tlog-proof) that one entry is in the ledger: the issuance
of the certificate with this serial number (hexadecimal), what was recorded with this
SHA-256, or the entry with this number. It proves it against a new checkpoint, or
the one of --checkpoint.

"tmpki log check-proof" checks it anywhere, with nothing but the log's key. To say
which one a number of digits is: serial:10, entry:10.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			db, err := plan.ReadStore(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer db.Close()
			seq, err := findEntry(cmd.Context(), db, args[0])
			if err != nil {
				return err
			}
			p, err := a.prove(cmd.Context(), db, dir, checkpoint, seq)
			if err != nil {
				return err
			}
			if a.json {
				if out != "" {
					if err := a.emit(out, p.Marshal()); err != nil {
						return err
					}
				}
				return a.printJSON(map[string]any{"entry": p.Index, "proof": string(p.Marshal())})
			}
			return a.emit(out, p.Marshal())
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to a new `file` instead of printing")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "prove against the checkpoint in this `file`")
	return cmd
}

func (a *app) prove(ctx context.Context, db *store.DB, dir, file string, seq int64) (*ledger.Proof, error) {
	if file == "" {
		signed, c, err := a.checkpoint(ctx, dir)
		if err != nil {
			return nil, err
		}
		return ledger.Prove(ctx, db, c, signed, seq)
	}
	c, err := a.verifyCheckpoint(ctx, db, file, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	signed, _, err := durable.ReadFile(file, maxProofFile)
	if err != nil {
		return nil, err
	}
	return ledger.Prove(ctx, db, c, signed, seq)
}

// findEntry returns the number of the entry that somebody named by its number, the
// serial of the certificate whose issuance it records, or a digest.
func findEntry(ctx context.Context, db *store.DB, name string) (int64, error) {
	if number, ok := strings.CutPrefix(name, "entry:"); ok || len(name) <= 12 {
		if seq, err := strconv.ParseInt(number, 10, 64); err == nil && seq >= 0 {
			return seq, nil
		} else if ok {
			return 0, usagef("%q is not the number of an entry", number)
		}
	}
	text := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "serial:"), ":", ""))
	raw, err := hex.DecodeString(strings.Repeat("0", len(text)%2) + text)
	switch {
	case err != nil || len(raw) == 0:
		return 0, usagef("%q is neither the number of an entry, nor a serial number, nor a SHA-256, both in hexadecimal", name)
	case len(raw) == 32:
		return findDigest(ctx, db, text)
	}
	for len(raw) > 1 && raw[0] == 0 {
		raw = raw[1:]
	}
	r, err := db.BySerial(ctx, raw)
	if err == nil && r.Entry < 0 {
		err = fmt.Errorf("serial %x was intended and never issued: %w", raw, store.ErrNotFound)
	}
	return r.Entry, err
}

// findDigest looks for the one entry with a digest.
func findDigest(ctx context.Context, db *store.DB, digest string) (int64, error) {
	size, err := db.Size(ctx)
	if err != nil {
		return 0, err
	}
	var found []string
	seq := int64(-1)
	err = (&logFilter{}).each(ctx, db, size, func(e store.Entry) error {
		if e.SHA256 == digest {
			seq = e.Seq
			found = append(found, strconv.FormatInt(e.Seq, 10))
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, fmt.Errorf("SHA-256 %s: %w", digest, store.ErrNotFound)
	case len(found) > 1:
		return 0, fmt.Errorf("several entries have this SHA-256: name one by its number: %s", strings.Join(found[:min(len(found), 20)], ", "))
	}
	return seq, nil
}

func (a *app) logCheckProofCmd() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "check-proof FILE --key KEY",
		Short: "Check a proof of the ledger, without the PKI",
		Long: `check-proof checks that the entry in the proof is in the log whose public key is
given, and prints it. It needs no PKI directory. It exits with 3 if the proof proves
nothing.`,
		Args: between(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				return usagef("check-proof: name the log's key, as its owner gave it to you: --key KEY")
			}
			v, err := ledger.NewVerifier(key)
			if err != nil {
				return &usageError{fmt.Errorf("--key: %w", err)}
			}
			data, _, err := durable.ReadFile(args[0], maxProofFile)
			if err != nil {
				return err
			}
			var e store.Entry
			var c ledger.Checkpoint
			p, err := ledger.ParseProof(data)
			if err == nil {
				e, c, err = p.Check(v)
			}
			return a.printProof(args[0], e, c, err)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the log's public `key`")
	return cmd
}

func (a *app) printProof(file string, e store.Entry, c ledger.Checkpoint, no error) error {
	if a.json {
		j := map[string]any{"file": file, "accepted": no == nil}
		if no != nil {
			j["reason"] = no.Error()
		} else {
			j["entry"], j["origin"], j["entries"] = e, c.Origin, c.Size
		}
		if err := a.printJSON(j); err != nil {
			return err
		}
	}
	if no != nil {
		a.printf("%s: refused: %s\n", visible(filepath.Base(file)), visible(no.Error()))
		return noError{}
	}
	a.printf("%s: entry %d of %d in %s\n", visible(filepath.Base(file)), e.Seq, c.Size, visible(c.Origin))
	for _, line := range slices.DeleteFunc([][2]string{
		{"kind", string(e.Kind)}, {"name", ca.Printable(e.Name)}, {"time", e.Time.Local().Format(time.DateTime)}, {"actor", visible(e.Actor)},
		{"profile", visible(e.Profile)}, {"serial", e.Serial}, {"SHA-256", e.SHA256}, {"detail", visible(logDetail(e))},
	}, func(l [2]string) bool { return l[1] == "" }) {
		a.printf("  %-8s %s\n", line[0], line[1])
	}
	return nil
}
