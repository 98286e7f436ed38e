package ca

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// nameConstraints are those of one CA (RFC 5280, Section 4.2.1.10).
type nameConstraints struct {
	permitted, excluded []generalName
}

// maxConstraints bounds constraints times names, so that a check stays quick.
const maxConstraints = 1 << 16

// constraintsOf returns the name constraints in a certificate, or nil.
func constraintsOf(c *Certificate) (*nameConstraints, error) {
	for _, x := range c.Extensions {
		if x.Id.Equal(oidNameConstraints) {
			return parseNameConstraints(x.Value)
		}
	}
	return nil, nil
}

func parseNameConstraints(der []byte) (*nameConstraints, error) {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, errMalformedConstraints
	}
	var nc nameConstraints
	for tag, list := range []*[]generalName{&nc.permitted, &nc.excluded} {
		var subtrees cryptobyte.String
		var has bool
		if !seq.ReadOptionalASN1(&subtrees, &has, cbasn1.Tag(tag).ContextSpecific().Constructed()) {
			return nil, errMalformedConstraints
		}
		for !subtrees.Empty() {
			var subtree cryptobyte.String
			if !subtrees.ReadASN1(&subtree, cbasn1.SEQUENCE) {
				return nil, errMalformedConstraints
			}
			name, ok := readGeneralName(&subtree)
			// minimum and maximum are not used (same section).
			if !ok || !subtree.Empty() {
				return nil, errMalformedConstraints
			}
			*list = append(*list, name)
		}
	}
	if !seq.Empty() {
		return nil, errMalformedConstraints
	}
	return &nc, nil
}

func readGeneralName(s *cryptobyte.String) (generalName, bool) {
	var value cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1(&value, &tag) {
		return generalName{}, false
	}
	number := uint8(tag) & 0x1f
	plain := cbasn1.Tag(number).ContextSpecific()
	return generalName{number, value}, tag == plain || tag == plain.Constructed()
}

// names lists all that constraints speak of in a certificate: its subject, mail
// addresses in the subject, and its alternative names. In a leaf without a DNS name
// among these, a common name that looks like one counts, as OpenSSL has it.
func names(subject Name, alternative []generalName, leaf bool) ([]generalName, error) {
	attrs, err := subject.attributes()
	if err != nil {
		return nil, err
	}
	list := slices.Clone(alternative)
	leaf = leaf && !slices.ContainsFunc(list, func(g generalName) bool { return g.tag == tagDNS })
	if len(attrs) > 0 {
		list = append(list, generalName{tagDirectory, subject})
	}
	for _, r := range attrs {
		switch {
		case r.oid.Equal(oidEmailAddress) && r.tag != cbasn1.IA5String:
			return nil, fmt.Errorf("the mail address %s is not an IA5String", escape(text(r)))
		case r.oid.Equal(oidEmailAddress):
			list = append(list, generalName{tagEmail, r.value})
		case r.oid.Equal(oidCommonName) && leaf:
			name := strings.TrimRight(text(r), "\x00")
			if strings.ContainsRune(name, 0) {
				return nil, fmt.Errorf("the common name %s holds a NUL", escape(name))
			}
			if looksLikeHost(name) {
				list = append(list, generalName{tagDNS, []byte(name)})
			}
		}
	}
	return list, nil
}

// looksLikeHost reports what OpenSSL takes for a host name: two or more labels of
// letters, digits, hyphens and underscores, with hyphens and dots inside only.
func looksLikeHost(s string) bool {
	labels := strings.Split(s, ".")
	for i, label := range labels {
		if label == "" || (i > 0 && label[0] == '-') || (i < len(labels)-1 && label[len(label)-1] == '-') {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return len(labels) > 1 && s[0] != '-' && s[len(s)-1] != '-'
}

func alternativeNames(c *Certificate) ([]generalName, error) {
	var list []generalName
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		input := cryptobyte.String(x.Value)
		var seq cryptobyte.String
		if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
			return nil, fmt.Errorf("malformed subjectAltName")
		}
		for !seq.Empty() {
			name, ok := readGeneralName(&seq)
			if !ok {
				return nil, fmt.Errorf("malformed subjectAltName")
			}
			list = append(list, name)
		}
	}
	return list, nil
}

// checkCertificate reports the first name of c that the constraints forbid. leaf
// says that c is at the end of the path.
func (nc *nameConstraints) checkCertificate(c *Certificate, leaf bool) error {
	alternative, err := alternativeNames(c)
	if err != nil {
		return err
	}
	return nc.check(c.Subject(), alternative, leaf)
}

