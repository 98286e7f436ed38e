package enroll

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"tmpki/ca"
)

func pemBlock(kind string, content []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

func TestRequests(t *testing.T) {
	block := func(s string) string { return pemBlock("CERTIFICATE REQUEST", []byte(s)) }
	large := pemBlock("CERTIFICATE REQUEST", make([]byte, maxRequest))
	begin := "-----BEGIN CERTIFICATE REQUEST-----\n"
	for _, row := range []struct{ name, in, want string }{
		{"nothing", "", "!holds no certificate request"},
		{"text", "no request\nat all\n", "!holds no certificate request"},
		{"one", block("a"), "a"},
		{"three with text around", "x\n" + block("a") + "y\n" + block("b") + block("c") + "z", "a b c"},
		{"without an end of line", strings.TrimSuffix(block("a"), "\n"), "a"},
		{"with other ends of lines", strings.ReplaceAll(block("a")+block("b"), "\n", "\r\n"), "a b"},
		{"cut off", block("a") + begin + "QUFB", "a !the PEM block is cut off"},
		{"cut off in the middle", begin + "QUFB\n" + block("b"), "!the PEM block is cut off b"},
		{"another kind", pemBlock("CERTIFICATE", []byte("a")) + block("b"), "CERTIFICATE:a b"},
		{"too large", large + block("b"), "!is larger than 131072 octets b"},
		{"a line without end", begin + strings.Repeat("A", 1<<20) + "\n-----END CERTIFICATE REQUEST-----\n" + block("b"), "!is larger than 131072 octets b"},
		{"DER", "0\x82\x00\x01a", "DER"},
		{"huge DER", "0\x84" + strings.Repeat("a", maxRequest), "!is larger than 131072 octets"},
	} {
		for _, reader := range []io.Reader{strings.NewReader(row.in), iotest.OneByteReader(strings.NewReader(row.in))} {
			var got []string
			for q := range Requests("file", reader) {
				block, _ := pem.Decode(q.Data)
				switch {
				case q.Source != "file":
					t.Errorf("%s: source %q", row.name, q.Source)
				case q.Err != nil:
					got = append(got, "!"+q.Err.Error())
				case block == nil:
					got = append(got, "DER")
				case block.Type != "CERTIFICATE REQUEST":
					got = append(got, block.Type+":"+string(block.Bytes))
				default:
					got = append(got, string(block.Bytes))
				}
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("%s: %.200q, want %s", row.name, got, row.want)
			}
		}
	}
	// A failure to read is told, and ends it; who has enough, stops.
	var got []Request
	for q := range Requests("x", io.MultiReader(strings.NewReader(block("a")), iotest.ErrReader(errors.New("broken pipe")))) {
		got = append(got, q)
	}
	if len(got) != 2 || got[1].Err == nil || got[1].Err.Error() != "reading: broken pipe" {
		t.Errorf("%+v", got)
	}
	for range Requests("x", strings.NewReader(strings.Repeat(block("a"), 3))) {
		break
	}
}

// FuzzRequests: blocks are what encoding/pem finds, where it finds all of them.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{"", "-----BEGIN ", pemBlock("CERTIFICATE REQUEST", []byte("a")) + "x\n" + pemBlock("X", nil), "0\x82", "-----END X-----\n-----BEGIN X-----\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		for q := range Requests("x", bytes.NewReader(data)) {
			if n++; q.Err == nil && (len(q.Data) > maxRequest || !bytes.Contains(data, q.Data)) {
				t.Fatalf("%q is not of the stream", q.Data)
			}
		}
		if n == 0 {
			t.Fatal("a stream that says nothing")
		}
	})
}

func TestFuzzCorpora(t *testing.T) {
	for _, name := range []string{"FuzzRequests", "FuzzAllowList"} {
		files, err := os.ReadDir(filepath.Join("testdata", "fuzz", name))
		if err != nil || len(files) == 0 {
			t.Errorf("the seed corpus of %s is empty (%v)", name, err)
		}
	}
}

