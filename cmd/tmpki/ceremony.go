package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/internal/durable"
	"tmpki/plan"
)

func (a *app) ceremonyCmd() *cobra.Command {
	var out, confirmFrom string
	var newPlan bool
	var s shareFlags
	cmd := &cobra.Command{
		Use:   "ceremony [--pki DIR] -o RESPONSE REQUEST",
		Short: "Sign with the offline keys what a request asks for",
		Long: `ceremony runs on the machine with the offline keys. It shows in plain words what
a request of "tmpki apply" asks for and by whom it will be signed, asks the
officers of the plan to confirm one after the other, signs, and writes a response
for "tmpki apply --response" and a signed transcript (DIR/ceremonies).

DIR is a PKI directory of its own, with the offline keys and the record of what
they signed; the first ceremony makes it. Nothing is signed unless enough officers
confirm. The same request again gets the same response.

Where the plan says passphrase: {split: true}, the passphrase of the keys is shared
by the officers, and as many as the quorum open it. The first ceremony makes the
shares (--shares-out, best a directory on a medium for each officer), the next ones
want them (--share).`,
		Example: `  tmpki ceremony --pki /media/root-pki -o response.tmpki REQUEST-1-3f2a9c41.tmpki
  openssl cms -verify -binary -inform DER -purpose any -CAfile ssig_rootca.cert \
      -in CEREMONY-1-3f2a9c41.txt.p7s -content CEREMONY-1-3f2a9c41.txt`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.directory(nil)
			if err != nil {
				return err
			}
			if out == "" {
				return usagef("ceremony: where to? Name the response with -o")
			}
			if confirmFrom == "" && (a.json || a.quiet) {
				return usagef("ceremony: officers can't confirm what --json and --quiet don't show; use --confirm-from in tests")
			}
			return a.conduct(cmd.Context(), dir, args[0], out, confirmFrom, newPlan, &s)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the response to `FILE`")
	cmd.Flags().BoolVar(&newPlan, "new-plan", false, "take over the plan of the request, which has changed")
	cmd.Flags().StringVar(&confirmFrom, "confirm-from", "", "take confirmations from `FILE`, for tests; the transcript says so")
	s.add(cmd, true)
	cmd.AddCommand(a.reshareCmd(), a.testSharesCmd())
	return cmd
}

// conduct holds a ceremony.
func (a *app) conduct(ctx context.Context, dir, request, out, confirmFrom string, newPlan bool, s *shareFlags) error {
	bundle, _, err := durable.ReadFile(request, ceremony.MaxBundle)
	if err != nil {
		return err
	}
	// A response that can't be written is better known before.
	p, err := plan.Open(ctx, dir)
	if err != nil {
		p = nil // Conduct tells what is wrong
	}
	if err := p.CheckOutput(out); err != nil {
		return err
	}
	o := plan.CeremonyOptions{Options: a.options(os.Stderr), NewPlan: newPlan, ShareHolders: s.holders()}
	o.Confirm = func(g *plan.Agenda) ([]plan.Confirmation, error) {
		if confirmFrom != "" {
			a.printf("%s\n", g.Text)
			return confirmedIn(confirmFrom, g)
		}
		return askOfficers(g)
	}
	answer, err := plan.Conduct(ctx, dir, bundle, o)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(out, answer.Marshal(), 0o644); err != nil {
		return err
	}
	return a.tellAnswer(answer, out)
}

// tellAnswer says what came of a ceremony.
func (a *app) tellAnswer(answer *plan.Answer, out string) error {
	if a.json {
		names := []string{}
		for _, c := range answer.Certificates {
			names = append(names, c.Entry)
		}
		return a.printJSON(map[string]any{
			"response": out, "digest": answer.Digest().String(), "request": answer.Request, "number": answer.Number,
			"again": answer.Again, "certificates": names, "transcript": answer.Transcript,
		})
	}
	if answer.Again {
		a.printf("request number %d was answered before, on %s: the same response\n", answer.Number, answer.Time.Local().Format(time.DateTime))
	}
	for _, c := range answer.Certificates {
		cert, err := ca.ParseCertificate(c.Certificate)
		if err != nil {
			return err
		}
		a.printf("%s: serial %x, SHA-256 %x\n", c.Entry, cert.SerialNumber.Bytes(), sha256.Sum256(cert.Raw))
	}
	a.printf("transcript: %s\n", answer.Transcript)
	a.printf("response:   %s\n", out)
	a.printf("digest:     %s\n", answer.Digest().Short())
	return nil
}

// confirmedIn reads confirmations from a file: lines like "Alice Example: yes".
func confirmedIn(file string, g *plan.Agenda) ([]plan.Confirmation, error) {
	data, _, err := durable.ReadFile(file, 64<<10)
	if err != nil {
		return nil, err
	}
	var list []plan.Confirmation
	for line := range strings.Lines(string(data)) {
		name, answer, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.TrimSpace(answer) != "yes" {
			return nil, fmt.Errorf("%s: %.80q is not a line like \"%s: yes\": %w", file, line, g.Officers[0], plan.ErrUnconfirmed)
		}
		list = append(list, plan.Confirmation{Officer: name, How: "by a file (--confirm-from), not on a terminal", Time: time.Now()})
	}
	return list, nil
}

// askOfficers shows the agenda on the terminal and asks each officer in turn.
func askOfficers(g *plan.Agenda) ([]plan.Confirmation, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("asking the officers: no terminal: %w", err)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s\n%d of these officers must confirm: %s\n", g.Text, g.Quorum, strings.Join(g.Officers, ", "))
	fmt.Fprintf(tty, "Who is here types the own name in full. An empty line: not here. Anything else ends the ceremony.\n\n")
	in := bufio.NewReader(tty)
	var list []plan.Confirmation
	for i, name := range g.Officers {
		if len(list)+len(g.Officers)-i < g.Quorum {
			break
		}
		fmt.Fprintf(tty, "%s, do you confirm? ", name)
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("asking %s: %w", name, err)
		}
		switch strings.TrimSpace(line) {
		case name:
			list = append(list, plan.Confirmation{Officer: name, How: "on the terminal", Time: time.Now()})
		case "":
		default:
			return nil, fmt.Errorf("%s has not confirmed: nothing was signed: %w", name, plan.ErrUnconfirmed)
		}
	}
	return list, nil
}

