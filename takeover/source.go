// Package takeover makes a PKI directory of a PKI that other programs made: the
// platform's scripts, "openssl ca", or single CAs with their keys in files or
// tokens. It reads, says what is wrong with what it found, and writes a new
// directory; where it reads it never writes.
package takeover

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
)

// Limits of what is read.
const (
	maxFiles = 1_000_000
	maxFile  = 4 << 20 // octets, of files with certificates or keys
	maxDepth = 6
	maxIndex = 1 << 30 // octets of an index.txt
)

// Options say where keys are, beside the files.
type Options struct {
	Keys       []keys.URI                       // keys in tokens, or in files elsewhere
	Passphrase func() (*keys.Passphrase, error) // opens encrypted keys; nil: they stay closed
}

// certificate is one that was found.
type certificate struct {
	*ca.Certificate
	file        string // where it was found first
	name        string // of the entry; "": only a record
	issuer      *certificate
	key         *key
	twin        *certificate // of which sub CA it is the anchor twin
	platform    bool         // PK, KEK or DB of the UEFI keys that are taken over
	signsImages bool         // is in db
	record      string       // the name that the record has it under
	line        *line        // of the issuer's index.txt
}

// key is a private key that was found.
type key struct {
	uri       keys.URI // zero: in a file
	file      string
	content   []byte
	mode      fs.FileMode
	public    crypto.PublicKey // nil: encrypted, and could not be opened
	encrypted bool
}

// index is one directory of "openssl ca".
type index struct {
	dir       string
	file      string
	lines     []line
	next      []byte // of the file serial
	crlNumber uint64 // the next one; 0: none
}

// Found is a PKI that was read.
type Found struct {
	Findings []plan.Finding // what is wrong with it, and what one should know

	certs   []*certificate
	keys    []*key
	indexes []*index
	crls    []foundCRL
	entries []*certificate // of the plan, issuers first; without UEFI keys
	uefi    *uefiKeys      // nil: none are taken over

	uefiFiles map[string]map[string]uefiFile // by directory and name

	byRaw map[string]*certificate
}

// foundCRL is a CRL of one of the authorities.
type foundCRL struct {
	file string
	list *x509.RevocationList
	size int64
}

func (f *Found) add(level plan.Level, name, format string, args ...any) {
	f.Findings = append(f.Findings, plan.Finding{Level: level, Name: name, Text: fmt.Sprintf(format, args...)})
}

// Bad reports whether something is wrong that must be accepted by a person.
func (f *Found) Bad() bool {
	return slices.ContainsFunc(f.Findings, func(x plan.Finding) bool { return x.Level == plan.Bad })
}

// Read looks at directories and files.
func Read(ctx context.Context, paths []string, o Options) (*Found, error) {
	f := &Found{byRaw: map[string]*certificate{}, uefiFiles: map[string]map[string]uefiFile{}}
	seen := map[string]bool{}
	for _, path := range paths {
		if err := f.readPath(ctx, path, seen); err != nil {
			return nil, err
		}
	}
	for _, u := range o.Keys {
		s, err := keys.Open(".", u, o.Passphrase)
		if err != nil {
			return nil, err
		}
		k := &key{uri: u, file: u.String(), public: s.Public()}
		if u.Scheme == keys.SchemeFile {
			content, _, err := durable.ReadFile(u.FilePath("."), keys.MaxFileSize)
			if err != nil {
				return nil, err
			}
			k.encrypted = keys.IsEncrypted(content)
		}
		f.keys = append(f.keys, k)
	}
	if len(f.certs) == 0 {
		return nil, fmt.Errorf("no certificate in %s", strings.Join(paths, ", "))
	}
	f.open(o)
	f.link()
	f.pair()
	f.findUEFI()
	f.name()
	if len(f.entries) == 0 {
		return nil, errors.New("no certificate authority whose chain is whole was found: name the root's certificate too")
	}
	now := time.Now()
	f.readUEFI(now)
	f.judge(now)
	return f, nil
}

func (f *Found) readPath(ctx context.Context, path string, seen map[string]bool) error {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && strings.Count(rel, string(filepath.Separator)) >= maxDepth:
			f.add(plan.Warn, path, "lies too deep, and was not read")
			return fs.SkipDir
		case !d.Type().IsRegular() || seen[path]:
			return nil // links lead to what is there, or out of it
		}
		if seen[path] = true; len(seen) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return f.readFile(path)
	})
}

