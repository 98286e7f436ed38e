package guestos_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"tmpki/artifact/guestos"
)

// template is a template of the platform, in the style of its authors.
const template = `name: "deb"
hardware: "x86"
version: 1
init_path: "/sbin/init"
mounts_setup { image_file: "root" mount_point: "/" fs_type: "squashfs" mount_type: SHARED_RW }
mounts { image_file: "enc_root" mount_point: "/" fs_type: "ext4" mount_type: EMPTY }
mounts { image_file: "tmpfs" mount_point: "/data/" fs_type: "tmpfs" mount_type: EMPTY def_size: 12 }
description { en: "gnu/debian userland (x86)" }
`

// container uses every field of a container config.
const container = `name: "Büro"
guest_os: "deb"
guestos_version: 18446744073709551615
image_sizes {
	image_name: "enc_root"
	image_size: 4096
	image_file: "data/other"
}
ram_limit: 512
color: 4294967295
type: KVM
init_env: "A=\042b\042"
init_env: ""
userns: false
assign_cpus: "0-1"
allow_autostart: true
allow_system_time: false
dns_server: "2001:db8::53"
netns: true
net_ifaces {
	netif: "enp0s3"
	mac_filter: "00:11:22:aa:bb:cc"
}
allow_module: "wireguard"
allow_dev: "c 10:200 rwm"
assign_dev: "c 4:2 rwm"
vnet_configs {
	if_name: "eth0"
	configure: true
	if_rootns_name: "r_0"
	if_mac: "00:11:22:33:44:55"
}
usb_configs {
	id: "1d6b:0002"
	serial: "1"
	assign: true
	type: PIN_ENTRY
}
fifos: "f"
token_type: NONE
usb_pin_entry: true
enable_xorg_compat: true
`

// The platform's own sample is read, and is what we write for it, byte by byte.
func TestSampleIsOurStyle(t *testing.T) {
	text, err := os.ReadFile("testdata/debos-1.conf")
	if err != nil {
		t.Fatal(err)
	}
	cfg, lines, err := guestos.ParseGuestOS(text)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.GetName() != "debos" || cfg.GetMountsSetup()[0].GetImageSize() != 4096 {
		t.Errorf("read as %v", cfg)
	}
	if want := (guestos.Pos{Line: 10, Column: 2}); lines["mounts_setup[0].image_size"] != want {
		t.Errorf("image_size is at %v, want %v", lines["mounts_setup[0].image_size"], want)
	}
	again, err := cfg.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, text) {
		t.Errorf("written as\n%s\nwant\n%s", again, text)
	}
}

func TestContainer(t *testing.T) {
	cfg, _, err := guestos.ParseContainer([]byte(container))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.GetInitEnv()[0] != `A="b"` || cfg.GetColor() != 1<<32-1 {
		t.Errorf("read as %v", cfg)
	}
	text, err := cfg.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != container {
		t.Errorf("written as\n%s\nwant\n%s", text, container)
	}
}

func TestDefaults(t *testing.T) {
	cfg, _, err := guestos.ParseGuestOS([]byte(template))
	if err != nil {
		t.Fatal(err)
	}
	m := cfg.GetMounts()[0]
	if m.GetMinSize() != 10 || m.GetMaxSize() != 16384 || m.GetDefSize() != 1024 || cfg.GetMinRamLimit() != 128 ||
		cfg.GetDefRamLimit() != 1024 || !cfg.GetFeatureBgBooting() || cfg.GetFeatureInstallGuest() {
		t.Errorf("defaults are wrong: %v", cfg)
	}
}

