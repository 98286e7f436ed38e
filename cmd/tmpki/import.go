package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"tmpki/keys"
	"tmpki/plan"
	"tmpki/takeover"
)

var envPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (a *app) importCmd() *cobra.Command {
	var uris []string
	var env, file string
	var accept, dryRun bool
	cmd := &cobra.Command{
		Use:   "import DIR|FILE... --pki NEWDIR",
		Short: "Take over a PKI that other programs made",
		Long: `import makes the new PKI directory NEWDIR of an existing PKI: one by the platform's
scripts, directories of "openssl ca" with their index.txt, or certificates and
keys of single CAs. It checks what it finds and lists what is wrong. With problems
it exits with 3 and writes nothing, unless they are accepted with --accept.

Keys are copied as they are, encryption included, or stay in their tokens (--key).
Every certificate and revocation is recorded, and CRL numbers go on. The
certificates stay as they are; pki.yaml describes them. Nothing is ever written to
the old place.

Encrypted keys are opened, to see what they belong to, with the passphrase in the
environment variable of --passphrase-env or in --passphrase-file.

UEFI keys (PK, KEK, DB with their .esl and .auth) come along. What was signed for
the firmware stays as it is, unless a finding says that it is signed anew.`,
		Example: `  tmpki import --dry-run old-pki --pki new
  tmpki import old-pki --pki new --passphrase-env GYROIDOS_TEST_PASSWD_PKI
  tmpki import root.pem --key 'pkcs11:token=ca;object=root' --pki new`,
		Args: between(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.dir == "" {
				return usagef("import: name the new directory: --pki NEWDIR")
			}
			if !envPattern.MatchString(env) {
				return usagef("--passphrase-env %q is no name of an environment variable", env)
			}
			if _, err := os.Lstat(a.dir); err == nil {
				return fmt.Errorf("%s is there, and stays: name a new directory", a.dir)
			}
			o := takeover.Options{Passphrase: importPassphrase(env, file)}
			for _, s := range uris {
				u, err := keys.ParseURI(s)
				if err != nil {
					return &usageError{fmt.Errorf("--key: %w", err)}
				}
				o.Keys = append(o.Keys, u)
			}
			found, err := takeover.Read(cmd.Context(), args, o)
			if err != nil {
				return err
			}
			refused := found.Bad() && !accept
			var result *takeover.Result
			if !refused && !dryRun {
				if result, err = found.Write(cmd.Context(), a.dir, env, a.options(os.Stderr)); errors.Is(err, plan.ErrAppeared) {
					err = fmt.Errorf("%s is there, and stays: name a new directory", a.dir)
				}
				if err != nil {
					return err
				}
			}
			if err := a.printImport(found, result, refused); err != nil {
				return err
			}
			if refused {
				return noError{}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&uris, "key", nil, "`URI` of a key in a token, or in a file elsewhere; may be repeated")
	f.StringVar(&env, "passphrase-env", "TMPKI_PASSPHRASE", "`variable` with the passphrase of encrypted keys, also for pki.yaml")
	f.StringVar(&file, "passphrase-file", "", "`file` whose first line is that passphrase")
	f.BoolVar(&accept, "accept", false, "take it over in spite of problems")
	f.BoolVar(&dryRun, "dry-run", false, "look and tell, write nothing")
	return cmd
}

// importPassphrase reads the passphrase once, if it is at hand.
func importPassphrase(env, file string) func() (*keys.Passphrase, error) {
	return sync.OnceValues(func() (*keys.Passphrase, error) {
		if file != "" {
			return keys.Source{File: file}.Read("the keys")
		}
		return keys.Source{Env: env, Optional: true}.Read("the keys")
	})
}

func (a *app) printImport(found *takeover.Found, result *takeover.Result, refused bool) error {
	if a.json {
		return a.printJSON(map[string]any{"written": result != nil, "findings": append([]plan.Finding{}, found.Findings...), "result": result})
	}
	if err := a.printFindingList(found.Findings, func(f plan.Finding) bool { return !a.quiet || f.Level == plan.Bad }); err != nil {
		return err
	}
	switch {
	case refused:
		a.printf("%s: nothing was written: mend what is bad, or take it over as it is with --accept\n", visible(a.dir))
	case result == nil:
		a.printf("nothing was written\n")
	default:
		a.printf("%s: %d entries, %d keys copied, %d certificates and %d revocations recorded; look at it with: tmpki check %s\n",
			visible(a.dir), result.Entries, result.Keys, result.Certificates, result.Revocations, visible(a.dir))
		if result.Variables > 0 {
			a.printf("%s: %d signed UEFI variables recorded\n", visible(a.dir), result.Variables)
		}
		if len(result.Signed) > 0 {
			a.printf("%s: signed anew, to be enrolled: %s\n", visible(a.dir), strings.Join(result.Signed, ", "))
		}
	}
	return nil
}
