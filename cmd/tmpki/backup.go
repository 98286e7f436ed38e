package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"tmpki/backup"
	"tmpki/keys"
)

// backupPassphrase is the environment variable with the passphrase of backups.
const backupPassphrase = "TMPKI_BACKUP_PASSPHRASE"

func (a *app) backupCmd() *cobra.Command {
	var out, passphraseFile string
	var recipients, recipientFiles []string
	cmd := &cobra.Command{
		Use:   "backup -o FILE [DIR]",
		Short: "An encrypted copy of a PKI in use",
		Long: `backup writes the PKI directory, keys and record included, into one new file, an
age file with a tar archive in it, while others go on signing. Who can read it:
the recipients (age1…, as age-keygen prints them), or whoever has the passphrase,
which comes from $` + backupPassphrase + `, --passphrase-file, or is asked for.

Keys in tokens and on media that are not there are not in it: it names them.
The ledger tells of the backup. A store in PostgreSQL is for pg_dump.`,
		Example: `  tmpki backup -o /media/pki.age --recipient age1… --pki vendor-pki
  tmpki restore /media/pki.age vendor-pki --identity key.txt`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("backup: name the file: -o FILE")
			}
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			to, err := backup.Recipients(recipients, recipientFiles)
			if err != nil {
				return err
			}
			if len(to) > 0 && passphraseFile != "" {
				return usagef("backup: recipients or a passphrase, not both")
			}
			if len(to) == 0 {
				p, err := passphrase(passphraseFile, true)
				if err != nil {
					return err
				}
				r, err := backup.WithPassphrase(p)
				if err != nil {
					return err
				}
				to = []age.Recipient{r}
			}
			m, err := backup.Create(cmd.Context(), dir, out, to, a.backupOptions())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(m)
			}
			a.printManifest(m, false)
			for _, f := range m.Faults {
				a.warn("copied as it is: " + f)
			}
			a.printf("%s: backup of %s, ledger of %d entries\n", visible(out), visible(dir), m.Ledger.Size)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "the new `file`")
	f.StringArrayVar(&recipients, "recipient", nil, "who can read it: `age1…`; may be repeated")
	f.StringArrayVar(&recipientFiles, "recipients-file", nil, "`file` of recipients, one a line; may be repeated")
	f.StringVar(&passphraseFile, "passphrase-file", "", "`file` whose first line is the passphrase")
	return cmd
}

func (a *app) restoreCmd() *cobra.Command {
	var passphraseFile string
	var identities []string
	var list, verify bool
	cmd := &cobra.Command{
		Use:   "restore FILE DIR",
		Short: "A PKI directory from its backup",
		Long: `restore makes the new directory DIR of a backup. It verifies first, beside it: each
file against the manifest, the record, its ledger, and that keys and certificates
belong together; then DIR appears by one rename. It never touches what is there.

--list prints what is in the backup, --verify checks every octet of it; both write
nothing and need no DIR.`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			looks := list || verify
			switch {
			case looks && len(args) > 1:
				return usagef("restore: --list and --verify make no directory: leave %s out", args[1])
			case !looks && len(args) < 2:
				return usagef("restore: name the new directory: tmpki restore FILE DIR")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			with, err := openers(f, identities, passphraseFile)
			if err != nil {
				return err
			}
			var m *backup.Manifest
			if looks {
				m, err = backup.Verify(cmd.Context(), f, with)
			} else {
				m, err = backup.Restore(cmd.Context(), f, args[1], with, a.backupOptions())
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if a.json {
				return a.printJSON(m)
			}
			a.printManifest(m, list)
			for _, text := range m.Faults {
				a.warn("so it was when the backup was made: " + text)
			}
			if looks {
				a.printf("%s: whole: %d files, ledger of %d entries\n", visible(args[0]), len(m.Files), m.Ledger.Size)
			} else {
				a.printf("%s: restored from %s of %s; look at it with: tmpki check %s\n", visible(args[1]), visible(filepath.Base(args[0])), m.Time.Local().Format(time.DateTime), visible(args[1]))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&identities, "identity", nil, "`file` of age-keygen with the secret key; may be repeated")
	f.StringVar(&passphraseFile, "passphrase-file", "", "`file` whose first line is the passphrase")
	f.BoolVar(&list, "list", false, "print what is in the backup")
	f.BoolVar(&verify, "verify", false, "check the backup, write nothing")
	return cmd
}

func (a *app) backupOptions() backup.Options {
	o := a.options(os.Stderr)
	return backup.Options{Actor: o.Actor, Program: "tmpki " + version, Now: o.Now, Waiting: o.Waiting}
}

// passphrase reads that of a backup. A file that was named is the only source.
func passphrase(file string, isNew bool) (*keys.Passphrase, error) {
	source := keys.Source{Env: backupPassphrase, Prompt: true}
	if file != "" {
		source = keys.Source{File: file}
	}
	if isNew {
		return source.ReadNew("the backup")
	}
	return source.Read("the backup")
}

// openers returns what may open a backup.
func openers(f *os.File, files []string, passphraseFile string) ([]age.Identity, error) {
	byPassphrase, err := backup.NeedsPassphrase(f)
	if err != nil {
		return nil, err
	}
	if !byPassphrase {
		if len(files) == 0 {
			return nil, usagef("%s was made for recipients: name the secret key of one with --identity FILE", f.Name())
		}
		return backup.Identities(files)
	}
	if len(files) > 0 {
		return nil, errors.New("the backup is closed by a passphrase: leave --identity out")
	}
	p, err := passphrase(passphraseFile, false)
	if err != nil {
		return nil, err
	}
	i, err := backup.ByPassphrase(p)
	return []age.Identity{i}, err
}

// printManifest tells of a backup: what is not in it, and if asked for, what is.
func (a *app) printManifest(m *backup.Manifest, all bool) {
	if a.quiet || a.json {
		return
	}
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	if all {
		fmt.Fprintf(w, "backup\t%s\n", m.ID)
		fmt.Fprintf(w, "of\t%s (%s)\n", visible(m.Directory), visible(m.Plan))
		fmt.Fprintf(w, "made\t%s by %s\n", m.Time.Local().Format(time.DateTime), visible(m.Program))
		fmt.Fprintf(w, "ledger\t%d entries, root hash %s\n\n", m.Ledger.Size, m.Ledger.Root)
		for _, f := range m.Files {
			fmt.Fprintf(w, "%s\t%10d\t%s\n", f.Mode, f.Size, visible(f.Path))
		}
	}
	for _, absent := range m.Absent {
		fmt.Fprintf(w, "not in this backup\t%s\t%s\n", visible(absent.Name), visible(absent.Why))
	}
	w.Flush()
}