// takeResponse takes what a ceremony has signed.
func (a *app) takeResponse(ctx context.Context, dir, file, digest string, o plan.Options) error {
	bundle, _, err := durable.ReadFile(file, ceremony.MaxBundle)
	if err != nil {
		return err
	}
	if digest != "" {
		r, err := ceremony.ParseResponse(bundle)
		if err != nil {
			return err
		}
		if !r.Digest().Matches(digest) {
			return fmt.Errorf("%s has the digest %s, but --digest says %q", file, r.Digest().Short(), digest)
		}
	}
	answer, err := plan.TakeResponse(ctx, dir, bundle, o, func(e *plan.UnconfirmedError) error {
		if digest != "" {
			return nil
		}
		return askDigest(e)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	a.printf("%s: taken: %d certificates, %d variables, %d CRLs of request number %d\n", file,
		len(answer.Certificates), len(answer.Variables), len(answer.CRLs), answer.Number)
	a.printf("transcript: %s\n", answer.Transcript)
	return nil
}

// askDigest asks on the terminal whether the digest is right.
func askDigest(e *plan.UnconfirmedError) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return e
	}
	defer tty.Close()
	var b bytes.Buffer
	fmt.Fprintf(&b, "The response brings what nothing here vouches for yet:\n\n")
	for _, text := range e.New {
		fmt.Fprintf(&b, "  %s\n", visible(text))
	}
	fmt.Fprintf(&b, "\nIts digest is  %s\nIs that what the ceremony has shown? Ask the officers, and type yes: ", e.Digest.Short())
	if _, err := tty.Write(b.Bytes()); err != nil {
		return errors.Join(e, err)
	}
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil || !slices.Contains([]string{"yes", "Yes", "YES"}, strings.TrimSpace(line)) {
		return e
	}
	return nil
}
