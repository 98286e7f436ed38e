package main

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/plan"
)

func (a *app) keyListCmd() *cobra.Command {
	var login bool
	cmd := &cobra.Command{
		Use:   "list [--login] [URI]",
		Short: "Tokens, what is in them, and whose it is",
		Long: `list shows the tokens that a pkcs11: URI means, all of a library if it names none,
with their keys and certificates, and which entries of the PKI these are of.

It needs no PIN, and shows then what the token shows to everybody. With --login it
also shows private keys, and what they may do.`,
		Example: `  tmpki key list
  tmpki key list --login 'pkcs11:token=root'
  tmpki key list 'pkcs11:?module-path=/usr/lib/softhsm/libsofthsm2.so'`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u := keys.URI{Scheme: keys.SchemePKCS11}
			if len(args) > 0 {
				var err error
				if u, err = tokenURI(args[0]); err != nil {
					return err
				}
			}
			if login {
				if err := keys.Login(u, true); err != nil {
					return err
				}
			}
			list, err := keys.ListTokens(u)
			if err != nil {
				return err
			}
			p, err := a.pkiAtHand(cmd.Context())
			if err != nil {
				return err
			}
			facts := []tokenFacts{}
			for _, t := range list {
				facts = append(facts, newTokenFacts(t, p))
			}
			if a.json {
				return a.printJSON(map[string]any{"tokens": facts})
			}
			if a.quiet {
				return nil
			}
			return a.printTokens(facts)
		},
	}
	cmd.Flags().BoolVar(&login, "login", false, "log in, to show private keys too")
	return cmd
}

// tokenFacts is a token with what is in it.
type tokenFacts struct {
	URI             string          `json:"uri"`
	Label           string          `json:"label"`
	Serial          string          `json:"serial"`
	Manufacturer    string          `json:"manufacturer"`
	Model           string          `json:"model"`
	Slot            uint            `json:"slot"`
	SlotDescription string          `json:"slot_description"`
	Library         string          `json:"library"`
	PIN             string          `json:"pin"`
	PINPad          bool            `json:"pin_pad"`
	WriteProtected  bool            `json:"write_protected"`
	LoggedIn        bool            `json:"logged_in"`
	FreePublic      *int64          `json:"free_public_memory,omitempty"` // octets; none: the token does not tell
	FreePrivate     *int64          `json:"free_private_memory,omitempty"`
	KeyTypes        []string        `json:"key_types"` // that can be made there and used
	Keys            []tokenKeyFacts `json:"keys"`
	Others          int             `json:"other_objects"`
}

// tokenKeyFacts is what lies under one CKA_ID.
type tokenKeyFacts struct {
	URI         string           `json:"uri"`
	Label       string           `json:"label"`
	ID          string           `json:"id"` // CKA_ID, hexadecimal
	Key         *keyFacts        `json:"key,omitempty"`
	Objects     []string         `json:"objects"` // private, public, cert
	Private     *attributeFacts  `json:"private,omitempty"`
	Certificate *certificateLine `json:"certificate,omitempty"`
	Entries     []string         `json:"entries"` // of the PKI

	public crypto.PublicKey
}

type attributeFacts struct {
	Sensitive   bool     `json:"sensitive"`
	Extractable bool     `json:"extractable"`
	Local       bool     `json:"made_in_token"`
	Uses        []string `json:"uses"`
	Mechanisms  []string `json:"mechanisms"` // empty: all that fit
}

type certificateLine struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

func newTokenFacts(t keys.Token, p *plan.PKI) tokenFacts {
	f := tokenFacts{
		URI: t.URI.String(), Label: t.Label, Serial: t.Serial, Manufacturer: t.Manufacturer, Model: t.Model,
		Slot: t.Slot, SlotDescription: t.SlotDescription, Library: t.Library, PIN: t.PIN, PINPad: t.Keypad,
		WriteProtected: t.WriteProtected, LoggedIn: t.LoggedIn, KeyTypes: []string{}, Keys: []tokenKeyFacts{},
	}
	if t.FreePublic >= 0 {
		f.FreePublic = &t.FreePublic
	}
	if t.FreePrivate >= 0 {
		f.FreePrivate = &t.FreePrivate
	}
	for _, k := range t.KeyTypes {
		f.KeyTypes = append(f.KeyTypes, k.String())
	}
	for _, o := range t.Objects {
		if o.Class != "private" && o.Class != "public" && o.Class != "cert" {
			f.Others++
			continue
		}
		// What has no CKA_ID belongs to nothing.
		i := slices.IndexFunc(f.Keys, func(k tokenKeyFacts) bool { return k.ID != "" && k.ID == hex.EncodeToString(o.ID) })
		if i < 0 {
			i = len(f.Keys)
			u := t.URI
			u.PKCS11.Object, u.PKCS11.ID = o.Label, ""
			if o.Label == "" {
				u.PKCS11.ID = string(o.ID)
			}
			f.Keys = append(f.Keys, tokenKeyFacts{URI: u.String(), Label: o.Label, ID: hex.EncodeToString(o.ID), Objects: []string{}, Entries: []string{}})
		}
		f.Keys[i].add(o)
	}
	for i := range f.Keys {
		k := &f.Keys[i]
		slices.Sort(k.Objects)
		if k.public == nil {
			continue
		}
		facts := newKeyFacts(k.public)
		if k.Private != nil && onlyPSS(k.Private.Mechanisms) {
			facts.Type = strings.Replace(facts.Type, "rsa:", "rsa-pss:", 1)
		}
		k.Key = &facts
		if p != nil {
			for _, e := range p.KeyOwners(k.public) {
				k.Entries = append(k.Entries, e.Name)
			}
		}
	}
	return f
}

