package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

// device is a profile below the CA "guest" of the plan small.
const device = `  device:
    issuer: guest
    validity: 1000d
    key_usage: [digitalSignature]
    subject: {organization: Line, organizational_unit: Devices}
    key: rsa:2048
    place: "file:users/{name}.key"
    request:
      subject: [common_name, serial_number]
      uuid: required
      subject_alt_names: [dns]
      extensions: drop
      allow_list: factory.csv
      compromised_keys: weak.txt
`

func withDevice(old, new string) string {
	return strings.Replace(small, "authorities:\n  root:", strings.Replace(device, old, new, 1)+"authorities:\n  root:", 1)
}

func TestLoadIssuance(t *testing.T) {
	p, err := Load("pki.yaml", []byte(withDevice("", "")))
	if err != nil {
		t.Fatal(err)
	}
	i, err := p.Issuance("device")
	if err != nil || len(p.Issued) != 1 {
		t.Fatal(err, len(p.Issued))
	}
	if i.Name != "device" || i.Issuer != p.Entry("guest") || i.Profile.Name() != "device" || i.AllowList != "factory.csv" || i.CompromisedKeys != "weak.txt" {
		t.Errorf("%+v", i)
	}
	if want := (ca.SubjectConfig{Country: "DE", Organization: "Line", OrganizationalUnit: "Devices"}); i.Subject != want {
		t.Errorf("subject %+v", i.Subject)
	}
	if i.Request == nil || i.Request.UUID() != ca.UUIDRequired {
		t.Errorf("request %+v", i.Request)
	}
	// What is said for the hierarchy holds here too.
	if i.NoPassphrase || i.Passphrase != (keys.Source{Env: "SECRET", Optional: true}) || i.KeyType != (spki.KeyType{Kind: spki.RSA, Bits: 2048}) {
		t.Errorf("key %+v", i)
	}
	if uri, err := i.Key("alice"); err != nil || uri.String() != "file:users/alice.key" {
		t.Errorf("key at %v, %v", uri, err)
	}
	if _, err := i.Key("../alice"); err == nil {
		t.Error("a name that leads elsewhere was taken")
	}
	if _, err := p.Issuance("signer"); err == nil || err.Error() != `profile "signer" issues nothing outside the entries of the plan: the profiles with an issuer are device` {
		t.Error(err)
	}
	// A plan from before there were such profiles still loads, and says what it lacks.
	if p, err = Load("pki.yaml", []byte(small)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Issuance("device"); err == nil || !strings.Contains(err.Error(), "profiles.device.issuer: missing in the plan") {
		t.Error(err)
	}
}

// The built-in plans issue devices and users from requests, and more of what the
// customer side needs.
func TestBuiltInIssuances(t *testing.T) {
	for _, name := range []string{Development, Production} {
		p, err := Load(FileName, must(Template(name, must(spki.ParseKeyType("rsa:2048")), "")))
		if err != nil {
			t.Fatal(err)
		}
		if got := sortedKeys(p.Issued); !slices.Equal(got, []string{"backend", "device", "ocsp", "user"}) {
			t.Errorf("%s issues %v", name, got)
		}
		device := p.Issued["device"]
		if device.Issuer.Name != "device_subca" || device.Request.UUID() != ca.UUIDRequired {
			t.Errorf("%s: %+v", name, device)
		}
		if _, err := device.Key("x"); err == nil || !strings.Contains(err.Error(), "profiles.device.key: missing") {
			t.Error(err)
		}
		// The platform wraps the keys of containers with a softtoken's, which must be rsaEncryption.
		if user := p.Issued["user"]; user.Issuer.Name != "user_subca" || user.KeyType.Kind != spki.RSA {
			t.Errorf("%s: %+v", name, user)
		}
	}
}

func TestLoadIssuanceRefuses(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"a request without issuer", "    issuer: guest\n", "",
			"pki.yaml:33: profiles.device.request: the profile has no issuer: name the authority that signs such certificates"},
		{"a dangling issuer", "issuer: guest", "issuer: guests",
			`pki.yaml:28: profiles.device.issuer: "guests" is not under authorities`},
		{"a certificate as issuer", "issuer: guest", "issuer: kernel",
			`pki.yaml:28: profiles.device.issuer: "kernel" is not under authorities`},
		{"an anchor as issuer", "issuer: guest", "issuer: twin",
			`pki.yaml:28: profiles.device.issuer: "twin" is not under authorities`},
		{"a profile of CAs", "    validity: 1000d\n    key_usage: [digitalSignature]\n", "    ca: true\n    validity: 1000d\n    key_usage: [keyCertSign]\n",
			"pki.yaml:28: profiles.device.issuer: a CA is an entry under authorities, and no issuer stands in its profile"},
		{"a signer of artifacts", "    request:\n", "    signs: [guestos]\n    request:\n",
			"pki.yaml:34: profiles.device.signs: what signs artifacts is an entry under certificates, and no issuer stands in its profile"},
		{"a name with a slash", "  device:\n", "  \"a/b\":\n",
			`pki.yaml:27: profiles.a/b: "a/b" is not a name of letters, digits, _ and -, as a profile with an issuer needs it`},
		{"outliving the issuer", "1000d", "2191d",
			`pki.yaml:29: profiles.device.validity: 2191d outlives issuer "guest" (2190d)`},
		{"no validity", "    validity: 1000d\n", "",
			"pki.yaml:27: profiles.device.validity: missing"},
		{"a subject that no name can hold", "organization: Line", "country: D",
			`pki.yaml:31: profiles.device.subject.country: "D" is not two capital letters`},
		{"an unknown key type", "key: rsa:2048", "key: rsa:1024",
			`pki.yaml:32: profiles.device.key: key type "rsa:1024": the size must be 2048, 3072 or 4096`},
		{"one place for all keys", "users/{name}.key", "users/user.key",
			`pki.yaml:33: profiles.device.place: "file:users/user.key" is without {name}, but each certificate has a key of its own`},
		{"a bad place", "file:users/{name}.key", "file:../{name}.key",
			`pki.yaml:33: profiles.device.place: key URI: file: path "../name.key" has an empty, "." or ".." segment`},
		{"an unknown subject field", "[common_name, serial_number]", "[common_name, email]",
			`pki.yaml:35: profiles.device.request.subject: "email" is unknown: use country, state, locality, organization, organizational_unit, serial_number, common_name`},
		{"a subject field twice", "[common_name, serial_number]", "[common_name, common_name]",
			`pki.yaml:35: profiles.device.request.subject: "common_name" stands twice`},
		{"an unknown rule for UUIDs", "uuid: required", "uuid: yes",
			`pki.yaml:36: profiles.device.request.uuid: "yes" is unknown: use required, optional or none`},
		{"an unknown kind of name", "[dns]", "[dirname]",
			`pki.yaml:37: profiles.device.request.subject_alt_names: "dirname" is unknown: use dns, email, uri or ip`},
		{"a kind of name twice", "[dns]", "[dns, ip, dns]",
			`pki.yaml:37: profiles.device.request.subject_alt_names: "dns" stands twice`},
		{"an unknown rule for extensions", "extensions: drop", "extensions: copy",
			`pki.yaml:38: profiles.device.request.extensions: "copy" is unknown: use drop or refuse`},
		{"an unknown key", "allow_list:", "allowlist:",
			`pki.yaml:39: profiles.device.request.allowlist: unknown field "allowlist"`},
	} {
		_, err := Load("pki.yaml", []byte(withDevice(row.old, row.new)))
		if err == nil || err.Error() != row.want {
			t.Errorf("%s:\n got %v\nwant %s", row.name, err, row.want)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: not an *Error", row.name)
		}
	}
}
