package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/internal/fileset"
	"tmpki/plan"
)

// openPKI opens the PKI of --pki for looking.
func (a *app) openPKI(cmd *cobra.Command) (*plan.PKI, error) {
	dir, err := a.existing(nil)
	if err != nil {
		return nil, err
	}
	return plan.Open(cmd.Context(), dir)
}

// writeSet writes files to a directory, an archive, or standard output, and tells
// about it.
func (a *app) writeSet(p *plan.PKI, set *fileset.Set, out string, modified time.Time) error {
	if err := putSet(a.cmd.OutOrStdout(), p, set, out, modified); err != nil || out == "-" {
		return err
	}
	if a.json {
		return a.printJSON(newSetJSON(out, set))
	}
	for _, name := range set.Names() {
		a.printf("  %s\n", visible(name))
	}
	a.printf("%s: %s and %s\n", visible(out), count(len(set.Names()), "file", "files"), fileset.Checksums)
	return nil
}

func putSet(stdout io.Writer, p *plan.PKI, set *fileset.Set, out string, modified time.Time) error {
	if out != "-" && !strings.HasSuffix(out, ".tar") {
		return set.WriteDir(out)
	}
	var b bytes.Buffer // certificates of one device, or anchors: small
	if err := set.WriteTar(&b, modified); err != nil {
		return err
	}
	if out == "-" {
		_, err := stdout.Write(b.Bytes())
		return err
	}
	if err := p.CheckOutput(out); err != nil {
		return err
	}
	return durable.WriteFile(out, b.Bytes(), 0o644)
}

// newest returns when the newest of certificates began: a time that the same
// archive has whenever it is made.
func newest(certs []*ca.Certificate) time.Time {
	at := time.Unix(0, 0)
	for _, c := range certs {
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
	}
	return at
}

// setJSON is a set of files for programs.
type setJSON struct {
	Output string     `json:"output"`
	Files  []fileJSON `json:"files"`
}

type fileJSON struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

func newSetJSON(out string, set *fileset.Set) setJSON {
	j := setJSON{Output: out, Files: []fileJSON{}}
	for _, name := range set.Names() {
		sum := sha256.Sum256(set.Content(name))
		j.Files = append(j.Files, fileJSON{name, hex.EncodeToString(sum[:])})
	}
	return j
}
