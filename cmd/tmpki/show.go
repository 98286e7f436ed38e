package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
)

// maxShown bounds what show reads, in octets, of anything but a CRL.
const maxShown = 4 << 20

func (a *app) showCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME|FILE|-",
		Short: "One certificate, request, CRL or key, readable",
		Long: `show tells what is in a certificate or chain, a request, a CRL, a private or
public key (PEM or DER), or an .esl or .auth file of UEFI, and how a softtoken
(.p12) is protected. Of a private key it shows public facts only, and asks for no
passphrase. It verifies no more than it says: a request's proof of possession,
whether the certificates of a file link up, whom an .auth file was signed by.

An argument with a slash or a dot in it is a file. Any other is an entry of the
plan in the PKI directory, of which show tells also what the record knows; or, if
there is no such entry, a file. A single dash is standard input. At most 4 MiB
are read, of a CRL 128 MiB.

What comes out of a file is escaped, as names may hold control characters.`,
		Example: `  tmpki show ssig_subca
  tmpki show pki/ssig.cert
  tmpki show --json device.csr
  openssl req -in device.csr | tmpki show -`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.look(cmd.Context(), args[0], time.Now())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			if a.quiet {
				return nil
			}
			return s.print(a.cmd.OutOrStdout(), time.Now())
		},
	}
}

// shown is what show shows: an entry, or what is in a file.
type shown struct {
	Source   string      `json:"source"` // the argument, escaped
	Entry    *entryFacts `json:"entry,omitempty"`
	FileSHA1 string      `json:"file_sha1,omitempty"` // of certificates in PEM: their name on a device
	Chain    *chainFacts `json:"chain,omitempty"`     // of two certificates or more
	Items    []item      `json:"items"`
}

// item is one certificate, request, CRL, key, signature list or update. Its
// exported fields are what programs get.
type item interface {
	title() string
	describe(t *table, now time.Time)
}

// look finds out what arg means, and reads it.
func (a *app) look(ctx context.Context, arg string, now time.Time) (*shown, error) {
	if arg == "-" {
		data, err := io.ReadAll(io.LimitReader(a.cmd.InOrStdin(), ca.MaxCRL+1))
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return recognize("standard input", data)
	}
	if strings.ContainsAny(arg, "/.") {
		return showFile(arg)
	}
	s, err := a.showEntry(ctx, arg, now)
	if err == nil {
		return s, nil
	}
	if _, statErr := os.Lstat(arg); statErr == nil {
		return showFile(arg)
	}
	return nil, err
}

// showEntry shows an entry of the plan, and its newest certificate.
func (a *app) showEntry(ctx context.Context, name string, now time.Time) (*shown, error) {
	dir, err := a.existing(nil)
	if err != nil {
		return nil, fmt.Errorf("%q is no file, and there is no PKI to look it up in: %w", name, err)
	}
	d, err := plan.Picture(ctx, dir, now)
	if errors.Is(err, plan.ErrNoPlan) {
		return nil, fmt.Errorf("%q is no file: %w; name a file, such as %s", name, err, filepath.Join(dir, "ssig_rootca.cert"))
	}
	if err != nil {
		return nil, err
	}
	n := d.Node(name)
	if n == nil {
		return nil, fmt.Errorf("%q is neither a file nor an entry of the plan in %s: tmpki tree lists the entries", name, dir)
	}
	s := &shown{Source: name, Entry: newEntryFacts(d, n), Items: []item{}}
	if n.Certificate != nil {
		s.Items = append(s.Items, newCertificateFacts(n.Certificate))
	}
	return s, nil
}

func showFile(path string) (*shown, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	return recognize(path, data)
}

// readInput reads a regular file of at most ca.MaxCRL octets, and one more, by
// which recognize sees that there are too many.
func readInput(path string) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err // the path stands unescaped in it
		}
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	// Look before opening: to open a device can make it do things, and to open a
	// pipe can wait for ever.
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return fail(errors.New("is a directory; tmpki tree draws a PKI directory"))
	case mode&fs.ModeNamedPipe != 0:
		return fail(errors.New(`is a pipe; use "-" and standard input`))
	case !mode.IsRegular():
		return fail(errors.New("is not a regular file"))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, ca.MaxCRL+1))
	if err != nil {
		return fail(err)
	}
	return data, nil
}

// print writes everything for people.
func (s *shown) print(out io.Writer, now time.Time) error {
	t := &table{colour: colour(out)}
	switch {
	case s.Entry != nil:
		t.heading("%s", s.Entry.title())
		s.Entry.describe(t)
		for _, i := range s.Items {
			t.heading("%s", i.title())
			i.describe(t, now)
		}
	case len(s.Items) == 1:
		t.heading("%s: %s", s.Source, s.Items[0].title())
		s.Items[0].describe(t, now)
	default:
		t.heading("%s: %d items", s.Source, len(s.Items))
		if s.Chain != nil {
			t.add("chain", s.Chain.String())
		}
		for n, i := range s.Items {
			t.heading("%d. %s", n+1, i.title())
			i.describe(t, now)
		}
	}
	if s.FileSHA1 != "" {
		t.heading("file")
		t.add("SHA-1", s.FileSHA1+" (its name in a device's tokens/ca)")
	}
	return t.flush(out)
}
