package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/uefi"
)

// variableJSON is a variable of the PKI, or a file with the value of one.
type variableJSON struct {
	Variable string          `json:"variable,omitempty"` // of a file: the one that its signature is for
	Platform string          `json:"platform,omitempty"`
	File     string          `json:"file,omitempty"`
	Update   plan.UpdateMode `json:"update,omitempty"` // the newest
	Time     *time.Time      `json:"time,omitempty"`
	Signer   string          `json:"signer,omitempty"`
	Verified *bool           `json:"verified,omitempty"` // of a file: the signature is good
	Entries  []entryJSON     `json:"entries"`
}

// entryJSON is one entry of a signature list.
type entryJSON struct {
	Type     string     `json:"type"`
	Owner    string     `json:"owner"`
	SHA256   string     `json:"sha256"`         // of the certificate, or of the image
	Name     string     `json:"name,omitempty"` // in the plan
	Subject  string     `json:"subject,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
	Error    string     `json:"error,omitempty"` // why the certificate can't be read
}

func (a *app) uefiShowCmd() *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "show [--platform P] [VAR|FILE.esl|FILE.auth]",
		Short: "Show what is in PK, KEK, db and dbx, or in a file for them",
		Long: `show lists the entries of the variables as they are on a platform that has taken
every update signed so far, or of a signature list or an update in a file. Of an
update it tells for which variable it was signed, by whom, and when.`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := []string{"PK", "KEK", "db", "dbx"}
			isFile := len(args) > 0 && !slices.Contains(names, args[0])
			if len(args) > 0 {
				names = args
			}
			// A file can be looked at without a PKI.
			var p *plan.PKI
			dir, err := a.existing(nil)
			if err == nil {
				p, err = plan.Open(cmd.Context(), dir)
			}
			if err != nil && (!isFile || !errors.Is(err, errNoPKI) || a.dir != "") {
				return err
			}
			if isFile {
				v, err := variableFileJSON(p, args[0])
				if err != nil {
					return err
				}
				return a.printVariables(v)
			}
			if _, err := p.Owner(platform); err != nil {
				return err
			}
			var list []variableJSON
			for _, name := range names {
				list = append(list, recordJSON(p, platform, name))
			}
			return a.printVariables(list...)
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "of this `platform`")
	return cmd
}

// recordJSON describes a variable from the record.
func recordJSON(p *plan.PKI, platform, name string) variableJSON {
	v := variableJSON{Variable: name, Platform: platform}
	id := name
	if platform != "" {
		id = platform + "/" + name
	}
	r := p.Have.Updates[id]
	if r.Last != nil {
		v.Update, v.Time, v.Signer = r.Last.Mode, &r.Last.Time, r.Last.Signer
	}
	v.Entries = entriesJSON(p, r.Value)
	return v
}

// variableFileJSON describes a signature list or an update in a file.
func variableFileJSON(p *plan.PKI, file string) (variableJSON, error) {
	v := variableJSON{File: file}
	raw, _, err := durable.ReadFile(file, uefi.MaxDatabaseSize+64<<10)
	if err != nil {
		return v, err
	}
	auth, authErr := uefi.ParseAuth(raw)
	if authErr != nil {
		db, err := uefi.ParseSignatureLists(raw)
		if err != nil {
			// The name tells what it was meant to be.
			if strings.HasSuffix(file, ".auth") {
				err = authErr
			}
			return v, fmt.Errorf("%s: %w", file, err)
		}
		v.Entries = entriesJSON(p, db)
		return v, nil
	}
	v.Time, v.Entries = &auth.Time, entriesJSON(p, auth.Value)
	v.Variable, v.Update, v.Signer = signedFor(p, auth)
	verified := v.Signer != ""
	v.Verified = &verified
	return v, nil
}

// signedFor finds out for what an update was signed. The file does not say it, so
// all that it could be is tried. That the signer is the right one for a platform,
// only the platform knows.
func signedFor(p *plan.PKI, auth *uefi.Auth) (variable string, mode plan.UpdateMode, signer string) {
	for _, der := range auth.SignedData.Certificates {
		for _, name := range []string{"PK", "KEK", "db", "dbx"} {
			v, err := uefi.SecureBootVariable(name)
			if err != nil {
				continue
			}
			for _, mode := range []plan.UpdateMode{plan.Replace, plan.Append} {
				if auth.Verify(v, mode == plan.Append, der) != nil {
					continue
				}
				if len(auth.Value) == 0 {
					mode = plan.Delete
				}
				e := describeCertificate(p, der)
				if e.Name != "" {
					return name, mode, e.Name
				}
				return name, mode, e.Subject
			}
		}
	}
	return "", "", ""
}

func entriesJSON(p *plan.PKI, db uefi.SignatureDatabase) []entryJSON {
	list := []entryJSON{}
	for _, e := range db.Entries() {
		j := entryJSON{SHA256: hex.EncodeToString(e.Hash())}
		if der := e.Certificate(); der != nil {
			j = describeCertificate(p, der)
		}
		j.Type, j.Owner = e.TypeName(), e.Owner.String()
		list = append(list, j)
	}
	return list
}

// describeCertificate tells of a certificate what shows on one line.
func describeCertificate(p *plan.PKI, der []byte) entryJSON {
	sum := sha256.Sum256(der)
	j := entryJSON{SHA256: hex.EncodeToString(sum[:])}
	c, err := ca.ParseCertificate(der)
	if err != nil {
		j.Error = ca.Printable(err.Error())
		return j
	}
	j.Subject, j.NotAfter = c.Subject().String(), &c.NotAfter
	if p != nil {
		for _, e := range p.Plan.Entries {
			if ours := p.Have.Certificates[e.Name]; ours != nil && ours.Equal(c) {
				j.Name = e.Name
			}
		}
	}
	return j
}

func (a *app) printVariables(list ...variableJSON) error {
	if a.json {
		return a.printJSON(list)
	}
	for i, v := range list {
		if i > 0 {
			a.printf("\n")
		}
		name := ca.Printable(v.File)
		if name == "" {
			name = v.Variable
			if v.Platform != "" {
				name = v.Platform + "/" + name
			}
		}
		a.printf("%s: %s\n", name, count(len(v.Entries), "entry", "entries"))
		switch {
		case v.Verified != nil && !*v.Verified:
			a.printf("  time      %s\n  signature bad: it is for no variable with a certificate that is in the file\n", v.Time.Format(time.RFC3339))
		case v.Verified != nil:
			a.printf("  time      %s\n  signature good: %s, by %s\n", v.Time.Format(time.RFC3339), updateText(v.Update, v.Variable), v.Signer)
		case v.Time != nil:
			a.printf("  newest    %s, %s, by %s\n", v.Time.Format(time.RFC3339), updateText(v.Update, v.Variable), v.Signer)
		case v.File == "":
			a.printf("  never signed\n")
		}
		for _, e := range v.Entries {
			a.printf("  %-9s %s, owner %s\n", e.Type, e.SHA256, e.Owner)
			switch {
			case e.Error != "":
				a.printf("            unreadable: %s\n", e.Error)
			case e.NotAfter != nil:
				a.printf("            %s, until %s%s\n", e.Subject, e.NotAfter.Format(time.DateOnly), inBrackets(e.Name))
			}
		}
	}
	return nil
}

// inBrackets puts a name of the plan behind a subject.
func inBrackets(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}
