package plan

import (
	"errors"
	"strings"
	"testing"

	"tmpki/keys"
	"tmpki/spki"
)

// small is a plan with one of everything. Rows below change one line of it.
const small = `version: 1
plan: small
subject:
  country: DE
  organization: Test
targets:
  uefi:
    signers: [rsa:2048]
    authorities: [rsa:2048]
  kernel:
    signers: [rsa:2048]
    authorities: [rsa:2048]
  cmld:
    signers: [rsa:2048, rsa-pss:2048]
    authorities: [rsa:2048, rsa-pss:2048, ec:P-256]
keys:
  place: "file:{name}.key"
hierarchies:
  software:
    subject: {organizational_unit: Software}
  customer:
    passphrase: {env: SECRET, optional: true}
profiles:
  root: {ca: true, path_length: 1, validity: 3650d, key_usage: [keyCertSign, cRLSign]}
  subca: {ca: true, path_length: 0, validity: 2190d, key_usage: [keyCertSign, cRLSign]}
  signer: {validity: 1095d, key_usage: [digitalSignature]}
authorities:
  root:
    hierarchy: software
    profile: root
    key: rsa:2048
    subject: {common_name: Root}
  sub:
    issuer: root
    profile: subca
    key: rsa:2048
    subject: {common_name: Sub}
  other:
    hierarchy: customer
    profile: root
    key: ec:P-256
    subject: {common_name: Other}
  guest:
    issuer: other
    profile: subca
    key: ec:P-256
    subject: {common_name: Guest}
certificates:
  kernel:
    issuer: sub
    profile: signer
    signs: [efi, module, ima]
    key: rsa:2048
    subject: {common_name: Kernel}
  debos:
    issuer: guest
    profile: signer
    signs: [guestos, container, file]
    key: rsa-pss:2048
    subject: {common_name: Debos}
    subject_alt_names: ["dns:debos.example"]
anchors:
  twin:
    twin_of: guest
uefi:
  create: on-request
  owner: 6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11
  keys:
    PK: {profile: signer, key: rsa:2048, subject: {common_name: PK}}
    KEK: {profile: signer, key: rsa:2048, subject: {common_name: KEK}}
    DB: {profile: signer, key: rsa:2048, subject: {common_name: DB}}
  variables:
    PK: {certificates: [PK], signer: PK}
    KEK: {certificates: [KEK], signer: PK}
    db: {certificates: [DB, sub], signer: KEK}
publish:
  root.cert: {of: root, as: certificate}
  certs/kernel.pem: {of: kernel, as: key-and-certificate}
  certs/kernel.der: {of: kernel, as: der}
  debos.cert: {of: debos, as: chain-without-root}
  kernel.cert: {of: kernel, as: chain}
  twin.cert: {of: twin, as: certificate}
  sub.esl: {of: sub, as: esl}
  db.esl: {variable: db, as: esl}
  db.auth: {variable: db, as: auth}
`

func TestLoadSmall(t *testing.T) {
	p, err := Load("pki.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range p.Entries {
		names = append(names, e.Name)
		if e.Issuer != nil && !strings.Contains(strings.Join(names, " "), e.Issuer.Name) {
			t.Errorf("%s stands before its issuer", e.Name)
		}
	}
	if got := strings.Join(names, " "); got != "root other sub guest kernel debos twin DB KEK PK" {
		t.Errorf("entries %s", got)
	}
	debos := p.Entry("debos")
	if got := debos.Subject.String(); got != "C=DE, O=Test, CN=Debos" {
		t.Error(got)
	}
	if got := p.Entry("kernel").Subject.String(); got != "C=DE, O=Test, OU=Software, CN=Kernel" {
		t.Error(got)
	}
	if debos.NoPassphrase || debos.Passphrase != (keys.Source{Env: "SECRET", Optional: true}) || !p.Entry("kernel").NoPassphrase {
		t.Errorf("passphrases %+v, %+v", debos.Passphrase, p.Entry("kernel").Passphrase)
	}
	if debos.Key.String() != "file:debos.key" || debos.Custody != Online || debos.Algorithm.String() != "RSASSA-PSS SHA-256 salt 32" {
		t.Errorf("%+v", debos)
	}
	twin := p.Entry("twin")
	if twin.KeyOwner().Name != "guest" || twin.Signer().Name != "guest" || twin.Issuer != nil || twin.Kind != Anchor || !twin.Subject.Equal(p.Entry("guest").Subject) {
		t.Errorf("twin %+v", twin)
	}
	if p.Entry("nobody") != nil || len(p.Published) != 9 || len(p.UEFI.Variables) != 3 || p.UEFI.Variables[2].Signer.Name != "KEK" {
		t.Errorf("%+v", p)
	}
}

