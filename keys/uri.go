package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The schemes of key URIs.
const (
	SchemeFile   = "file"
	SchemePKCS11 = "pkcs11"
)

// URI says where a private key lives. It is comparable, its zero value names no
// key, and it holds no secret.
type URI struct {
	Scheme string // SchemeFile or SchemePKCS11
	Path   string // file: decoded; relative to the PKI directory, or absolute
	PKCS11 PKCS11 // pkcs11: which key in which token
}

// ParseURI reads "file:NAME" and "pkcs11:…" (RFC 7512). Each key has one
// spelling of its place: the scheme is in lower case and without "//", and a
// path has no empty, "." or ".." segments. Characters that a URI can't hold
// are percent-encoded.
//
// An error names the part that is wrong and never quotes a value of a pkcs11
// attribute, which may be a PIN in the wrong place.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && scheme == SchemeFile:
		path, err := parseFilePath(rest)
		if err != nil {
			return URI{}, fmt.Errorf("key URI: %w", err)
		}
		return URI{Scheme: SchemeFile, Path: path}, nil
	case ok && scheme == SchemePKCS11:
		attributes, err := parsePKCS11(rest)
		if err != nil {
			return URI{}, fmt.Errorf("key URI: pkcs11: %w", err)
		}
		return URI{Scheme: SchemePKCS11, PKCS11: attributes}, nil
	default:
		return URI{}, errors.New(`key URI: it must begin with "file:" or "pkcs11:", such as file:NAME.key`)
	}
}

// String returns the form that ParseURI reads.
func (u URI) String() string {
	switch u.Scheme {
	case SchemeFile:
		return "file:" + encode(u.Path, "!$&'()*+,;=:@/")
	case SchemePKCS11:
		return "pkcs11:" + u.PKCS11.String()
	default:
		return ""
	}
}

// FileURI returns the URI of a key file. It fails where ParseURI would refuse
// the path.
func FileURI(path string) (URI, error) {
	if err := checkFilePath(path); err != nil {
		return URI{}, fmt.Errorf("key URI: %w", err)
	}
	return URI{Scheme: SchemeFile, Path: path}, nil
}

func parseFilePath(s string) (string, error) {
	if strings.HasPrefix(s, "//") {
		return "", errors.New(`file: a host has no place here; write "file:/absolute/path"`)
	}
	path, err := decode(s, "!$&'()*+,;=:@/")
	if err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	return path, checkFilePath(path)
}

func checkFilePath(path string) error {
	if err := checkText(path); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	for _, segment := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("file: path %q has an empty, \".\" or \"..\" segment", path)
		}
	}
	return nil
}

// checkText refuses what could not be shown on one line.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		return errors.New("a control character")
	}
	return nil
}

func isUnreserved(c byte) bool { // RFC 3986, Section 2.3
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// decode takes the percent-encoding away. Beside unreserved characters, only
// those in allowed may stand for themselves.
func decode(s, allowed string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return "", errors.New("a percent sign without two hexadecimal digits")
			}
			b.WriteByte(byte(unhex(s[i+1])<<4 | unhex(s[i+2])))
			i += 2
		case isUnreserved(c) || strings.IndexByte(allowed, c) >= 0:
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			return "", fmt.Errorf("octet %d must be percent-encoded as %%%02X", i, c)
		default:
			return "", fmt.Errorf("character %q must be percent-encoded as %%%02X", c, c)
		}
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// encode is the inverse of decode.
func encode(s, allowed string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isUnreserved(c) || strings.IndexByte(allowed, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
