package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/plan"
	"tmpki/spki"
)

func (a *app) generateCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "generate DIR [KEYTYPE]",
		Short: "The development PKI that the platform's build expects, if it isn't there",
		Long: `generate is the drop-in for the platform's gen_dev_certs.sh. It makes the
development PKI in DIR, or does nothing if a complete one is there. DIR appears
by one rename. If DIR is a symbolic link to a release PKI, that is checked, and
missing exports are derived; no key is ever made there.

KEYTYPE is rsa:N (2048, 3072, 4096), ec:CURVE or ed25519; the default is
rsa:4096. Where the platform can verify nothing but RSA, keys stay RSA.

Environment: DO_PLATFORM_KEYS=y adds the UEFI keys (PK, KEK, DB);
GYROIDOS_TEST_PASSWD_PKI, if set, encrypts the keys of the customer side; without
KEYTYPE, PKI_KEY_SIZE or KEY_SIZE is the number of bits of RSA keys.`,
		Args: between(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			keyType, err := wantedKeyType(args)
			if err != nil {
				return err
			}
			dir, err := a.directory(args[:min(len(args), 1)])
			if err != nil {
				return err
			}
			start := time.Now()
			o := a.options(os.Stderr)
			o.Demand.PlatformKeys = os.Getenv("DO_PLATFORM_KEYS") == "y"
			p := a.newProgress()
			o.Progress = p.step
			out, err := plan.Generate(cmd.Context(), dir, keyType, o)
			p.close()
			if err != nil {
				return err
			}
			return a.printOutcome(dir, out, time.Since(start))
		},
	}
}

// wantedKeyType is the argument, or what the environment of the build says: it
// sets the size for boards whose firmware takes RSA-2048 only. Zero: no matter.
func wantedKeyType(args []string) (spki.KeyType, error) {
	text, from := "", "KEYTYPE"
	if len(args) > 1 {
		text = strings.TrimSpace(args[1])
	}
	if text == "" {
		for _, name := range []string{"PKI_KEY_SIZE", "KEY_SIZE"} {
			if size := os.Getenv(name); size != "" {
				text, from = "rsa:"+size, "$"+name
				break
			}
		}
	}
	if text == "" {
		return spki.KeyType{}, nil
	}
	keyType, err := spki.ParseKeyType(text)
	if err != nil {
		return keyType, usagef("%s: %w", from, err)
	}
	if keyType.Kind == spki.RSAPSS {
		return keyType, usagef("%s: use rsa:%d, and each key is PSS where its consumers expect it", from, keyType.Bits)
	}
	return keyType, nil
}

func (a *app) printOutcome(dir string, out *plan.Outcome, took time.Duration) error {
	if a.json {
		return a.printJSON(map[string]any{
			"directory": dir, "steps": len(out.Steps), "adopted": out.Adopted,
			"derived": append([]string{}, out.Derived...), "notes": append([]string{}, out.Notes...),
		})
	}
	for _, f := range out.Checks {
		if !a.quiet {
			fmt.Fprintf(os.Stderr, "tmpki: %s: %s: %s\n", f.Level, visible(f.Name), visible(f.Text))
		}
	}
	a.notePCR7(signedVariables(out.Steps, false)...)
	switch {
	case out.Adopted && len(out.Derived) == 0:
		a.printf("%s: a PKI that was made elsewhere, checked; nothing to do\n", dir)
	case out.Adopted:
		a.printf("%s: a PKI that was made elsewhere, checked; derived %s\n", dir, strings.Join(out.Derived, ", "))
	case len(out.Steps) == 0:
		a.printf("%s: complete, nothing to do\n", dir)
	default:
		counts := map[plan.StepKind]int{}
		for _, s := range out.Steps {
			counts[s.Kind]++
		}
		a.printf("%s: %d keys, %d certificates, %d files in %s\n", dir,
			counts[plan.GenerateKey], counts[plan.IssueCertificate], counts[plan.PublishFile], took.Round(time.Millisecond))
	}
	for _, n := range out.Notes {
		a.printf("note: %s\n", n)
	}
	return nil
}