// Every built-in plan loads with every key type that the build can ask for.
func TestLoadBuiltIn(t *testing.T) {
	for _, name := range []string{Development, Production} {
		for _, keyType := range []string{"rsa:2048", "rsa:3072", "rsa:4096", "rsa-pss:2048", "rsa-pss:4096", "ec:P-256", "ec:secp384r1", "ec:P-521", "ed25519"} {
			for _, place := range []string{"", "file:keys", "file:/var/lib/keys/", "file:a%20b/{name}.pem"} {
				text, err := Template(name, must(spki.ParseKeyType(keyType)), place)
				if err != nil {
					t.Errorf("%s %s %s: %v", name, keyType, place, err)
					continue
				}
				p, err := Load(FileName, text)
				if err != nil {
					t.Errorf("%s %s %s: %v", name, keyType, place, err)
					continue
				}
				if p.Name != name || len(p.Entries) < 17 {
					t.Errorf("%s: %d entries", p.Name, len(p.Entries))
				}
				steps, err := p.Steps(Inventory{}, Demand{PlatformKeys: true})
				if err != nil || len(steps) < 60 {
					t.Errorf("%s %s: %d steps, %v", name, keyType, len(steps), err)
				}
			}
		}
	}
	if _, err := Template("test", spki.KeyType{}, ""); err == nil || err.Error() != `plan "test" is unknown: use development or production` {
		t.Error(err)
	}
	for place, want := range map[string]string{
		"keys":                        `key URI: it must begin with "file:" or "pkcs11:", such as file:NAME.key`,
		"file:a\"b":                   `key URI "file:a\"b/{name}.key" holds a character that must be percent-encoded, such as %22`,
		"file:../x":                   `key URI: file: path "../x/name.key" has an empty, "." or ".." segment`,
		"pkcs11:token=a?pin-value=12": `key URI: pkcs11: pin-value: a PIN has no place in a plan; name a file that holds it with pin-source`,
		"file:a\nb":                   `key URI "file:a\nb/{name}.key" holds a character that must be percent-encoded, such as %22`,
	} {
		if _, err := Template(Development, must(spki.ParseKeyType("rsa:2048")), place); err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", place, err, want)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// refusals change one thing in small, and name the error.
var refusals = []struct{ name, old, new, want string }{
	{"a store with a password", "plan: small\n", "plan: small\nstore: postgres://u:secret@h/d\n",
		"pki.yaml:3: store: a password has no place in the URL: put it into the variable PGPASSWORD or the file ~/.pgpass, or use a client certificate"},
	{"a store of another kind", "plan: small\n", "plan: small\nstore: mysql://u@h/d\n",
		`pki.yaml:3: store: unknown kind of database "mysql": write postgres://USER@HOST/DATABASE`},
	{"unknown key at the top", "plan: small\n", "plan: small\nplans: x\n",
		`pki.yaml:3: plans: unknown field "plans"`},
	{"unknown key in subject", "  country: DE\n", "  country: DE\n  town: x\n",
		`pki.yaml:5: subject.town: unknown field "town"`},
	{"unknown key in a target", "  kernel:\n    signers", "  kernel:\n    trusts: [x]\n    signers",
		`pki.yaml:11: targets.kernel.trusts: unknown field "trusts"`},
	{"unknown target", "  kernel:\n    signers", "  grub: {signers: [\"rsa:2048\"], authorities: [\"rsa:2048\"]}\n  kernel:\n    signers",
		"pki.yaml:10: targets.grub: unknown target: use uefi, kernel and cmld"},
	{"unknown key in keys", "keys:\n  place", "keys:\n  path: x\n  place",
		`pki.yaml:17: keys.path: unknown field "path"`},
	{"unknown key in a hierarchy", "  software:\n", "  software:\n    profile: x\n",
		`pki.yaml:20: hierarchies.software.profile: unknown field "profile"`},
	{"unknown key in a passphrase", "{env: SECRET, optional: true}", "{env: SECRET, value: hunter2}",
		`pki.yaml:22: hierarchies.customer.passphrase.value: unknown field "value"`},
	{"unknown key in a profile", "{validity: 1095d, key_usage", "{validity: 1095d, keyusage: [x], key_usage",
		`pki.yaml:26: profiles.signer.keyusage: unknown field "keyusage"`},
	{"unknown key in an authority", "    issuer: root\n", "    issuer: root\n    issuers: x\n",
		`pki.yaml:35: authorities.sub.issuers: unknown field "issuers"`},
	{"unknown key in an authority's subject", "{common_name: Sub}", "{common_name: Sub, email: x}",
		`pki.yaml:37: authorities.sub.subject.email: unknown field "email"`},
	{"unknown key in a certificate", "    issuer: guest\n", "    issuer: guest\n    sign: [guestos]\n",
		`pki.yaml:57: certificates.debos.sign: unknown field "sign"`},
	{"unknown key in an anchor", "    twin_of: guest\n", "    twin_of: guest\n    issuer: root\n",
		`pki.yaml:65: anchors.twin.issuer: unknown field "issuer"`},
	{"unknown key in uefi", "  create: on-request\n", "  create: on-request\n  dbx: []\n",
		`pki.yaml:67: uefi.dbx: unknown field "dbx"`},
	{"unknown key in a UEFI key", "PK: {profile: signer, ", "PK: {profile: signer, twin_of: x, ",
		`pki.yaml:69: uefi.keys.PK.twin_of: unknown field "twin_of"`},
	{"unknown key in a variable", "{certificates: [PK], signer: PK}", "{certificates: [PK], signer: PK, time: x}",
		`pki.yaml:73: uefi.variables.PK.time: unknown field "time"`},
	{"unknown key in a published file", "{of: root, as: certificate}", "{of: root, as: certificate, mode: 0600}",
		"pki.yaml:77: publish.root.cert.mode: 0600 is a number to YAML, which would rewrite it: put it in quotes"},
	{"unknown key in name constraints", "{validity: 1095d,", "{name_constraints: {allowed: []}, validity: 1095d,",
		`pki.yaml:26: profiles.signer.name_constraints.allowed: unknown field "allowed"`},
	{"unknown key in an extension", "{validity: 1095d,", "{extensions: [{oid: 1.2.3, value: x}], validity: 1095d,",
		`pki.yaml:26: profiles.signer.extensions[0].value: unknown field "value"`},
	{"duplicate at the top", "plan: small\n", "plan: small\nplan: small\n",
		`pki.yaml:3: plan: mapping key "plan" already defined at [2:1]`},
	{"duplicate section", "anchors:\n", "authorities: {}\nanchors:\n",
		`pki.yaml:62: authorities: mapping key "authorities" already defined at [27:1]`},
	{"duplicate authority", "  other:\n", "  root: {hierarchy: customer, profile: root, key: ec:P-256, subject: {common_name: Root 2}}\n  other:\n",
		`pki.yaml:38: root: mapping key "root" already defined at [28:3]`},
	{"duplicate key in an authority", "    issuer: root\n", "    issuer: root\n    issuer: root\n",
		`pki.yaml:35: issuer: mapping key "issuer" already defined at [34:5]`},
	{"duplicate key in a flow mapping", "{common_name: Sub}", "{common_name: Sub, common_name: Sub}",
		`pki.yaml:37: common_name: mapping key "common_name" already defined at [37:15]`},
	{"duplicate published file", "  root.cert:", "  root.cert: {of: sub, as: certificate}\n  root.cert:",
		`pki.yaml:78: root.cert: mapping key "root.cert" already defined at [77:3]`},
	{"duplicate with quotes", "plan: small\n", "plan: small\n\"plan\": small\n",
		`pki.yaml:3: plan: mapping key "plan" already defined at [2:1]`},
	{"a list for a mapping", "{common_name: Sub}", "[common_name]",
		"pki.yaml:37: authorities.sub.subject: sequence was used where mapping is expected"},
	{"a mapping for a string", "    issuer: root\n", "    issuer: {name: root}\n",
		"pki.yaml:34: authorities.sub.issuer: a mapping stands where a string should: if there is a colon in the text, put it in quotes"},
	{"a string for a number", "version: 1\n", "version: one\n",
		"pki.yaml:1: version: a string stands where a whole number should"},
	{"a string for a list", "signs: [efi, module, ima]", "signs: efi",
		"pki.yaml:52: certificates.kernel.signs: string was used where sequence is expected"},
	{"a number for a bool", "root: {ca: true,", "root: {ca: 7,",
		"pki.yaml:24: profiles.root.ca: a whole number stands where true or false should"},
	{"a fraction for a path length", "path_length: 1,", "path_length: 1.5,",
		"pki.yaml:24: profiles.root.path_length: 1.5 is a number to YAML, which would rewrite it: put it in quotes"},
	{"a huge path length", "path_length: 1,", "path_length: 99999999999999999999,",
		"pki.yaml:24: profiles.root.path_length: 99999999999999999999 is out of range"},
	{"no version", "version: 1\n", "",
		"pki.yaml: version: is 0, but this program reads version 1"},
	{"version 2", "version: 1\n", "version: 2\n",
		"pki.yaml:1: version: is 2, but this program reads version 1"},
	{"version 0", "version: 1\n", "version: 0\n",
		"pki.yaml:1: version: is 0, but this program reads version 1"},
	{"no plan name", "plan: small\n", "",
		`pki.yaml: plan: "" is not a name of letters, digits, _ and -`},
	{"plan name with a slash", "plan: small\n", "plan: a/b\n",
		`pki.yaml:2: plan: "a/b" is not a name of letters, digits, _ and -`},
	{"empty file", "", "",
		"pki.yaml: must hold exactly one YAML document"},
	{"only a comment", "", "# nothing\n",
		"pki.yaml: must hold exactly one YAML document"},
	{"a scalar", "", "tmpki\n",
		"pki.yaml:1: string was used where mapping is expected"},
	{"a list", "", "- version: 1\n",
		"pki.yaml:1: sequence was used where mapping is expected"},
	{"no authorities", "", "version: 1\nplan: x\n",
		"pki.yaml: authorities: no authority in the plan"},
	{"no targets", "", "version: 1\nplan: x\nauthorities: {a: {hierarchy: h, profile: p, key: ed25519, subject: {common_name: A}}}\n",
		"pki.yaml: targets: cmld is missing: the key types that the platform's daemon can verify"},
	{"a target missing", "  kernel:\n    signers: [rsa:2048]\n    authorities: [rsa:2048]\n", "",
		"pki.yaml:6: targets: kernel is missing: the key types that the Linux kernel can verify"},
	{"a target without signers", "  kernel:\n    signers: [rsa:2048]\n", "  kernel:\n    signers: []\n",
		"pki.yaml:11: targets.kernel.signers: empty"},
	{"a target without authorities", "  kernel:\n    signers: [rsa:2048]\n    authorities: [rsa:2048]\n", "  kernel:\n    signers: [rsa:2048]\n",
		"pki.yaml:10: targets.kernel.authorities: empty"},
	{"a target with a bad key type", "  kernel:\n    signers: [rsa:2048]\n", "  kernel:\n    signers: [rsa:1024]\n",
		`pki.yaml:11: targets.kernel.signers: key type "rsa:1024": the size must be 2048, 3072 or 4096`},
	{"name with a slash", "  guest:\n    issuer", "  gu/est:\n    issuer",
		`pki.yaml:43: authorities.gu/est: "gu/est" is not a name of letters, digits, _ and -`},
	{"name with a dot", "  debos:\n    issuer", "  de.bos:\n    issuer",
		`pki.yaml:48: certificates.de.bos: "de.bos" is not a name of letters, digits, _ and -`},
	{"name of 65 characters", "  debos:\n    issuer", "  ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd:\n    issuer",
		`pki.yaml:55: certificates.ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd: "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd" is not a name of letters, digits, _ and -`},
	{"name with a hyphen first", "  debos:\n    issuer", "  -debos:\n    issuer",
		`pki.yaml:55: certificates.-debos: "-debos" is not a name of letters, digits, _ and -`},
	{"empty name", "  debos:\n    issuer", "  \"\":\n    issuer",
		`pki.yaml:55: certificates.: "" is not a name of letters, digits, _ and -`},
	{"name with an umlaut", "  debos:\n    issuer", "  däbos:\n    issuer",
		"pki.yaml:55: certificates.däbos: \"däbos\" is not a name of letters, digits, _ and -"},
	{"name that is a number", "  debos:\n    issuer", "  0x10:\n    issuer",
		"pki.yaml:55: certificates.0x10: 0x10 is a number to YAML, which would rewrite it: put it in quotes"},
	{"name that is null", "  debos:\n    issuer", "  null:\n    issuer",
		"pki.yaml:56: certificates.null.issuer: missing"},
	{"authority and certificate of one name", "  debos:\n    issuer", "  sub:\n    issuer",
		"pki.yaml:55: certificates.sub: the name is taken by authorities.sub"},
	{"anchor of a taken name", "  twin:\n", "  debos:\n",
		"pki.yaml:63: anchors.debos: the name is taken by certificates.debos"},
	{"UEFI key of a taken name", "    PK: {profile", "    sub: {profile",
		"pki.yaml:69: uefi.keys.sub: the name is taken by authorities.sub"},
	{"dangling hierarchy", "    hierarchy: customer\n", "    hierarchy: customers\n",
		`pki.yaml:39: authorities.other.hierarchy: "customers" is not under hierarchies; a root names its hierarchy, all others an issuer`},
	{"neither hierarchy nor issuer", "    hierarchy: customer\n", "",
		`pki.yaml:38: authorities.other.hierarchy: "" is not under hierarchies; a root names its hierarchy, all others an issuer`},
	{"hierarchy below a root", "    issuer: root\n", "    issuer: root\n    hierarchy: software\n",
		"pki.yaml:35: authorities.sub.hierarchy: only a root has one: it holds for all below"},
	{"dangling issuer of an authority", "    issuer: other\n", "    issuer: others\n",
		`pki.yaml:44: authorities.guest.issuer: "others" is not under authorities`},
	{"dangling issuer of a certificate", "    issuer: guest\n", "    issuer: guests\n",
		`pki.yaml:56: certificates.debos.issuer: "guests" is not under authorities`},
	{"a certificate as issuer", "    issuer: guest\n", "    issuer: kernel\n",
		`pki.yaml:56: certificates.debos.issuer: "kernel" is not under authorities`},
	{"an anchor as issuer", "    issuer: guest\n", "    issuer: twin\n",
		`pki.yaml:56: certificates.debos.issuer: "twin" is not under authorities`},
	{"a certificate without issuer", "    issuer: guest\n", "",
		"pki.yaml:55: certificates.debos.issuer: missing"},
	{"itself as issuer", "    issuer: other\n", "    issuer: guest\n",
		"pki.yaml:44: authorities.guest.issuer: more than 10 authorities stand above it, or it issues itself in a circle"},
	{"issuers in a circle", "    hierarchy: software\n", "    issuer: sub\n",
		"pki.yaml:29: authorities.root.issuer: more than 10 authorities stand above it, or it issues itself in a circle"},
	{"dangling profile of an authority", "    profile: root\n    key: ec", "    profile: roots\n    key: ec",
		`pki.yaml:40: authorities.other.profile: "roots" is not under profiles`},
	{"dangling profile of a certificate", "    profile: signer\n    signs: [guestos", "    profile: signers\n    signs: [guestos",
		`pki.yaml:57: certificates.debos.profile: "signers" is not under profiles`},
	{"dangling profile of a UEFI key", "PK: {profile: signer, key: rsa:2048, subject: {common_name: PK}}", "PK: {profile: sign, key: rsa:2048, subject: {common_name: PK}}",
		`pki.yaml:69: uefi.keys.PK.profile: "sign" is not under profiles`},
	{"no profile", "    profile: root\n    key: ec", "    key: ec",
		`pki.yaml:38: authorities.other.profile: "" is not under profiles`},
	{"profile of no CA", "    profile: root\n    key: ec", "    profile: signer\n    key: ec",
		`pki.yaml:40: authorities.other.profile: "signer" is not a profile of a CA`},
	{"profile of a CA", "    profile: signer\n    signs: [guestos", "    profile: subca\n    signs: [guestos",
		`pki.yaml:57: certificates.debos.profile: "subca" is a profile of CAs, which stand under authorities`},
	{"fault in a profile", "signer: {validity: 1095d,", "signer: {validity: 3y,",
		`pki.yaml:26: profiles.signer.validity: "3y" is not a number of days from 1d to 36525d`},
	{"fault in an entry over its profile", "    subject: {common_name: Debos}\n", "    subject: {common_name: Debos}\n    validity: 3y\n",
		`pki.yaml:61: certificates.debos.validity: "3y" is not a number of days from 1d to 36525d`},
	{"fault in a profile's extension", "signer: {validity: 1095d,", "signer: {extensions: [{oid: 1.2.3, der: xy}], validity: 1095d,",
		`pki.yaml:26: profiles.signer.extensions[0]: der: "xy" is not hexadecimal`},
	{"fault in a profile's URLs", "signer: {validity: 1095d,", "signer: {crl_urls: [nowhere], validity: 1095d,",
		`pki.yaml:26: profiles.signer.crl_urls: "nowhere" is not an http, https or ldap URL`},
	{"no common name", "    subject: {common_name: Debos}\n", "",
		"pki.yaml:55: certificates.debos.subject.common_name: missing"},
	{"country in small letters", "  country: DE\n", "  country: de\n",
		`pki.yaml:4: subject.country: "de" is not two capital letters`},
	{"control character", "{common_name: Debos}", "{common_name: \"De\\nbos\"}",
		"pki.yaml:60: certificates.debos.subject.common_name: \"De\\nbos\": '\\n' can't be shown"},
	{"over-long name", "{common_name: Debos}", "{common_name: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}",
		`pki.yaml:60: certificates.debos.subject.common_name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" has 65 characters, more than 64 (RFC 5280, Appendix A.1)`},
	{"bad alternative name", `["dns:debos.example"]`, `["debos.example"]`,
		`pki.yaml:61: certificates.debos.subject_alt_names: "debos.example" is not KIND:VALUE with dns, email, uri or ip`},
	{"no key", "    key: rsa-pss:2048\n", "",
		"pki.yaml:55: certificates.debos.key: missing: the key type, such as rsa:4096"},
	{"unknown key type", "    key: rsa-pss:2048\n", "    key: dsa:2048\n",
		`pki.yaml:59: certificates.debos.key: key type "dsa:2048" is unknown: use rsa:N, rsa-pss:N, ec:CURVE or ed25519`},
	{"short key", "    key: rsa-pss:2048\n", "    key: rsa-pss:1024\n",
		`pki.yaml:59: certificates.debos.key: key type "rsa-pss:1024": the size must be 2048, 3072 or 4096`},
	{"unknown curve", "    profile: root\n    key: ec:P-256\n", "    profile: root\n    key: ec:P-224\n",
		`pki.yaml:41: authorities.other.key: key type "ec:P-224": the curve must be P-256, P-384 or P-521`},
	{"unknown hash", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    hash: sha1\n",
		`pki.yaml:60: certificates.debos.hash: hash "sha1" is unknown: use sha256, sha384 or sha512`},
	{"hash for ed25519", "    profile: root\n    key: ec:P-256\n", "    profile: root\n    key: ed25519\n    hash: sha512\n",
		"pki.yaml:42: authorities.other.hash: an ed25519 key hashes by itself"},
	{"unknown scheme", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    scheme: x\n",
		`pki.yaml:60: certificates.debos.scheme: "x" is unknown: use pkcs1v15 or pss`},
	{"PKCS#1 v1.5 for a PSS key", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    scheme: pkcs1v15\n",
		"pki.yaml:60: certificates.debos.scheme: pkcs1v15 does not fit a key of type rsa-pss:2048"},
	{"PSS for an EC key", "    profile: root\n    key: ec:P-256\n", "    profile: root\n    key: ec:P-256\n    scheme: pss\n",
		"pki.yaml:42: authorities.other.scheme: pss does not fit a key of type ec:P-256"},
	{"unknown custody", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    custody: safe\n",
		`pki.yaml:60: certificates.debos.custody: "safe" is unknown: use online, offline or hsm`},
	{"unknown artifact", "signs: [efi, module, ima]", "signs: [efi, grub]",
		`pki.yaml:52: certificates.kernel.signs: "grub" is unknown: use efi, module, ima, guestos, container or file`},
	{"artifact twice", "signs: [efi, module, ima]", "signs: [efi, efi]",
		`pki.yaml:52: certificates.kernel.signs: "efi" stands twice`},
	{"no place", "keys:\n  place: \"file:{name}.key\"\n", "",
		"pki.yaml:26: authorities.root.place: missing, here and under keys: a key URI such as file:{name}.key"},
	{"place without a scheme", `"file:{name}.key"`, `"{name}.key"`,
		`pki.yaml:17: keys.place: key URI: it must begin with "file:" or "pkcs11:", such as file:NAME.key`},
	{"place with a PIN", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: \"pkcs11:token=a;object=b?pin-value=1234\"\n",
		"pki.yaml:60: certificates.debos.place: key URI: pkcs11: pin-value: a PIN has no place in a plan; name a file that holds it with pin-source"},
	{"place without an object", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: \"pkcs11:token=a\"\n",
		"pki.yaml:60: certificates.debos.place: pkcs11:token=a: it names no key in the token: add object=LABEL or id=ID"},
	{"place of a certificate", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: \"pkcs11:token=a;object=b;type=cert\"\n",
		"pki.yaml:60: certificates.debos.place: pkcs11:token=a;object=b;type=cert: type=cert is no private key"},
	{"place in a token twice", "keys:\n  place: \"file:{name}.key\"\n", "keys:\n  place: \"pkcs11:object=one;token=a?pin-source=/a\"\n",
		"pki.yaml:38: authorities.other.place: pkcs11:token=a;object=one?pin-source=/a is the place of authorities.root too, or one lies below the other"},
	{"place outside", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: \"file:../x.key\"\n",
		`pki.yaml:60: certificates.debos.place: key URI: file: path "../x.key" has an empty, "." or ".." segment`},
	{"place with an encoded way out", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: \"file:a/%2e%2e/x.key\"\n",
		`pki.yaml:60: certificates.debos.place: key URI: file: path "a/../x.key" has an empty, "." or ".." segment`},
	{"same place twice", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: file:sub.key\n",
		"pki.yaml:60: certificates.debos.place: file:sub.key is the place of authorities.sub too, or one lies below the other"},
	{"one place for all", `"file:{name}.key"`, `"file:all.key"`,
		"pki.yaml:38: authorities.other.place: file:all.key is the place of authorities.root too, or one lies below the other"},
	{"place of the plan", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: file:pki.yaml\n",
		"pki.yaml:60: certificates.debos.place: file:pki.yaml is the place of the plan too, or one lies below the other"},
	{"place of the store", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: file:pki.db\n",
		"pki.yaml:60: certificates.debos.place: file:pki.db is a place of the store"},
	{"place of the store's journal", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: file:pki.db-journal\n",
		"pki.yaml:60: certificates.debos.place: file:pki.db-journal is a place of the store"},
	{"place below another key", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    place: file:sub.key/x\n",
		"pki.yaml:60: certificates.debos.place: file:sub.key/x is the place of authorities.sub too, or one lies below the other"},
	{"empty passphrase", "{env: SECRET, optional: true}", "{}",
		"pki.yaml:22: hierarchies.customer.passphrase: needs env, file or prompt, or none: true"},
	{"passphrase optional only", "{env: SECRET, optional: true}", "{optional: true}",
		"pki.yaml:22: hierarchies.customer.passphrase: needs env, file or prompt, or none: true"},
	{"passphrase none and env", "{env: SECRET, optional: true}", "{env: SECRET, none: true}",
		"pki.yaml:22: hierarchies.customer.passphrase: none excludes all else"},
	{"passphrase none and optional", "{env: SECRET, optional: true}", "{none: true, optional: true}",
		"pki.yaml:22: hierarchies.customer.passphrase: none excludes all else"},
	{"passphrase optional and prompt", "{env: SECRET, optional: true}", "{prompt: true, optional: true}",
		"pki.yaml:22: hierarchies.customer.passphrase: optional and prompt exclude each other"},
	{"passphrase itself", "{env: SECRET, optional: true}", "hunter2",
		"pki.yaml:22: hierarchies.customer.passphrase: string was used where mapping is expected"},
	{"outlives its issuer", "    key: rsa-pss:2048\n", "    key: rsa-pss:2048\n    validity: 2191d\n",
		`pki.yaml:60: certificates.debos.validity: 2191d outlives issuer "guest" (2190d)`},
	{"sub CA outlives its root", "subca: {ca: true, path_length: 0, validity: 2190d", "subca: {ca: true, path_length: 0, validity: 3651d",
		`pki.yaml:33: authorities.sub.validity: 3651d outlives issuer "root" (3650d)`},
	{"path length forbids children", "root: {ca: true, path_length: 1", "root: {ca: true, path_length: 0",
		"pki.yaml:28: authorities.root.path_length: 0 forbids sub CAs, but authorities.sub is one"},
	{"path length not below the issuer's", "subca: {ca: true, path_length: 0", "subca: {ca: true, path_length: 1",
		`pki.yaml:33: authorities.sub.path_length: must be below 1, that of issuer "root"`},
	{"no path length below one", "subca: {ca: true, path_length: 0, ", "subca: {ca: true, ",
		`pki.yaml:33: authorities.sub.path_length: must be below 1, that of issuer "root"`},
	{"path length of no CA", "signer: {validity", "signer: {path_length: 0, validity",
		"pki.yaml:26: profiles.signer.path_length: only a CA has one (set ca: true)"},
	{"subject of the issuer", "{common_name: Kernel}", "{common_name: Sub}",
		`pki.yaml:54: certificates.kernel.subject: is that of issuer "sub"`},
	{"subject of another CA", "{common_name: Guest}", "{common_name: OTHER}",
		`pki.yaml:47: authorities.guest.subject: is that of issuer "other"`},
	{"subject of another CA elsewhere", "{common_name: Other}", "{common_name: sub, organizational_unit: Software}",
		"pki.yaml:37: authorities.sub.subject: C=DE, O=Test, OU=Software, CN=Sub is the subject of authorities.other too"},
	{"name constraints forbid a name below", "root: {ca: true, path_length: 1,", `root: {name_constraints: {permitted: ["dns:example.com"]}, ca: true, path_length: 1,`,
		"pki.yaml:55: certificates.debos: the name debos.example is not among the permitted ones, which the name constraints of authorities.other forbid"},
	{"signer that UEFI can't verify", "    signs: [efi, module, ima]\n    key: rsa:2048\n", "    signs: [efi]\n    key: rsa-pss:2048\n",
		"pki.yaml:53: certificates.kernel.key: the UEFI firmware can't verify rsa-pss:2048 (kernel signs for it): use one of rsa:2048, or, if your platform can, add it to targets.uefi.signers"},
	{"signer that the kernel can't verify", "    signs: [efi, module, ima]\n    key: rsa:2048\n", "    signs: [module]\n    key: ec:P-256\n",
		"pki.yaml:53: certificates.kernel.key: the Linux kernel can't verify ec:P-256 (kernel signs for it): use one of rsa:2048, or, if your platform can, add it to targets.kernel.signers"},
	{"IMA signer that the kernel can't verify", "    signs: [efi, module, ima]\n    key: rsa:2048\n", "    signs: [ima]\n    key: ed25519\n",
		"pki.yaml:53: certificates.kernel.key: the Linux kernel can't verify ed25519 (kernel signs for it): use one of rsa:2048, or, if your platform can, add it to targets.kernel.signers"},
	{"signer that the daemon can't verify", "    signs: [guestos, container, file]\n    key: rsa-pss:2048\n", "    signs: [guestos]\n    key: ec:P-256\n",
		"pki.yaml:59: certificates.debos.key: the platform's daemon can't verify ec:P-256 (debos signs for it): use one of rsa:2048, rsa-pss:2048, or, if your platform can, add it to targets.cmld.signers"},
	{"container signer that the daemon can't verify", "    signs: [guestos, container, file]\n    key: rsa-pss:2048\n", "    signs: [container]\n    key: ed25519\n",
		"pki.yaml:59: certificates.debos.key: the platform's daemon can't verify ed25519 (debos signs for it): use one of rsa:2048, rsa-pss:2048, or, if your platform can, add it to targets.cmld.signers"},
	{"authority that UEFI can't verify", "    issuer: root\n    profile: subca\n    key: rsa:2048\n", "    issuer: root\n    profile: subca\n    key: rsa-pss:2048\n",
		"pki.yaml:36: authorities.sub.key: firmware can't use a key of type rsa-pss:2048: use rsa:2048, rsa:3072 or rsa:4096"},
	{"root that UEFI can't verify", "    hierarchy: software\n    profile: root\n    key: rsa:2048\n", "    hierarchy: software\n    profile: root\n    key: ec:P-256\n",
		"pki.yaml:31: authorities.root.key: the UEFI firmware can't verify ec:P-256 (kernel signs for it below root): use one of rsa:2048, or, if your platform can, add it to targets.uefi.authorities"},
	{"authority that the daemon can't verify", "    issuer: other\n    profile: subca\n    key: ec:P-256\n", "    issuer: other\n    profile: subca\n    key: ec:P-384\n",
		"pki.yaml:46: authorities.guest.key: the platform's daemon can't verify ec:P-384 (debos signs for it below guest): use one of rsa:2048, rsa-pss:2048, ec:P-256, or, if your platform can, add it to targets.cmld.authorities"},
	{"root that the daemon can't verify", "    hierarchy: customer\n    profile: root\n    key: ec:P-256\n", "    hierarchy: customer\n    profile: root\n    key: ed25519\n",
		"pki.yaml:41: authorities.other.key: the platform's daemon can't verify ed25519 (debos signs for it below other): use one of rsa:2048, rsa-pss:2048, ec:P-256, or, if your platform can, add it to targets.cmld.authorities"},
	{"anchor of nobody", "    twin_of: guest\n", "    twin_of: guests\n",
		`pki.yaml:64: anchors.twin.twin_of: "guests" is not a sub CA under authorities`},
	{"anchor of a root", "    twin_of: guest\n", "    twin_of: other\n",
		`pki.yaml:64: anchors.twin.twin_of: "other" is not a sub CA under authorities`},
	{"anchor of a certificate", "    twin_of: guest\n", "    twin_of: debos\n",
		`pki.yaml:64: anchors.twin.twin_of: "debos" is not a sub CA under authorities`},
	{"anchor of nothing", "    twin_of: guest\n", "    {}\n",
		`pki.yaml:63: anchors.twin.twin_of: "" is not a sub CA under authorities`},
	{"unknown create", "  create: on-request\n", "  create: sometimes\n",
		`pki.yaml:66: uefi.create: "sometimes" is unknown: use always, never or on-request`},
	{"no create", "  create: on-request\n", "",
		`pki.yaml:65: uefi.create: "" is unknown: use always, never or on-request`},
	{"bad GUID", "owner: 6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11", "owner: 6f3b5c1e-3d5a-4b0e-9a39",
		`pki.yaml:67: uefi.owner: GUID "6f3b5c1e-3d5a-4b0e-9a39": not of the form 8-4-4-4-12`},
	{"GUID in braces", "owner: 6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11", `owner: "{6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11}"`,
		`pki.yaml:67: uefi.owner: GUID "{6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11}": not of the form 8-4-4-4-12`},
	{"EC key in a variable", "DB: {profile: signer, key: rsa:2048", "DB: {profile: signer, key: ec:P-256",
		"pki.yaml:71: uefi.keys.DB.key: firmware can't use a key of type ec:P-256: use rsa:2048, rsa:3072 or rsa:4096"},
	{"PSS key in a variable", "PK: {profile: signer, key: rsa:2048", "PK: {profile: signer, key: rsa-pss:2048",
		"pki.yaml:69: uefi.keys.PK.key: firmware can't use a key of type rsa-pss:2048: use rsa:2048, rsa:3072 or rsa:4096"},
	{"key size that the firmware doesn't take", "DB: {profile: signer, key: rsa:2048", "DB: {profile: signer, key: rsa:4096",
		"pki.yaml:71: uefi.keys.DB.key: the UEFI firmware can't verify rsa:4096 (DB signs for it): use one of rsa:2048, or, if your platform can, add it to targets.uefi.signers"},
	{"EC authority in a variable", "[DB, sub]", "[DB, guest]",
		"pki.yaml:46: authorities.guest.key: firmware can't use a key of type ec:P-256: use rsa:2048, rsa:3072 or rsa:4096"},
	{"dangling certificate in a variable", "[DB, sub]", "[DB, subs]",
		`pki.yaml:75: uefi.variables.db.certificates: "subs" is not an entry of this plan`},
	{"certificate twice in a variable", "[DB, sub]", "[DB, sub, DB]",
		`pki.yaml:75: uefi.variables.db.certificates: "DB" stands twice`},
	{"no certificate in a variable", "[DB, sub]", "[]",
		"pki.yaml:75: uefi.variables.db.certificates: empty"},
	{"dangling signer of a variable", "[DB, sub], signer: KEK", "[DB, sub], signer: KEKs",
		`pki.yaml:75: uefi.variables.db.signer: "KEKs" is not an entry of this plan`},
	{"signer that isn't enrolled", "[DB, sub], signer: KEK", "[DB, sub], signer: DB",
		`pki.yaml:75: uefi.variables.db.signer: firmware takes an update of db only from a key that it has enrolled before, not from "DB"`},
	{"PK signed by another", "{certificates: [PK], signer: PK}", "{certificates: [PK], signer: KEK}",
		`pki.yaml:73: uefi.variables.PK.signer: firmware takes an update of PK only from a key that it has enrolled before, not from "KEK"`},
	{"two certificates in PK", "{certificates: [PK], signer: PK}", "{certificates: [PK, KEK], signer: PK}",
		"pki.yaml:73: uefi.variables.PK.certificates: PK holds one certificate (UEFI 2.10, Section 32.3.1)"},
	{"variable missing", "    KEK: {certificates: [KEK], signer: PK}\n", "",
		"pki.yaml:72: uefi.variables: KEK is missing"},
	{"unknown variable", "    db: {cert", "    dbx: {certificates: [DB], signer: KEK}\n    db: {cert",
		"pki.yaml:75: uefi.variables.dbx: unknown: use PK, KEK and db"},
	{"issuer of a UEFI key", "PK: {profile: signer, ", "PK: {issuer: root, profile: signer, ",
		"pki.yaml:69: uefi.keys.PK: a platform key is self-signed and in no hierarchy"},
	{"hierarchy of a UEFI key", "PK: {profile: signer, ", "PK: {hierarchy: software, profile: signer, ",
		"pki.yaml:69: uefi.keys.PK: a platform key is self-signed and in no hierarchy"},
	{"signer of an unknown artifact", "publish:\n", "signers:\n  grub: kernel\npublish:\n",
		`pki.yaml:77: signers.grub: "grub" is unknown: use efi, module, ima, guestos, container or file`},
	{"dangling signer", "publish:\n", "signers:\n  efi: kernels\npublish:\n",
		`pki.yaml:77: signers.efi: "kernels" is not an entry of this plan`},
	{"signer that doesn't sign that", "publish:\n", "signers:\n  efi: debos\npublish:\n",
		"pki.yaml:77: signers.efi: debos does not sign efi: see its signs"},
	{"{name} elsewhere than in guestos", "publish:\n", "signers:\n  efi: \"x_{name}\"\npublish:\n",
		"pki.yaml:77: signers.efi: {name} is for guestos only: it stands for the name in the config"},
	{"dangling name", "{of: root, as: certificate}", "{of: roots, as: certificate}",
		`pki.yaml:77: publish.root.cert: of: "roots" is not an entry of this plan`},
	{"dangling variable", "  db.auth: {variable: db,", "  db.auth: {variable: dbx,",
		"pki.yaml:85: publish.db.auth: needs variable: PK, KEK or db (as esl also of: an entry), and a uefi section"},
	{"unknown form", "{of: root, as: certificate}", "{of: root, as: pem}",
		`pki.yaml:77: publish.root.cert: as: "pem" is unknown`},
	{"no form", "{of: root, as: certificate}", "{of: root}",
		`pki.yaml:77: publish.root.cert: as: "" is unknown`},
	{"certificate and variable", "{of: root, as: certificate}", "{of: root, variable: db, as: certificate}",
		"pki.yaml:77: publish.root.cert: variable: only what is published as esl or auth has one"},
	{"auth of an entry", "  db.auth: {variable: db,", "  db.auth: {of: sub,",
		"pki.yaml:85: publish.db.auth: needs variable: PK, KEK or db (as esl also of: an entry), and a uefi section"},
	{"esl of an EC key", "  sub.esl: {of: sub,", "  sub.esl: {of: guest,",
		"pki.yaml:83: publish.sub.esl: of: guest: firmware can't use a key of type ec:P-256: use rsa:2048, rsa:3072 or rsa:4096"},
	{"path out", "  root.cert:", "  ../root.cert:",
		`pki.yaml:77: publish.../root.cert: "../root.cert" is not a path inside the PKI directory`},
	{"path out further in", "  root.cert:", "  certs/../../root.cert:",
		`pki.yaml:77: publish.certs/../../root.cert: "certs/../../root.cert" is not a path inside the PKI directory`},
	{"absolute path", "  root.cert:", "  /root.cert:",
		`pki.yaml:77: publish./root.cert: "/root.cert" is not a path inside the PKI directory`},
	{"path with a dot segment", "  root.cert:", "  ./root.cert:",
		`pki.yaml:77: publish../root.cert: "./root.cert" is not a path inside the PKI directory`},
	{"path that ends in a slash", "  root.cert:", "  root/:",
		`pki.yaml:77: publish.root/: "root/" is not a path inside the PKI directory`},
	{"empty path", "  root.cert:", `  "":`,
		`pki.yaml:77: publish.: "" is not a path inside the PKI directory`},
	{"the directory itself", "  root.cert:", "  .:",
		`pki.yaml:77: publish..: "." is not a path inside the PKI directory`},
	{"hidden file", "  root.cert:", "  .root.cert:",
		`pki.yaml:77: publish..root.cert: ".root.cert" is not a path inside the PKI directory`},
	{"hidden directory", "  root.cert:", "  .git/root.cert:",
		`pki.yaml:77: publish..git/root.cert: ".git/root.cert" is not a path inside the PKI directory`},
	{"path with a backslash", "  root.cert:", "  'a\\root.cert':",
		"pki.yaml:77: publish.a\\root.cert: \"a\\\\root.cert\" is not a path inside the PKI directory"},
	{"path with a newline", "  root.cert:", "  \"a\\nb\":",
		"pki.yaml:77: \"publish.a\\nb\": \"a\\nb\" is not a path inside the PKI directory"},
	{"path with an escape sequence", "  root.cert:", "  \"a\\u001b[31m\":",
		"pki.yaml:77: \"publish.a\\x1b[31m\": \"a\\x1b[31m\" is not a path inside the PKI directory"},
	{"the plan itself", "  root.cert:", "  pki.yaml:",
		"pki.yaml:77: publish.pki.yaml: is the place of the plan too, or one lies below the other"},
	{"below the plan", "  root.cert:", "  pki.yaml/root.cert:",
		"pki.yaml:77: publish.pki.yaml/root.cert: is the place of the plan too, or one lies below the other"},
	{"the store", "  root.cert:", "  pki.db:",
		`pki.yaml:77: publish.pki.db: "pki.db" is a place of the store`},
	{"the store's journal", "  root.cert:", "  pki.db-journal:",
		`pki.yaml:77: publish.pki.db-journal: "pki.db-journal" is a place of the store`},
	{"place of a key", "  root.cert:", "  sub.key:",
		"pki.yaml:77: publish.sub.key: is the place of authorities.sub too, or one lies below the other"},
	{"below a key", "  root.cert:", "  sub.key/root.cert:",
		"pki.yaml:77: publish.sub.key/root.cert: is the place of authorities.sub too, or one lies below the other"},
	{"below another published file", "  root.cert:", "  db.auth/root.cert:",
		"pki.yaml:85: publish.db.auth: is the place of publish.db.auth/root.cert too, or one lies below the other"},
	{"a directory of other published files", "  root.cert:", "  certs:",
		"pki.yaml:78: publish.certs/kernel.pem: is the place of publish.certs too, or one lies below the other"},
}

func TestLoadRefuses(t *testing.T) {
	for _, r := range refusals {
		if r.old != "" && strings.Count(small, r.old) != 1 {
			t.Errorf("%s: %q stands %d times in the plan", r.name, r.old, strings.Count(small, r.old))
			continue
		}
		text := strings.Replace(small, r.old, r.new, 1)
		if r.old == "" {
			text = r.new
		}
		_, err := Load("pki.yaml", []byte(text))
		var place *Error
		switch {
		case err == nil:
			t.Errorf("%s: no error, want %s", r.name, r.want)
		case err.Error() != r.want:
			t.Errorf("%s:\ngot  %v\nwant %s", r.name, err, r.want)
		case !errors.As(err, &place) || place.Err == nil:
			t.Errorf("%s: %T is not a full *Error", r.name, err)
		}
	}
}
