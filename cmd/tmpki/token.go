package main

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token create|passwd",
		Short: "Softtokens: keys that unlock the containers of a user",
		Args:  a.noSubcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tokenCreateCmd(), a.tokenPasswdCmd())
	return cmd
}

// defaultPassword is the one that the platform tries first.
const defaultPassword = "trustme"

// passwordFlags say where a password comes from. Without any, the terminal is asked.
type passwordFlags struct {
	prefix    string
	file, env string
	standard  bool
}

func (f *passwordFlags) add(cmd *cobra.Command, prefix, what string) {
	f.prefix = prefix
	cmd.Flags().StringVar(&f.file, prefix+"password-file", "", what+": the first line of this `file`")
	cmd.Flags().StringVar(&f.env, prefix+"password-env", "", what+": the value of this environment `variable`")
	cmd.Flags().BoolVar(&f.standard, prefix+"default-password", false, what+`: "`+defaultPassword+`", which everybody knows`)
}

// read returns the password for what is called name. A new one is asked for twice.
func (f *passwordFlags) read(name string, isNew bool) (*keys.Passphrase, error) {
	given := 0
	for _, is := range []bool{f.file != "", f.env != "", f.standard} {
		if is {
			given++
		}
	}
	if given > 1 {
		return nil, usagef("--%[1]spassword-file, --%[1]spassword-env and --%[1]sdefault-password exclude each other", f.prefix)
	}
	if f.standard {
		return keys.NewPassphrase([]byte(defaultPassword))
	}
	// A file or variable that is named must be there: no question takes its place.
	source := keys.Source{Env: f.env, File: f.file, Prompt: given == 0}
	if isNew {
		return source.ReadNew(name)
	}
	return source.Read(name)
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var subject subjectFlags
	var password passwordFlags
	var keyType, uuid, out string
	var legacy bool
	r := plan.IssueRequest{}
	cmd := &cobra.Command{
		Use:   "create --name NAME -o FILE.p12|DIR",
		Short: "Make a softtoken: a key and its certificate in a PKCS#12 file",
		Long: `create makes a key, has its certificate issued like "tmpki issue user", and writes
both with the chain into a PKCS#12 file that the platform reads. The key is nowhere
else: who loses the file, or its password, needs another token.

The platform wraps the keys of containers with it, so it is RSA. The password is
asked for twice, or comes from a file or an environment variable. The file is
encrypted with AES-256; --legacy takes 3DES, for readers that know no better.

In a device's tokens directory it is called by the UUID of its container: with
--uuid, -o may be a directory.`,
		Example: `  tmpki token create --name alice -o alice.p12
  tmpki token create --name c0 --uuid 00000000-0000-0000-0000-000000000001 --default-password -o tokens`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// 1. Everything that can be wrong, before anything is signed.
			if r.Name == "" {
				return usagef("create: --name NAME is missing")
			}
			var err error
			if r.Subject, err = subject.subject(); err != nil {
				return err
			}
			if err := ca.CheckSubjectAltNames(r.SubjectAltNames); err != nil {
				return usagef("--san: %w", err)
			}
			t, err := spki.ParseKeyType(keyType)
			if err != nil {
				return usagef("--key-type: %w", err)
			}
			if t.Kind != spki.RSA {
				return usagef("--key-type %s: the platform wraps the keys of containers with RSA (rsa:N) only", keyType)
			}
			if uuid != "" {
				if err := ca.CheckUUID(uuid); err != nil {
					return usagef("--uuid: %w", err)
				}
				if info, err := os.Stat(out); err == nil && info.IsDir() {
					out = filepath.Join(out, uuid+".p12")
				}
			}
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			if _, err := p.Plan.IssuanceOf(r.Profile, r.Name); err != nil {
				return err
			}
			if err := p.CheckOutput(out); err != nil {
				return err
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s exists, and a token is never overwritten: name another file", out)
			}
			secret, err := password.read(out, true)
			if err != nil {
				return err
			}
			signer, err := keys.Generate(t)
			if err != nil {
				return err
			}
			key, ok := signer.(*rsa.PrivateKey)
			if !ok {
				return fmt.Errorf("a key of type %v is a %T", t, signer)
			}
			// 2. The certificate.
			r.Public = key.Public()
			issued, err := p.Issue(cmd.Context(), a.options(os.Stderr), r)
			if issued == nil || issued.Certificate == nil {
				return err
			}
			// 3. The file.
			if writeErr := writeToken(out, key, issued.Chain, secret, legacy); writeErr != nil {
				return errors.Join(err, fmt.Errorf("%s is issued and on record (serial %s), but its key is lost: %w", issued.Name, serialHex(issued.Certificate.SerialNumber), writeErr))
			}
			if password.standard {
				a.warn(fmt.Sprintf("%s has the default password: change it with \"tmpki token passwd\"", out))
			}
			return errors.Join(a.printIssued(issued, out), err)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.Name, "name", "", "the token's `name` among the certificates of its profile")
	fl.StringVar(&r.Profile, "profile", "user", "the `profile` of its certificate")
	fl.StringVar(&keyType, "key-type", "rsa:2048", "`rsa:N`, with 2048, 3072 or 4096 bits")
	fl.StringArrayVar(&r.SubjectAltNames, "san", nil, "subject alternative `name` such as email:ADDRESS (may be repeated)")
	fl.StringVar(&uuid, "uuid", "", "the `UUID` of the container, for the name of the file")
	fl.BoolVar(&legacy, "legacy", false, "encrypt with 3DES and SHA-1 in place of AES-256 and SHA-256")
	fl.BoolVar(&r.Replace, "replace", false, "revoke the token that has the name")
	subject.add(cmd)
	password.add(cmd, "", "the token's password")
	addOutput(cmd, &out, "FILE.p12")
	return cmd
}

