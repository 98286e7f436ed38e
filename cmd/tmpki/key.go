package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
)

func (a *app) keyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key list|show|test|move",
		Short: "Private keys, in files and in PKCS#11 tokens",
		Long: `key looks after private keys. Where the key of an entry lives is said in pki.yaml,
by a key URI: file:NAME.key, or pkcs11:token=LABEL;object=NAME (RFC 7512).

The PKCS#11 library is the one of module-path or module-name in the URI, else of
$PKCS11_MODULE_PATH. The PIN comes from pin-source in the URI, which names a file,
from $TMPKI_PIN_LABEL (the token's label, in upper case), from $TMPKI_PIN, or is
asked for on the terminal. A PIN that was refused is not tried again, and none is
tried when it could be the last one.`,
		Args: a.noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.keyListCmd(), a.keyShowCmd(), a.keyTestCmd(), a.keyMoveCmd())
	return cmd
}

// tokenURI reads a pkcs11: URI from the command line.
func tokenURI(s string) (keys.URI, error) {
	u, err := keys.ParseURI(s)
	if err != nil {
		return keys.URI{}, &usageError{err}
	}
	if u.Scheme != keys.SchemePKCS11 {
		return keys.URI{}, usagef("%q does not begin with pkcs11:", s)
	}
	return u, nil
}

// pkiAtHand opens the PKI directory for what it knows of keys. It returns nil if
// none is named and there is none in the usual place.
func (a *app) pkiAtHand(ctx context.Context) (*plan.PKI, error) {
	dir, err := a.directory(nil)
	if err != nil {
		return nil, err
	}
	p, err := plan.Open(ctx, dir)
	if a.named() == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return p, err
}

// keyRef is a key that the command line names, by an entry or by a URI.
type keyRef struct {
	uri   keys.URI
	pki   *plan.PKI   // nil: none at hand
	entry *plan.Entry // nil: named by URI
}

// keyRef reads URI|NAME.
func (a *app) keyRef(ctx context.Context, arg string) (keyRef, error) {
	if strings.HasPrefix(arg, keys.SchemePKCS11+":") || strings.HasPrefix(arg, keys.SchemeFile+":") {
		u, err := keys.ParseURI(arg)
		if err == nil {
			err = u.CheckKey()
		}
		if err != nil {
			return keyRef{}, &usageError{err}
		}
		p, err := a.pkiAtHand(ctx)
		return keyRef{uri: u, pki: p}, err
	}
	dir, err := a.existing(nil)
	if err != nil {
		return keyRef{}, err
	}
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return keyRef{}, err
	}
	e := p.Plan.Entry(arg)
	if e == nil {
		return keyRef{}, fmt.Errorf("%q is not an entry of the plan, nor a key URI", arg)
	}
	e = e.KeyOwner()
	return keyRef{e.Key, p, e}, nil
}

// open opens the key, of an entry only if it is the one of its certificate.
func (r keyRef) open() (crypto.Signer, error) {
	if r.entry != nil && r.pki.Have.Certificates[r.entry.Name] != nil {
		return r.pki.Signer(r.entry)
	}
	dir := "."
	if r.entry != nil {
		dir = r.pki.Dir
	}
	pass := keys.Source{Env: "TMPKI_PASSPHRASE", Prompt: true}
	s, err := keys.Open(dir, r.uri, func() (*keys.Passphrase, error) { return pass.Read(r.uri.String()) })
	if err != nil || r.entry == nil {
		return s, err
	}
	return keys.AsType(s, r.entry.KeyType), nil
}

// algorithmsOf lists what a key may be used with.
func algorithmsOf(s crypto.Signer) []spki.SignatureAlgorithm {
	return slices.DeleteFunc(spki.Algorithms(s.Public()), func(a spki.SignatureAlgorithm) bool {
		k := keys.InToken(s)
		return k != nil && !k.May(a)
	})
}
