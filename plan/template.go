package plan

import (
	"bytes"
	"embed"
	"fmt"
	"net/url"
	"strings"
	"text/template"

	"tmpki/keys"
	"tmpki/spki"
)

//go:embed plans/*.yaml
var plans embed.FS

// Names of the plans that ship inside the program.
const (
	Development = "development"
	Production  = "production"
)

// DefaultPlace is the key URI of a plan that nothing else was asked for.
const DefaultPlace = "file:{name}.key"

// Template returns the text of a built-in plan. keyType is what the platform's
// build asks for (the development plan only), place the default key URI, in
// which {name} stands for an entry's name; a file: or pkcs11: URI without it
// gets it appended, as a directory or as the object label.
func Template(name string, keyType spki.KeyType, place string) ([]byte, error) {
	if name != Development && name != Production {
		return nil, fmt.Errorf("plan %q is unknown: use %s or %s", name, Development, Production)
	}
	place, err := placeTemplate(place)
	if err != nil {
		return nil, err
	}
	// The build's key type holds where every consumer can verify it. Boot keys
	// are for firmware and kernel, config keys for the platform's daemon. Keys
	// that only ever see their own kind are restricted to PSS, as the build's
	// consumers expect.
	values := struct {
		KeyType                        spki.KeyType
		Boot, Config, Restricted, Open spki.KeyType
		Mixed, FilePlace               bool
		Place                          string
	}{
		KeyType:    keyType,
		Boot:       spki.KeyType{Kind: spki.RSA, Bits: 4096},
		Config:     spki.KeyType{Kind: spki.RSAPSS, Bits: 4096},
		Restricted: keyType,
		Open:       keyType,
		Mixed:      keyType.Kind == spki.EC || keyType.Kind == spki.Ed25519,
		FilePlace:  strings.HasPrefix(place, "file:"),
		Place:      place,
	}
	if !values.Mixed {
		values.Boot.Bits, values.Config.Bits = keyType.Bits, keyType.Bits
		values.Restricted = values.Config
		values.Open = values.Boot
	}
	text, err := plans.ReadFile("plans/" + name + ".yaml")
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func placeTemplate(place string) (string, error) {
	if place == "" {
		place = DefaultPlace
	}
	// A URI that names an object stays: it is the place of one key.
	u, err := keys.ParseURI(place)
	whole := err == nil && u.Scheme == keys.SchemePKCS11 && u.CheckKey() == nil
	if !strings.Contains(place, "{name}") && !whole {
		if path, ok := strings.CutPrefix(place, "file:"); ok {
			place = "file:" + strings.TrimSuffix(path, "/") + "/{name}.key"
		} else if head, query, ok := strings.Cut(place, "?"); ok {
			place = head + ";object={name}?" + query
		} else {
			place += ";object={name}"
		}
	}
	if strings.ContainsAny(place, "\"\\\n") {
		return "", fmt.Errorf("key URI %q holds a character that must be percent-encoded, such as %s", place, url.PathEscape(`"`))
	}
	if _, err := keys.ParseURI(strings.ReplaceAll(place, "{name}", "name")); err != nil {
		return "", err
	}
	return place, nil
}
