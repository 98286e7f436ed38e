package plan

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// AddPlatform returns an edit that gives a platform Secure Boot keys of its own.
// If it has them already, the plan stays as it is.
func AddPlatform(platform string) func(p *Plan, text []byte) ([]byte, error) {
	return func(p *Plan, text []byte) ([]byte, error) {
		switch {
		case !namePattern.MatchString(platform):
			return nil, fmt.Errorf("platform %q: not a name of letters, digits, _ and -", platform)
		case p.UEFI == nil:
			return nil, errNoUEFI
		case p.UEFI.Platform(platform) != nil:
			return text, nil
		}
		return insertPlatform(text, platform)
	}
}

// insertPlatform adds a name to uefi.platforms in the text of a plan and leaves
// every other octet as it is, comments included. It tries the places where the
// name could stand, and takes the first where the text then says just that.
func insertPlatform(text []byte, platform string) ([]byte, error) {
	var want fileConfig
	if _, err := decodeStrict(FileName, text, &want); err != nil {
		return nil, err
	}
	want.UEFI.Platforms = append(want.UEFI.Platforms, platform)
	slices.Sort(want.UEFI.Platforms)
	for _, candidate := range insertions(text, platform) {
		var got fileConfig
		if _, err := decodeStrict(FileName, candidate, &got); err != nil || got.UEFI == nil {
			continue
		}
		slices.Sort(got.UEFI.Platforms)
		if reflect.DeepEqual(got, want) {
			return candidate, nil
		}
	}
	return nil, fmt.Errorf("%s: can't add %q under uefi.platforms without changing more than that: add it by hand, then run tmpki apply", FileName, platform)
}

// insertions returns the text with a name put into uefi.platforms in several
// ways, some of which may be wrong.
func insertions(text []byte, platform string) [][]byte {
	// The parser counts a line that ends in CR LF after a comment as two.
	parsed, err := parser.ParseBytes(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), 0)
	if err != nil {
		return nil
	}
	l := splitLines(text)
	var out [][]byte
	for _, u := range mappingValues(parsed.Docs[0].Body) {
		if keyOf(u) != "uefi" {
			continue
		}
		var platforms *ast.MappingValueNode
		for _, v := range mappingValues(u.Value) {
			if keyOf(v) == "platforms" {
				platforms = v
			}
		}
		line := u.Key.GetToken().Position.Line
		switch {
		case platforms == nil:
			// In a block, the line after "uefi:"; in braces, after the first.
			indent := "  "
			if v := mappingValues(u.Value); len(v) > 0 {
				indent = string(bytes.Repeat([]byte(" "), max(0, v[0].Key.GetToken().Position.Column-1)))
			}
			out = append(out, l.lineAfter(line, indent+"platforms: ["+platform+"]"))
			out = append(out, l.after(line, '{', "platforms: ["+platform+"], "))
		default:
			line := platforms.Key.GetToken().Position.Line
			if s, ok := platforms.Value.(*ast.SequenceNode); ok && len(s.Values) > 0 {
				last := s.Values[len(s.Values)-1].GetToken().Position.Line
				if s.IsFlowStyle {
					end := s.End.Position.Line
					out = append(out, l.before(end, ']', ", "+platform), l.after(line, '[', platform+", "))
				} else {
					out = append(out, l.lineAfter(last, l.indentOf(last)+"- "+platform))
				}
			} else {
				out = append(out, l.after(line, '[', platform), l.after(line, ':', " ["+platform+"]"))
			}
		}
	}
	return out
}

// lines is a text in lines, with their ends.
type lines [][]byte

func splitLines(text []byte) lines { return bytes.SplitAfter(text, []byte("\n")) }

// with returns the text with another line n, of which 1 is the first.
func (l lines) with(n int, line []byte) []byte {
	all := slices.Clone(l)
	all[n-1] = line
	return bytes.Join(all, nil)
}

// after inserts s after the first c in line n, or changes nothing.
func (l lines) after(n int, c byte, s string) []byte {
	i := bytes.IndexByte(l[n-1], c)
	return l.with(n, slices.Concat(l[n-1][:i+1], []byte(s), l[n-1][i+1:]))
}

// before inserts s before the first c in line n, or changes nothing.
func (l lines) before(n int, c byte, s string) []byte {
	i := max(0, bytes.IndexByte(l[n-1], c))
	return l.with(n, slices.Concat(l[n-1][:i], []byte(s), l[n-1][i:]))
}

// lineAfter inserts a line after line n.
func (l lines) lineAfter(n int, s string) []byte {
	is, end := bytes.CutSuffix(l[n-1], []byte("\n"))
	eol := "\n"
	if bytes.HasSuffix(is, []byte("\r")) {
		is, eol = is[:len(is)-1], "\r\n"
	}
	line := slices.Concat(is, []byte(eol+s))
	if end {
		line = append(line, eol...)
	}
	return l.with(n, line)
}

// indentOf returns the white space at the beginning of line n.
func (l lines) indentOf(n int) string {
	return string(l[n-1][:len(l[n-1])-len(bytes.TrimLeft(l[n-1], " "))])
}