// marshalToken writes a PKCS#12 file, and reads it back before anybody relies on it.
func marshalToken(key *rsa.PrivateKey, certs []*x509.Certificate, password *keys.Passphrase, legacy bool) ([]byte, error) {
	format := keys.PKCS12AES
	if legacy {
		format = keys.PKCS12Legacy
	}
	der, err := keys.MarshalPKCS12(key, certs, password, format)
	if err != nil {
		return nil, err
	}
	again, chain, err := keys.ParsePKCS12(der, password)
	if err != nil {
		return nil, fmt.Errorf("the token as written: %w", err)
	}
	if !again.Equal(key) || len(chain) != len(certs) {
		return nil, errors.New("the token as written holds something else")
	}
	return der, nil
}

func writeToken(path string, key *rsa.PrivateKey, chain []*ca.Certificate, password *keys.Passphrase, legacy bool) error {
	var certs []*x509.Certificate
	for _, c := range chain {
		certs = append(certs, c.Certificate)
	}
	der, err := marshalToken(key, certs, password, legacy)
	if err != nil {
		return err
	}
	return durable.CreateFile(path, der, 0o600)
}

func (a *app) tokenPasswdCmd() *cobra.Command {
	var from, to passwordFlags
	var legacy bool
	cmd := &cobra.Command{
		Use:   "passwd FILE.p12",
		Short: "Change the password of a softtoken",
		Long: `passwd opens a PKCS#12 file with its password and writes it anew with another one:
the same key, the same certificates, the same owner and mode. Names that other
programs gave them are left out. On any failure the file stays as it was.

Files are read that the platform made, and some that it does not read, such as
those with RC2; what is written, it reads.`,
		Example: `  tmpki token passwd alice.p12
  tmpki token passwd --old-default-password --password-file new.txt alice.p12`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := args[0]
			der, info, err := durable.ReadFile(file, keys.MaxPKCS12)
			if err != nil {
				return err
			}
			before, err := keys.DescribePKCS12(der)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			old, err := from.read(file, false)
			if err != nil {
				return err
			}
			key, certs, err := keys.ParsePKCS12(der, old)
			if errors.Is(err, keys.ErrPassphraseWrong) {
				return fmt.Errorf("%s: the password is wrong", file)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			secret, err := to.read(file, true)
			if err != nil {
				return err
			}
			if der, err = marshalToken(key, certs, secret, legacy); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if err := durable.ReplaceFile(file, der, info); err != nil {
				return err
			}
			if err := durable.SyncDir(filepath.Dir(file)); err != nil {
				return err
			}
			if to.standard {
				a.warn(fmt.Sprintf("%s has the default password, which everybody knows", file))
			}
			after, err := keys.DescribePKCS12(der)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": file, "before": newPKCS12Facts(before), "after": newPKCS12Facts(after)})
			}
			a.printf("%s: password changed, %s\n", visible(file), newPKCS12Facts(after))
			return nil
		},
	}
	from.add(cmd, "old-", "the password as it is")
	to.add(cmd, "", "the new password")
	cmd.Flags().BoolVar(&legacy, "legacy", false, "encrypt with 3DES and SHA-1 in place of AES-256 and SHA-256")
	return cmd
}

// pkcs12Facts is what shows of a PKCS#12 file without its password.
type pkcs12Facts struct {
	Kind       string   `json:"kind"`       // "pkcs12"
	Encryption []string `json:"encryption"` // none: it is plain
	MAC        string   `json:"mac,omitempty"`
	Iterations int      `json:"iterations"`
	Platform   string   `json:"platform_refuses,omitempty"` // why the platform does not read it
}

func newPKCS12Facts(d keys.PKCS12Description) *pkcs12Facts {
	return &pkcs12Facts{"pkcs12", append([]string{}, d.Encryption...), d.MAC, d.Iterations, d.Unreadable}
}

func (f *pkcs12Facts) title() string { return "PKCS#12 file" }

func (f *pkcs12Facts) String() string {
	encryption := "not encrypted"
	for i, name := range f.Encryption {
		if i == 0 {
			encryption = name
			continue
		}
		encryption += ", " + name
	}
	return fmt.Sprintf("%s, MAC %s", encryption, cmp.Or(f.MAC, "missing"))
}

func (f *pkcs12Facts) describe(t *table, _ time.Time) {
	t.add("protection", f.String())
	t.add("iterations", fmt.Sprintf("%d (the fewest)", f.Iterations))
	switch {
	case f.Platform == "":
		t.add("platform", "reads such files as softtokens, if the key is RSA")
	case f.MAC == "":
		t.add("platform", "does not read it: "+f.Platform)
	default:
		t.add("platform", "does not read it: "+f.Platform+`; "tmpki token passwd" writes it anew`)
	}
}
