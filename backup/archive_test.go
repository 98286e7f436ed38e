package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// contents are the files of sample's directory.
var contents = map[string]string{
	"pki.yaml": "version: 1\n", "certs/a.cert": "certificate", "certs/ä\n.key": "key", "empty": "", "pki.db": "store",
}

// sample is a manifest that no rule objects to.
func sample() *Manifest {
	m := &Manifest{
		Format: Format, ID: strings.Repeat("0a", 16), Time: time.Unix(1.8e9, 0).UTC(), Program: "tmpki 1", Directory: "pki", Plan: "test",
		Ledger: Ledger{7, strings.Repeat("0b", 32)},
		Dirs:   []Directory{{"certs", "0700"}, {"certs/deep", "0755"}},
		Absent: []Absent{}, Faults: []string{},
	}
	for _, name := range []string{"pki.yaml", "certs/a.cert", "certs/ä\n.key", "empty", "pki.db"} {
		_, sum, err := digest(strings.NewReader(contents[name]))
		if err != nil {
			panic(err)
		}
		m.Files = append(m.Files, File{name, "0600", int64(len(contents[name])), sum})
	}
	m.PlanSHA256 = m.Files[0].SHA256
	return m
}

func content(f File) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(contents[f.Path])), nil
}

func archived(t testing.TB, m *Manifest) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeArchive(&b, m, content); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readBack(data []byte) (*Manifest, map[string]string, error) {
	r, err := openArchive(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	got := map[string]string{}
	err = r.read(nil, func(f File, c io.Reader) error {
		b, err := io.ReadAll(c)
		got[f.Path] = string(b)
		return err
	})
	return r.manifest, got, err
}

func TestRoundTrip(t *testing.T) {
	m := sample()
	back, got, err := readBack(archived(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back) != fmt.Sprint(m) || fmt.Sprint(got) != fmt.Sprint(contents) {
		t.Errorf("read back %v, %v", back, got)
	}
}

// TestHostileManifests breaks one rule a row.
func TestHostileManifests(t *testing.T) {
	last := func(m *Manifest) *File { return &m.Files[len(m.Files)-2] }
	for name, row := range map[string]struct {
		change func(*Manifest)
		want   string
	}{
		"format":               {func(m *Manifest) { m.Format = "tmpki-backup/2" }, "this program reads"},
		"id":                   {func(m *Manifest) { m.ID = "../x" }, "16 octets"},
		"time":                 {func(m *Manifest) { m.Time = m.Time.Add(1) }, "to the second"},
		"ledger":               {func(m *Manifest) { m.Ledger.Size = 0 }, "ledger of size 0"},
		"root":                 {func(m *Manifest) { m.Ledger.Root = "00" }, "ledger of size 7"},
		"absolute":             {func(m *Manifest) { last(m).Path = "/etc/passwd" }, "absolute"},
		"up":                   {func(m *Manifest) { last(m).Path = "../x" }, "absolute"},
		"up in the middle":     {func(m *Manifest) { last(m).Path = "certs/../../x" }, "absolute"},
		"dot":                  {func(m *Manifest) { last(m).Path = "./x" }, "absolute"},
		"the directory":        {func(m *Manifest) { last(m).Path = "." }, "absolute"},
		"empty":                {func(m *Manifest) { last(m).Path = "" }, "absolute"},
		"slash at the end":     {func(m *Manifest) { last(m).Path = "x/" }, "absolute"},
		"NUL":                  {func(m *Manifest) { last(m).Path = "a\x00b" }, "can't be kept"},
		"long name":            {func(m *Manifest) { last(m).Path = strings.Repeat("x", 256) }, "256 octets"},
		"long path":            {func(m *Manifest) { last(m).Path = strings.Repeat("x/", 3000) + "x" }, "can't be kept"},
		"twice":                {func(m *Manifest) { last(m).Path = "certs/a.cert" }, "there twice"},
		"file and directory":   {func(m *Manifest) { last(m).Path = "certs/deep" }, "there twice"},
		"below a file":         {func(m *Manifest) { last(m).Path = "certs/a.cert/x" }, "directory does not come before"},
		"unlisted directory":   {func(m *Manifest) { last(m).Path = "other/x" }, "directory does not come before"},
		"directories' order":   {func(m *Manifest) { m.Dirs[0], m.Dirs[1] = m.Dirs[1], m.Dirs[0] }, "directory does not come before"},
		"directory up":         {func(m *Manifest) { m.Dirs[0].Path = ".." }, "absolute"},
		"setuid":               {func(m *Manifest) { last(m).Mode = "4755" }, "mode"},
		"directory's mode":     {func(m *Manifest) { m.Dirs[0].Mode = "1777" }, "mode"},
		"negative size":        {func(m *Manifest) { last(m).Size = -1 }, "-1 octets"},
		"huge":                 {func(m *Manifest) { last(m).Size = 1<<40 + 1 }, "more than"},
		"huge together":        {func(m *Manifest) { m.Files[1].Size, m.Files[2].Size = 1<<39, 1<<39+1 }, "more than"},
		"digest":               {func(m *Manifest) { last(m).SHA256 = "ff" }, "not a SHA-256"},
		"plan's digest":        {func(m *Manifest) { m.PlanSHA256 = m.Files[1].SHA256 }, "plan's digest"},
		"plan not first":       {func(m *Manifest) { m.Files[0], m.Files[1] = m.Files[1], m.Files[0] }, "first file must be"},
		"no store":             {func(m *Manifest) { m.Files = m.Files[:len(m.Files)-1] }, "the last pki.db"},
		"too many":             {func(m *Manifest) { m.Dirs = make([]Directory, maxFiles) }, "more than 100000"},
		"store in a directory": {func(m *Manifest) { m.Files[len(m.Files)-1].Path = "certs/pki.db" }, "the last pki.db"},
	} {
		m := sample()
		row.change(m)
		text, err := m.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(text); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	for name, change := range map[string]func(string) string{
		"unknown field": func(s string) string { return strings.Replace(s, `"id"`, `"x": 1, "id"`, 1) },
		"twice":         func(s string) string { return strings.Replace(s, `"id"`, `"plan": "x", "id"`, 1) },
		"trailing":      func(s string) string { return s + "{}" },
		"spaces":        func(s string) string { return " " + s },
		"cut":           func(s string) string { return s[:len(s)/2] },
		"null":          func(string) string { return "null\n" },
	} {
		text, err := sample().marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest([]byte(change(string(text)))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestHostileArchives holds a good manifest against other archives.
func TestHostileArchives(t *testing.T) {
	type item struct {
		h    *tar.Header
		data string
	}
	items := func(t *testing.T) (list []item) {
		r := tar.NewReader(bytes.NewReader(archived(t, sample())))
		for {
			h, err := r.Next()
			if err == io.EOF {
				return list
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			h.PAXRecords, h.Format = nil, tar.FormatPAX
			list = append(list, item{h, string(data)})
		}
	}
	const file = 4 // certs/a.cert
	for name, row := range map[string]struct {
		change func([]item) []item
		want   string
	}{
		"unchanged": {func(l []item) []item { return l }, ""},
		"symbolic link": {func(l []item) []item {
			*l[file].h = tar.Header{Typeflag: tar.TypeSymlink, Name: l[file].h.Name, Linkname: "/etc/passwd", ModTime: l[file].h.ModTime}
			l[file].data = ""
			return l
		}, "of type '2'"},
		"hard link": {func(l []item) []item {
			*l[file].h = tar.Header{Typeflag: tar.TypeLink, Name: l[file].h.Name, Linkname: "pki/pki.yaml", ModTime: l[file].h.ModTime}
			l[file].data = ""
			return l
		}, "of type '1'"},
		"device": {func(l []item) []item {
			*l[file].h = tar.Header{Typeflag: tar.TypeBlock, Name: l[file].h.Name, ModTime: l[file].h.ModTime, Devmajor: 8}
			l[file].data = ""
			return l
		}, "of type '4'"},
		"FIFO": {func(l []item) []item {
			*l[file].h = tar.Header{Typeflag: tar.TypeFifo, Name: l[file].h.Name, ModTime: l[file].h.ModTime}
			l[file].data = ""
			return l
		}, "of type '6'"},
		"other name":   {func(l []item) []item { l[file].h.Name = "pki/../../x"; return l }, "should be"},
		"absolute":     {func(l []item) []item { l[file].h.Name = "/etc/passwd"; return l }, "should be"},
		"mode":         {func(l []item) []item { l[file].h.Mode = 0o4755; return l }, "has mode 4755"},
		"owner":        {func(l []item) []item { l[file].h.Uid = 1; return l }, "an owner"},
		"owner's name": {func(l []item) []item { l[file].h.Uname = "root"; return l }, "an owner"},
		"time":         {func(l []item) []item { l[file].h.ModTime = time.Unix(0, 0); return l }, "is of"},
		"record": {func(l []item) []item {
			l[file].h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "x"}
			return l
		}, "a record"},
		"GNU": {func(l []item) []item {
			l[file].h.Format = tar.FormatGNU
			return l
		}, "format GNU"},
		"longer": {func(l []item) []item { l[file].h.Size, l[file].data = 12, "certificate!"; return l }, "12 octets, want 11"},
		"other content": {func(l []item) []item {
			l[file].data = "certificatE"
			return l
		}, "digest"},
		"missing": {func(l []item) []item { return append(l[:file:file], l[file+1:]...) }, "should be"},
		"swapped": {func(l []item) []item { l[file], l[file+1] = l[file+1], l[file]; return l }, "should be"},
		"twice":   {func(l []item) []item { return append(l[:file:file], append([]item{l[file]}, l[file:]...)...) }, "should be"},
		"more":    {func(l []item) []item { return append(l, l[file]) }, "not in the manifest"},
		"cut":     {func(l []item) []item { return l[:len(l)-1] }, "unexpected EOF"},
		"no manifest": {func(l []item) []item {
			return l[1:]
		}, "should be"},
		"manifest's time": {func(l []item) []item { l[0].h.ModTime = time.Unix(1, 0); return l }, "in an archive of"},
		"huge manifest": {func(l []item) []item {
			l[0].h.Size, l[0].data = maxManifest+1, strings.Repeat(" ", maxManifest+1)
			return l
		}, "more than"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, i := range row.change(items(t)) {
			if err := w.WriteHeader(i.h); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := io.WriteString(w, i.data); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := readBack(b.Bytes())
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	if _, _, err := readBack(append(archived(t, sample()), 0)); err == nil || !strings.Contains(err.Error(), "follows") {
		t.Errorf("trailing octet: %v", err)
	}
}

// TestEveryCutAndFlip: no file that was cut or changed anywhere is taken.
func TestEveryCutAndFlip(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "b.age")
	if err := encrypt(path, []age.Recipient{id.Recipient()}, func(w io.Writer) error { return writeArchive(w, sample(), content) }); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) error {
		_, err := Verify(context.Background(), bytes.NewReader(data), []age.Identity{id})
		return err
	}
	if err := check(whole); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 37 {
		if check(whole[:i]) == nil {
			t.Fatalf("cut at %d of %d: taken", i, len(whole))
		}
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if check(changed) == nil {
			t.Fatalf("octet %d changed: taken", i)
		}
	}
	if check(append(bytes.Clone(whole), 0)) == nil {
		t.Error("an octet more: taken")
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), bytes.NewReader(whole), []age.Identity{other}); err == nil || !strings.Contains(err.Error(), "made for others") {
		t.Errorf("with another key: %v", err)
	}
	// Nothing is overwritten, and what fails leaves nothing.
	if err := encrypt(path, []age.Recipient{id.Recipient()}, func(io.Writer) error { return nil }); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a backup: %v", err)
	}
	failing := errors.New("failing")
	if err := encrypt(path+"2", []age.Recipient{id.Recipient()}, func(io.Writer) error { return failing }); !errors.Is(err, failing) {
		t.Error(err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestChangedWhileCopied(t *testing.T) {
	for name, is := range map[string]string{"longer": "certificate!", "shorter": "cert", "other": "certificatE"} {
		err := writeArchive(io.Discard, sample(), func(f File) (io.ReadCloser, error) {
			if f.Path == "certs/a.cert" {
				return io.NopCloser(strings.NewReader(is)), nil
			}
			return content(f)
		})
		if !errors.Is(err, errChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzArchive(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzArchive"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, got, err := readBack(data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		err = writeArchive(&b, m, func(f File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(got[f.Path])), nil })
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := readBack(b.Bytes())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Fatalf("%v: %v", err, again)
		}
		dir := t.TempDir()
		r, err := openArchive(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.extract(context.Background(), dir); err != nil {
			return
		}
		err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !d.Type().IsRegular() {
				t.Fatalf("%s is %v", path, d.Type())
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
	})
}
