package ca

import (
	"strings"
	"testing"
	"time"
)

// One row for each rule of NewProfile, which it breaks alone.
func TestNewProfileRefuses(t *testing.T) {
	for _, r := range []struct {
		change func(*ProfileConfig)
		want   string
	}{
		{func(c *ProfileConfig) {}, ""},
		{func(c *ProfileConfig) { c.Validity = nil }, `validity: missing`},
		{func(c *ProfileConfig) { c.Validity = ptr("") }, `validity: "" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("0d") }, `validity: "0d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("-1d") }, `validity: "-1d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("36526d") }, `validity: "36526d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("99999999999999999999d") }, `validity: "99999999999999999999d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("10y") }, `validity: "10y" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("10 d") }, `validity: "10 d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.Validity = ptr("+10d") }, `validity: "+10d" is not a number of days from 1d to 36525d`},
		{func(c *ProfileConfig) { c.CA = nil; c.KeyUsage = []string{"digitalSignature"} }, `path_length: only a CA has one (set ca: true)`},
		{func(c *ProfileConfig) { c.PathLength = ptr(-1) }, `path_length: -1 is outside 0 to 10`},
		{func(c *ProfileConfig) { c.PathLength = ptr(11) }, `path_length: 11 is outside 0 to 10`},
		{func(c *ProfileConfig) { c.KeyUsage = nil }, `key_usage: missing`},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"keyCertSign", "sign"} }, `key_usage: "sign" is unknown (RFC 5280, Section 4.2.1.3 has the names)`},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"KeyCertSign"} }, `key_usage: "KeyCertSign" is unknown (RFC 5280, Section 4.2.1.3 has the names)`},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"keyCertSign", "keyCertSign"} }, `key_usage: keyCertSign stands twice`},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"cRLSign"} }, `key_usage: a CA needs keyCertSign`},
		{func(c *ProfileConfig) { c.CA, c.PathLength = ptr(false), nil }, `key_usage: keyCertSign and cRLSign are for a CA (set ca: true)`},
		{func(c *ProfileConfig) {
			c.CA, c.PathLength, c.KeyUsage = nil, nil, []string{"digitalSignature", "cRLSign"}
		}, `key_usage: keyCertSign and cRLSign are for a CA (set ca: true)`},
		{func(c *ProfileConfig) { c.ExtendedKeyUsage = []string{"ServerAuth"} }, `extended_key_usage: "ServerAuth" is neither a name of RFC 5280, Section 4.2.1.12 nor an OID`},
		{func(c *ProfileConfig) { c.ExtendedKeyUsage = []string{"serverAuth", "serverAuth"} }, `extended_key_usage: serverAuth stands twice`},
		{func(c *ProfileConfig) { c.ExtendedKeyUsage = []string{"serverAuth", "1.3.6.1.5.5.7.3.1"} }, `extended_key_usage: 1.3.6.1.5.5.7.3.1 stands twice`},
		{func(c *ProfileConfig) { c.NameConstraints = &NameConstraintsConfig{} }, `name_constraints: neither permitted nor excluded names`},
		{func(c *ProfileConfig) {
			c.CA, c.PathLength, c.KeyUsage = nil, nil, []string{"digitalSignature"}
			c.NameConstraints = &NameConstraintsConfig{Permitted: []string{"dns:a"}}
		}, `name_constraints: only a CA has them (set ca: true)`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("example.com") }, `name_constraints: "example.com" is not KIND:VALUE with dns, email, uri or ip`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dns:") }, `name_constraints: "dns:" is not KIND:VALUE with dns, email, uri or ip`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dns:a..b") }, `name_constraints: "dns:a..b" is not a DNS name`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dns:*.a") }, `name_constraints: "dns:*.a" is not a DNS name`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dns:a\n") }, `name_constraints: "dns:a\n": '\n' is not allowed in a general name`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dns:ä.example") }, `name_constraints: "dns:ä.example": 'ä' is not allowed in a general name`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("email:@a") }, `name_constraints: "email:@a" is not a mail address`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("email:a@b@c") }, `name_constraints: "email:a@b@c" is not a mail address`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("uri:http://a") }, `name_constraints: "uri:http://a": a URI constraint is a host or .domain`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("ip:10.0.0.0") }, `name_constraints: "ip:10.0.0.0" is not an IP network such as 10.0.0.0/8`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("ip:10.0.0.1/8") }, `name_constraints: "ip:10.0.0.1/8" is not an IP network such as 10.0.0.0/8`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("ip:10.0.0.0/33") }, `name_constraints: "ip:10.0.0.0/33" is not an IP network such as 10.0.0.0/8`},
		{func(c *ProfileConfig) { c.NameConstraints = permit("dirname:CN=a") }, `name_constraints: "dirname:CN=a": kind "dirname" is unknown: use dns, email, uri or ip`},
		{func(c *ProfileConfig) { c.NameConstraints = &NameConstraintsConfig{Excluded: []string{"DNS:a"}} }, `name_constraints: "DNS:a": kind "DNS" is unknown: use dns, email, uri or ip`},
		{func(c *ProfileConfig) { c.Policies = []string{"1"} }, `policies: "1" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"1.40"} }, `policies: "1.40" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"3.1"} }, `policies: "3.1" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"1.2.03"} }, `policies: "1.2.03" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"1.2..3"} }, `policies: "1.2..3" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"1.2.99999999999"} }, `policies: "1.2.99999999999" is not an OID`},
		{func(c *ProfileConfig) { c.Policies = []string{"1.2.3", "1.2.3"} }, `policies: 1.2.3 stands twice`},
		{func(c *ProfileConfig) { c.IssuerURLs = []string{"pki.example"} }, `issuer_urls, ocsp_urls: "pki.example" is not an http, https or ldap URL`},
		{func(c *ProfileConfig) { c.OCSPURLs = []string{"http://"} }, `issuer_urls, ocsp_urls: "http://" is not an http, https or ldap URL`},
		{func(c *ProfileConfig) { c.CRLURLs = []string{"file:///etc/crl"} }, `crl_urls: "file:///etc/crl" is not an http, https or ldap URL`},
		{func(c *ProfileConfig) { c.CRLURLs = []string{"http://a.example/ä"} }, `crl_urls: "uri:http://a.example/ä": 'ä' is not allowed in a general name`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "x", DER: "0500"}} }, `extensions[0]: "x" is not an OID`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: "05"}} }, `extensions[0]: der: "05" is not one DER value`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: "05000500"}} }, `extensions[0]: der: "05000500" is not one DER value`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: ""}} }, `extensions[0]: der: "" is not one DER value`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: "xy"}} }, `extensions[0]: der: "xy" is not hexadecimal`},
		{func(c *ProfileConfig) {
			c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: "0500"}, {OID: "1.2.3", DER: "0500"}}
		}, `extensions[1]: oid: 1.2.3 stands twice`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "2.5.29.19", DER: "30030101ff"}} }, `extensions[0]: oid: 2.5.29.19 has a key of its own in the profile`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "2.5.29.17", DER: "3000"}} }, `extensions[0]: oid: 2.5.29.17 has a key of its own in the profile`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "2.5.29.14", DER: "0400"}} }, `extensions[0]: oid: 2.5.29.14 has a key of its own in the profile`},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "2.5.29.35", DER: "3000"}} }, `extensions[0]: oid: 2.5.29.35 has a key of its own in the profile`},
	} {
		c := ProfileConfig{CA: ptr(true), PathLength: ptr(1), Validity: ptr("10d"), KeyUsage: []string{"keyCertSign"}}
		r.change(&c)
		p, err := NewProfile("x", c)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != r.want || (p == nil) != (r.want != "") {
			t.Errorf("got  %s\nwant %s", got, r.want)
		}
	}
}

func permit(name string) *NameConstraintsConfig {
	return &NameConstraintsConfig{Permitted: []string{name}}
}

func TestNewNameRefuses(t *testing.T) {
	for _, r := range []struct {
		s    SubjectConfig
		want string
	}{
		{SubjectConfig{CommonName: "Ä 日本 (x), y"}, ""},
		{SubjectConfig{CommonName: strings.Repeat("ä", 64)}, ""},
		{SubjectConfig{}, `subject.common_name: missing`},
		{SubjectConfig{Country: "DE"}, `subject.common_name: missing`},
		{SubjectConfig{CommonName: strings.Repeat("x", 65)}, `subject.common_name: "` + strings.Repeat("x", 65) + `" has 65 characters, more than 64 (RFC 5280, Appendix A.1)`},
		{SubjectConfig{CommonName: "a\nb"}, `subject.common_name: "a\nb": '\n' can't be shown`},
		{SubjectConfig{CommonName: "a\x00b"}, `subject.common_name: "a\x00b": '\x00' can't be shown`},
		{SubjectConfig{CommonName: "a\u202eb"}, `subject.common_name: "a\u202eb": '\u202e' can't be shown`},
		{SubjectConfig{CommonName: "a\u200bb"}, `subject.common_name: "a\u200bb": '\u200b' can't be shown`},
		{SubjectConfig{CommonName: "a\u0085b"}, `subject.common_name: "a\u0085b": '\u0085' can't be shown`},
		{SubjectConfig{CommonName: " a"}, `subject.common_name: " a" begins or ends with white space`},
		{SubjectConfig{CommonName: "a\t"}, `subject.common_name: "a\t" begins or ends with white space`},
		{SubjectConfig{CommonName: "a\xff"}, `subject.common_name: "a\xff" is not UTF-8`},
		{SubjectConfig{CommonName: "a", Country: "de"}, `subject.country: "de" is not two capital letters`},
		{SubjectConfig{CommonName: "a", Country: "D"}, `subject.country: "D" is not two capital letters`},
		{SubjectConfig{CommonName: "a", Country: "12"}, `subject.country: "12" is not two capital letters`},
		{SubjectConfig{CommonName: "a", Country: "DEU"}, `subject.country: "DEU" has 3 characters, more than 2 (RFC 5280, Appendix A.1)`},
		{SubjectConfig{CommonName: "a", Country: "ÄÖ"}, `subject.country: "ÄÖ": 'Ä' is not allowed in a PrintableString`},
		{SubjectConfig{CommonName: "a", SerialNumber: "a_b"}, `subject.serial_number: "a_b": '_' is not allowed in a PrintableString`},
		{SubjectConfig{CommonName: "a", State: strings.Repeat("x", 129)}, `subject.state: "` + strings.Repeat("x", 129) + `" has 129 characters, more than 128 (RFC 5280, Appendix A.1)`},
		{SubjectConfig{CommonName: "a", Locality: "\r"}, `subject.locality: "\r" begins or ends with white space`},
		{SubjectConfig{CommonName: "a", Organization: "a\rb"}, `subject.organization: "a\rb": '\r' can't be shown`},
		{SubjectConfig{CommonName: "a", OrganizationalUnit: "a\u2028b"}, `subject.organizational_unit: "a\u2028b": '\u2028' can't be shown`},
	} {
		n, err := NewName(r.s)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != r.want || (n == nil) != (r.want != "") {
			t.Errorf("got  %s\nwant %s", got, r.want)
		}
	}
}

