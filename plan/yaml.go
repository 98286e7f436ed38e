package plan

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on pki.yaml: no plan of a real deployment comes near them.
const (
	maxFile    = 1 << 20 // octets
	maxNesting = 32
)

// Error is what is wrong in a plan, with the place where it stands.
type Error struct {
	File string
	Line int    // 1 is the first; 0 if unknown
	Key  string // such as "authorities.ssig_subca.validity"
	Err  error
}

func (e *Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Key == "" {
		return fmt.Sprintf("%s: %v", place, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", place, e.Key, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// document is a YAML file whose keys know their lines.
type document struct {
	file string
	root ast.Node
}

// decodeStrict reads one YAML document into out: an unknown key, a duplicate,
// an anchor, an alias or a second document is an error. Aliases are refused
// because a few of them grow to gigabytes; nesting is counted before the parser
// sees the file, since its depth is that of the parser's recursion.
func decodeStrict(file string, data []byte, out any) (*document, error) {
	d := &document{file: file}
	if len(data) > maxFile {
		return nil, d.fail("", fmt.Errorf("file of %d octets is larger than %d", len(data), maxFile))
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, d.fail("", errors.New("holds a NUL octet"))
	}
	if line := tooDeep(data); line > 0 {
		return nil, &Error{File: file, Line: line, Err: fmt.Errorf("nested deeper than %d", maxNesting)}
	}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.syntax(err)
	}
	if len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		return nil, d.fail("", errors.New("must hold exactly one YAML document"))
	}
	d.root = parsed.Docs[0].Body
	v := &aliasFinder{}
	ast.Walk(v, d.root)
	if v.found != nil {
		return nil, &Error{File: file, Line: v.found.GetToken().Position.Line, Err: errors.New("anchors, aliases, tags and merge keys are not used in a plan: write the value out")}
	}
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField()).Decode(out); err != nil {
		return nil, d.syntax(err)
	}
	return d, nil
}

// tooDeep returns the first line that nests deeper than maxNesting, or 0. It
// counts what can nest without more indentation: flow brackets, and "- ", "? "
// in one line. It need not be exact, only never too low.
func tooDeep(data []byte) int {
	flow := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		indent := len(line) - len(bytes.TrimLeft(line, " \t"))
		nested := bytes.Count(line, []byte("- ")) + bytes.Count(line, []byte("? "))
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] == '#' {
			continue
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				flow++
			case ']', '}':
				flow = max(0, flow-1)
			}
			if flow > maxNesting {
				return i + 1
			}
		}
		if indent > 4*maxNesting || nested > maxNesting {
			return i + 1
		}
	}
	return 0
}

type aliasFinder struct{ found ast.Node }

func (v *aliasFinder) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		if v.found == nil {
			v.found = n
		}
		return nil
	}
	return v
}

// fail makes an *Error at the line of a key such as "authorities.x.validity".
// If the key is not in the file, the nearest one above it gives the line.
func (d *document) fail(key string, err error) error {
	return &Error{File: d.file, Line: d.line(key), Key: key, Err: err}
}

func (d *document) line(key string) int {
	node, line := d.root, 0
	if key == "" || node == nil {
		return 0
	}
	for _, part := range strings.Split(key, ".") {
		found := false
		for _, v := range mappingValues(node) {
			if keyOf(v) == part {
				node, line, found = v.Value, v.Key.GetToken().Position.Line, true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}

// keys returns the keys of a mapping in the order of the file.
func (d *document) keys(key string) []string {
	node := d.root
	for _, v := range mappingValues(node) {
		if keyOf(v) != key {
			continue
		}
		var out []string
		for _, w := range mappingValues(v.Value) {
			out = append(out, keyOf(w))
		}
		return out
	}
	return nil
}

func mappingValues(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	return nil
}

// keyOf returns the text of a key without its quotes.
func keyOf(v *ast.MappingValueNode) string {
	if s, ok := v.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return v.Key.GetToken().Value
}

// syntax turns an error of the YAML library, which draws a picture of the
// source, into one line.
func (d *document) syntax(err error) error {
	e := &Error{File: d.file, Err: err}
	var y yaml.Error
	if errors.As(err, &y) {
		if tk := y.GetToken(); tk != nil {
			e.Line = tk.Position.Line
			e.Key = lineKey(tk)
		}
		e.Err = errors.New(y.GetMessage())
	}
	return e
}

// lineKey returns the key at fault if the token is one.
func lineKey(tk *token.Token) string {
	if tk.Next != nil && tk.Next.Type == token.MappingValueType {
		return tk.Value
	}
	return ""
}

// publishLine is line for a key under publish, which has dots in it.
func (d *document) publishLine(file string) int {
	for _, v := range mappingValues(d.root) {
		if keyOf(v) != "publish" {
			continue
		}
		for _, w := range mappingValues(v.Value) {
			if keyOf(w) == file {
				return w.Key.GetToken().Position.Line
			}
		}
	}
	return 0
}