func onlyPSS(mechanisms []string) bool {
	return len(mechanisms) > 0 && !slices.ContainsFunc(mechanisms, func(m string) bool { return !strings.HasSuffix(m, "-PSS") })
}

func (k *tokenKeyFacts) add(o keys.Object) {
	k.Objects = append(k.Objects, o.Class)
	if o.Key != nil && (k.public == nil || o.Class == "cert") { // which knows id-RSASSA-PSS
		k.public = o.Key
	}
	if a := o.Private; a != nil {
		k.Private = &attributeFacts{a.Sensitive, a.Extractable, a.Local, append([]string{}, a.Uses...), append([]string{}, a.Mechanisms...)}
	}
	if o.Class == "cert" {
		if c, err := ca.ParseCertificate(o.Certificate); err == nil {
			k.Certificate = &certificateLine{c.Subject().String(), c.NotAfter.UTC()}
		}
	}
}

// describe says in a few words how a private key is kept.
func (a *attributeFacts) describe() string {
	var list []string
	for _, w := range []struct {
		is   bool
		text string
	}{{a.Sensitive, "sensitive"}, {!a.Sensitive, "NOT SENSITIVE"}, {a.Extractable, "EXTRACTABLE"}, {!a.Extractable, "not extractable"}, {a.Local, "made in the token"}, {!a.Local, "imported"}} {
		if w.is {
			list = append(list, w.text)
		}
	}
	return strings.Join(list, ", ")
}

func (a *app) printTokens(list []tokenFacts) error {
	out := a.cmd.OutOrStdout()
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no token is there")
		return err
	}
	for i, f := range list {
		if i > 0 {
			fmt.Fprintln(out)
		}
		t := &table{colour: colour(out)}
		t.heading("token %q", f.Label)
		t.add("model", visible(fmt.Sprintf("%s of %s, serial %s", f.Model, f.Manufacturer, f.Serial)))
		t.add("slot", visible(fmt.Sprintf("%d: %s", f.Slot, f.SlotDescription)))
		t.add("library", visible(f.Library))
		pin := f.PIN
		if f.PINPad {
			pin += ", typed at the token"
		}
		if f.WriteProtected {
			pin += "; write-protected"
		}
		t.add("PIN", pin)
		if f.FreePrivate != nil && f.FreePublic != nil {
			t.add("free memory", fmt.Sprintf("%d octets private, %d public", *f.FreePrivate, *f.FreePublic))
		}
		t.add("key types", strings.Join(f.KeyTypes, ", "))
		if err := t.flush(out); err != nil {
			return err
		}
		if err := printTokenKeys(out, f); err != nil {
			return err
		}
	}
	return nil
}

func printTokenKeys(out io.Writer, f tokenFacts) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	b.WriteByte('\n')
	switch {
	case len(f.Keys) == 0:
		fmt.Fprintln(w, "  no keys or certificates show")
	case f.LoggedIn:
		fmt.Fprintln(w, "  KEY\tTYPE\tOBJECTS\tENTRY\tKEPT")
	default:
		fmt.Fprintln(w, "  KEY\tTYPE\tOBJECTS\tENTRY")
	}
	for _, k := range f.Keys {
		kind, uses := "unknown", ""
		if k.Key != nil {
			kind = k.Key.Type
		}
		if k.Private != nil {
			uses = k.Private.describe()
		}
		owner := strings.Join(k.Entries, ", ")
		if owner == "" {
			owner = "-"
		}
		row := []string{visible(orID(k)), kind, strings.Join(k.Objects, "+"), owner}
		if uses != "" {
			row = append(row, uses)
		}
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !f.LoggedIn {
		fmt.Fprintln(&b, "  private keys show with --login")
	}
	_, err := out.Write(b.Bytes())
	return err
}

func orID(k tokenKeyFacts) string {
	if k.Label != "" {
		return k.Label
	}
	return "id " + k.ID
}