func TestNameString(t *testing.T) {
	all := must(NewName(SubjectConfig{Country: "DE", State: "Bayern", Locality: "München", Organization: "a, b", OrganizationalUnit: `"c" + d`, SerialNumber: "1", CommonName: "e=f"}))
	for _, r := range []struct {
		name Name
		want string
	}{
		{all, `C=DE, ST=Bayern, L=München, O=a\, b, OU=\"c\" \+ d, serialNumber=1, CN=e\=f`},
		{dn(), ``},
		{nil, `(malformed name)`},
		{dn("CN=a\x1b[31mb\r\n"), `CN=a\1B[31mb\0D\0A`},
		{dn("CN=a\u202eb"), `CN=a\E2\80\AEb`},
		{dn("CN=a\u0085"), `CN=a\C2\85`},
		{dn("CN=a\xffb"), `CN=a\FFb`},
		{dn("CN=a\\nb"), `CN=a\\nb`},
		{dn("E=a@b"), `1.2.840.113549.1.9.1=a@b`},
		{dn(set(ava("2.5.4.3", 30, "\x00S\x26\x3a"))), `CN=S☺`},
		{dn(set(ava("2.5.4.3", 30, "\x00S\x00"))), `CN=S`},
		{dn(set(ava("2.5.4.3", 20, "\xc4"))), `CN=Ä`},
		{dn(set(ava("2.5.4.3", 28, "\x00\x01\xf6\x00"))), `CN=😀`},
		{dn(set(ava("2.5.4.3", 2, "\x05"))), `CN=\05`},
	} {
		if got := r.name.String(); got != r.want {
			t.Errorf("%x: got %s, want %s", []byte(r.name), got, r.want)
		}
	}
}

