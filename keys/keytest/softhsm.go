// Package keytest holds what tests of private keys share: one suite for every
// kind of signer, and tokens of SoftHSM to run it on.
package keytest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/keys"
)

// The PINs of all tokens.
const (
	PIN   = "271828"
	SOPIN = "314159265"
)

// HSM is a set of SoftHSM tokens in a directory of their own.
type HSM struct {
	Dir    string // holds the configuration and the tokens
	Module string // the PKCS#11 library
	Conf   string // the configuration file, for SOFTHSM2_CONF
}

// New makes an HSM in dir, which must be empty or an HSM already, with a token
// of each label. Without SoftHSM, the test is skipped, or fails in CI.
func New(t tooltest.T, dir string, labels ...string) (*HSM, error) {
	if !keys.HavePKCS11() {
		t.Skip("built without cgo, and so without PKCS#11")
		return nil, keys.ErrNoPKCS11
	}
	h := &HSM{Dir: dir, Module: tooltest.Path(t, "libsofthsm2.so"), Conf: filepath.Join(dir, "softhsm2.conf")}
	util := tooltest.Path(t, "softhsm2-util")
	tokens := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens)
	if err := os.WriteFile(h.Conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for _, label := range labels {
		cmd := exec.Command(util, "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SOPIN)
		cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.Conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return h, nil
}

// Env returns the environment in which a process finds the tokens. The PIN is not
// in it.
func (h *HSM) Env() map[string]string {
	return map[string]string{"SOFTHSM2_CONF": h.Conf, keys.EnvModule: h.Module}
}

// SoftHSM makes tokens for one test, which this process then finds, with their
// PIN. The test can't be parallel: a process has one set of tokens.
func SoftHSM(t testing.TB, labels ...string) *HSM {
	t.Helper()
	keys.CloseTokens()
	h, err := New(t, t.TempDir(), labels...)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range h.Env() {
		t.Setenv(name, value)
	}
	t.Setenv(keys.EnvPIN, PIN)
	t.Cleanup(keys.CloseTokens)
	return h
}

// TokenDir returns the directory of a token's files. Moved away, the token is
// gone, once the library looks again.
func (h *HSM) TokenDir(t testing.TB, label string) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(h.Dir, "tokens", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if data, err := os.ReadFile(filepath.Join(dir, "token.object")); err == nil && bytes.Contains(data, []byte(label)) {
			return dir
		}
	}
	t.Fatalf("no token %q in %s", label, h.Dir)
	return ""
}

// Tool runs pkcs11-tool on a token, logged in, and returns its output.
func (h *HSM) Tool(t testing.TB, label string, args ...string) []byte {
	t.Helper()
	return tooltest.Run(t, "pkcs11-tool", append([]string{"--module", h.Module, "--token-label", label, "--login", "--pin", PIN}, args...)...)
}
