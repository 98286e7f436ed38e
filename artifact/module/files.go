package module

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"tmpki/internal/durable"
	"tmpki/internal/tree"
)

// SignFiles signs modules in place, on all cores: the files named in paths,
// and under the directories all whose names say that they are modules. Each is
// recorded before it is replaced, in one step, with its mode and owner kept. A
// file that can't be signed stays as it is, and stops no other. What is returned
// is what tree.Run says.
func SignFiles(ctx context.Context, paths []string, key crypto.Signer, certificate *x509.Certificate, opts tree.Options) ([]tree.Result, error) {
	if err := checkKey(certificate); err != nil {
		return nil, err
	}
	files, err := tree.Find(paths, IsModule)
	if err != nil {
		return nil, err
	}
	prepare := func(path string) (*tree.Change, error) { return prepareFile(path, key, certificate) }
	return tree.Run(ctx, files, prepare, opts)
}

// IsModule reports whether a file, by its name, is a module: .ko, .ko.gz,
// .ko.xz or .ko.zst.
func IsModule(path string) bool {
	for _, compression := range []Compression{Gzip, XZ, Zstd} {
		if strings.HasSuffix(path, ".ko."+compression.String()) {
			return true
		}
	}
	return strings.HasSuffix(path, ".ko")
}

// prepareFile signs the module at path in memory. The certificate is checked.
func prepareFile(path string, key crypto.Signer, certificate *x509.Certificate) (*tree.Change, error) {
	f, info, err := tree.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("module of %d octets: more than %d", info.Size(), MaxSize)
	}
	if err := tree.CheckWritable(path); err != nil {
		return nil, err
	}
	file := make([]byte, info.Size())
	if _, err := io.ReadFull(f, file); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	signed, err := sign(file, key, certificate)
	if err != nil {
		return nil, err
	}
	return &tree.Change{
		Result: tree.Result{Path: path, SHA256: signed.SHA256, Size: signed.Size},
		Held:   len(signed.File),
		Commit: func() error { return durable.ReplaceFile(path, signed.File, info) },
		Dir:    filepath.Dir(path),
	}, nil
}
