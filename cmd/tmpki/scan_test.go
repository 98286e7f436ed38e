package main

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tmpki/keys"
	"tmpki/spki"
)

// privateStructure says which kind of private key begins in data, or "". The
// numbers of a key in a token are unknown, so a scan looks for the structures
// around such numbers.
func privateStructure(data []byte) string {
	if bytes.HasPrefix(data, []byte("PRIVATE KEY")) {
		return "PEM"
	}
	if len(data) < 20 || data[0] != 0x30 {
		return ""
	}
	body := data[2:]
	if n := int(data[1]) - 0x80; n > 0 && n < 4 {
		body = data[2+n:]
	}
	at := func(i int, values ...byte) bool { return i < len(body) && bytes.IndexByte(values, body[i]) >= 0 }
	switch {
	case !at(0, 2) || !at(1, 1): // a version
		return ""
	case at(2, 0, 1) && at(3, 0x30) && at(5, 6) && at(7, 0x2a, 0x2b): // an AlgorithmIdentifier
		return "PKCS#8"
	case at(2, 0) && at(3, 2) && at(4, 0x82) && at(7, 0): // a modulus of at least 2048 bits
		return "PKCS#1"
	case at(2, 1) && at(3, 4) && at(4, 0x20, 0x30, 0x42): // a scalar of P-256, P-384 or P-521
		return "SEC1"
	default:
		return ""
	}
}

var base64Text = regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}(?:\r?\n[A-Za-z0-9+/]+={0,2})*`)

// findPrivate returns what of data looks like a private key, also in base64.
func findPrivate(data []byte) []string {
	var found []string
	texts := [][]byte{data}
	for _, run := range base64Text.FindAll(data, -1) {
		run = bytes.ReplaceAll(bytes.ReplaceAll(run, []byte("\n"), nil), []byte("\r"), nil)
		for skip := range 4 { // whatever stands before it
			if len(run) <= skip {
				break
			}
			part := run[skip:]
			der := make([]byte, base64.RawStdEncoding.DecodedLen(len(part)))
			if n, _ := base64.RawStdEncoding.Decode(der, bytes.TrimRight(part, "=")); n > 0 {
				texts = append(texts, der[:n])
			}
		}
	}
	for _, text := range texts {
		for i := range text {
			if name := privateStructure(text[i:]); name != "" {
				found = append(found, name)
			}
		}
	}
	return found
}

// TestFindPrivate: the scan finds what it is for.
func TestFindPrivate(t *testing.T) {
	for _, s := range []string{"rsa:2048", "rsa:4096", "rsa-pss:2048", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"} {
		kind, err := spki.ParseKeyType(s)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := keys.Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		text, err := keys.MarshalPEM(signer, nil)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		for name, data := range map[string][]byte{
			"PEM":                text,
			"base64":             []byte(base64.StdEncoding.EncodeToString(block.Bytes)),
			"DER":                block.Bytes,
			"DER in a database":  append([]byte("abc"), block.Bytes...),
			"base64 in a string": []byte(`{"x":"ab` + base64.StdEncoding.EncodeToString(block.Bytes) + `"}`),
		} {
			if len(findPrivate(data)) == 0 {
				t.Errorf("%s: no private key is found in %s", s, name)
			}
		}
	}
}

// scriptKeyless fails if a file below the directories looks like a private key.
func scriptKeyless(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) == 0, "keyless DIR...")
	files := 0
	for _, dir := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for _, name := range findPrivate(data) {
				ts.Fatalf("%s holds a private key (%s)", path, name)
			}
			return nil
		}))
	}
	if files == 0 {
		ts.Fatalf("there is nothing to scan")
	}
}
