package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/keys"
)

func (a *app) keyShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show URI|NAME",
		Short: "One key: where it is, how it is kept, whose it is",
		Long: `show tells of a key, by its URI or by the name of an entry, where it is and how it
is kept there. A token is logged in to if its PIN is at hand or can be asked for;
else only what it shows to everybody is told. No key file is decrypted.`,
		Example: `  tmpki key show ssig_rootca
  tmpki key show 'pkcs11:token=root;object=ssig_rootca'`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.keyRef(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if r.uri.Scheme == keys.SchemeFile {
				return a.showKeyFile(r)
			}
			return a.showTokenKey(r)
		},
	}
}

// keyFileFacts is a key file.
type keyFileFacts struct {
	URI  string `json:"uri"`
	Mode string `json:"mode"`
	*privateKeyFacts
	Entries []string `json:"entries"`
}

func (a *app) showKeyFile(r keyRef) error {
	dir := "."
	if r.entry != nil {
		dir = r.pki.Dir
	}
	path := r.uri.FilePath(dir)
	data, err := readInput(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	described, err := describePrivateKey(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	private, ok := described.(*privateKeyFacts)
	if !ok {
		return fmt.Errorf("%s: not a private key", path)
	}
	f := keyFileFacts{URI: r.uri.String(), Mode: fmt.Sprintf("%04o", info.Mode().Perm()), privateKeyFacts: private, Entries: []string{}}
	if r.entry != nil {
		f.Entries = append(f.Entries, r.entry.Name)
	}
	if a.json {
		return a.printJSON(f)
	}
	if a.quiet {
		return nil
	}
	t := &table{colour: colour(a.cmd.OutOrStdout())}
	t.heading("key %s", visible(f.URI))
	t.add("file", visible(path)+", mode "+f.Mode)
	private.describe(t, time.Now())
	t.add("of", strings.Join(f.Entries, ", "))
	return t.flush(a.cmd.OutOrStdout())
}

func (a *app) showTokenKey(r keyRef) error {
	if err := keys.Login(r.uri, true); err != nil {
		if !errors.Is(err, keys.ErrPINNeeded) {
			return err
		}
		a.warn(fmt.Sprintf("only what shows without a PIN: %v", err))
	}
	u := r.uri
	u.PKCS11.Type = "" // show what belongs to it too
	list, err := keys.ListTokens(u)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("%d tokens match %q: name one by its serial", len(list), u.String())
	}
	f := newTokenFacts(list[0], r.pki)
	if len(f.Keys) != 1 {
		return fmt.Errorf("%d keys match %q in token %q; tmpki key list shows them", len(f.Keys), u.String(), f.Label)
	}
	k := f.Keys[0]
	if a.json {
		return a.printJSON(map[string]any{"token": map[string]any{"label": f.Label, "serial": f.Serial, "pin": f.PIN, "logged_in": f.LoggedIn}, "key": k})
	}
	if a.quiet {
		return nil
	}
	t := &table{colour: colour(a.cmd.OutOrStdout())}
	t.heading("key %s", visible(u.String()))
	t.add("token", visible(fmt.Sprintf("%q, %s, serial %s", f.Label, f.Model, f.Serial)))
	t.add("label", visible(k.Label))
	t.add("id", k.ID)
	if k.Key != nil {
		k.Key.describe(t)
	}
	t.add("objects", strings.Join(k.Objects, ", "))
	if p := k.Private; p != nil {
		t.add("kept", p.describe())
		t.add("uses", strings.Join(p.Uses, ", "))
		if len(p.Mechanisms) > 0 {
			t.add("mechanisms", strings.Join(p.Mechanisms, ", "))
		} else {
			t.add("mechanisms", "all that fit")
		}
	}
	if c := k.Certificate; c != nil {
		t.add("certificate", fmt.Sprintf("%s, until %s", c.Subject, c.NotAfter.Local().Format(time.DateOnly)))
	}
	t.add("of", strings.Join(k.Entries, ", "))
	return t.flush(a.cmd.OutOrStdout())
}
