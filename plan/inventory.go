package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/store"
)

const (
	variablePrefix = "uefi/" // of the names of objects
	maxPublished   = 4 << 20 // octets of a published file that is read
)

// fault is something that is there, but can't be used.
type fault struct {
	name string // an entry, a file, or "pki"
	err  error
}

// takeInventory looks at a PKI directory. db is nil if there is no store yet.
func takeInventory(ctx context.Context, p *Plan, dir string, db *store.DB) (Inventory, []fault) {
	have := Inventory{
		Certificates: map[string]*ca.Certificate{},
		Variables:    map[string]SignedVariable{},
		Updates:      map[string]VariableRecord{},
		Owners:       map[string]string{},
		Vendors:      map[string]VendorFile{},
		Keys:         map[string]KeyFile{},
		Tokens:       map[string]keys.Sight{},
		Files:        map[string]File{},
		Revoked:      map[string]store.Revocation{},
		Misplaced:    map[string]bool{},
		Unrecorded:   map[string]*ca.Certificate{},
	}
	if p.UEFI != nil {
		for _, v := range p.UEFI.All() {
			have.Owners[v.Platform] = p.UEFI.Owner
			for _, file := range v.Files {
				if _, ok := have.Vendors[file]; !ok {
					have.Vendors[file] = readVendor(dir, file)
				}
			}
		}
	}
	var faults []fault
	if db != nil {
		if err := have.readStore(ctx, p, dir, db); err != nil {
			return have, []fault{{"pki", err}}
		}
	}
	if r := have.Request; r != nil {
		f, err := readFile(filepath.Join(dir, filepath.FromSlash(r.File)), ceremony.MaxBundle)
		r.Here = err == nil && bytes.Equal(f.Content, r.Marshal())
	}
	for _, e := range p.Entries {
		if e.TwinOf != nil || e.inToken() {
			continue
		}
		f, err := readFile(e.Key.FilePath(dir), keys.MaxFileSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			faults = append(faults, fault{e.Name, fmt.Errorf("key of %s: %w", e.Name, err)})
			continue
		}
		d, err := keys.Describe(f.Content)
		if err != nil {
			faults = append(faults, fault{e.Name, fmt.Errorf("key of %s at %s: %w", e.Name, e.Key, err)})
			continue
		}
		have.Keys[e.Name] = KeyFile{f, d.Type}
	}
	faults = append(faults, have.findMisplaced(p, dir)...)
	faults = append(faults, have.readTokens(p)...)
	for _, f := range p.Published {
		file, err := readFile(filepath.Join(dir, filepath.FromSlash(f.File)), maxPublished)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			faults = append(faults, fault{f.File, fmt.Errorf("published file: %w", err)})
			continue
		}
		have.Files[f.File] = file
		if db == nil {
			continue
		}
		c, err := have.unrecorded(ctx, &f, file.Content, db)
		if err != nil {
			faults = append(faults, fault{"pki", err})
		}
		if c != nil {
			have.Unrecorded[f.File] = c
		}
	}
	return have, faults
}

// unrecorded returns the certificate in a published file, if our key has signed it
// and the store does not know it. No crash leaves such a file, but a store that
// was restored from an old copy does.
func (have *Inventory) unrecorded(ctx context.Context, f *Published, content []byte, db *store.DB) (*ca.Certificate, error) {
	var c *ca.Certificate
	switch f.Form {
	case FormCertificate, FormChain, FormChainWithoutRoot:
		if certs, err := ca.ParsePEM(content); err == nil {
			c = certs[0]
		}
	case FormDER:
		c, _ = ca.ParseCertificate(content)
	}
	if c == nil {
		return nil, nil // another form, or not what apply has put there
	}
	signer := have.Certificates[f.Entry.Signer().Name]
	if is := have.Certificates[f.Entry.Name]; signer == nil || is == nil || is.Equal(c) || c.CheckSignature(signer.Key) != nil {
		return nil, nil
	}
	_, err := db.BySerial(ctx, c.SerialNumber.Bytes())
	if errors.Is(err, store.ErrNotFound) {
		return c, nil
	}
	return nil, err
}

func (have *Inventory) readStore(ctx context.Context, p *Plan, dir string, db *store.DB) error {
	for _, e := range p.Entries {
		record, err := have.newest(ctx, e, db)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		cert, err := ca.ParseCertificate(record.DER)
		if err != nil {
			return fmt.Errorf("the store's certificate of %s: %w", e.Name, err)
		}
		have.Certificates[e.Name] = cert
		if record.State != store.Revoked && record.State != store.Held {
			continue
		}
		if have.Revoked[e.Name], err = db.Revocation(ctx, record.Issuer, record.Serial); err != nil {
			return err
		}
	}
	if p.Ceremony != nil {
		var err error
		if have.Request, err = readOpenRequest(ctx, db); err != nil {
			return err
		}
		use, err := db.Setting(ctx, useSetting)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		have.Offline = use == ceremonyUse
		if err := have.readDueCRLs(ctx, p, dir, db); err != nil {
			return err
		}
	}
	if p.UEFI == nil {
		return nil
	}
	for platform, owner := range have.Owners {
		var err error
		if owner == "" {
			have.Owners[platform], err = db.Setting(ctx, ownerSetting(platform))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		dbx := variableID(platform, "dbx")
		if have.Updates[dbx], err = readVariable(ctx, db, dbx, false); err != nil {
			return err
		}
	}
	for _, v := range p.UEFI.All() {
		record, err := readVariable(ctx, db, v.ID(), true)
		if err != nil {
			return err
		}
		have.Updates[v.ID()] = record
		if record.plan != nil {
			have.Variables[v.ID()] = *record.plan
		}
	}
	return nil
}

// ownerSetting is the name of the setting with the owner of a platform's UEFI
// entries, "" being the base set.
func ownerSetting(platform string) string {
	if platform == "" {
		return "uefi.owner"
	}
	return "uefi.owner." + platform
}

// readFile reads a regular file of at most limit octets.
func readFile(path string, limit int64) (File, error) {
	content, info, err := durable.ReadFile(path, limit)
	if err != nil {
		return File{}, err
	}
	return File{content, info.Mode()}, nil
}
