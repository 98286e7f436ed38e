package main

import (
	"fmt"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
)

// keyFacts is a public key.
type keyFacts struct {
	Type        string `json:"type"`                  // such as "rsa:4096"
	ID          string `json:"id"`                    // SHA-1 (RFC 5280, Section 4.2.1.2, method 1)
	Restriction string `json:"restriction,omitempty"` // of id-RSASSA-PSS, the only signatures that it may verify
}

func newKeyFacts(key any) keyFacts {
	var f keyFacts
	if t, err := spki.KeyTypeOf(key); err == nil {
		f.Type = t.String()
	}
	if der, err := spki.MarshalPublicKey(key); err == nil {
		if id, err := spki.KeyID(der); err == nil {
			f.ID = ca.ColonHex(id)
		}
	}
	if pss, ok := key.(*spki.PSSPublicKey); ok && pss.Params != nil {
		f.Restriction = fmt.Sprintf("%v, salt from %d", pss.Params.Hash, pss.Params.SaltLength)
	}
	return f
}

func (f keyFacts) describe(t *table) {
	text := f.Type
	if f.Restriction != "" {
		text += ", restricted to " + f.Restriction
	}
	t.add("key", fmt.Sprintf("%s (id %s)", text, f.ID))
}

// publicKeyFacts is a public key in a file of its own.
type publicKeyFacts struct {
	Kind string   `json:"kind"` // "public_key"
	Key  keyFacts `json:"key"`
}

func describePublicKey(der []byte) (item, error) {
	key, err := spki.ParsePublicKey(der)
	if err != nil {
		return nil, err
	}
	return &publicKeyFacts{"public_key", newKeyFacts(key)}, nil
}

func (f *publicKeyFacts) title() string { return "public key" }

func (f *publicKeyFacts) describe(t *table, _ time.Time) { f.Key.describe(t) }

// privateKeyFacts is what shows of a private key to everybody.
type privateKeyFacts struct {
	Kind       string    `json:"kind"` // "private_key"
	Format     string    `json:"format"`
	Encryption string    `json:"encryption,omitempty"` // none: it is plain
	Key        *keyFacts `json:"key,omitempty"`        // none: it is encrypted
}

func describePrivateKey(pem []byte) (item, error) {
	d, err := keys.Describe(pem)
	if err != nil {
		return nil, err
	}
	f := &privateKeyFacts{Kind: "private_key", Format: d.Label, Encryption: d.Encryption}
	if d.Encryption == "" {
		signer, err := keys.ParsePEM(pem, nil)
		if err != nil {
			return nil, err
		}
		key := newKeyFacts(signer.Public())
		f.Key = &key
	}
	return f, nil
}

func (f *privateKeyFacts) title() string { return "private key" }

func (f *privateKeyFacts) describe(t *table, _ time.Time) {
	t.add("format", f.Format)
	if f.Key == nil {
		t.add("encryption", f.Encryption)
		return
	}
	t.add("encryption", "none: whoever reads the file has the key")
	f.Key.describe(t)
}
