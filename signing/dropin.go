package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/ca"
	"tmpki/internal/tree"
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
	base, err := configBase(d.Conf)
	if err != nil {
		return err
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
	chain, err := chainOf(certs)
	if err != nil {
		return err
	}
	signer := &Signer{Key: key, Chain: chain}
	files, err := configFiles(text, signer, d.CMS, now, linked(now))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Conf, err)
	}
	if err := tree.CheckWritable(d.Conf); err != nil {
		return err
	}
	if err := recordDropIn(ctx, uri, signer, signedConfig(artifact, d.Conf, text), actor, now); err != nil {
		return err
	}
	return files.write(base)
}

// chainOf orders certificates: the first is the signer's, the others are its
// issuers, in any order and more than once, as the files of a build overlap. One
// that is not in the chain is refused.
func chainOf(certs []*ca.Certificate) ([]*ca.Certificate, error) {
	chain := certs[:1:1]
	for len(chain) <= len(certs) {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(certs, func(c *ca.Certificate) bool {
			return !slices.ContainsFunc(chain, c.Equal) && c.Subject().Equal(last.Issuer()) && last.CheckSignature(c.Key) == nil
		})
		if i < 0 {
			break
		}
		chain = append(chain, certs[i])
	}
	for _, c := range certs {
		if !slices.ContainsFunc(chain, c.Equal) {
			return nil, fmt.Errorf("%s is not in the chain of %s, the first certificate", c.Subject(), certs[0].Subject())
		}
	}
	return chain, nil
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

// linked is a chainCheck for a chain whose root need not be at hand: the
// certificates are one chain, and each is in date.
func linked(now time.Time) chainCheck {
	return func(leaf *ca.Certificate, helpers []*ca.Certificate) ([]*ca.Certificate, error) {
		chain, err := chainOf(append([]*ca.Certificate{leaf}, helpers...))
		if err != nil {
			return nil, err
		}
		// With the root at hand, the daemon's own check can be made.
		if root := chain[len(chain)-1]; root.SelfIssued() {
			return ca.Verify(leaf, ca.VerifyOptions{Roots: []*ca.Certificate{root}, Intermediates: chain[1:], Time: now})
		}
		for _, c := range chain {
			if now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
				return nil, &ca.VerifyError{Certificate: c, Reason: "not in date"}
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
	dir, err := directoryOf(path)
	if err != nil || dir == "" {
		return err
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

// directoryOf returns the PKI directory that a key lies in, be it further below,
// where a plan can put keys, or "".
func directoryOf(key string) (string, error) {
	for dir := filepath.Dir(key); ; dir = filepath.Dir(dir) {
		_, err := os.Stat(plan.StorePath(dir))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", nil
		}
	}
}

// realPath returns the absolute path of a file, with no links in it.
func realPath(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
