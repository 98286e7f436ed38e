package enroll

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAllowList(t *testing.T) {
	const a, b = "701b8942-b485-48f3-b7a1-165ab66597a0", "E2E8AE6C-1c75-4acd-b2e4-ff38740858d0"
	for _, row := range []struct {
		name, list, uuid, serial, cn string
		want                         bool
	}{
		{"a UUID", a, a, "", "x", true},
		{"a UUID in other case", strings.ToUpper(a) + "\n", a, "", "x", true},
		{"another UUID", a, b, "", "x", false},
		{"no UUID", a, "", "", "x", false},
		{"a serial number", "SN1\nSN2\n", b, "SN2", "x", true},
		{"another serial number", "SN1\nSN2\n", b, "SN3", "x", false},
		{"the case of a serial number counts", "SN1", b, "sn1", "x", false},
		{"a serial number at the end of the name", "SN 12/34", b, "", "Standard PC\n SN 12/34\n", true},
		{"the end of a serial number", "12/34", b, "", "Standard PC\n SN 12/34\n", true},
		{"a serial number within the name", "SN", b, "", "Standard PC\n SN 12/34\n", false},
		{"the name as a whole is no serial number", "SN1", b, "", "SN1", false},
		{"with headings", "site,UUID,serial_number\nx," + a + ",SN1\ny,,SN2\n", b, "SN2", "x", true},
		{"with headings, by UUID", "site,UUID,serial_number\nx," + a + ",SN1\n", a, "", "x", true},
		{"another column", "site,UUID\nSN9," + a + "\n", b, "SN9", "x", false},
		{"quotes, comments, a mark of order", "\xef\xbb\xbf# line 7\n\"" + a + "\",\"a, b\"\n\n", a, "", "x", true},
		{"a UUID is no serial number", a, b, a, "x", false},
	} {
		list, err := readAllowList(strings.NewReader(row.list))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if got := list.Allows(row.uuid, row.serial, row.cn); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
	for _, row := range []struct{ name, list, want string }{
		{"empty", "", "it is empty"},
		{"headings only", "uuid\n", "it is empty"},
		{"a bad UUID", "uuid\n" + a + "\nx\n", "line 3: UUID: "},
		{"an empty row", "uuid,serial\n,\n", "line 2: neither a UUID nor a serial number"},
		{"a row that is too short", "site,uuid\nx\n", "line 2: neither a UUID nor a serial number"},
		{"an open quote", a + "\n\"x\n", "line 2"},
		{"a serial number that is no text", "SN\xff\n", "line 1: serial number"},
		{"a long serial number", strings.Repeat("1", 257), "line 1: serial number"},
	} {
		if _, err := readAllowList(strings.NewReader(row.list)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
	}
	var many strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&many, "%s\nSN%d\n", testUUID(n), n)
	}
	list, err := readAllowList(strings.NewReader(many.String() + many.String()))
	must(t, err)
	if len(list.entries) != 10000 || !list.Allows(testUUID(4999), "", "") || !list.Allows("", "SN0", "") || list.Allows(testUUID(5000), "SN5000", "") {
		t.Errorf("%d devices", len(list.entries))
	}
}

func FuzzAllowList(f *testing.F) {
	for _, s := range []string{"", "uuid,serial\n701b8942-b485-48f3-b7a1-165ab66597a0,1\n", "SN1\n\"", "#\n\xef\xbb\xbf"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := readAllowList(bytes.NewReader(data))
		if err == nil && len(list.entries) == 0 {
			t.Fatal("an empty list")
		}
	})
}

// The plan's list counts, unless another one is named.
func TestSignAllowed(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	file := filepath.Join(dir, "pki.yaml")
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.Replace(text, []byte("uuid: required,"), []byte("uuid: required, allow_list: factory.csv, compromised_keys: weak.txt,"), 1), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "factory.csv"), []byte(testUUID(1)+"\nSN2\n"), 0o600))
	weak := newKey(t)
	must(t, os.WriteFile(filepath.Join(dir, "weak.txt"), []byte("# found on the web\n"+fingerprint(t, weak)+"\n"), 0o600))
	r := open(t, dir, "device")
	signed(t, r, csr(t, newKey(t), testUUID(1), "x"))
	signed(t, r, csr(t, newKey(t), testUUID(2), "Product\n SN2\n"))
	refused(t, r, csr(t, newKey(t), testUUID(3), "Product SN3"), "is not on the allow-list")
	refused(t, r, csr(t, weak, testUUID(1), "x"), "publicKey: is on a list of compromised keys")
	other := filepath.Join(t.TempDir(), "other.csv")
	must(t, os.WriteFile(other, []byte("SN3"), 0o600))
	r = open(t, dir, "device", func(o *Options) { o.AllowList = other })
	signed(t, r, csr(t, newKey(t), testUUID(3), "Product SN3"))
	refused(t, r, csr(t, newKey(t), testUUID(4), "Product SN4"), "is not on the allow-list")
}
