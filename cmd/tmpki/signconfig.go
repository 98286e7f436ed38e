package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/keys"
	"tmpki/signing"
)

// signConfigName is the name under which the program is the platform's config
// signing script.
const signConfigName = "tmpki-sign-config"

// arguments are the command line, with the verb that the program's name implies.
func arguments() []string {
	if filepath.Base(os.Args[0]) == signConfigName {
		return append([]string{"sign-config"}, os.Args[1:]...)
	}
	return os.Args[1:]
}

func (a *app) signConfigDropInCmd() *cobra.Command {
	var d signing.DropIn
	var passphrase string
	cmd := &cobra.Command{
		Use:   "sign-config (-c CONF -k KEY --cert CERT [--cert CERT]... [-p PASS] [--cms] | CONF KEY CERT)",
		Short: "Drop-in for the platform's config signing script",
		Long: `sign-config signs a GuestOS or container config with a key and certificates given
by file, as the platform's build calls its script; a link named tmpki-sign-config
does the same. It checks that key and certificate belong together, that the
platform would read the config, and the result. If the key lies in a PKI
directory, the signature is recorded there.

KEY and CERT may be pkcs11: URIs. What a key in a token signs is recorded in the
PKI that --pki or $TMPKI_DIR name, if they do. Its PIN comes from the URI's
pin-source, from $TMPKI_PIN, or is asked for: -p is for key files.

PASS is env:NAME or file:PATH. A passphrase itself is taken, too, but everybody
on the machine can see it. Without -p, GYROIDOS_TEST_PASSWD_PKI is used if it is
set and the key is encrypted.`,
		Args: between(0, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 3 && d.Conf == "" && d.Key == "" && len(d.Certs) == 0:
				d.Conf, d.Key, d.Certs = args[0], args[1], args[2:]
			case len(args) > 0:
				return usagef("sign-config: give CONF KEY CERT, or -c, -k and --cert: not both")
			}
			if d.Conf == "" || d.Key == "" || len(d.Certs) == 0 {
				return usagef("sign-config: -c CONF, -k KEY and --cert CERT are needed")
			}
			d.Passphrase = func() (*keys.Passphrase, error) { return a.dropInPassphrase(passphrase) }
			if strings.HasPrefix(d.Key, keys.SchemePKCS11+":") {
				if passphrase != "" {
					return usagef("sign-config: -p is for key files: the PIN of a token comes from pin-source in the URI, from $%s, or is asked for", keys.EnvPIN)
				}
				d.PKI, d.Warn = a.named(), a.warn
			}
			if err := signing.SignDropIn(cmd.Context(), d, actor(), time.Now()); err != nil {
				return err
			}
			if a.json {
				return a.printJSON([]signedJSON{{File: d.Conf, Kind: "config"}})
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&d.Conf, "config", "c", "", "config to sign, `NAME.conf`")
	f.StringVarP(&d.Key, "key", "k", "", "private key: a `file`, or a key URI")
	f.StringArrayVar(&d.Certs, "cert", nil, "certificate `file` or pkcs11: URI, the signer's first (may be repeated)")
	f.StringVarP(&passphrase, "passphrase", "p", "", "where the passphrase comes from: `env:NAME` or file:PATH")
	f.BoolVar(&d.CMS, "cms", false, "write NAME.p7s")
	return cmd
}

func (a *app) dropInPassphrase(source string) (*keys.Passphrase, error) {
	kind, value, _ := strings.Cut(source, ":")
	switch {
	case source == "":
		return keys.Source{Env: testPassphrase, Optional: true}.Read("the key")
	case kind == "env":
		return keys.Source{Env: value}.Read("the key")
	case kind == "file":
		return keys.Source{File: value}.Read("the key")
	default:
		if !a.quiet {
			fmt.Fprintln(os.Stderr, "tmpki: warning: everybody on this machine can see a passphrase in an argument: use -p env:NAME or -p file:PATH")
		}
		return keys.NewPassphrase([]byte(source))
	}
}

// testPassphrase is where the platform's build has the passphrase of the customer
// side's keys.
const testPassphrase = "GYROIDOS_TEST_PASSWD_PKI"