// Each row alters the template in one place. The line is that of the error.
func TestParseGuestOSRefuses(t *testing.T) {
	const hash = "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"
	inMount := func(fields string) [2]string { return [2]string{"SHARED_RW }", "SHARED_RW\n" + fields + "\n}"} }
	name := func(value string) [2]string { return [2]string{`"deb"`, value} }
	for _, test := range []struct {
		name   string
		change [2]string // what to replace by what
		want   string
	}{
		// What the platform's parser would read otherwise, or not at all.
		{"colon before a message", [2]string{"mounts {", "mounts: {"}, `line 6, column 7: mounts[0]: colon before a message: the platform's parser wants "mounts {"`},
		{"angle brackets", [2]string{"mounts {", "mounts <"}, "line 6, column 8: mounts[0]: the platform's parser knows no angle brackets"},
		{"comment", [2]string{"init_path", "# a comment\ninit_path"}, "line 4, column 1: the platform's parser knows no comments"},
		{"comment behind", [2]string{"version: 1", "version: 1 # one"}, "line 3, column 12: the platform's parser knows no comments"},
		{"single quotes", name("'deb'"), "line 1, column 7: name: the platform's parser knows no single quotes"},
		{"list", [2]string{"init_path", "init_param: [\"a\"]\ninit_path"}, "line 4, column 13: init_param[0]: the platform's parser knows no brackets"},
		{"extension", [2]string{"init_path", "[a.b]: 1\ninit_path"}, "line 4, column 1: the platform's parser knows no brackets"},
		{"comma", [2]string{"version: 1", "version: 1,"}, "line 3, column 11: the platform's parser knows no separators"},
		{"semicolon", [2]string{"version: 1", "version: 1;"}, "the platform's parser knows no separators: leave out the ;"},
		{"numeric enum", [2]string{"SHARED_RW", "8"}, `mounts_setup[0].mount_type: "8" where the name of an enum value`},
		{"\\x escape", name(`"de\x62"`), `line 1, column 10: name: escape "\\x": the platform's parser knows octal escapes from \001 to \077 only`},
		{"\\n escape", name(`"deb\n"`), `escape "\\n": the platform's parser knows octal escapes from \001 to \077 only; write \012`},
		{"\\\" escape", name(`"deb\""`), `escape "\\\"": the platform's parser knows octal escapes from \001 to \077 only; write \042`},
		{"\\u escape", name(`"deb\u0041"`), `escape "\\u"`},
		{"octal above 077", name(`"d\303\274b"`), `escape "\\303": the platform's parser knows octal escapes from \001 to \077 only; write the character itself`},
		{"octal of two digits", name(`"deb\12"`), "octal escape of less than three digits"},
		{"octal zero", name(`"deb\000"`), "a zero byte in a string ends it"},
		{"backslash at the end", name(`"deb\\"`), "a backslash in a string: the platform's parser may take what follows"},
		{"backslash", name(`"de\\b"`), "a backslash in a string"},
		{"joined strings", name(`"de" "b"`), "line 1, column 12: a string where the name of a field should be"},
		{"joined strings without space", name(`"de""b"`), "line 1, column 11: name: white space is missing after a string"},
		{"hexadecimal", [2]string{"version: 1", "version: 0x1"}, `version: number "0x1": only decimal digits`},
		{"octal", [2]string{"version: 1", "version: 01"}, `version: number "01": a leading zero may mean octal`},
		{"float", [2]string{"version: 1", "version: 1.0"}, `number "1.0"`},
		{"sign", [2]string{"version: 1", "version: -1"}, "version: a number with a sign"},
		{"abbreviated bool", [2]string{"init_path", "feature_bg_booting: t\ninit_path"}, `feature_bg_booting: "t" where true or false should be`},
		{"numeric bool", [2]string{"init_path", "feature_bg_booting: 1\ninit_path"}, `"1" where true or false should be`},
		{"CRLF", [2]string{"\n", "\r\n"}, "line 1, column 12: a carriage return"},
		{"byte order mark", [2]string{"name:", "\ufeffname:"}, "line 1, column 1: a byte order mark"},

		// What is no text format at all.
		{"raw line feed in a string", name("\"deb\n\""), "line 1, column 7: name: string is not closed at the end of its line"},
		{"raw tab in a string", name("\"deb\t\""), `control character '\t' in a string: write it as \011`},
		{"raw zero in a string", name("\"deb\x00\""), `control character '\x00' in a string`},
		{"DEL in a string", name("\"deb\x7f\""), `control character '\x7f' in a string`},
		{"not UTF-8", name("\"deb\xff\""), "line 1, column 11: name: byte 0xff in a string is not UTF-8"},
		{"long string", name(`"` + strings.Repeat("x", 70000) + `"`), "name: string of more than 65536 bytes"},
		{"open string", [2]string{"(x86)\" }\n", "(x86)"}, "line 8, column 19: description.en: string is not closed"},
		{"open message", [2]string{"(x86)\" }\n", "(x86)\""}, "line 8, column 1: description: message is not closed"},
		{"stray brace", [2]string{"(x86)\" }", "(x86)\" } }"}, `line 8, column 49: "}" without "{"`},
		{"value without a name", [2]string{"version: 1", "version: 1 2"}, `line 3, column 12: "2" where the name of a field should be`},
		{"missing colon", [2]string{"version: 1", "version 1"}, `line 3, column 9: version: "1" where ":" should be`},
		{"duplicate scalar at the end", [2]string{"(x86)\" }\n", "(x86)\" } version:"}, "line 8, column 49: version: field is there twice, first in line 3"},
		{"scalar as message", [2]string{"version: 1", "version { }"}, `version: "{" where ":" should be`},
		{"message as scalar", [2]string{`description { en: "gnu/debian userland (x86)" }`, `description "x"`}, `description: a string where "{" should be`},
		{"missing value", [2]string{"version: 1", "version:"}, `line 4, column 1: version: "init_path" where a number`},
		{"strange character", [2]string{"version", "@version"}, `line 3, column 1: unexpected character '@'`},

		// What does not fit the schema.
		{"unknown field", [2]string{"init_path", "initpath"}, "line 4, column 1: initpath: unknown field"},
		{"unknown field in a mount", inMount("size: 1"), "line 6, column 1: mounts_setup[0].size: unknown field"},
		{"missing required field", [2]string{`hardware: "x86"`, ""}, "hardware: required field is missing"},
		{"missing in a mount", [2]string{`fs_type: "ext4"`, ""}, "line 6, column 1: mounts[0].fs_type: required field is missing"},
		{"missing in description", [2]string{"en:", "de:"}, "line 8, column 1: description.en: required field is missing"},
		{"duplicate scalar", [2]string{"init_path", "version: 1\ninit_path"}, "line 4, column 1: version: field is there twice, first in line 3"},
		{"duplicate message", [2]string{"init_path", "description { en: \"\" }\ninit_path"}, "line 9, column 1: description: field is there twice, first in line 4"},
		{"unknown enum", [2]string{"SHARED_RW", "shared_rw"}, `"shared_rw" where one of SHARED, DEVICE, DEVICE_RW, EMPTY`},
		{"word as string", name("deb"), `name: "deb" where a string should be`},
		{"string as number", [2]string{"version: 1", `version: "1"`}, "version: a string where a number from 0 to 18446744073709551615 should be"},
		{"64 bits and one", [2]string{"version: 1", `version: 18446744073709551616`}, `version: "18446744073709551616" where a number`},
		{"32 bits and one", inMount("max_size: 4294967296"), `max_size: "4294967296" where a number from 0 to 4294967295`},

		// What makes no sense.
		{"name with a slash", name(`"a/b"`), `line 1, column 1: name: "a/b" holds a slash`},
		{"name upwards", name(`".."`), `name: ".." holds ".."`},
		{"hidden name", name(`".deb"`), `name: ".deb" starts with '.'`},
		{"name like an option", name(`"-rf"`), `name: "-rf" starts with '-'`},
		{"empty name", name(`""`), `name: is empty`},
		{"long name", name(`"` + strings.Repeat("x", 201) + `"`), `name: name of 201 bytes: at most 200`},
		{"line feed in a name", name(`"deb\012"`), `name: "deb\n" holds the control character '\n'`},
		{"invisible name", name("\"deb\u202e\""), `holds a character that can't be seen`},
		{"image upwards", [2]string{`"root"`, `"../root"`}, `line 5, column 16: mounts_setup[0].image_file: "../root" holds a slash`},
		{"mount point upwards", [2]string{`"/data/"`, `"/data/../etc"`}, `mounts[1].mount_point: "/data/../etc" leads upwards`},
		{"SHA-1", inMount(`image_sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709"`), "line 6, column 1: mounts_setup[0].image_sha1: SHA-1 must not be used any more"},
		{"short hash", inMount(`image_size: 1 image_sha2_256: "abcd"`), `image_sha2_256: "abcd" is not a SHA-256 hash`},
		{"upper case hash", inMount(`image_size: 1 image_sha2_256: "` + strings.ToUpper(hash) + `"`), "lower-case hex"},
		{"hash that is not hex", inMount(`image_size: 1 image_sha2_256: "g` + hash[1:] + `"`), `image_sha2_256: "g`},
		{"short root hash", inMount(`image_verity_sha256: ""`), `image_verity_sha256: "" is not a SHA-256 hash`},
		{"empty image", inMount(`image_size: 0 image_sha2_256: "` + hash + `"`), "image_size: an image can't be empty"},
		{"size without hash", inMount(`image_size: 1`), `line 5, column 1: mounts_setup[0]: image_size and image_sha2_256 of image "root" belong together`},
		{"hash without size", inMount(`image_sha2_256: "` + hash + `"`), "belong together"},
		{"two hashes for one image", [2]string{`SHARED_RW }`, `SHARED_RW image_size: 1 image_sha2_256: "` + hash + `" }` +
			"\n" + `mounts { image_file: "root" mount_point: "/b" fs_type: "" mount_type: SHARED image_size: 2 image_sha2_256: "` + hash + `" }`},
			`line 5, column 1: mounts_setup[0]: image "root" has another size or hash than in mounts[0]`},
		{"image named like a tree", [2]string{`SHARED_RW }`, `SHARED_RW }` + "\n" + `mounts { image_file: "root.hash" mount_point: "/b" fs_type: "" mount_type: SHARED }`},
			`line 6, column 10: mounts[0].image_file: image "root.hash" has the file name of the hash tree of mounts_setup[0]`},
		{"mounted twice", [2]string{`SHARED_RW }`, `SHARED_RW }` + "\n" + `mounts_setup { image_file: "root" mount_point: "/" fs_type: "" mount_type: SHARED }`},
			`line 6, column 1: mounts_setup[1]: image "root" is mounted at "/" twice, see mounts_setup[0]`},
		{"sizes out of order", inMount(`min_size: 20 def_size: 10`), "min_size: 20 is larger than def_size, which is 10"},
		{"default above the largest", inMount(`def_size: 20 max_size: 10`), "def_size: 20 is larger than max_size, which is 10"},
		{"RAM out of order", [2]string{"init_path", "min_ram_limit: 9 def_ram_limit: 8\ninit_path"}, "min_ram_limit: 9 is larger than def_ram_limit, which is 8"},
		{"relative init", [2]string{"/sbin/init", "sbin/init"}, `init_path: "sbin/init" is not an absolute path`},
		{"relative URL", [2]string{"init_path", "update_base_url: \"example.com\"\ninit_path"}, `update_base_url: "example.com" is not an absolute URL`},
		{"escape in description", [2]string{"gnu/", `\033[31m`}, `line 8, column 15: description.en: "\x1b[31mdebian`},
		{"bound file upwards", [2]string{`"enc_root"`, `"/a/../b"`}, "holds a slash"},
		{"bound file upwards, by type", [2]string{`mounts { image_file: "enc_root" mount_point: "/" fs_type: "ext4" mount_type: EMPTY }`,
			`mounts { image_file: "/a/../b" mount_point: "/" fs_type: "" mount_type: BIND_FILE }`}, `mounts[0].image_file: "/a/../b" leads upwards`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(template, test.change[0]) {
				t.Fatalf("the template holds no %q", test.change[0])
			}
			text := strings.Replace(template, test.change[0], test.change[1], 1)
			_, _, err := guestos.ParseGuestOS([]byte(text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
			if fault := new(guestos.Error); !errors.As(err, &fault) {
				t.Errorf("error %T, want *Error", err)
			}
		})
	}
	if _, _, err := guestos.ParseGuestOS([]byte(template)); err != nil {
		t.Errorf("the template itself: %v", err)
	}
	if _, _, err := guestos.ParseGuestOS([]byte(template + strings.Repeat(" ", guestos.MaxSize))); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("a large config: %v", err)
	}
	if _, _, err := guestos.ParseGuestOS(nil); err == nil || !strings.Contains(err.Error(), "name: required field is missing") {
		t.Errorf("an empty config: %v", err)
	}
}

