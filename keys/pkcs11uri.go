package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrNoPKCS11 is returned, wrapped, by whoever needs a PKCS#11 token in a program
// that was built without cgo.
var ErrNoPKCS11 = errors.New("this program was built without PKCS#11 (CGO_ENABLED=0): it can't use keys in tokens")

// PKCS11 holds the attributes of a pkcs11: URI (RFC 7512, Section 2.3). An
// attribute that is not there is "", which matches everything.
type PKCS11 struct {
	Token        string // label, at most 32 octets
	Manufacturer string // of the token
	Serial       string
	Model        string

	LibraryManufacturer string
	LibraryDescription  string
	LibraryVersion      string // "MAJOR" or "MAJOR.MINOR"

	Object string // label (CKA_LABEL)
	Type   string // public, private, cert, secret-key or data
	ID     string // CKA_ID, any octets

	SlotManufacturer string
	SlotDescription  string
	SlotID           string // a decimal number

	ModulePath string // the PKCS#11 library to load: a file
	ModuleName string // or its name, without "lib" and ".so"
	PINSource  string // where to read the PIN: an absolute path, or "file:/…"
}

// uriAttribute is what RFC 7512, Section 2.3, says of one attribute.
type uriAttribute struct {
	name  string
	query bool // stands behind "?"
	field func(*PKCS11) *string
	check func(string) error
}

// pkcs11Attributes lists the attributes in the order of String. The lengths are
// those of the fixed fields of CK_TOKEN_INFO, CK_INFO and CK_SLOT_INFO: a
// longer value matches nothing.
func pkcs11Attributes() []uriAttribute {
	return []uriAttribute{
		{"token", false, func(p *PKCS11) *string { return &p.Token }, textUpTo(32)},
		{"manufacturer", false, func(p *PKCS11) *string { return &p.Manufacturer }, textUpTo(32)},
		{"serial", false, func(p *PKCS11) *string { return &p.Serial }, textUpTo(16)},
		{"model", false, func(p *PKCS11) *string { return &p.Model }, textUpTo(16)},
		{"library-manufacturer", false, func(p *PKCS11) *string { return &p.LibraryManufacturer }, textUpTo(32)},
		{"library-description", false, func(p *PKCS11) *string { return &p.LibraryDescription }, textUpTo(32)},
		{"library-version", false, func(p *PKCS11) *string { return &p.LibraryVersion }, checkVersion},
		{"object", false, func(p *PKCS11) *string { return &p.Object }, textUpTo(1024)},
		{"type", false, func(p *PKCS11) *string { return &p.Type }, checkObjectType},
		{"id", false, func(p *PKCS11) *string { return &p.ID }, octetsUpTo(1024)},
		{"slot-manufacturer", false, func(p *PKCS11) *string { return &p.SlotManufacturer }, textUpTo(32)},
		{"slot-description", false, func(p *PKCS11) *string { return &p.SlotDescription }, textUpTo(64)},
		{"slot-id", false, func(p *PKCS11) *string { return &p.SlotID }, checkNumber},
		{"module-path", true, func(p *PKCS11) *string { return &p.ModulePath }, textUpTo(4096)},
		{"module-name", true, func(p *PKCS11) *string { return &p.ModuleName }, checkModuleName},
		{"pin-source", true, func(p *PKCS11) *string { return &p.PINSource }, checkPINSource},
	}
}

// What may stand for itself in a value (RFC 7512, Section 2.3).
const (
	pathValue  = ":[]@!$'()*+,=&"
	queryValue = ":[]@!$'()*+,=/?|"
)

