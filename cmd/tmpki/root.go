package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tmpki/plan"
)

// app is what the verbs share: the flags that each has, and the outputs.
type app struct {
	cmd   *cobra.Command
	dir   string // --pki
	json  bool
	quiet bool
}

var errNoPKI = errors.New("no PKI directory")

func newRoot() *app {
	a := &app{}
	a.cmd = &cobra.Command{
		Use:   "tmpki",
		Short: "The PKI of trust|me (GyroidOS)",
		Long: `tmpki makes the certificate authorities of the platform, signs what it
verifies, and keeps the record of all of it.

One directory is one PKI: pki.yaml says what it should be, pki.db what has
happened, and the published files are what the platform's build reads.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check or verification said no.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	f := a.cmd.PersistentFlags()
	f.StringVar(&a.dir, "pki", "", "PKI `directory` (default $TMPKI_DIR, then ./pki)")
	f.BoolVar(&a.json, "json", false, "print JSON, for programs")
	f.BoolVar(&a.quiet, "quiet", false, "print errors only")
	a.cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	a.cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q", args[0])
		}
		return nil
	}
	a.cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	a.cmd.AddCommand(
		a.initCmd(),
		a.applyCmd(),
		a.ceremonyCmd(),
		a.generateCmd(),
		a.checkCmd(),
		a.keyCmd(),
		a.showCmd(),
		a.treeCmd(),
		a.signCmd(),
		a.verifyCmd(),
		a.uefiCmd(),
		a.guestosCmd(),
		a.verityCmd(),
		a.trustCmd(),
		a.revokeCmd(),
		a.crlCmd(),
		a.ocspCmd(),
		a.issueCmd(),
		a.tokenCmd(),
		a.deviceCmd(),
		a.logCmd(),
		a.expiryCmd(),
		a.importCmd(),
		a.renewCmd(),
		a.rotateCmd(),
		a.rolloutCmd(),
		a.backupCmd(),
		a.restoreCmd(),
		a.signConfigDropInCmd(),
		a.manCmd(),
	)
	a.cmd.Version = version
	return a
}

// atMost is cobra.MaximumNArgs with our exit code.
func atMost(n int) cobra.PositionalArgs { return between(0, n) }

func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usagef("%s: too few arguments: %s", cmd.Name(), cmd.UseLine())
		}
		if len(args) > most {
			return usagef("%s: too many arguments: %q", cmd.Name(), args[most:])
		}
		return nil
	}
}

// directory returns the PKI directory: the argument, --pki, $TMPKI_DIR, ./pki.
func (a *app) directory(args []string) (string, error) {
	switch {
	case len(args) > 0 && a.dir != "" && filepath.Clean(args[0]) != filepath.Clean(a.dir):
		return "", usagef("two PKI directories: %s and --pki %s", args[0], a.dir)
	case len(args) > 0:
		return args[0], nil
	case a.dir != "":
		return a.dir, nil
	case os.Getenv("TMPKI_DIR") != "":
		return os.Getenv("TMPKI_DIR"), nil
	default:
		return "pki", nil
	}
}

// named returns the PKI directory that --pki or $TMPKI_DIR name, or "".
func (a *app) named() string {
	if a.dir != "" {
		return a.dir
	}
	return os.Getenv("TMPKI_DIR")
}

// existing is directory for one that must be there.
func (a *app) existing(args []string) (string, error) {
	dir, err := a.directory(args)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoPKI, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%w: %s is a file", errNoPKI, dir)
	}
	return dir, nil
}

// printf writes to standard output, unless --quiet or --json.
func (a *app) printf(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.cmd.OutOrStdout(), format, args...)
	}
}

// visible escapes what would do things to a terminal, as ca.Printable does. It is
// for texts in which a name is only a part, such as errors: a backslash in them
// stands for itself.
func visible(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			for _, c := range []byte(s[:size]) {
				fmt.Fprintf(&b, "\\%02X", c)
			}
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// printJSON writes one JSON value.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.cmd.OutOrStdout())
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// options are what applying needs from the outside.
func (a *app) options(out io.Writer) plan.Options {
	return plan.Options{
		Actor:   actor(),
		Program: version,
		Now:     time.Now,
		Warn:    a.warn,
		Waiting: func() {
			if !a.quiet {
				fmt.Fprintln(out, "tmpki: another process works on this directory: waiting")
			}
		},
	}
}

// actor is who the record names: the account and the machine.
func actor() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// colour reports whether w is a terminal that wants colour.
func colour(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
