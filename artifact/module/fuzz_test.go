package module

import (
	"bytes"
	"crypto/x509"
	"path/filepath"
	"testing"
)

// seeds are the files of testdata.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	paths, err := filepath.Glob("testdata/*.ko*")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds in testdata (%v)", err)
	}
	var files [][]byte
	for _, path := range paths {
		files = append(files, read(f, path))
	}
	return files
}

// FuzzParse: what Parse takes, Marshal writes back behind the content. The magic
// is always there, or hardly anything would get past it.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(bytes.TrimSuffix(seed, []byte(magic)))
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		module = append(bytes.Clone(module), magic...)
		content, signature, err := Parse(module)
		if err != nil {
			return
		}
		if again := append(bytes.Clone(content), signature.Marshal()...); !bytes.Equal(again, module) {
			t.Errorf("parsed %x, wrote %x", module, again)
		}
		if _, err := signature.verify(make([]byte, 32), nil); err == nil {
			t.Error("verified without a trusted certificate")
		}
	})
}

// FuzzDecompress: what comes out of a file can be put in again, and comes out
// the same. Any file may come, and none may be verified with nobody trusted.
func FuzzDecompress(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := Verify(file, []*x509.Certificate{}); err == nil {
			t.Error("verified without a trusted certificate")
		}
		module, compression, err := Decompress(file)
		if err != nil || len(module) > 1<<20 {
			return
		}
		if _, err := Compress(module, compression); err != nil { // it reads back by itself
			t.Error(err)
		}
	})
}
