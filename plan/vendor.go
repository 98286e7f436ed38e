package plan

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/uefi"
)

// VendorFile is a certificate of somebody else that stays in KEK or db beside
// ours, such as that of the authority which signs the ROMs of cards.
type VendorFile struct {
	Certificate *ca.Certificate
	Err         error // why it can't be used: whoever needs it fails, nobody else
}

// maxCertificateFile bounds a file with one certificate, in PEM or DER.
const maxCertificateFile = 2 * ca.MaxCertificate

// ReadCertificate reads a file that holds exactly one certificate, in PEM or
// DER. A file with a whole chain is refused: not all of it may be meant.
func ReadCertificate(path string) (*ca.Certificate, error) {
	f, err := readFile(path, maxCertificateFile)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(f.Content, []byte("-----BEGIN ")) {
		c, err := ca.ParseCertificate(f.Content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return c, nil
	}
	certs, err := ca.ParsePEM(f.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(certs) > 1 {
		return nil, fmt.Errorf("%s: holds %d certificates: put the one that is meant into a file of its own", path, len(certs))
	}
	return certs[0], nil
}

// readVendor reads a vendor file and holds it against the rules of the firmware.
func readVendor(dir, file string) VendorFile {
	c, err := ReadCertificate(filepath.Join(dir, filepath.FromSlash(file)))
	if err == nil {
		if err = uefi.CheckKeyType(c.KeyType()); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}
	if err != nil {
		return VendorFile{Err: fmt.Errorf("vendor certificate: %w", err)}
	}
	return VendorFile{Certificate: c}
}

// vendors returns the vendor certificates of the variable.
func (v *Variable) vendors(have Inventory) ([]*ca.Certificate, error) {
	var list []*ca.Certificate
	for _, file := range v.Files {
		f := have.Vendors[file]
		if f.Err == nil && f.Certificate == nil {
			f.Err = fmt.Errorf("%s was not read", file)
		}
		if f.Err != nil {
			return nil, fmt.Errorf("variable %s: %w", v.ID(), f.Err)
		}
		list = append(list, f.Certificate)
	}
	return list, nil
}

// vendorFiles checks the list of vendor files of a variable.
func (l *loader) vendorFiles(name string, files []string) error {
	key := "uefi.variables." + name + ".files"
	if name == "PK" && len(files) > 0 {
		return l.doc.fail(key, errors.New("PK holds one certificate, the platform's own"))
	}
	for i, file := range files {
		if err := checkInside(file); err != nil {
			return l.doc.fail(key, err)
		}
		if slices.Contains(files[:i], file) {
			return l.doc.fail(key, fmt.Errorf("%q stands twice", file))
		}
	}
	return nil
}

// CheckTarget tells, as an error, that a certificate has a key which the plan's
// firmware may not be able to use. With certificates of others that is a reason
// to warn: only a try shows.
func (p *Plan) CheckTarget(c *ca.Certificate) error {
	t := p.target("uefi")
	if slices.Contains(t.Signers, c.KeyType()) {
		return nil
	}
	var names []string
	for _, k := range t.Signers {
		names = append(names, k.String())
	}
	return fmt.Errorf("the certificate of %q has a key of type %v, but this plan's firmware takes %s only (targets.uefi.signers): it may refuse the whole update",
		c.Subject(), c.KeyType(), strings.Join(names, ", "))
}