// readFile takes what a file holds.
func (f *Found) readFile(path string) error {
	if filepath.Base(path) == "index.txt" {
		return f.readCA(path)
	}
	content, info, err := durable.ReadFile(path, maxFile)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil // too large for anything of ours
	}
	f.keepUEFI(path, content, info.ModTime())
	switch {
	case bytes.Contains(content, []byte("PRIVATE KEY-----")):
		f.readKey(path, content, info.Mode())
	case bytes.Contains(content, []byte("-----BEGIN CERTIFICATE-----")):
		certs, err := ca.ParsePEM(content)
		if err != nil {
			f.add(plan.Bad, path, "can't be read: %v", err)
			return nil
		}
		f.take(certs[0], path) // what follows is its chain, from other files
		for _, c := range certs[1:] {
			f.take(c, path+" (chain)")
		}
	case bytes.Contains(content, []byte("-----BEGIN X509 CRL-----")):
		if block, _ := pem.Decode(content); block != nil {
			f.readCRL(path, block.Bytes)
		}
	case isDER(path, content):
		if c, err := ca.ParseCertificate(content); err == nil {
			f.take(c, path)
		} else if list, err := x509.ParseRevocationList(content); err == nil {
			f.crls = append(f.crls, foundCRL{path, list, int64(len(content))})
		}
	}
	return nil
}

func isDER(path string, content []byte) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".cer", ".crt", ".der", ".x509", ".crl":
		return bytes.HasPrefix(content, []byte{0x30})
	}
	return false
}

func (f *Found) readCRL(path string, der []byte) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		f.add(plan.Warn, path, "is no CRL: %v", err)
		return
	}
	f.crls = append(f.crls, foundCRL{path, list, int64(len(der))})
}

// take adds a certificate. A file of its own outweighs a place in a chain.
func (f *Found) take(c *ca.Certificate, file string) {
	if o := f.byRaw[string(c.Raw)]; o != nil {
		if rank(file) < rank(o.file) {
			o.file = file
		}
		return
	}
	is := &certificate{Certificate: c, file: file}
	f.certs, f.byRaw[string(c.Raw)] = append(f.certs, is), is
}

// rank says how much a file tells about the name of what it holds.
func rank(file string) int {
	switch base := filepath.Base(file); {
	case strings.HasSuffix(file, " (chain)"):
		return 2
	case base == "signing_key.pem" || base == "signing_key.x509" || serialName.MatchString(base):
		return 1
	}
	return 0
}

// serialName is what "openssl ca" calls copies in newcerts.
var serialName = regexp.MustCompile(`^[0-9A-F]+\.pem$`)

func (f *Found) readKey(path string, content []byte, mode fs.FileMode) {
	// The platform's module signing key has its certificate behind it.
	if bytes.Contains(content, []byte("-----BEGIN CERTIFICATE-----")) {
		f.readKeyAndCertificate(path, content, mode)
		return
	}
	d, err := keys.Describe(content)
	if err != nil {
		f.add(plan.Bad, path, "%v", err)
		return
	}
	k := &key{file: path, content: content, mode: mode, encrypted: d.Encryption != ""}
	if !k.encrypted {
		s, err := keys.ParsePEM(content, nil)
		if err != nil {
			f.add(plan.Bad, path, "%v", err)
			return
		}
		k.public = s.Public()
	}
	f.keys = append(f.keys, k)
}

func (f *Found) readKeyAndCertificate(path string, content []byte, mode fs.FileMode) {
	block, rest := pem.Decode(content)
	if block == nil {
		return
	}
	s, err := keys.ParsePEM(pem.EncodeToMemory(block), nil)
	if err != nil {
		f.add(plan.Warn, path, "its key was not read: %v", err)
		return
	}
	certs, err := ca.ParsePEM(rest)
	if err != nil {
		f.add(plan.Warn, path, "its certificate was not read: %v", err)
		return
	}
	if certs[0].IsCA {
		f.add(plan.Warn, path, "is a copy of the key of a CA (%s), in plain text%s: it is not taken over", certs[0].Subject(), othersRead(mode))
	}
	if !spki.Equal(s.Public(), certs[0].Key) {
		f.add(plan.Warn, path, "its key is not that of its certificate")
	}
}

func othersRead(mode fs.FileMode) string {
	if mode.Perm()&0o077 != 0 {
		return fmt.Sprintf(", and others may read it (mode %04o)", mode.Perm())
	}
	return ""
}

// open opens encrypted keys.
func (f *Found) open(o Options) {
	for _, k := range f.keys {
		if !k.encrypted || o.Passphrase == nil {
			continue
		}
		p, err := o.Passphrase()
		if err != nil {
			f.add(plan.Warn, "pki", "encrypted keys were not opened: %v", err)
			return
		}
		if p == nil {
			f.add(plan.Note, "pki", "encrypted keys were not opened, as their passphrase is not at hand")
			return
		}
		s, err := keys.ParsePEM(k.content, p)
		if err != nil {
			f.add(plan.Warn, k.file, "does not open: %v", err)
			continue
		}
		k.public = s.Public()
	}
}

