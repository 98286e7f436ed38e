package efi

import (
	"bytes"
	"crypto"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the fuzzers' seeds anew")

// seeds are images to start from, as small as they come.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	a := testAuthorities()
	x64 := peImage{sections: []int{16, 8}, trailing: 8}.build()
	pe32 := peImage{sections: []int{16}, trailing: 5, pe32: true}.build()
	signed := signBytes(t, x64, a.leaf.signer(a.sub), SignOptions{})
	return [][]byte{
		x64,
		pe32,
		peImage{sections: []int{8}, directories: 4}.build(),
		signed,
		signBytes(t, signed, a.direct.signer(), SignOptions{}),
		signBytes(t, pe32, a.direct.signer(), SignOptions{}),
	}
}

// TestSeeds wants seeds in the repository, each of which is a good image.
func TestSeeds(t *testing.T) {
	dir := filepath.Join("testdata", "fuzz", "FuzzOpen")
	if *update {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for i, b := range seeds(t) {
			text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("seed%d", i+1)), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "seed*"))
	if err != nil || len(files) < len(seeds(t)) {
		t.Fatalf("%d seeds in %s: %v", len(files), dir, err)
	}
}

// FuzzOpen signs whatever opens, and wants the result to verify, and to have the
// digest of what went in. Since signing takes its time, run it with
// -fuzzminimizetime 10x: else most of the time goes into small inputs.
func FuzzOpen(f *testing.F) {
	a := testAuthorities()
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, s := range img.Signatures() {
			if s.Err == nil && len(s.Digest) != s.Hash.Size() {
				t.Errorf("a digest of %d octets for %v", len(s.Digest), s.Hash)
			}
		}
		if _, err := img.Verify(trusting(a.stranger)); err == nil {
			t.Fatal("verifies without a signature of that key")
		}
		if img.layout.directory == 0 {
			return
		}
		for _, replace := range []bool{false, true} {
			if !replace && len(img.entries) == MaxSignatures {
				continue
			}
			var out bytes.Buffer
			if err := img.Sign(&out, a.stranger.signer(), SignOptions{Replace: replace}); err != nil {
				t.Fatal(err)
			}
			signed := openBytes(t, out.Bytes())
			if _, err := signed.Verify(trusting(a.stranger)); err != nil {
				t.Fatal(err)
			}
			if err := signed.CheckChecksum(); err != nil {
				t.Fatal(err)
			}
			before, _ := img.Digest(crypto.SHA256)
			after, _ := signed.Digest(crypto.SHA256)
			if bytes.Equal(before, after) != (img.layout.content%tableAlignment == 0) {
				t.Fatalf("digest %x before, %x after", before, after)
			}
		}
	})
}

// FuzzSignature puts whatever is a DER element into a certificate table.
func FuzzSignature(f *testing.F) {
	a := testAuthorities()
	image := peImage{sections: []int{16}}.build()
	for _, b := range seeds(f) {
		for _, entry := range openBytes(f, b).entries {
			f.Add(entry)
		}
	}
	content, err := marshalIndirectData(crypto.SHA256, make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, der []byte) {
		if hash, digest, err := parseIndirectData(der); err == nil && len(digest) != hash.Size() {
			t.Errorf("a digest of %d octets for %v", len(digest), hash)
		}
		table := marshalEntry(der)
		entries, err := parseTable(table)
		if err != nil {
			return
		}
		if len(entries) != 1 || !bytes.Equal(marshalEntry(entries[0]), table) {
			t.Fatal("written anew, the table is another one")
		}
		img := openBytes(t, image)
		img.entries = entries
		if _, err := img.Verify(trusting(a.root, a.direct)); err == nil {
			t.Fatal("verifies without a signature over this image")
		}
	})
}