func TestSignStream(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	var stream bytes.Buffer
	for n := range 5 {
		stream.Write(device(t, n))
	}
	stream.WriteString(pemBlock("CERTIFICATE REQUEST", []byte("bad")))
	stream.Write(device(t, 5))
	var out bytes.Buffer
	var rejected []Result
	totals, err := r.SignStream(t.Context(), "stream", bytes.NewReader(stream.Bytes()), &out, WithRoot, func(one Result) error {
		if one.Err != nil {
			rejected = append(rejected, one)
		}
		return nil
	})
	must(t, err)
	certs, err := ca.ParsePEM(out.Bytes())
	must(t, err)
	if len(certs) != 18 || totals != (Totals{Issued: 6, Rejected: 1}) || len(rejected) != 1 || rejected[0].Index != 5 {
		t.Fatalf("%d certificates, %+v, %+v", len(certs), totals, rejected)
	}
	for n := range 6 {
		if certs[3*n].UUID() != testUUID(n) {
			t.Errorf("certificate %d is for %s", n, certs[3*n].UUID())
		}
	}
	// Whoever can't take more ends it.
	full := errors.New("no space left")
	if _, err := r.SignStream(t.Context(), "stream", bytes.NewReader(stream.Bytes()), failingWriter{full}, Leaf, func(Result) error { return nil }); !errors.Is(err, full) {
		t.Error(err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestSignFiles(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	work := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(work, name), content, 0o600))
	}
	for n, name := range []string{"a.csr", "b.pem", "c.DER", "d.csr", "d.pem", "e.csr", "f.csr"} {
		write(name, device(t, n))
	}
	write("e.cert", []byte("somebody's notes"))
	write("f.cert", []byte("-----BEGIN CERTIFICATE-----\nold\n"))
	write("g.csr", []byte("bad"))
	write("g.cert", []byte("-----BEGIN CERTIFICATE-----\nkept\n"))
	write("notes.txt", nil)
	must(t, os.Mkdir(filepath.Join(work, "h.csr"), 0o700))
	files, err := RequestFiles(work)
	must(t, err)
	if len(files) != 8 {
		t.Fatalf("%q", files)
	}
	var reasons []string
	sign := func() Totals {
		t.Helper()
		reasons = nil
		totals, err := r.SignFiles(t.Context(), files, func(file string) string { return CertificatePath(file, "") }, Leaf, func(one Result) error {
			if one.Source != files[one.Index] {
				t.Errorf("result %d is of %s", one.Index, one.Source)
			}
			if one.Err != nil {
				reasons = append(reasons, filepath.Base(one.Source)+": "+one.Err.Error())
			} else if is, err := os.ReadFile(CertificatePath(one.Source, "")); err != nil || !bytes.Equal(is, ca.MarshalPEM(one.Certificate)) {
				t.Errorf("%s was told before it was written: %v", one.Source, err)
			}
			return nil
		})
		must(t, err)
		return totals
	}
	if totals := sign(); totals != (Totals{Issued: 5, Rejected: 3}) {
		t.Errorf("%+v", totals)
	}
	for n, want := range []string{"d.pem: its certificate would go to ", "e.csr: " + work + "/e.cert is there and is no certificate", "g.csr: certificate request"} {
		if len(reasons) != 3 || !strings.HasPrefix(reasons[n], want) {
			t.Errorf("%q, want %s", reasons, want)
		}
	}
	if kept, err := os.ReadFile(filepath.Join(work, "g.cert")); err != nil || !strings.Contains(string(kept), "kept") {
		t.Errorf("%s, %v", kept, err)
	}
	// Again: nothing changes, and what was lost comes back.
	must(t, os.Remove(filepath.Join(work, "a.cert")))
	before, err := os.Stat(filepath.Join(work, "b.cert"))
	must(t, err)
	if totals := sign(); totals != (Totals{Known: 5, Rejected: 3}) {
		t.Errorf("%+v", totals)
	}
	if after, err := os.Stat(filepath.Join(work, "b.cert")); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Error("a certificate that was there was written again")
	}
	// A place where nothing can be written is ours to complain about.
	if _, err := r.SignFiles(t.Context(), files[:1], func(string) string { return filepath.Join(work, "none", "a.cert") }, Leaf, func(Result) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// The answers to a stream of any length may be replaced.
	long := filepath.Join(work, "long.pem")
	must(t, os.WriteFile(long, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600))
	must(t, os.Truncate(long, 1<<40))
	must(t, r.CheckPlace(long))
	// The files of the PKI may not, be they certificates, and there or not.
	for _, name := range []string{"gen_rootca.cert", "device_subca.cert", "pki.yaml", "device_subca.key", "pki.db-journal"} {
		place := filepath.Join(dir, ".", "..", filepath.Base(dir), name)
		before, _ := os.ReadFile(place)
		totals, err := r.SignFiles(t.Context(), files[:1], func(string) string { return place }, Leaf, func(one Result) error {
			if one.Err == nil || !strings.Contains(one.Err.Error(), "belongs to the PKI") {
				t.Errorf("%s: %v", name, one.Err)
			}
			return nil
		})
		must(t, err)
		if after, _ := os.ReadFile(place); totals.Rejected != 1 || !bytes.Equal(before, after) {
			t.Errorf("%s: %+v, or it was written", name, totals)
		}
		if err := r.CheckRejects(place); err == nil || !strings.Contains(err.Error(), "belongs to the PKI") {
			t.Errorf("rejections in %s: %v", name, err)
		}
	}
	// A list of rejections replaces one, and nothing else.
	if err := r.CheckRejects(filepath.Join(work, "a.csr")); err == nil || !strings.Contains(err.Error(), "is no list of rejections") {
		t.Error(err)
	}
	for _, json := range []bool{false, true} {
		var list bytes.Buffer
		rejects, err := NewRejects(&list, json)
		must(t, err)
		must(t, rejects.Add(Reject{Index: 1, File: "x", Reason: "y"}))
		must(t, rejects.Flush())
		write("rejects", list.Bytes())
		must(t, r.CheckRejects(filepath.Join(work, "rejects")))
	}
	if _, err := RequestFiles(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no request") {
		t.Error(err)
	}
}
