// Command tmpki is the PKI of trust|me (GyroidOS): it makes certificate
// authorities, signs what the platform verifies, and keeps the record of it.
//
// Here, and only here, flags are read, texts printed and exit codes chosen. Each
// verb has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tmpki/ceremony"
	"tmpki/keys"
	"tmpki/plan"
)

// version is set by the Makefile.
var version = "unknown"

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNo     = 3 // a check or a verification said no
)

func main() { os.Exit(run()) }

func run() int {
	if err := harden(); err != nil {
		fmt.Fprintf(os.Stderr, "tmpki: error: %v\n", err)
		return exitFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal ends a program that doesn't get to hear of the first, such
	// as one that asks for a passphrase.
	context.AfterFunc(ctx, stop)
	defer keys.CloseTokens() // a token in a network would keep our sessions for a while
	root := newRoot()
	root.cmd.SetArgs(arguments())
	err := root.cmd.ExecuteContext(ctx)
	return root.report(err)
}

// harden keeps private keys out of core files and away from debuggers, and new
// files away from others unless their mode says otherwise.
func harden() error {
	unix.Umask(0o022)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	return nil
}

// usageError is a fault in how the command was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// noError is a "no" that has been told already.
type noError struct{}

func (noError) Error() string { return "no" }

// report prints an error with a way out and returns the exit code.
func (a *app) report(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(noError)):
		return exitNo
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "tmpki: interrupted")
		return exitFailed
	}
	code := exitFailed
	if errors.As(err, &usage) {
		code = exitUsage
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(os.Stderr, "tmpki: error: %s\n", visible(line))
	}
	if hint := a.hint(err); hint != "" {
		fmt.Fprintf(os.Stderr, "tmpki: hint: %s\n", hint)
	}
	return code
}

// hint is a way out that the error itself doesn't tell.
func (a *app) hint(err error) string {
	var usage *usageError
	var file *fs.PathError
	switch {
	case errors.As(err, &file) && filepath.Base(file.Path) == plan.FileName && errors.Is(err, fs.ErrNotExist):
		return "tmpki init writes a plan, tmpki generate makes a development PKI"
	case errors.As(err, &usage):
		return fmt.Sprintf("%q tells how to call it", "tmpki help")
	case errors.Is(err, keys.ErrPassphraseNeeded), errors.Is(err, keys.ErrPassphraseWrong):
		return "pki.yaml names where the passphrase comes from, under keys, hierarchies or the entry: passphrase"
	case errors.As(err, new(*plan.UnconfirmedError)):
		return "compare it with the one that the ceremony has shown, and give that with --digest"
	case errors.Is(err, keys.ErrTooFewShares):
		return "name the shares of the officers with --share, once for each"
	case errors.Is(err, keys.ErrShareForeign):
		return "the first lines of a share name its PKI and officers; after a reshare only the new ones are good"
	case errors.Is(err, plan.ErrOffline):
		return "\"tmpki ceremony\" signs what a request asks for; \"tmpki check\" and \"tmpki log\" look at what is here"
	case errors.Is(err, ceremony.ErrAltered):
		return "carry the file over once more, and compare the digests at both ends"
	case errors.Is(err, plan.ErrNotSigned), errors.Is(err, plan.ErrNotAsked):
		return "don't use it; find out who has made it"
	case errors.Is(err, keys.ErrPINWrong), errors.Is(err, keys.ErrPINLocked):
		return `"tmpki key list" shows how a token stands with its PIN`
	case errors.Is(err, keys.ErrPINNeeded):
		return `"tmpki help key" tells where the PIN of a token comes from`
	case errors.Is(err, keys.ErrNoToken):
		return `list tokens with "tmpki key list"`
	case errors.Is(err, keys.ErrNoPKCS11):
		return "build it with a C compiler at hand: make build"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room and run the same command again"
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission):
		return "look at owner and mode with: ls -ld"
	case errors.Is(err, plan.ErrNoPlan):
		return "tmpki check looks at the health of such a PKI, tmpki show at one file of it"
	case errors.Is(err, errNoPKI):
		return "tmpki init makes a plan, tmpki generate a development PKI; --pki or $TMPKI_DIR name the directory"
	default:
		return ""
	}
}
