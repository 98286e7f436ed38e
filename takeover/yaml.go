package takeover

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

// hierarchies are the names of the platform's.
var hierarchies = map[string]string{"ssig_rootca": "software signing", "gen_rootca": "customer"}

// signing says what the platform's signers sign, and with which keys that can be
// verified.
var signing = map[string]struct {
	artifacts []string
	pss       bool
}{
	"ssig":     {[]string{"efi", "module", "ima"}, false},
	"ssig_cml": {[]string{"guestos", "container"}, true},
}

// planText writes the plan that describes what was found. Entries whose names are
// in asIssued stay as they are.
func (f *Found) planText(env string, asIssued map[string]bool) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# pki.yaml: made by \"tmpki import\" of what it found. as_issued: the certificate\n")
	p("# stays as it is; without it, \"tmpki apply\" issues it again as its profile says.\n")
	p("version: 1\nplan: imported\n\nsubject: {}\n\n")
	rsa := []string{"rsa:2048", "rsa:3072", "rsa:4096"}
	pss := append(slices.Clone(rsa), "rsa-pss:2048", "rsa-pss:3072", "rsa-pss:4096")
	p("targets:\n")
	p("  uefi: {signers: %s, authorities: %s}\n", flow(rsa), flow(rsa))
	p("  kernel: {signers: %s, authorities: %s}\n", flow(rsa), flow(rsa))
	p("  cmld: {signers: %s, authorities: %s}\n\n", flow(pss), flow(append(slices.Clone(pss), "ec:P-256", "ec:P-384", "ec:P-521", "ed25519")))
	p("keys:\n  place: \"file:{name}.key\"\n  passphrase: {env: %s, prompt: true}\n\nhierarchies:\n", env)
	for _, c := range f.entries {
		if c.issuer == nil && c.twin == nil {
			p("  %s: {}\n", quote(c.hierarchy()))
		}
	}
	profiles, bodies, order := f.profiles()
	p("\nprofiles:\n")
	for _, name := range order {
		p("  %s: %s\n", name, bodies[name])
	}
	if f.uefi != nil {
		p("  %s: %s\n", platformProfile, f.platformProfileText())
	}
	p("%s", f.requests())
	for _, section := range []struct {
		title string
		ca    bool
	}{{"authorities", true}, {"certificates", false}} {
		first := true
		for _, c := range f.entries {
			if c.twin != nil || c.authority() != section.ca {
				continue
			}
			if first {
				p("\n%s:\n", section.title)
				first = false
			}
			p("%s", c.entry(profiles[c], env, asIssued[c.name]))
		}
	}
	if twins := f.twins(); len(twins) > 0 {
		p("\nanchors:\n")
		for _, c := range twins {
			p("  %s: {twin_of: %s}\n", c.name, c.twin.name)
		}
	}
	signers := ""
	byDB := f.uefi != nil && f.uefi.efiByDB
	if byDB {
		signers = fmt.Sprintf("  efi: %s\n", f.uefi.keys[2].name)
	}
	for _, c := range f.entries {
		for _, artifact := range c.signs() {
			if artifact == "efi" && byDB {
				continue
			}
			signers += fmt.Sprintf("  %s: %s\n", artifact, c.name)
		}
	}
	if signers != "" {
		p("\nsigners:\n%s", signers)
	}
	if f.uefi != nil {
		p("%s", f.uefiText(env, asIssued))
	}
	p("\npublish:\n")
	for _, c := range f.entries {
		form := "chain"
		switch {
		case c.issuer == nil:
			form = "certificate"
		case c.name == "ssig_cml":
			form = "chain-without-root"
		}
		p("  %s.cert: {of: %s, as: %s}\n", c.name, c.name, form)
		if c.name == "ssig" {
			p("  certs/signing_key.x509: {of: ssig, as: der}\n")
		}
	}
	if f.uefi != nil {
		p("%s", f.uefiPublished())
	}
	return []byte(b.String())
}

func (f *Found) twins() (out []*certificate) {
	for _, c := range f.entries {
		if c.twin != nil {
			out = append(out, c)
		}
	}
	return out
}

// authority reports whether a certificate is one of a CA, as far as it says so.
func (c *certificate) authority() bool { return c.IsCA || c.Version < 3 && c.issuer == nil }

