package keys

import (
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want URI
		out  string // of String; "" for in
	}{
		{"file:ssig_rootca.key", URI{Scheme: "file", Path: "ssig_rootca.key"}, ""},
		{"file:keys/a.key", URI{Scheme: "file", Path: "keys/a.key"}, ""},
		{"file:/etc/pki/a.key", URI{Scheme: "file", Path: "/etc/pki/a.key"}, ""},
		{"file:a%20b%25%3f.key", URI{Scheme: "file", Path: "a b%?.key"}, "file:a%20b%25%3F.key"},
		{"file:%73sig%2Fa", URI{Scheme: "file", Path: "ssig/a"}, "file:ssig/a"},
		{"file:schl%C3%BCssel", URI{Scheme: "file", Path: "schlüssel"}, ""},
		{"file:...", URI{Scheme: "file", Path: "..."}, ""},
		{"pkcs11:", URI{Scheme: "pkcs11"}, ""},
		{"pkcs11:token=root;object=ssig_rootca", URI{Scheme: "pkcs11", PKCS11: PKCS11{Token: "root", Object: "ssig_rootca"}}, ""},
		{"pkcs11:object=b;token=The%20Software%20PKCS%2311%20Softtoken", URI{Scheme: "pkcs11", PKCS11: PKCS11{Token: "The Software PKCS#11 Softtoken", Object: "b"}}, "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=b"},
		{"pkcs11:id=a%00%fF", URI{Scheme: "pkcs11", PKCS11: PKCS11{ID: "a\x00\xff"}}, "pkcs11:id=%61%00%FF"},
		{"pkcs11:?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin", URI{Scheme: "pkcs11", PKCS11: PKCS11{ModulePath: "/usr/lib/softhsm/libsofthsm2.so", PINSource: "file:/run/pin"}}, ""},
		{"pkcs11:token=a;manufacturer=b;serial=c;model=d;library-manufacturer=e;library-description=f;library-version=3.1;object=g;type=private;id=%01;slot-manufacturer=h;slot-description=i;slot-id=0?module-name=softhsm2&pin-source=/run/pin",
			URI{Scheme: "pkcs11", PKCS11: PKCS11{Token: "a", Manufacturer: "b", Serial: "c", Model: "d", LibraryManufacturer: "e", LibraryDescription: "f", LibraryVersion: "3.1", Object: "g", Type: "private", ID: "\x01", SlotManufacturer: "h", SlotDescription: "i", SlotID: "0", ModuleName: "softhsm2", PINSource: "/run/pin"}}, ""},
		{"pkcs11:object=a&b=c:[]@!$'()*+,", URI{Scheme: "pkcs11", PKCS11: PKCS11{Object: "a&b=c:[]@!$'()*+,"}}, ""},
	} {
		got, err := ParseURI(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", tt.in, got, err, tt.want)
			continue
		}
		if tt.out == "" {
			tt.out = tt.in
		}
		if s := got.String(); s != tt.out {
			t.Errorf("%s is written as %s, want %s", tt.in, s, tt.out)
		}
	}
	if (URI{}).String() != "" {
		t.Error("no URI is written as one")
	}
}

