package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	lock, err := durable.LockDir(ctx, real, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	out := &Outcome{Adopted: true}
	out.Checks, err = CheckAdopted(real, o.Now())
	if err != nil {
		return nil, err
	}
	for _, f := range out.Checks {
		if f.Level == Bad {
			return nil, fmt.Errorf("the PKI in %s can't be used: %s: %s", real, f.Name, f.Text)
		}
	}
	// The module signing key: the leaf where there is one, else the sub CA, which
	// is what the platform's own scripts took.
	signer := "ssig"
	if _, err := os.Stat(filepath.Join(real, "ssig.key")); errors.Is(err, fs.ErrNotExist) {
		signer = "ssig_subca"
	}
	pemFile, derFile := filepath.Join("certs", "signing_key.pem"), filepath.Join("certs", "signing_key.x509")
	if missing(real, pemFile) || missing(real, derFile) {
		key, certs, err := readPair(real, signer)
		if err != nil {
			return nil, fmt.Errorf("deriving %s: %w", pemFile, err)
		}
		if err := os.Mkdir(filepath.Join(real, "certs"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		pem := append(bytes.Clone(key), ca.MarshalPEM(certs[0])...)
		if err := derive(out, real, pemFile, pem, 0o600); err != nil {
			return nil, err
		}
		if err := derive(out, real, derFile, certs[0].Raw, 0o644); err != nil {
			return nil, err
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
	if o.Demand.PlatformKeys && missing(real, "DB.auth") {
		return nil, fmt.Errorf("the PKI in %s has no UEFI keys, and none are made in a PKI that was made elsewhere: put PK, KEK and DB there, or unset DO_PLATFORM_KEYS", real)
	}
	return out, nil
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
	var out findings
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
