package ima

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tmpki/internal/tree"
)

// SignFiles signs files on all cores: those named in paths, and all regular
// ones under the directories. Each is recorded before its signature is put into
// its place. A file that can't be signed stays as it is, and stops no other. What
// is returned is what tree.Run says.
//
// With SigFile, the signatures of earlier runs (FILE.sig beside FILE) are not
// signed in turn.
func SignFiles(ctx context.Context, paths []string, key crypto.Signer, certificate *x509.Certificate, place Place, opts tree.Options) ([]tree.Result, error) {
	if place != Xattr && place != SigFile {
		return nil, fmt.Errorf("unknown place %d of signatures", place)
	}
	if _, err := publicKey(certificate); err != nil {
		return nil, err
	}
	if _, err := KeyID(certificate); err != nil {
		return nil, err
	}
	files, err := tree.Find(paths, func(path string) bool { return place != SigFile || !isSigFile(path) })
	if err != nil {
		return nil, err
	}
	prepare := func(path string) (*tree.Change, error) { return prepareFile(path, key, certificate, place) }
	return tree.Run(ctx, files, prepare, opts)
}

// isSigFile tells whether a file is the signature of its neighbour.
func isSigFile(path string) bool {
	neighbour, ok := strings.CutSuffix(path, ".sig")
	if !ok {
		return false
	}
	info, err := os.Lstat(neighbour)
	return err == nil && info.Mode().IsRegular()
}

// prepareFile makes the signature of the file at path.
func prepareFile(path string, key crypto.Signer, certificate *x509.Certificate, place Place) (*tree.Change, error) {
	f, info, err := tree.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkPlace(f, place); err != nil {
		return nil, err
	}
	signed, err := Sign(f, key, certificate)
	if err != nil {
		return nil, err
	}
	change := &tree.Change{
		Result: tree.Result{Path: path, SHA256: signed.SHA256, Size: signed.Size},
		Held:   len(signed.Signature),
		Commit: func() error { return store(path, place, signed.Signature, info) },
	}
	if place == SigFile {
		change.Dir = filepath.Dir(path)
	}
	return change, nil
}
