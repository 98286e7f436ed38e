package plan

import (
	"errors"
	"maps"
	"slices"

	"tmpki/keys"
)

// merge returns t with all that over says laid over it.
func (t templateConfig) merge(over templateConfig) templateConfig {
	t.Certificate = t.Certificate.Merge(over.Certificate)
	t.Keys = t.Keys.merge(over.Keys)
	for _, f := range []struct{ to, from *string }{
		{&t.KeyType, &over.KeyType}, {&t.Hash, &over.Hash}, {&t.Scheme, &over.Scheme}, {&t.Custody, &over.Custody}, {&t.Overlap, &over.Overlap},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if over.Signs != nil {
		t.Signs = over.Signs
	}
	if over.CRL != nil {
		t.CRL = over.CRL
	}
	return t
}

func (k keysConfig) merge(over keysConfig) keysConfig {
	if over.Place != "" {
		k.Place = over.Place
	}
	if over.Passphrase != nil {
		k.Passphrase = over.Passphrase
	}
	return k
}

// source turns what the file says into a keys.Source. No passphrase at all must
// be said, not forgotten: nil and {none: true} are plain keys, {} is an error.
func (c *passphraseConfig) source() (src keys.Source, none bool, err error) {
	if c == nil {
		return keys.Source{}, true, nil
	}
	src = keys.Source{Env: c.Env, File: c.File, Prompt: c.Prompt, Optional: c.Optional, Split: c.Split}
	switch has := c.Env != "" || c.File != "" || c.Prompt; {
	case c.Split && (has || c.Optional || c.None):
		return src, false, errors.New("split excludes all else")
	case c.Split:
		return src, false, nil
	case c.None && (has || c.Optional):
		return src, false, errors.New("none excludes all else")
	case !c.None && !has:
		return src, false, errors.New("needs env, file or prompt, or none: true")
	case c.Optional && c.Prompt:
		return src, false, errors.New("optional and prompt exclude each other")
	}
	return src, c.None, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