func TestSubjectAltNames(t *testing.T) {
	for _, r := range []struct{ name, want string }{
		{"dns:a.example", ""},
		{"dns:*.a.example", ""},
		{"dns:_x.a.example", ""},
		{"ip:10.0.0.1", ""},
		{"ip:2001:db8::1", ""},
		{"email:a@b.example", ""},
		{"uri:UUID:0e4bdf5a-8a4b-4f4f-8d3a-8b0a6c2f6c3d", ""},
		{"uri:https://a.example/?x=y#z", ""},
		{"a.example", `"a.example" is not KIND:VALUE with dns, email, uri or ip`},
		{"dns:.a.example", `"dns:.a.example" is not a DNS name`},
		{"dns:a.*.example", `"dns:a.*.example" is not a DNS name`},
		{"dns:*", `"dns:*" is not a DNS name`},
		{"dns:a.example.", `"dns:a.example." is not a DNS name`},
		{"dns:-a", `"dns:-a" is not a DNS name`},
		{"dns:" + strings.Repeat("a", 64), `"dns:` + strings.Repeat("a", 64) + `" is not a DNS name`},
		{"ip:10.0.0.0/8", `"ip:10.0.0.0/8" is not an IP address`},
		{"ip:010.0.0.1", `"ip:010.0.0.1" is not an IP address`},
		{"ip:fe80::1%eth0", `"ip:fe80::1%eth0" is not an IP address`},
		{"email:example.com", `"email:example.com" is not a mail address`},
		{"uri:a", `"uri:a" is not a URI`},
		{"uri:%zz:a", `"uri:%zz:a" is not a URI`},
		{"rid:1.2.3", `"rid:1.2.3": kind "rid" is unknown: use dns, email, uri or ip`},
	} {
		got := ""
		if err := CheckSubjectAltNames([]string{"dns:ok.example", r.name}); err != nil {
			got = err.Error()
		}
		if got != r.want {
			t.Errorf("got  %s\nwant %s", got, r.want)
		}
	}
}