func (c *certificate) hierarchy() string {
	if name := hierarchies[c.name]; name != "" {
		return name
	}
	return c.name
}

// entry writes one entry of the plan.
func (c *certificate) entry(profile, env string, asIssued bool) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("  %s: # %s\n", c.name, ca.Printable(c.Subject().String()))
	switch {
	case c.platform:
	case c.issuer == nil:
		p("    hierarchy: %s\n", quote(c.hierarchy()))
	default:
		p("    issuer: %s\n", c.issuer.name)
	}
	p("    profile: %s\n    key: %s\n", profile, c.KeyType())
	p("%s", c.subject())
	if names := c.altNames(); len(names) > 0 {
		p("    subject_alt_names: %s\n", flow(names))
	}
	switch {
	case c.key == nil:
		p("    custody: offline\n    place: \"file:offline/%s.key\"\n", c.name)
	case c.key.uri != (keys.URI{}):
		p("    place: %s\n", quote(c.key.uri.String()))
	}
	if c.key != nil && !c.key.encrypted && c.key.uri.Scheme != keys.SchemePKCS11 {
		p("    passphrase: {none: true}\n")
	}
	if s := c.signs(); len(s) > 0 {
		p("    signs: %s\n", flow(s))
	}
	if asIssued {
		p("    as_issued: true\n")
	}
	return b.String()
}

// subject writes a subject in words, if that gives the same octets.
func (c *certificate) subject() string {
	n := c.Certificate.Certificate.Subject
	s := ca.SubjectConfig{CommonName: n.CommonName, SerialNumber: n.SerialNumber}
	var parts []string
	for _, f := range []struct {
		key    string
		field  *string
		values []string
	}{
		{"country", &s.Country, n.Country},
		{"state", &s.State, n.Province},
		{"locality", &s.Locality, n.Locality},
		{"organization", &s.Organization, n.Organization},
		{"organizational_unit", &s.OrganizationalUnit, n.OrganizationalUnit},
		{"serial_number", &s.SerialNumber, []string{n.SerialNumber}},
		{"common_name", &s.CommonName, []string{n.CommonName}},
	} {
		if len(f.values) > 0 && f.values[0] != "" {
			*f.field = f.values[0]
			parts = append(parts, f.key+": "+quote(f.values[0]))
		}
	}
	if is, err := ca.NewName(s); err == nil && bytes.Equal(is, c.RawSubject) {
		return fmt.Sprintf("    subject: {%s}\n", strings.Join(parts, ", "))
	}
	return fmt.Sprintf("    subject_der: \"%x\"\n", c.RawSubject)
}

// signs returns what a signer of the platform signs, if it can be verified.
func (c *certificate) signs() []string {
	s, ok := signing[c.name]
	if c.signsImages {
		return []string{"efi"}
	}
	if !ok || c.authority() {
		return nil
	}
	for up := c; up != nil; up = up.issuer {
		k := up.KeyType()
		known := k.Kind == spki.RSA || s.pss && (k.Kind == spki.RSAPSS || up != c)
		if !known || k.Kind != spki.EC && k.Kind != spki.Ed25519 && k.Bits != 2048 && k.Bits != 3072 && k.Bits != 4096 {
			return nil
		}
	}
	return s.artifacts
}

// altNames returns the alternative names, if a plan can say all of them.
func (c *certificate) altNames() []string {
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, "dns:"+n)
	}
	for _, n := range c.EmailAddresses {
		names = append(names, "email:"+n)
	}
	for _, n := range c.IPAddresses {
		names = append(names, "ip:"+n.String())
	}
	for _, n := range c.URIs {
		names = append(names, "uri:"+n.String())
	}
	if ca.CheckSubjectAltNames(names) != nil {
		return nil
	}
	return names
}