func (nc *nameConstraints) check(subject Name, alternative []generalName, leaf bool) error {
	list, err := names(subject, alternative, leaf)
	if err != nil {
		return err
	}
	if len(list)*(len(nc.permitted)+len(nc.excluded)) > maxConstraints {
		return fmt.Errorf("too many names and constraints")
	}
	for _, name := range list {
		permitted, constrained := false, false
		if name.isUTF8Mailbox() && slices.ContainsFunc(slices.Concat(nc.permitted, nc.excluded), func(c generalName) bool { return c.tag == tagEmail }) {
			return fmt.Errorf("the mail address %s can't be compared", name)
		}
		for _, p := range nc.permitted {
			if p.tag != name.tag {
				continue
			}
			constrained = true
			ok, err := name.within(p)
			if err != nil {
				return err
			}
			permitted = permitted || ok
		}
		if constrained && !permitted {
			return fmt.Errorf("the name %s is not among the permitted ones", name)
		}
		for _, x := range nc.excluded {
			if x.tag != name.tag {
				continue
			}
			if ok, err := name.within(x); err != nil {
				return err
			} else if ok {
				return fmt.Errorf("the name %s is excluded", name)
			}
		}
	}
	return nil
}

// isUTF8Mailbox reports whether the name is a SmtpUTF8Mailbox (RFC 8398), which
// constraints on mail addresses bind.
func (g generalName) isUTF8Mailbox() bool {
	value := cryptobyte.String(g.value)
	var oid asn1.ObjectIdentifier
	return g.tag == tagOther && value.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidUTF8Mailbox)
}

// String shows a general name safely.
func (g generalName) String() string {
	switch g.tag {
	case tagDirectory:
		return Name(g.value).String()
	case tagDNS, tagEmail, tagURI:
		return escape(string(g.value))
	case tagIP:
		if address, ok := netip.AddrFromSlice(g.value); ok {
			return address.String()
		}
	}
	return fmt.Sprintf("[%d] %x", g.tag, g.value)
}

// within reports whether g lies in the subtree that base opens. Kinds of names
// that this program can't compare are an error, as RFC 5280 demands.
func (g generalName) within(base generalName) (bool, error) {
	name, tree := strings.ToLower(string(g.value)), strings.ToLower(string(base.value))
	switch g.tag {
	case tagDirectory:
		return hasPrefix(Name(g.value).canonical(), Name(base.value).canonical()), nil
	case tagDNS:
		return inDomain(name, strings.TrimPrefix(tree, "."), strings.HasPrefix(tree, ".")), nil
	case tagEmail:
		at := strings.LastIndexByte(string(g.value), '@')
		if at < 0 {
			return false, fmt.Errorf("the mail address %s is malformed", g)
		}
		if treeAt := strings.LastIndexByte(string(base.value), '@'); treeAt >= 0 {
			// The local part is case-sensitive, the host is not.
			return bytes.Equal(g.value[:at], base.value[:treeAt]) && name[at:] == tree[treeAt:], nil
		}
		if strings.HasPrefix(tree, ".") {
			return strings.HasSuffix(name[at+1:], tree), nil
		}
		return name[at+1:] == tree, nil
	case tagURI:
		// OpenSSL looks for the host in its own way. Where the two may differ the
		// URI is refused: with a user, an IP address, a query right behind the host.
		u, err := url.Parse(string(g.value))
		if err != nil || u.Host == "" || u.User != nil || !validHost(strings.TrimSuffix(u.Hostname(), ".")) ||
			(u.Path == "" && (u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(string(g.value), "#"))) {
			return false, fmt.Errorf("the URI %s has no host to compare", g)
		}
		host := strings.ToLower(u.Hostname())
		if strings.HasPrefix(tree, ".") {
			return strings.HasSuffix(host, tree), nil
		}
		return host == tree, nil
	case tagIP:
		n := len(g.value)
		if len(base.value) != 2*n || (n != 4 && n != 16) {
			return false, nil
		}
		for i, octet := range g.value {
			if (octet^base.value[i])&base.value[n+i] != 0 {
				return false, nil
			}
		}
		return true, nil
	default:
		return false, fmt.Errorf("names of kind [%d] can't be compared", g.tag)
	}
}

// inDomain reports whether host is base (unless strict) or lies below it.
func inDomain(host, base string, strict bool) bool {
	if base == "" && !strict {
		return true
	}
	return !strict && host == base || strings.HasSuffix(host, "."+base)
}
