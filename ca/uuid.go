package ca

import (
	"slices"
	"strings"
)

// uuidScheme begins the URI by which the platform knows a device; OpenSSL shows it
// as "URI:UUID:…", which is what the device looks for.
const uuidScheme = "UUID:"

// cutUUID returns what follows UUID: in a URI.
func cutUUID(n generalName) (string, bool) {
	if n.tag != tagURI || len(n.value) < len(uuidScheme) || !strings.EqualFold(string(n.value[:len(uuidScheme)]), uuidScheme) {
		return "", false
	}
	return string(n.value[len(uuidScheme):]), true
}

// CheckUUID reports, as an error, what is not 32 hexadecimal digits in groups of
// 8, 4, 4, 4, 12, in either case (RFC 9562, Section 4).
func CheckUUID(s string) error {
	bad := len(s) != 36
	for i := 0; i < len(s) && !bad; i++ {
		switch i {
		case 8, 13, 18, 23:
			bad = s[i] != '-'
		default:
			bad = !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i]))
		}
	}
	if bad {
		return rejectf("UUID: %.80q is not 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12", s)
	}
	return nil
}

// placeholders are UUIDs that boards come with whose maker never set one. Some
// thousand devices have each of them.
var placeholders = []string{
	"00000000-0000-0000-0000-000000000000",
	"ffffffff-ffff-ffff-ffff-ffffffffffff",
	"03000200-0400-0500-0006-000700080009",
	"00020003-0004-0005-0006-000700080009", // the same, its first groups in the other byte order
	"12345678-1234-5678-90ab-cddeefaabbcc",
	"fefefefe-fefe-fefe-fefe-fefefefefefe",
}

func checkUUID(s string) error {
	if err := CheckUUID(s); err != nil {
		return err
	}
	if slices.Contains(placeholders, strings.ToLower(s)) {
		return rejectf("UUID: %s is a placeholder that many boards have: give the device one of its own", s)
	}
	return nil
}

// UUID returns the UUID that a certificate names a device by, as it stands there,
// or "".
func (c *Certificate) UUID() string {
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		names, err := readGeneralNames(x.Value)
		if err != nil {
			return ""
		}
		for _, n := range names {
			if value, ok := cutUUID(n); ok {
				return value
			}
		}
	}
	return ""
}
