package ca

import (
	"bytes"
	"fmt"
	"net/url"
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

func parseNameConstraints(c *Certificate) (*nameConstraints, error) {
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidNameConstraints) {
			continue
		}
		input := cryptobyte.String(x.Value)
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
	return nil, nil
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

// names lists all that constraints speak of in a certificate: its subject, its
// subjectAltName, and mail addresses in the subject when there is no other.
func names(c *Certificate) ([]generalName, error) {
	var list []generalName
	if attrs, err := c.Subject().attributes(); err != nil {
		return nil, err
	} else if len(attrs) > 0 {
		list = append(list, generalName{tagDirectory, c.RawSubject})
		for _, r := range attrs {
			if r.oid.String() == "1.2.840.113549.1.9.1" { // emailAddress
				list = append(list, generalName{tagEmail, []byte(text(r))})
			}
		}
	}
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

// check reports the first name of c that the constraints forbid.
func (nc *nameConstraints) check(c *Certificate) error {
	list, err := names(c)
	if err != nil {
		return err
	}
	if len(list)*(len(nc.permitted)+len(nc.excluded)) > maxConstraints {
		return fmt.Errorf("too many names and constraints")
	}
	for _, name := range list {
		permitted, constrained := false, false
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

// String shows a general name safely.
func (g generalName) String() string {
	switch g.tag {
	case tagDirectory:
		return Name(g.value).String()
	case tagDNS, tagEmail, tagURI:
		return escape(string(g.value))
	default:
		return fmt.Sprintf("[%d] %x", g.tag, g.value)
	}
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
		u, err := url.Parse(string(g.value))
		if err != nil || u.Hostname() == "" {
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
	if base == "" {
		return true
	}
	return !strict && host == base || strings.HasSuffix(host, "."+base)
}