func TestMerge(t *testing.T) {
	base := ProfileConfig{CA: ptr(true), PathLength: ptr(1), Validity: ptr("10d"), KeyUsage: []string{"keyCertSign"}, Policies: []string{"1.2.3"}}
	over := ProfileConfig{CA: ptr(false), Validity: ptr("5d"), KeyUsage: []string{"cRLSign"}, Policies: []string{}, ExtendedKeyUsage: []string{"serverAuth"},
		NameConstraints: &NameConstraintsConfig{}, IssuerURLs: []string{"a"}, OCSPURLs: []string{"b"}, CRLURLs: []string{"c"}, Extensions: []ExtensionConfig{}}
	m := base.Merge(over)
	if *m.CA || *m.PathLength != 1 || *m.Validity != "5d" || m.KeyUsage[0] != "cRLSign" || len(m.Policies) != 0 || len(m.ExtendedKeyUsage) != 1 ||
		m.NameConstraints == nil || len(m.IssuerURLs)+len(m.OCSPURLs)+len(m.CRLURLs) != 3 || m.Extensions == nil {
		t.Errorf("%+v", m)
	}
	if !*base.CA || *base.Validity != "10d" || len(base.Policies) != 1 {
		t.Errorf("Merge changed its receiver: %+v", base)
	}
	if m := base.Merge(ProfileConfig{}); *m.Validity != "10d" || len(m.Policies) != 1 {
		t.Errorf("nothing laid over: %+v", m)
	}
	s := SubjectConfig{Country: "DE", CommonName: "a"}.Merge(SubjectConfig{CommonName: "b", State: "c"})
	if s != (SubjectConfig{Country: "DE", State: "c", CommonName: "b"}) {
		t.Errorf("%+v", s)
	}
}