func TestParseURIRejects(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", `must begin with "file:"`},
		{"a.key", `must begin with "file:"`},
		{"/a.key", `must begin with "file:"`},
		{"FILE:a.key", `must begin with "file:"`},
		{"https://example.com/key", `must begin with "file:"`},
		{"tpm:0x81000001", `must begin with "file:"`},
		{"file:", "segment"},
		{"file:/", "segment"},
		{"file:///etc/key", "host"},
		{"file://host/key", "host"},
		{"file:a//b", "segment"},
		{"file:a/", "segment"},
		{"file:./a", "segment"},
		{"file:../a", "segment"},
		{"file:a/../b", "segment"},
		{"file:a/%2e%2e/b", "segment"},
		{"file:a%2F..%2Fb", "segment"},
		{"file:%2F%2Fhost/key", "segment"},
		{"file:a?b", `'?' must be percent-encoded as %3F`},
		{"file:a#b", `'#' must be percent-encoded as %23`},
		{"file:a b", `' ' must be percent-encoded as %20`},
		{"file:a\\b", "must be percent-encoded"},
		{"file:ä", "must be percent-encoded as %C3"},
		{"file:a\n", "must be percent-encoded as %0A"},
		{"file:a%0A", "control character"},
		{"file:a%00b", "control character"},
		{"file:a%C2%85", "control character"},
		{"file:a%E2%80%A8", "control character"},
		{"file:a%FF", "not UTF-8"},
		{"file:a%", "percent sign"},
		{"file:a%4", "percent sign"},
		{"file:a%4g", "percent sign"},
		{"pkcs11", `must begin with "file:"`},
		{"pkcs11:token", "name=value"},
		{"pkcs11:;", "name=value"},
		{"pkcs11:token=a;", "name=value"},
		{"pkcs11:?", "name=value"},
		{"pkcs11:token=a?module-name=b&", "name=value"},
		{"pkcs11:=a", `attribute "" is unknown`},
		{"pkcs11:tokem=a", `attribute "tokem" is unknown`},
		{"pkcs11:Token=a", `attribute "Token" is unknown`},
		{"pkcs11:x-vendor=a", `attribute "x-vendor" is unknown`},
		{"pkcs11:token=a;token=a", "token is there twice"},
		{"pkcs11:?module-name=a&module-name=a", "module-name is there twice"},
		{"pkcs11:token=", "token: the value is empty"},
		{"pkcs11:module-name=a", "module-name stands on the wrong side"},
		{"pkcs11:?token=a", "token stands on the wrong side"},
		{"pkcs11:token=a/b", `token: character '/' must be`},
		{"pkcs11:token=a?module-name=b#c", `module-name: character '#' must be`},
		{"pkcs11:token=%00", "token: a control character"},
		{"pkcs11:token=%FF", "token: not UTF-8"},
		{"pkcs11:token=" + strings.Repeat("a", 33), "33 octets are more than 32"},
		{"pkcs11:serial=" + strings.Repeat("a", 17), "17 octets are more than 16"},
		{"pkcs11:type=key", "type: not one of"},
		{"pkcs11:slot-id=-1", "slot-id: not a decimal"},
		{"pkcs11:slot-id=+1", "slot-id: not a decimal"},
		{"pkcs11:slot-id=01", "slot-id: not a decimal"},
		{"pkcs11:slot-id=0x1", "slot-id: not a decimal"},
		{"pkcs11:library-version=3.", "library-version: not of the form"},
		{"pkcs11:library-version=.3", "library-version: not of the form"},
		{"pkcs11:library-version=3.1.2", "library-version: not of the form"},
		{"pkcs11:library-version=256", "library-version: not of the form"},
		{"pkcs11:library-version=a", "library-version: not of the form"},
		{"pkcs11:?module-name=lib/a", "use module-path"},
		{"pkcs11:?module-name=a&module-path=/b", "exclude each other"},
		{"pkcs11:?pin-source=|/bin/sh", "absolute path"},
		{"pkcs11:?pin-source=pin", "absolute path"},
		{"pkcs11:?pin-source=file:pin", "absolute path"},
		{"pkcs11:?pin-source=file://host/pin", "absolute path"},
		{"pkcs11:?pin-source=https://host/pin", "absolute path"},
		{"pkcs11:token=a?pin-value=" + secret, "a PIN has no place in a plan"},
		{"pkcs11:pin-value=x", "a PIN has no place in a plan"},
		{"pkcs11:pin-value", "a PIN has no place in a plan"},
	} {
		got, err := ParseURI(tt.in)
		checkError(t, err, tt.want)
		if err == nil || got != (URI{}) {
			t.Errorf("%q is read as %+v", tt.in, got)
		}
	}
}

// TestURIErrorsHideValues puts a PIN in each wrong place.
func TestURIErrorsHideValues(t *testing.T) {
	const pin = "31415926"
	for _, s := range []string{
		"pkcs11:?pin-value=" + pin, "pkcs11:pin-value=" + pin, "pkcs11:?pin-valeu=" + pin, "pkcs11:token=a;" + pin,
		"pkcs11:?PIN-VALUE=" + pin, "pkcs11:?pin-source=" + pin, "pkcs11:type=" + pin, "pkcs11:token=a?" + pin, "pkcs11:?pin=" + pin + "%",
		"PKCS11:?pin-value=" + pin, "pkcs11://?pin-value=" + pin, "token=a?pin-value=" + pin, "pkcs11:?pin-value=%zz" + pin,
	} {
		if _, err := ParseURI(s); err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestFileURI(t *testing.T) {
	for _, path := range []string{"a.key", "/a b/ü?#%.key", "x;y=z&"} {
		u, err := FileURI(path)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseURI(u.String()); err != nil || again != u {
			t.Errorf("%s comes back as %+v, %v", u, again, err)
		}
	}
	for _, path := range []string{"", "/", "../a", "a\x00", "a//b", "\xff"} {
		if u, err := FileURI(path); err == nil {
			t.Errorf("%q becomes %v", path, u)
		}
	}
}
