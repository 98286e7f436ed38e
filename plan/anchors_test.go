package plan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// anchorLines says of each anchor of a consumer: name, file, warnings.
func anchorLines(p *PKI, c Consumer) []string {
	var out []string
	for _, a := range p.TrustAnchors(c) {
		line := a.Name
		if a.Variable != nil {
			line += " in " + a.Variable.ID()
		}
		if a.File != "" {
			line += " " + strings.Replace(a.File, "guestos/"+registeredName(a.Certificate), "guestos/ca/SHA1", 1)
		}
		if len(a.Warnings) > 0 {
			first, _, _ := strings.Cut(a.Warnings[0], ":")
			line += " ! " + first
		}
		out = append(out, line)
	}
	return out
}

func TestTrustAnchors(t *testing.T) {
	load := func(name string, replace ...string) *Plan {
		text := string(must(Template(name, DefaultKeyType(), "")))
		changed := strings.NewReplacer(replace...).Replace(text)
		if len(replace) > 0 && changed == text {
			t.Fatalf("nothing replaced by %q", replace)
		}
		return must(Load(FileName, []byte(strings.ReplaceAll(changed, ":4096", ":2048")))) // RSA-4096 takes long
	}
	const twin = "  guestos_anchor: {twin_of: guestos_subca}\n"
	const publishTwin = "  guestos_anchor.cert: {of: guestos_anchor, as: certificate}\n"
	noTwin := []string{"anchors:\n" + twin, "", publishTwin, ""}
	guestos := "  guestos_debos: # one certificate for each GuestOS: add yours like this one\n    issuer: guestos_subca\n    profile: guestos\n    key: rsa-pss:4096\n    subject: {common_name: GuestOS debos}\n"
	noGuestOS := []string{guestos, "", "  guestos_debos.cert: {of: guestos_debos, as: chain-without-root}\n", ""}
	for _, row := range []struct {
		name string
		plan *Plan
		uefi bool
		of   Consumer
		want []string
	}{
		{"development", load(Development), true, ForEFI, []string{"PK in PK efi/PK.esl", "KEK in KEK efi/KEK.esl", "DB in db efi/DB.esl", "ssig_subca in db efi/DB.esl"}},
		{"no UEFI part yet", load(Development), false, ForEFI, []string{"ssig_subca in db ! variable db is not made yet"}},
		{"no base set", load(Development, "create: on-request", "create: never"), false, ForEFI, nil},
		{"a root in db", load(Development, "[DB, ssig_subca]", "[ssig_rootca]"), true, ForEFI, []string{"PK in PK efi/PK.esl", "KEK in KEK efi/KEK.esl", "ssig_rootca in db efi/DB.esl ! wider than its purpose"}},
		{"development", load(Development), true, ForKernel, []string{"ssig_subca kernel/system_trusted_keys.pem", "ssig kernel/system_trusted_keys.pem", "ssig_rootca kernel/system_trusted_keys.pem"}},
		{"production", load(Production), true, ForKernel, []string{"ssig_modules kernel/system_trusted_keys.pem", "ssig_subca_modules kernel/system_trusted_keys.pem", "ssig_rootca kernel/system_trusted_keys.pem"}},
		{"production", load(Production), true, ForIMA, []string{"ssig_modules ima/x509_ima.der"}},
		{"development", load(Development), true, ForDevice, []string{"ssig_rootca device/ssig_rootca.cert"}},
		{"production", load(Production), true, ForDevice, []string{"ssig_rootca device/ssig_rootca.cert"}},
		{"development", load(Development), true, ForGuestOS, []string{"guestos_anchor guestos/ca/SHA1"}},
		{"production", load(Production), true, ForGuestOS, []string{"guestos_anchor guestos/ca/SHA1"}},
		{"no twin", load(Production, noTwin...), true, ForGuestOS, []string{"gen_rootca guestos/ca/SHA1 ! wider than its purpose"}},
		{"no GuestOS yet", load(Production, noGuestOS...), true, ForGuestOS, []string{"guestos_anchor guestos/ca/SHA1"}},
		{"a twin for others", load(Production, twin, twin+"  d: {twin_of: device_subca}\n  b: {twin_of: backend_subca}\n"), true, ForGuestOS, []string{"guestos_anchor guestos/ca/SHA1"}},
		{"a twin in the base system", load(Production, twin, twin+"  a: {twin_of: ssig_subca_core}\n"), true, ForDevice,
			[]string{"ssig_rootca device/ssig_rootca.cert", "a device/ssig_rootca.cert"}},
		{"development", load(Development), true, ForBackend, []string{"device_subca backend/device_subca.pem", "user_subca backend/user_subca.pem", "gen_rootca backend/gen_rootca.pem ! wider than one purpose"}},
		{"unknown", load(Development), true, "bios", nil},
	} {
		p := &PKI{Plan: row.plan, Have: complete(row.plan, row.uefi)}
		if got := anchorLines(p, row.of); !slices.Equal(got, row.want) {
			t.Errorf("%s, %s:\n got %q\nwant %q", row.name, row.of, got, row.want)
		}
	}
}

// Every anchor that has a file is in it, and says what it lets in.
func TestTrustAnchorsSay(t *testing.T) {
	for _, name := range []string{Development, Production} {
		text := must(Template(name, DefaultKeyType(), ""))
		p := must(Load(FileName, bytes.ReplaceAll(text, []byte(":4096"), []byte(":2048"))))
		pki := &PKI{Plan: p, Have: complete(p, true)}
		for _, c := range Consumers() {
			anchors := pki.TrustAnchors(c)
			if len(anchors) == 0 {
				t.Errorf("%s: none for %s", name, c)
			}
			for _, a := range anchors {
				if a.LetsIn == "" || a.Consumer != c || a.File == "" || a.Certificate == nil {
					t.Errorf("%s: %s: %+v", name, c, a)
				}
			}
		}
		// What nobody has made yet, nobody can trust.
		none := &PKI{Plan: p}
		for _, c := range Consumers() {
			if list := none.TrustAnchors(c); len(list) > 0 {
				t.Errorf("%s: %s before anything is made: %s", name, c, fmt.Sprint(list))
			}
		}
	}
}
