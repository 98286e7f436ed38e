package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tmpki/internal/tooltest"
	"tmpki/keys/keytest"
	"tmpki/store/storetest"
)

// TestScripts runs testdata/script, one file for each rule of the command line.
// Beside the commands of testscript they have:
//
//	need TOOL...            skip without the tool (in CI: fail)
//	pki rsa|uefi|ec DIR     copy a PKI that is made once for all scripts
//	exits CODE COMMAND...   run a command that must exit with this code
//	state DIR               print names, kinds, modes, times, hashes below DIR
//	json FILE               FILE (or stdout) must be one JSON value
//	softhsm TOKEN...        make tokens, with the PIN $PIN, outside of the script's
//	                        directory; again, it adds more
//	database                make a database on a PostgreSQL server of the script's
//	                        own; its URL is $DB
//	keyless DIR...          no file below may look like a private key
//	refuses CODE TEXT COMMAND...
//	                        the command must exit with CODE, tell TEXT on standard
//	                        error, and leave nothing in its working directory or
//	                        below it changed
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values["t"] = env.T()
			// A place outside of the script's directory, for what state printed.
			plans, err := filepath.Abs("../../plan/testdata")
			if err != nil {
				return err
			}
			env.Setenv("PLANS", plans)
			env.Setenv("BEFORE", filepath.Join(t.TempDir(), "before"))
			env.Setenv("HSM", filepath.Join(t.TempDir(), "hsm"))
			env.Setenv("PIN", keytest.PIN)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"need":     scriptNeed,
			"pki":      scriptPKI,
			"exits":    scriptExits,
			"state":    scriptState,
			"json":     scriptJSON,
			"softhsm":  scriptSoftHSM,
			"database": scriptDatabase,
			"keyless":  scriptKeyless,
			"refuses":  scriptRefuses,
		},
		RequireUniqueNames: true,
	})
}

// usage fails a script that calls a command wrongly.
func usage(ts *testscript.TestScript, bad bool, text string) {
	if bad {
		ts.Fatalf("usage: %s", text)
	}
}

func scriptNeed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) == 0, "need TOOL...")
	tooltest.Need(ts.Value("t").(testscript.T), args...)
}

func scriptPKI(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "pki rsa|uefi|ec DIR")
	ts.Check(fixture(args[0], ts.MkAbs(args[1])))
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "exits CODE COMMAND...")
	if code := exitCode(ts, args[1:]); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// exitCode runs a command, which may take a minute: bad input must not make it
// wait for ever.
func exitCode(ts *testscript.TestScript, command []string) int {
	err := ts.Exec("timeout", append([]string{"60"}, command...)...)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

func scriptState(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "state DIR")
	s, err := state(ts.MkAbs(args[0]), true)
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), s)
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "json FILE")
	text := ts.ReadFile(args[0])
	d := json.NewDecoder(strings.NewReader(text))
	var v any
	ts.Check(d.Decode(&v))
	if d.More() {
		ts.Fatalf("more than one JSON value:\n%s", text)
	}
}

func scriptSoftHSM(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) == 0, "softhsm TOKEN...")
	h, err := keytest.New(ts.Value("t").(testscript.T), ts.Getenv("HSM"), args...)
	ts.Check(err)
	for name, value := range h.Env() {
		ts.Setenv(name, value)
	}
}

func scriptDatabase(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 0, "database")
	t := scriptT{ts.Value("t").(testscript.T), ts}
	ts.Setenv("DB", storetest.Start(t).URL(t))
}

// scriptT is a script as a test that can be cleaned up behind.
type scriptT struct {
	testscript.T
	script *testscript.TestScript
}

func (t scriptT) Cleanup(f func()) { t.script.Defer(f) }

func scriptRefuses(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 3, "refuses CODE TEXT COMMAND...")
	dir := ts.MkAbs(".")
	before, err := state(dir, false)
	ts.Check(err)
	code := exitCode(ts, args[2:])
	stderr := ts.ReadFile("stderr")
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
	if !strings.Contains(stderr, args[1]) {
		ts.Fatalf("standard error lacks %q", args[1])
	}
	if !strings.HasPrefix(stderr, "tmpki: error: ") {
		ts.Fatalf("standard error does not begin with \"tmpki: error: \"")
	}
	after, err := state(dir, false)
	ts.Check(err)
	if before != after {
		ts.Fatalf("%s changed: before\n%safter\n%s", filepath.Base(dir), before, after)
	}
}