// profiles derives what the certificates have in common: a name for each of the
// entries, and the profiles' texts.
func (f *Found) profiles() (of map[*certificate]string, bodies map[string]string, order []string) {
	of, bodies = map[*certificate]string{}, map[string]string{}
	names := map[string]string{} // by text
	days, limits := map[*certificate]int{}, map[*certificate]int{}
	for _, c := range f.entries { // issuers first
		if c.twin != nil {
			continue
		}
		days[c] = max(1, min(int(c.NotAfter.Sub(c.NotBefore).Hours()/24), 36525))
		limits[c] = -1
		if c.MaxPathLen > 0 || c.MaxPathLenZero {
			limits[c] = min(c.MaxPathLen, 10)
		}
		if c.issuer != nil { // a plan refuses what outlives its issuer
			days[c] = min(days[c], days[c.issuer])
			if l := limits[c.issuer]; l > 0 && (limits[c] < 0 || limits[c] >= l) {
				limits[c] = l - 1
			}
		}
		text := c.profileText(days[c], limits[c])
		name := names[text]
		if name == "" {
			base := "leaf"
			switch {
			case c.authority() && c.issuer == nil:
				base = "root"
			case c.authority():
				base = "subca"
			}
			name = base
			for n := 2; bodies[name] != ""; n++ {
				name = fmt.Sprintf("%s%d", base, n)
			}
			names[text], bodies[name] = name, text
			order = append(order, name)
		}
		of[c] = name
	}
	return of, bodies, order
}

// profileText is a profile in YAML's flow form. What a certificate should not have
// had, such as URLs of localhost, is not in it.
func (c *certificate) profileText(days, limit int) string {
	var usage []string
	for _, name := range ca.KeyUsageNames(c.KeyUsage) {
		if forCA := name == "keyCertSign" || name == "cRLSign"; c.authority() || !forCA {
			usage = append(usage, name)
		}
	}
	if c.authority() && !slices.Contains(usage, "keyCertSign") {
		usage = []string{"keyCertSign", "cRLSign"}
	}
	if len(usage) == 0 {
		usage = []string{"digitalSignature"}
	}
	parts := []string{fmt.Sprintf("validity: %dd", days), "key_usage: " + flow(usage)}
	if c.authority() {
		parts = append([]string{"ca: true"}, parts...)
		if limit >= 0 {
			parts = append(parts, fmt.Sprintf("path_length: %d", limit))
		}
	}
	if purposes := c.purposes(); len(purposes) > 0 {
		parts = append(parts, "extended_key_usage: "+flow(purposes))
	}
	for _, urls := range []struct {
		key  string
		list []string
	}{{"ocsp_urls", c.OCSPServer}, {"issuer_urls", c.IssuingCertificateURL}, {"crl_urls", c.CRLDistributionPoints}} {
		if list := usable(urls.list); len(list) > 0 {
			parts = append(parts, urls.key+": "+flow(list))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// purposes returns the extended key usages, as a plan has them.
func (c *certificate) purposes() (out []string) {
	known := map[x509.ExtKeyUsage]string{
		x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth", x509.ExtKeyUsageCodeSigning: "codeSigning",
		x509.ExtKeyUsageEmailProtection: "emailProtection", x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
	}
	for _, u := range c.ExtKeyUsage {
		if name := known[u]; name != "" {
			out = append(out, name)
		}
	}
	for _, oid := range c.UnknownExtKeyUsage {
		out = append(out, asn1.ObjectIdentifier(oid).String())
	}
	return out
}

// usable returns the URLs that a plan takes and that lead anywhere.
func usable(urls []string) (out []string) {
	for _, u := range urls {
		if (strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")) && !localhost(u) && !strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r > '~' || r == '{' }) {
			out = append(out, u)
		}
	}
	return out
}

func localhost(u string) bool {
	return strings.Contains(u, "://localhost") || strings.Contains(u, "://127.") || strings.Contains(u, "://[::1]")
}

// requests are profiles for what the platform's sub CAs issue on request.
func (f *Found) requests() string {
	var b strings.Builder
	for _, r := range []struct{ issuer, text string }{
		{"device_subca", "  device: {issuer: device_subca, validity: %dd, key_usage: [digitalSignature], extended_key_usage: [clientAuth], request: {subject: [common_name, serial_number], uuid: required, extensions: drop}}\n"},
		{"user_subca", "  user: {issuer: user_subca, validity: %dd, key_usage: [digitalSignature], extended_key_usage: [clientAuth], key: \"rsa:4096\", request: {subject: [common_name], subject_alt_names: [email], extensions: refuse}}\n"},
	} {
		for _, c := range f.entries {
			if c.name == r.issuer && c.key != nil && c.authority() {
				fmt.Fprintf(&b, r.text, min(365, max(1, int(c.NotAfter.Sub(c.NotBefore).Hours()/24))))
			}
		}
	}
	return b.String()
}

// quote makes a YAML string that is nothing else: JSON's are.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func flow(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