func TestDrift(t *testing.T) {
	root := authority(t, nil, rootProfile(), "Root", testKey("p256/drift"))
	config := ProfileConfig{Validity: ptr("100d"), KeyUsage: []string{"digitalSignature"}, ExtendedKeyUsage: []string{"serverAuth"}, OCSPURLs: []string{"http://a.example"}}
	names := []string{"dns:a.example", "ip:10.0.0.1"}
	cert := issue(t, root, must(NewProfile("x", config)), Request{Name: "x", Subject: testName("X"), PublicKey: testKey("p256/drift leaf").Public(), NotBefore: testFrom, SubjectAltNames: names})
	for _, r := range []struct {
		change func(*ProfileConfig)
		names  []string
		want   string
	}{
		{func(c *ProfileConfig) {}, names, ""},
		{func(c *ProfileConfig) { c.Validity = ptr("99d") }, names, "validity was 100d"},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"digitalSignature", "nonRepudiation"} }, names, "extension 2.5.29.15 changed"},
		{func(c *ProfileConfig) { c.KeyUsage = []string{"digitalSignature", "keyEncipherment"} }, names, ""}, // of which a P-256 key has no use
		{func(c *ProfileConfig) { c.CA, c.KeyUsage = ptr(true), []string{"keyCertSign"} }, names, "extension 2.5.29.19 changed"},
		{func(c *ProfileConfig) { c.ExtendedKeyUsage = nil }, names, "it has extensions that the profile no longer has"},
		{func(c *ProfileConfig) { c.CRLURLs = []string{"http://a.example/crl"} }, names, "extension 2.5.29.31 changed"},
		{func(c *ProfileConfig) { c.OCSPURLs = []string{"http://b.example"} }, names, "extension 1.3.6.1.5.5.7.1.1 changed"},
		{func(c *ProfileConfig) { c.Extensions = []ExtensionConfig{{OID: "1.2.3", DER: "0500"}} }, names, "extension 1.2.3 changed"},
		{func(c *ProfileConfig) {}, nil, "it has extensions that the profile no longer has"},
		{func(c *ProfileConfig) {}, names[:1], "extension 2.5.29.17 changed"},
		{func(c *ProfileConfig) {}, []string{names[1], names[0]}, "extension 2.5.29.17 changed"},
	} {
		c := config
		r.change(&c)
		if got := must(NewProfile("x", c)).Drift(cert, r.names); got != r.want {
			t.Errorf("got %q, want %q", got, r.want)
		}
	}
}

func TestPermits(t *testing.T) {
	p := must(NewProfile("x", ProfileConfig{CA: ptr(true), Validity: ptr("10d"), KeyUsage: []string{"keyCertSign"},
		NameConstraints: &NameConstraintsConfig{Permitted: []string{"dns:example.com"}, Excluded: []string{"ip:10.0.0.0/8"}}}))
	for _, r := range []struct {
		cn    string
		names []string
		leaf  bool
		want  string
	}{
		{"A device", nil, true, ""},
		{"A device", []string{"dns:www.example.com", "ip:192.168.0.1"}, true, ""},
		{"A device", []string{"ip:10.0.0.1"}, true, "the name 10.0.0.1 is excluded"},
		{"a.example.org", nil, true, "the name a.example.org is not among the permitted ones"},
		{"a.example.org", nil, false, ""},
		{"a.example.org", []string{"dns:example.com"}, true, ""},
		{"A device", []string{"dns:example.org"}, true, "the name example.org is not among the permitted ones"},
	} {
		got := ""
		if err := p.Permits(testName(r.cn), r.names, r.leaf); err != nil {
			got = err.Error()
		}
		if got != r.want {
			t.Errorf("%s %v: got %q, want %q", r.cn, r.names, got, r.want)
		}
	}
	if err := leafProfile().Permits(testName("a"), nil, true); err != nil {
		t.Errorf("no constraints: %v", err)
	}
}

func TestParseValidity(t *testing.T) {
	if d, err := ParseValidity("36525d"); err != nil || d != 36525*24*time.Hour {
		t.Errorf("%v, %v", d, err)
	}
}
