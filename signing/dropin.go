package signing

import (
	"context"
	"fmt"
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
// and certificates by file, or in a token, without a PKI.
type DropIn struct {
	Conf       string   // NAME.conf
	Key        string   // a path, or a key URI
	Certs      []string // paths or pkcs11: URIs, the signer's first; each may hold a chain
	CMS        bool     // NAME.p7s in place of NAME.sig and NAME.cert
	Passphrase func() (*keys.Passphrase, error)

	// PKI is the directory in which the signature with a key in a token is
	// recorded; "" if there is none. A key in a file leads to its own.
	PKI  string
	Warn func(text string) // may be nil
}

// SignDropIn signs a config as the platform's script does, but checks that key,
// certificates and config belong together. If the key lies in a PKI directory of
// this program, the signature is recorded there.
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
	key = keys.AsType(key, certs[0].KeyType())
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
	record := recordDropIn
	if uri.Scheme == keys.SchemePKCS11 {
		record = d.recordToken
	}
	if err := record(ctx, uri, signer, signedConfig(artifact, d.Conf, text), actor, now); err != nil {
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
	if known, err := s.recordKnown(ctx, signer, signed); known || err != nil {
		return err
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

// recordKnown records a signature if the signer's certificate is one of the PKI,
// and refuses it if that is not for such artifacts.
func (s *Session) recordKnown(ctx context.Context, signer *Signer, signed Signed) (known bool, err error) {
	for _, e := range s.PKI.Plan.Entries {
		if c := s.PKI.Have.Certificates[e.Name]; c != nil && c.Equal(signer.Certificate()) {
			if err := e.MaySign(signed.Artifact); err != nil {
				return true, err
			}
			signer.Entry = e
			return true, s.record(ctx, signer, signed)
		}
	}
	return false, nil
}

// recordToken records a signature that was made in a token, which tells of no PKI
// directory, in the one that the caller names.
func (d *DropIn) recordToken(ctx context.Context, uri keys.URI, signer *Signer, signed Signed, actor string, now time.Time) error {
	if d.PKI == "" {
		if d.Warn != nil {
			d.Warn(fmt.Sprintf("%s: signed with a key in a token, and not recorded: name the PKI directory with --pki or $TMPKI_DIR", signed.File))
		}
		return nil
	}
	s, err := Open(ctx, d.PKI, actor, func() time.Time { return now })
	if err != nil {
		return err
	}
	known, err := s.recordKnown(ctx, signer, signed)
	if err == nil && !known {
		return fmt.Errorf("%s is no certificate of the PKI in %s, where the signature would be recorded: name another, or none", signer.Certificate().Subject(), d.PKI)
	}
	return err
}

// directoryOf returns the PKI directory that a key lies in, be it further below,
// where a plan can put keys, or "".
func directoryOf(key string) (string, error) {
	for dir := filepath.Dir(key); ; dir = filepath.Dir(dir) {
		found, err := plan.HasStore(dir)
		if err != nil {
			return "", err
		}
		if found {
			return dir, nil
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
