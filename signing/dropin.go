package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/ca"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
)

// DropIn says what the platform's build asks of its config signing script: keys
// and certificates by file, without a PKI.
type DropIn struct {
	Conf       string   // NAME.conf
	Key        string   // a path, or a key URI
	Certs      []string // the signer's certificate first; each file may hold a chain
	CMS        bool     // NAME.p7s in place of NAME.sig and NAME.cert
	Passphrase func() (*keys.Passphrase, error)
}

// SignDropIn signs a config with a key in a file, as the platform's script does,
// but checks that key, certificates and config belong together. If the key lies
// in a PKI directory of this program, the signature is recorded there.
func SignDropIn(ctx context.Context, d DropIn, actor string, now time.Time) error {
	base, ok := strings.CutSuffix(d.Conf, ".conf")
	if !ok {
		return fmt.Errorf("%s: a config is named NAME.conf", d.Conf)
	}
	text, err := readLimited(d.Conf, guestos.MaxSize)
	if err != nil {
		return err
	}
	artifact, err := configKind(text)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Conf, err)
	}
	certs, err := ReadTrust(d.Certs)
	if err != nil {
		return err
	}
	uri, err := keyURI(d.Key)
	if err != nil {
		return err
	}
	key, err := keys.Open(".", uri, d.Passphrase)
	if err != nil {
		return err
	}
	if !spki.Equal(key.Public(), certs[0].Key) {
		return fmt.Errorf("%s is not the key of %s, the first certificate", d.Key, certs[0].Subject())
	}
	signer := &Signer{Key: key, Chain: certs}
	files, err := configFiles(text, signer, d.CMS, now, linked(now))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Conf, err)
	}
	if err := recordDropIn(ctx, uri, signer, Signed{artifact, filepath.Base(d.Conf), sha256.Sum256(text), int64(len(text))}, actor, now); err != nil {
		return err
	}
	return files.write(base)
}

// configKind finds out which kind of config a text is.
func configKind(text []byte) (string, error) {
	_, guestErr := configName("guestos", text)
	if guestErr == nil {
		return "guestos", nil
	}
	if _, err := configName("container", text); err == nil {
		return "container", nil
	}
	return "", fmt.Errorf("neither a container config nor a GuestOS config: %w", guestErr)
}

// keyURI takes a path for a file: URI.
func keyURI(s string) (keys.URI, error) {
	if strings.HasPrefix(s, "pkcs11:") || strings.HasPrefix(s, "file:") {
		return keys.ParseURI(s)
	}
	abs, err := filepath.Abs(s)
	if err != nil {
		return keys.URI{}, err
	}
	return keys.FileURI(abs)
}

// linked is a chainCheck for a chain whose root need not be at hand: each
// certificate is in date, and signed by the next one.
func linked(now time.Time) chainCheck {
	return func(leaf *ca.Certificate, helpers []*ca.Certificate) ([]*ca.Certificate, error) {
		chain := append([]*ca.Certificate{leaf}, helpers...)
		for i, c := range chain {
			if now.Before(c.NotBefore) || now.After(c.NotAfter) {
				return nil, &ca.VerifyError{Certificate: c, Reason: "not in date"}
			}
			if i+1 < len(chain) {
				if err := c.CheckSignature(chain[i+1].Key); err != nil {
					return nil, &ca.VerifyError{Certificate: c, Reason: fmt.Sprintf("not signed by the next certificate, %s: %v", chain[i+1].Subject(), err)}
				}
			}
		}
		return chain, nil
	}
}

// recordDropIn finds the PKI that the key belongs to, if it is one of ours.
func recordDropIn(ctx context.Context, uri keys.URI, signer *Signer, signed Signed, actor string, now time.Time) error {
	if uri.Scheme != keys.SchemeFile {
		return nil
	}
	path, err := realPath(uri.Path)
	if err != nil {
		return err
	}
	// The plan may put keys into directories of their own.
	dir := filepath.Dir(path)
	for {
		_, err := os.Stat(plan.StorePath(dir))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
	s, err := Open(ctx, dir, actor, func() time.Time { return now })
	if err != nil {
		return err
	}
	for _, e := range s.PKI.Plan.Entries {
		if c := s.PKI.Have.Certificates[e.Name]; c != nil && c.Equal(signer.Certificate()) {
			if err := e.MaySign(signed.Artifact); err != nil {
				return err
			}
			signer.Entry = e
			return s.record(ctx, signer, signed)
		}
	}
	below := dir != filepath.Dir(path)
	for _, e := range s.PKI.Plan.Entries {
		if key, err := realPath(e.Key.FilePath(dir)); err == nil && key == path {
			below = false
		}
	}
	if below {
		return nil // it lies somewhere below the PKI, but is none of its keys
	}
	return fmt.Errorf("%s lies in the PKI directory %s, but %s is no certificate of that PKI", uri.Path, dir, signer.Certificate().Subject())
}

// realPath returns the absolute path of a file, with no links in it.
func realPath(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