func TestParseContainerRefuses(t *testing.T) {
	for _, test := range []struct {
		change [2]string
		want   string
	}{
		{[2]string{"color: 4294967295\n", ""}, "color: required field is missing"},
		{[2]string{"type: KVM\n", ""}, "type: required field is missing"},
		{[2]string{"\tassign: true\n", ""}, "line 33, column 1: usb_configs[0].assign: required field is missing"},
		{[2]string{"color: 4294967295", "color: 0xffffffff"}, `color: number "0xffffffff"`},
		{[2]string{"type: KVM", "type: LXC"}, `type: "LXC" where one of CONTAINER, KVM should be`},
		{[2]string{`"Büro"`, `""`}, "name: is empty"},
		{[2]string{`guest_os: "deb"`, `guest_os: "../deb"`}, `guest_os: "../deb" holds a slash`},
		{[2]string{`"enc_root"`, `"a/b"`}, `image_sizes[0].image_name: "a/b" holds a slash`},
		{[2]string{`"data/other"`, `"data/../../other"`}, `image_sizes[0].image_file: "data/../../other" leads upwards`},
		{[2]string{"ram_limit", "image_sizes { image_name: \"enc_root\" image_size: 1 }\nram_limit"}, `image_sizes[1].image_name: second size for image "enc_root"`},
		{[2]string{`"2001:db8::53"`, `"dns.example"`}, `dns_server: "dns.example" is not an IP address`},
		{[2]string{`"enp0s3"`, `""`}, "net_ifaces[0].netif: is empty"},
		{[2]string{`"00:11:22:aa:bb:cc"`, `"00:11:22:aa:bb"`}, `net_ifaces[0].mac_filter[0]: "00:11:22:aa:bb" is not a MAC address`},
		{[2]string{`"eth0"`, `"an_interface_too_long"`}, `vnet_configs[0].if_name: "an_interface_too_long" is no name of a network interface`},
		{[2]string{`"r_0"`, `"r/0"`}, `vnet_configs[0].if_rootns_name: "r/0" is no name`},
		{[2]string{`"00:11:22:33:44:55"`, `"x"`}, `vnet_configs[0].if_mac: "x" is not a MAC address`},
		{[2]string{"fifos", "vnet_configs { if_name: \"eth0\" configure: false }\nfifos"}, `vnet_configs[1].if_name: second interface "eth0"`},
		{[2]string{`"wireguard"`, `"wire\012guard"`}, `line 24, column 1: allow_module[0]: "wire\nguard" holds the control character`},
	} {
		text := strings.Replace(container, test.change[0], test.change[1], 1)
		if text == container {
			t.Fatalf("the sample holds no %q", test.change[0])
		}
		_, _, err := guestos.ParseContainer([]byte(text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: error %v\nwant %s", test.change[1], test.change[0], err, test.want)
		}
	}
}

// All faults of a config come at once, so that nobody mends them one by one.
func TestAllFaultsAtOnce(t *testing.T) {
	text := strings.NewReplacer(`"deb"`, `"a/b"`, `"x86"`, `""`, `/sbin`, `sbin`).Replace(template)
	_, _, err := guestos.ParseGuestOS([]byte(text))
	want := `line 1, column 1: name: "a/b" holds a slash: it must be a name, not a path
line 2, column 1: hardware: is empty
line 4, column 1: init_path: "sbin/init" is not an absolute path`
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(*guestos.GuestOSConfig)
		want  string
	}{
		{"missing required field", func(c *guestos.GuestOSConfig) { c.Description = nil }, "required field tmpki.guestos.GuestOSConfig.description not set"},
		{"backslash", func(c *guestos.GuestOSConfig) { c.InitParam = []string{`a\b`} }, `init_param[0]: "a\\b" holds a backslash`},
		{"backslash in an icon", func(c *guestos.GuestOSConfig) { c.Icon = []byte(`\`) }, "icon: "},
		{"zero in an icon", func(c *guestos.GuestOSConfig) { c.Icon = []byte{0} }, "icon: \"\\x00\" holds a zero byte"},
		{"binary icon", func(c *guestos.GuestOSConfig) { c.Icon = []byte("\x89PNG") }, "byte 0x89 in a string is not UTF-8"},
		{"not UTF-8", func(c *guestos.GuestOSConfig) { c.InitPath = proto.String("/\xff") }, "byte 0xff in a string is not UTF-8"},
		{"DEL", func(c *guestos.GuestOSConfig) { c.Icon = []byte("\x7f") }, "control character"},
		{"unknown enum", func(c *guestos.GuestOSConfig) { c.Mounts[0].MountType = guestos.GuestOSMount_MountType(99).Enum() }, "mounts[0].mount_type: 99 where one of SHARED"},
		{"SHA-1", func(c *guestos.GuestOSConfig) { c.Mounts[0].ImageSha1 = proto.String("") }, "mounts[0].image_sha1: SHA-1 must not be used"},
		{"unsafe name", func(c *guestos.GuestOSConfig) { c.Name = proto.String("a/b") }, "name: \"a/b\" holds a slash"},
		{"unknown field", func(c *guestos.GuestOSConfig) { c.ProtoReflect().SetUnknown([]byte{0xa8, 0x3e, 1}) }, "its text reads as something else"},
		{"long string", func(c *guestos.GuestOSConfig) { c.InitParam = []string{strings.Repeat("x", 70000)} }, "init_param[0]: string of more than 65536 bytes"},
		{"too large", func(c *guestos.GuestOSConfig) { c.InitParam = make([]string, 100000) }, "at most 1048576"},
	} {
		cfg, _, err := guestos.ParseGuestOS([]byte(template))
		if err != nil {
			t.Fatal(err)
		}
		test.alter(cfg)
		_, err = cfg.MarshalText()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// addSeeds adds both kinds of config, whole and with each line dropped or doubled.
func addSeeds(f *testing.F) {
	seeds := []string{template, container}
	stored, err := filepath.Glob("testdata/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	if len(stored) == 0 {
		f.Fatal("the seed corpus is empty: no testdata/*.conf")
	}
	for _, name := range stored {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, string(text))
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
		lines := strings.SplitAfter(seed, "\n")
		for i := range lines {
			f.Add([]byte(strings.Join(lines[:i], "") + strings.Join(lines[i+1:], "")))
			f.Add([]byte(strings.Join(lines[:i+1], "") + strings.Join(lines[i:], "")))
		}
	}
	for _, value := range []string{`"\042\047"`, `"ü€😀"`, `"\012\01"`, `"a" "b"`, `'a'`, `"\\"`, "\"\x80\"", `"a"}`} {
		f.Add([]byte(strings.Replace(template, `"/sbin/init"`, value, 1)))
	}
}

// Whatever we accept, Go's prototext reads as the same message.
func FuzzAgreesWithPrototext(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if cfg, _, err := guestos.ParseGuestOS(text); err == nil {
			theirs := new(guestos.GuestOSConfig)
			if err := prototext.Unmarshal(text, theirs); err != nil || !proto.Equal(cfg, theirs) {
				t.Errorf("%s\nis %v to us and %v to prototext (%v)", text, cfg, theirs, err)
			}
		}
		if cfg, _, err := guestos.ParseContainer(text); err == nil {
			theirs := new(guestos.ContainerConfig)
			if err := prototext.Unmarshal(text, theirs); err != nil || !proto.Equal(cfg, theirs) {
				t.Errorf("%s\nis %v to us and %v to prototext (%v)", text, cfg, theirs, err)
			}
		}
	})
}

// What is read is written, read again as the same, and written as the same.
func FuzzParseMarshal(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, _, err := guestos.ParseGuestOS(text)
		if err != nil {
			return
		}
		first, err := cfg.MarshalText()
		if err != nil {
			// The one text can be larger than what was read.
			if len(text) > guestos.MaxSize/2 {
				return
			}
			t.Fatalf("%s\nis accepted, but not written: %v", text, err)
		}
		again, _, err := guestos.ParseGuestOS(first)
		if err != nil || !proto.Equal(cfg, again) {
			t.Fatalf("%s\nis written as\n%s\nand read as %v (%v)", text, first, again, err)
		}
		second, err := again.MarshalText()
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s\nis written again as\n%s (%v)", first, second, err)
		}
	})
}
