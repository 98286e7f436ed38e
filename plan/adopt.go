package plan

import (
	"bytes"
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/spki"
)

// contract lists what the platform's build reads from a PKI directory (see
// doc/formats.md). Certificates marked required must be there; all that are
// there must be good.
var contract = []struct {
	name     string
	root     string // under which name its root is published
	required bool
}{
	{"ssig_rootca", "ssig_rootca", true},
	{"ssig_subca", "ssig_rootca", true},
	{"ssig", "ssig_rootca", false},
	{"ssig_subca_cml", "ssig_rootca", false},
	{"ssig_cml", "ssig_rootca", true},
	{"gen_rootca", "gen_rootca", false},
	{"guestos_subca", "gen_rootca", false},
	{"device_subca", "gen_rootca", false},
	{"user_subca", "gen_rootca", false},
	{"backend_subca", "gen_rootca", false},
	{"backend", "gen_rootca", false},
	{"ocsp_server", "gen_rootca", false},
}

// testPassphrase is the environment variable with which the platform's build
// encrypts the keys of the customer side.
const testPassphrase = "GYROIDOS_TEST_PASSWD_PKI"

// Adopt takes a PKI that was made elsewhere, such as a seeded release PKI: it
// checks what the build will read, derives the files that are missing and can be
// derived, and never makes a key. It changes nothing else.
func Adopt(ctx context.Context, dir string, o Options) (*Outcome, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("the release PKI that %s leads to: %w", dir, err)
	}
	lock, err := LockPKI(ctx, real, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if !missing(real, FileName) {
		return adoptOwn(ctx, real, o)
	}
	out := &Outcome{Adopted: true}
	out.Checks, err = CheckAdopted(real, o.Now())
	if err != nil {
		return nil, err
	}
	for _, f := range out.Checks {
		if f.Level == Bad {
			return nil, unusable(real, f)
		}
	}
	if err := lacksUEFI(real, o.Demand); err != nil {
		return nil, err
	}
	if missing(real, modulePEM) || missing(real, moduleDER) {
		if err := deriveModuleKey(out, real); err != nil {
			return nil, fmt.Errorf("deriving the module signing key: %w", err)
		}
	}
	if !missing(real, "PK.crt") && missing(real, "PK.cer") {
		f, err := readFile(filepath.Join(real, "PK.crt"), maxPublished)
		if err != nil {
			return nil, err
		}
		certs, err := ca.ParsePEM(f.Content)
		if err != nil {
			return nil, fmt.Errorf("PK.crt: %w", err)
		}
		if err := derive(out, real, "PK.cer", certs[0].Raw, 0o644); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unusable is the error for a PKI with something bad in it.
func unusable(dir string, f Finding) error {
	return fmt.Errorf("the PKI in %s can't be used: %s: %s", dir, f.Name, f.Text)
}

// lacksUEFI refuses the demand for UEFI keys that are not there.
func lacksUEFI(dir string, d Demand) error {
	if d.PlatformKeys && missing(dir, "DB.auth") {
		return fmt.Errorf("the PKI in %s has no UEFI keys, and none are made in a PKI that was made elsewhere: put PK, KEK and DB there, or unset DO_PLATFORM_KEYS", dir)
	}
	return nil
}

// adoptOwn is Adopt for a PKI that has a plan. The files that are missing come
// from its record; all else is for Apply, where its keys are.
func adoptOwn(ctx context.Context, dir string, o Options) (*Outcome, error) {
	out := &Outcome{Adopted: true}
	p, err := Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	steps, err := p.Plan.Steps(p.Have, Demand{})
	if err != nil {
		return nil, err
	}
	lost := map[string]*Published{}
	for _, s := range steps {
		if s.Kind == PublishFile && s.Reason == "" {
			lost[s.Published.File] = s.Published
		}
	}
	list, err := Check(ctx, dir, o.Now())
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		switch {
		case lost[f.Name] != nil: // about to be derived
		case f.Level == Bad:
			return nil, unusable(dir, f)
		default:
			out.Checks = append(out.Checks, f)
		}
	}
	if err := lacksUEFI(dir, o.Demand); err != nil {
		return nil, err
	}
	for _, file := range sortedKeys(lost) {
		content, err := lost[file].render(p.Have)
		if err != nil {
			return nil, err
		}
		path := filepath.FromSlash(file)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			return nil, err
		}
		if err := derive(out, dir, path, content, lost[file].mode()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// The module signing key, for the kernel's build: key and certificate in one
// file, and the certificate in DER.
var (
	modulePEM = filepath.Join("certs", "signing_key.pem")
	moduleDER = filepath.Join("certs", "signing_key.x509")
)

// deriveModuleKey writes those of the two files that are missing, so that they
// fit each other.
func deriveModuleKey(out *Outcome, dir string) error {
	var pair []byte
	var cert *ca.Certificate
	if !missing(dir, modulePEM) {
		f, err := readFile(filepath.Join(dir, modulePEM), maxPublished)
		if err != nil {
			return err
		}
		if _, cert, err = parseKeyCertificate(f.Content); err != nil {
			return fmt.Errorf("%s: %w", modulePEM, err)
		}
	} else {
		// The leaf where there is one, else the sub CA, which is what the
		// platform's own scripts took; but what signing_key.x509 is of, if that is
		// there.
		var want []byte
		if !missing(dir, moduleDER) {
			f, err := readFile(filepath.Join(dir, moduleDER), maxPublished)
			if err != nil {
				return err
			}
			want = f.Content
		}
		for _, name := range []string{"ssig", "ssig_subca"} {
			key, certs, err := readPair(dir, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if want == nil || bytes.Equal(want, certs[0].Raw) {
				cert, pair = certs[0], append(bytes.Clone(key), ca.MarshalPEM(certs[0])...)
				break
			}
		}
		if cert == nil && want != nil {
			return fmt.Errorf("%s is neither the certificate of ssig nor of ssig_subca with its key beside it", moduleDER)
		}
		if cert == nil {
			return errors.New("neither ssig nor ssig_subca is there with certificate and key")
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "certs"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := derive(out, dir, modulePEM, pair, 0o600); err != nil {
		return err
	}
	return derive(out, dir, moduleDER, cert.Raw, 0o644)
}

// parseKeyCertificate takes key and certificate out of one PEM file. The key is
// nil if it is encrypted.
func parseKeyCertificate(data []byte) (crypto.Signer, *ca.Certificate, error) {
	var key crypto.Signer
	var cert *ca.Certificate
	hasKey := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var err error
		one := pem.EncodeToMemory(block)
		switch {
		case block.Type == "CERTIFICATE" && cert == nil:
			cert, err = ca.ParseCertificate(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && !hasKey:
			hasKey = true
			if !keys.IsEncrypted(one) {
				key, err = keys.ParsePEM(one, nil)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if !hasKey || cert == nil {
		return nil, nil, errors.New("must hold a private key and its certificate")
	}
	return key, cert, nil
}

// moduleKey checks the module signing key, where it is there.
func (out *findings) moduleKey(dir string) {
	f, err := readFile(filepath.Join(dir, modulePEM), maxPublished)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		out.add(Bad, modulePEM, "%v", err)
		return
	}
	if f.Mode.Perm()&0o077 != 0 {
		out.add(Warn, modulePEM, "has mode %04o: others can read the key; chmod 600", f.Mode.Perm())
	}
	key, cert, err := parseKeyCertificate(f.Content)
	if err != nil {
		out.add(Bad, modulePEM, "%v", err)
		return
	}
	if key != nil && !spki.Equal(key.Public(), cert.Key) {
		out.add(Bad, modulePEM, "its key is not the key of its certificate")
	}
	if der, err := readFile(filepath.Join(dir, moduleDER), maxPublished); err == nil && !bytes.Equal(der.Content, cert.Raw) {
		out.add(Bad, moduleDER, "is not the certificate in %s", modulePEM)
	}
}

func missing(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return errors.Is(err, fs.ErrNotExist)
}

// derive writes a file that is missing.
func derive(out *Outcome, dir, file string, content []byte, mode fs.FileMode) error {
	if !missing(dir, file) {
		return nil
	}
	if err := durable.CreateFile(filepath.Join(dir, file), content, mode); err != nil {
		return err
	}
	out.Derived = append(out.Derived, filepath.ToSlash(file))
	return nil
}

// readPair reads NAME.key, as it is stored, and NAME.cert.
func readPair(dir, name string) ([]byte, []*ca.Certificate, error) {
	key, err := readFile(filepath.Join(dir, name+".key"), keys.MaxFileSize)
	if err != nil {
		return nil, nil, err
	}
	if _, err := keys.Describe(key.Content); err != nil {
		return nil, nil, fmt.Errorf("%s.key: %w", name, err)
	}
	f, err := readFile(filepath.Join(dir, name+".cert"), maxPublished)
	if err != nil {
		return nil, nil, err
	}
	certs, err := ca.ParsePEM(f.Content)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.cert: %w", name, err)
	}
	return key.Content, certs, nil
}

// CheckAdopted checks the certificates and keys of a PKI directory without a
// plan: that those which the build needs are there, chain to their root, are in
// date, and belong to their keys.
func CheckAdopted(dir string, now time.Time) ([]Finding, error) {
	return checkAdopted(dir, now, soon)
}

func checkAdopted(dir string, now time.Time, within time.Duration) ([]Finding, error) {
	out := findings{soon: within}
	chains := map[string][]*ca.Certificate{}
	var helpers []*ca.Certificate
	for _, c := range contract {
		f, err := readFile(filepath.Join(dir, c.name+".cert"), maxPublished)
		if errors.Is(err, fs.ErrNotExist) {
			if c.required {
				out.add(Bad, c.name, "%s.cert is missing", c.name)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		certs, err := ca.ParsePEM(f.Content)
		if err != nil {
			out.add(Bad, c.name, "%s.cert: %v", c.name, err)
			continue
		}
		chains[c.name] = certs
		helpers = append(helpers, certs...)
	}
	text, err := developmentPlan(spki.KeyType{})
	if err != nil {
		return nil, err
	}
	model, err := Load(FileName, text)
	if err != nil {
		return nil, err
	}
	ring := newKeyring(dir)
	var locked []string
	for _, c := range contract {
		certs := chains[c.name]
		if certs == nil {
			continue
		}
		roots := chains[c.root]
		if roots == nil {
			out.add(Warn, c.name, "%s.cert can't be checked: %s.cert is missing", c.name, c.root)
			continue
		}
		if _, err := ca.Verify(certs[0], ca.VerifyOptions{Roots: roots[:1], Intermediates: helpers, Time: now}); err != nil {
			out.add(Bad, c.name, "%v", err)
			continue
		}
		out.expiry(c.name, certs[0], now)
		out.consumers(model, c.name, certs[0].KeyType())
		if !out.adoptedKey(ring, dir, c.name, certs[0]) {
			locked = append(locked, c.name)
		}
	}
	out.moduleKey(dir)
	out.locked(locked)
	return out.list, nil
}

// consumers checks that a key is not weak, and that those who verify what the
// entry of this name signs in the platform's build can read it.
func (out *findings) consumers(model *Plan, name string, t spki.KeyType) {
	if (t.Kind == spki.RSA || t.Kind == spki.RSAPSS) && t.Bits < 2048 {
		out.add(Bad, name, "its key has only %d bits", t.Bits)
	}
	e := model.Entry(name)
	if e == nil {
		return
	}
	is := *e
	is.KeyType = t
	for _, artifact := range e.Signs {
		if err := model.target(artifactTarget(artifact)).check(&is, &is); err != nil {
			out.add(Bad, name, "%v", err)
			return
		}
	}
}

// adoptedKey checks NAME.key, if it is there. It returns false if the key is
// encrypted and could not be opened.
func (out *findings) adoptedKey(ring *keyring, dir, name string, cert *ca.Certificate) bool {
	uri, err := keys.FileURI(name + ".key")
	if err != nil {
		out.add(Bad, name, "%v", err)
		return true
	}
	f, err := readFile(uri.FilePath(dir), keys.MaxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		out.add(Bad, name, "key: %v", err)
		return true
	}
	if f.Mode.Perm()&0o077 != 0 {
		out.add(Warn, name, "%s.key has mode %04o: others can read it; chmod 600", name, f.Mode.Perm())
	}
	signer, err := ring.signer(&Entry{Name: name, Key: uri, KeyType: cert.KeyType(), Passphrase: keys.Source{Env: testPassphrase, Optional: true}})
	switch {
	case errors.Is(err, keys.ErrPassphraseNeeded):
		return false
	case err != nil:
		out.add(Bad, name, "%v", err)
	case !spki.Equal(signer.Public(), cert.Key):
		out.add(Bad, name, "%s.key is not the key of %s.cert", name, name)
	}
	return true
}

// adoptedKeyType refuses a key type that the roots of a PKI made elsewhere don't
// have.
func adoptedKeyType(dir string, keyType spki.KeyType) error {
	f, err := readFile(filepath.Join(dir, "ssig_rootca.cert"), maxPublished)
	if err != nil {
		return err
	}
	certs, err := ca.ParsePEM(f.Content)
	if err != nil {
		return fmt.Errorf("ssig_rootca.cert: %w", err)
	}
	if is := certs[0].KeyType(); is != keyType {
		return fmt.Errorf("%s was made with keys of another type: ssig_rootca is %v, not %v. Remove the directory to make it anew, or call without a key type to keep it", dir, is, keyType)
	}
	return nil
}