// parsePKCS11 reads what follows "pkcs11:". No error quotes a value.
func parsePKCS11(s string) (PKCS11, error) {
	var p PKCS11
	seen := make(map[string]bool)
	path, query, hasQuery := strings.Cut(s, "?")
	if path != "" {
		for part := range strings.SplitSeq(path, ";") {
			if err := p.set(part, false, seen); err != nil {
				return PKCS11{}, err
			}
		}
	}
	if hasQuery {
		for part := range strings.SplitSeq(query, "&") {
			if err := p.set(part, true, seen); err != nil {
				return PKCS11{}, err
			}
		}
	}
	if p.ModulePath != "" && p.ModuleName != "" {
		return PKCS11{}, errors.New("module-path and module-name exclude each other")
	}
	return p, nil
}

// set reads one "name=value".
func (p *PKCS11) set(part string, query bool, seen map[string]bool) error {
	name, encoded, ok := strings.Cut(part, "=")
	if name == "pin-value" {
		return errors.New("pin-value: a PIN has no place in a plan; name a file that holds it with pin-source")
	}
	if !ok {
		return errors.New(`an attribute is not of the form name=value`)
	}
	for _, a := range pkcs11Attributes() {
		if a.name != name {
			continue
		}
		if a.query != query {
			return fmt.Errorf(`%s stands on the wrong side of "?"`, name)
		}
		if seen[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		allowed := pathValue
		if query {
			allowed = queryValue
		}
		value, err := decode(encoded, allowed)
		if err == nil && value == "" {
			err = errors.New("the value is empty; leave the attribute out to match everything")
		}
		if err == nil {
			err = a.check(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*a.field(p) = value
		return nil
	}
	return fmt.Errorf("attribute %q is unknown", name)
}

// String returns what follows "pkcs11:" in the URI.
func (p PKCS11) String() string {
	var path, query []string
	for _, a := range pkcs11Attributes() {
		value := *a.field(&p)
		switch {
		case value == "":
		case a.name == "id":
			// RFC 7512, Section 2.3 recommends to encode all of it.
			path = append(path, fmt.Sprintf("id=%s", encodeAll(value)))
		case a.query:
			query = append(query, a.name+"="+encode(value, queryValue))
		default:
			path = append(path, a.name+"="+encode(value, pathValue))
		}
	}
	s := strings.Join(path, ";")
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	return s
}

func encodeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

func octetsUpTo(limit int) func(string) error {
	return func(s string) error {
		if len(s) > limit {
			return fmt.Errorf("%d octets are more than %d", len(s), limit)
		}
		return nil
	}
}

func textUpTo(limit int) func(string) error {
	return func(s string) error {
		if err := octetsUpTo(limit)(s); err != nil {
			return err
		}
		return checkText(s)
	}
}

func checkNumber(s string) error {
	if _, err := strconv.ParseUint(s, 10, 64); err != nil || len(s) > 1 && s[0] == '0' {
		return errors.New("not a decimal number")
	}
	return nil
}

func checkVersion(s string) error {
	major, minor, hasMinor := strings.Cut(s, ".")
	for _, part := range []string{major, minor} {
		if _, err := strconv.ParseUint(part, 10, 8); err != nil && (part != "" || hasMinor) {
			return errors.New("not of the form MAJOR or MAJOR.MINOR, each up to 255")
		}
	}
	return nil
}

func checkObjectType(s string) error {
	switch s {
	case "public", "private", "cert", "secret-key", "data":
		return nil
	default:
		return errors.New("not one of public, private, cert, secret-key, data")
	}
}

func checkModuleName(s string) error {
	if strings.ContainsAny(s, "/") {
		return errors.New("a name has no slash; use module-path for a file")
	}
	return textUpTo(255)(s)
}

// checkPINSource takes files only: RFC 7512, Section 2.4 also knows "|program",
// which would let a plan run programs.
func checkPINSource(s string) error {
	path, isURI := strings.CutPrefix(s, "file:")
	if !strings.HasPrefix(path, "/") || isURI && strings.HasPrefix(path, "//") {
		return errors.New(`the source must be an absolute path or "file:/absolute/path"`)
	}
	return textUpTo(4096)(s)
}
