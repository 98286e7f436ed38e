package keys

import (
	"crypto"
	"fmt"
	"path/filepath"
	"tmpki/internal/durable"
)

// Open returns the key at u; a relative path starts at dir. It calls pass, at
// most once, only if the key is encrypted; pass may be nil, or return nil for
// "none".
//
// The error wraps fs.ErrNotExist if there is no key, ErrPassphraseNeeded or
// ErrPassphraseWrong if it does not open, ErrCertificate or ErrTruncated if the
// file is something else, and ErrNoPKCS11 for a pkcs11: URI.
//
// Symbolic links are followed. Who else may read the file is not checked here.
func Open(dir string, u URI, pass func() (*Passphrase, error)) (crypto.Signer, error) {
	switch u.Scheme {
	case SchemeFile:
	case SchemePKCS11:
		return nil, fmt.Errorf("opening key %v: %w", u, ErrNoPKCS11)
	default:
		return nil, fmt.Errorf("opening a key: unknown kind of key URI %q", u.Scheme)
	}
	path := u.FilePath(dir)
	data, _, err := durable.ReadFile(path, MaxFileSize)
	if err != nil {
		return nil, fmt.Errorf("opening a key: %w", err)
	}
	var p *Passphrase
	if pass != nil && IsEncrypted(data) {
		if p, err = pass(); err != nil {
			return nil, fmt.Errorf("opening key %q: %w", path, err)
		}
	}
	signer, err := ParsePEM(data, p)
	if err != nil {
		return nil, fmt.Errorf("opening key %q: %w", path, err)
	}
	return signer, nil
}

// FilePath returns the path of a file: URI, with a relative one below dir, and
// "" for other URIs.
func (u URI) FilePath(dir string) string {
	switch {
	case u.Scheme != SchemeFile:
		return ""
	case filepath.IsAbs(u.Path):
		return u.Path
	default:
		return filepath.Join(dir, u.Path)
	}
}
