package uefi

import (
	"strings"
	"testing"
)

func TestSecureBootVariable(t *testing.T) {
	for name, vendor := range map[string]GUID{
		"PK": GlobalVariable, "KEK": GlobalVariable,
		"db": ImageSecurityDatabase, "dbx": ImageSecurityDatabase,
	} {
		if v := variable(t, name); v.Name != name || v.Vendor != vendor {
			t.Errorf("%s: got %v", name, v)
		}
	}
	for _, name := range []string{"", "pk", "DB", "DBX", "dbt", "MokList"} {
		if v, err := SecureBootVariable(name); err == nil {
			t.Errorf("%q: got %v", name, v)
		}
	}
}

func TestAttributes(t *testing.T) {
	if a, b := Attributes(false), Attributes(true); a != 0x27 || b != 0x67 {
		t.Errorf("got %#x, %#x", a, b)
	}
}

func TestCheck(t *testing.T) {
	two := database(t, "DB.esl")
	hashes := database(t, "hashes.esl")
	unusable := func(name string) SignatureDatabase {
		return SignatureDatabase{{CertX509, []Signature{{Data: certificate(t, name)}}}}
	}
	for _, c := range []struct {
		name     string
		variable Variable
		db       SignatureDatabase
		err      string // "": taken
	}{
		{"PK", variable(t, "PK"), database(t, "PK.esl"), ""},
		{"PK deleted", variable(t, "PK"), nil, ""},
		{"two PKs", variable(t, "PK"), two, "PK: 2 certificates"},
		{"hash in PK", variable(t, "PK"), hashes[:1], "is a hash"},
		{"two KEKs", variable(t, "KEK"), two, ""},
		{"hash in KEK", variable(t, "KEK"), hashes, "is a hash"},
		{"db", variable(t, "db"), two, ""},
		{"hash in db", variable(t, "db"), hashes, ""},
		{"dbx", variable(t, "dbx"), append(hashes, two...), ""},
		{"EC in dbx", variable(t, "dbx"), unusable("ec.crt"), "dbx: entry 1: the certificate of \"CN=ec"},
		{"PSS in KEK", variable(t, "KEK"), append(two, unusable("pss.crt")...), "KEK: entry 3: "},
		{"unknown variable", Variable{Name: "dbt", Vendor: ImageSecurityDatabase}, two, "use PK, KEK, db or dbx"},
		{"db of another vendor", Variable{Name: "db", Vendor: GlobalVariable}, two, "the vendor is d719b2cb"},
		{"PK of another vendor", Variable{Name: "PK", Vendor: ImageSecurityDatabase}, two, "the vendor is 8be4df61"},
	} {
		err := c.variable.Check(c.db)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		}
	}
}
