package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"tmpki/ca"
	"tmpki/internal/durable"
)

// maxCompromised bounds a list of compromised keys, in octets.
const maxCompromised = 256 << 20

// blacklists are where Debian and its children put the keys of CVE-2008-0166.
const blacklists = "/usr/share/openssl-blacklist/blacklist.RSA-*"

// CompromisedKeys reads the lists of compromised keys for a profile: the plan's,
// which must be there, and those of this machine, which are taken as they come.
func (p *PKI) CompromisedKeys(i *Issuance) (*ca.CompromisedKeys, error) {
	known := &ca.CompromisedKeys{}
	files, err := filepath.Glob(blacklists)
	if err != nil {
		return nil, err
	}
	if file := i.CompromisedKeys; file != "" {
		if !filepath.IsAbs(file) {
			file = filepath.Join(p.Dir, file)
		}
		files = append(files, file)
	}
	for n, file := range slices.Compact(files) {
		f, _, err := durable.OpenRegular(file, maxCompromised)
		if errors.Is(err, fs.ErrNotExist) && n < len(files)-1 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list of compromised keys: %w", err)
		}
		err = known.Add(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("list of compromised keys %s: %w", file, err)
		}
	}
	return known, nil
}
