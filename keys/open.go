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
// file is something else.
//
// For a pkcs11: URI, pass is not used: the PIN comes from pin-source in the URI,
// an environment variable (see EnvPIN), or the terminal. The error wraps
// fs.ErrNotExist also for a key that is not in its token, ErrNoToken if the
// token is not there, ErrPINNeeded, ErrPINWrong or ErrPINLocked if it does not
// open, and ErrNoPKCS11 in a program without PKCS#11. See AsType for RSA keys.
//
// Symbolic links are followed. Who else may read the file is not checked here.
func Open(dir string, u URI, pass func() (*Passphrase, error)) (crypto.Signer, error) {
	switch u.Scheme {
	case SchemeFile:
	case SchemePKCS11:
		signer, err := process.openToken(u.PKCS11)
		if err != nil {
			return nil, fmt.Errorf("opening key %q: %w", u.String(), err)
		}
		return signer, nil
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