// link finds the issuer of each certificate.
func (f *Found) link() {
	bySubject := map[string][]*certificate{}
	for _, c := range f.certs {
		bySubject[string(c.RawSubject)] = append(bySubject[string(c.RawSubject)], c)
	}
	for _, c := range f.certs {
		if c.SelfIssued() && c.CheckSignature(c.Key) == nil {
			continue
		}
		for _, i := range bySubject[string(c.RawIssuer)] {
			better := c.issuer == nil || c.issuer.twin != nil || !c.issuer.NotAfter.After(i.NotAfter)
			if i != c && (i.IsCA || i.Version == 1) && better && c.CheckSignature(i.Key) == nil {
				c.issuer = i
			}
		}
	}
	// A self-signed certificate beside one of the same name and key that another CA
	// has signed is a trust anchor for that.
	for _, c := range f.certs {
		if c.issuer != nil || !c.SelfIssued() {
			continue
		}
		for _, o := range bySubject[string(c.RawSubject)] {
			if o.issuer != nil && o.issuer != c && spki.Equal(o.Key, c.Key) {
				c.twin = o
			}
		}
	}
	for _, c := range f.certs {
		if c.issuer != nil && c.issuer.twin != nil {
			c.issuer = c.issuer.twin
		}
	}
}

// root follows issuers up; nil if the chain is not whole.
func (c *certificate) root() *certificate {
	for range 20 {
		switch {
		case c.issuer != nil:
			c = c.issuer
		case c.SelfIssued() && c.CheckSignature(c.Key) == nil:
			return c
		default:
			return nil
		}
	}
	return nil
}

// pair finds the key of each certificate, by the public key, or where that is not
// known by the name.
func (f *Found) pair() {
	used := map[*key]bool{}
	for _, c := range f.certs {
		for _, k := range f.keys {
			if k.public != nil && spki.Equal(k.public, c.Key) && (c.key == nil || sameStem(k.file, c.file)) {
				c.key, used[k] = k, true
			}
		}
	}
	for _, c := range f.certs {
		for _, k := range f.keys {
			if !sameStem(k.file, c.file) || c.key != nil {
				continue
			}
			if k.public == nil {
				c.key, used[k] = k, true
				f.add(plan.Warn, k.file, "is encrypted and was not opened: that it is the key of %s was taken from its name", c.file)
			} else {
				f.add(plan.Bad, k.file, "is not the key of %s, beside which it lies", c.file)
				used[k] = true
			}
		}
	}
	for _, k := range f.keys {
		if !used[k] {
			f.add(plan.Warn, k.file, "is the key of no certificate here: it stays behind")
		}
	}
}

// sameStem reports whether a key's file is called like a certificate's.
func sameStem(keyFile, certFile string) bool {
	k, c := stem(keyFile), stem(strings.TrimSuffix(certFile, " (chain)"))
	if k == "cakey" && c == "cacert" {
		return true
	}
	return k == c && !strings.HasSuffix(certFile, " (chain)")
}

func stem(file string) string {
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// readCA reads a directory of "openssl ca" beside its index.txt.
func (f *Found) readCA(path string) error {
	file, _, err := durable.OpenRegular(path, maxIndex)
	if err != nil {
		return err
	}
	defer file.Close()
	x := &index{dir: filepath.Dir(path), file: path}
	err = readIndex(file, func(l line) { x.lines = append(x.lines, l) }, func(number int, err error) {
		f.add(plan.Bad, path, "line %d: %v", number, err)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	x.next = f.readNumber(filepath.Join(x.dir, "serial"))
	if n := f.readNumber(filepath.Join(x.dir, "crlnumber")); len(n) > 8 {
		f.add(plan.Bad, filepath.Join(x.dir, "crlnumber"), "is larger than 2⁶³, which this program can't go on from")
	} else {
		for _, b := range n {
			x.crlNumber = x.crlNumber<<8 | uint64(b)
		}
	}
	f.indexes = append(f.indexes, x)
	return nil
}

// readNumber reads the files serial and crlnumber of "openssl ca"; nil if there is
// none.
func (f *Found) readNumber(path string) []byte {
	text, _, err := durable.ReadFile(path, 1024)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var number []byte
	if err == nil {
		number, err = parseSerial(strings.TrimSpace(string(text)))
	}
	if err != nil {
		f.add(plan.Warn, path, "%v", err)
	}
	return number
}
