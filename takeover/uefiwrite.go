package takeover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
	"tmpki/uefi"
)

// platformProfile is the profile of PK, KEK and DB.
const platformProfile = "platform_key"

func (f *Found) platformProfileText() string {
	days := 1
	for _, c := range f.platformKeys() {
		days = max(days, min(int(c.NotAfter.Sub(c.NotBefore).Hours()/24), 36525))
	}
	return fmt.Sprintf("{validity: %dd, key_usage: [\"digitalSignature\"]}", days)
}

// uefiText is the section uefi of the plan.
func (f *Found) uefiText(env string, asIssued map[string]bool) string {
	u := f.uefi
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("\nuefi:\n  create: always\n  owner: %s\n  keys:\n", quote(u.owner.String()))
	for _, c := range f.platformKeys() {
		for line := range strings.Lines(c.entry(platformProfile, env, asIssued[c.name])) {
			p("  %s", line)
		}
	}
	p("  variables:\n")
	for _, v := range u.variables {
		var names, files []string
		for _, c := range v.ours {
			names = append(names, c.name)
		}
		for _, o := range v.vendors {
			files = append(files, o.file)
		}
		p("    %s: {certificates: %s, ", v.Name, flow(names))
		if len(files) > 0 {
			p("files: %s, ", flow(files))
		}
		p("signer: %s}\n", v.signer.name)
	}
	return b.String()
}

// uefiPublished are the lines of the plan with the files that the platform's build
// expects of UEFI keys. DB.auth comes last: it says that all are there.
func (f *Found) uefiPublished() string {
	u := f.uefi
	var b strings.Builder
	for i, v := range u.variables {
		fmt.Fprintf(&b, "  %s.crt: {of: %s, as: certificate}\n", v.stem, v.own.name)
		if i == 0 {
			fmt.Fprintf(&b, "  PK.cer: {of: %s, as: der}\n", v.own.name)
		}
	}
	for _, c := range f.entries {
		if c.name == "ssig_subca" && uefi.CheckKeyType(c.KeyType()) == nil {
			b.WriteString("  ssig_subca.esl: {of: ssig_subca, as: esl}\n")
		}
	}
	for _, v := range u.variables {
		fmt.Fprintf(&b, "  %s.esl: {variable: %s, as: esl}\n  %s.auth: {variable: %s, as: auth}\n", v.stem, v.Name, v.stem, v.Name)
	}
	return b.String()
}

// copyVendors writes the certificates of others that are in the variables.
func (f *Found) copyVendors(dir string) error {
	if f.uefi == nil || len(f.uefi.vendors) == 0 {
		return nil
	}
	if err := os.Mkdir(filepath.Join(dir, "vendor"), 0o700); err != nil {
		return err
	}
	for _, o := range f.uefi.vendors {
		if err := durable.CreateFile(filepath.Join(dir, filepath.FromSlash(o.file)), o.Raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// recordUEFI records what was signed for the firmware, so that all that is signed
// from now on has a later time.
func (f *Found) recordUEFI(ctx context.Context, p *plan.PKI, db *store.DB, o plan.Options, result *Result) error {
	if f.uefi == nil {
		return nil
	}
	for _, v := range f.uefi.variables {
		if v.resign != "" {
			result.Signed = append(result.Signed, v.Name)
		}
		if v.raw == nil {
			continue
		}
		var by *plan.Entry
		var certificate *ca.Certificate
		if v.by != nil {
			by, certificate = p.Plan.Entry(v.by.name), v.by.Certificate
		}
		i := slices.IndexFunc(p.Plan.UEFI.Variables, func(is *plan.Variable) bool { return is.Name == v.Name })
		if err := plan.RecordUpdate(ctx, db, p.Plan.UEFI.Variables[i], v.mode, v.raw, by, certificate, o.Actor); err != nil {
			return err
		}
		result.Variables++
	}
	return nil
}

// resigns reports whether a step is one that the findings have told.
func (f *Found) resigns(s plan.Step) bool {
	return f.uefi != nil && s.Kind == plan.SignVariable && slices.ContainsFunc(f.uefi.variables, func(v *variable) bool { return v.Name == s.Variable.Name && v.resign != "" })
}
