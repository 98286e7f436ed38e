package plan

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on pki.yaml: no plan of a real deployment comes near them.
const (
	maxFile    = 256 << 10 // octets
	maxNesting = 32        // flow brackets within each other
	maxColumn  = 128       // where a key or a list entry may begin
	maxKeys    = 4096      // in one mapping or list: the parser's time grows with the square
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
		return fmt.Sprintf("%s: %s", place, shorten(e.Err.Error()))
	}
	key := shorten(e.Key)
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		key = strconv.Quote(key) // keys are the file's, and may hold anything
	}
	return fmt.Sprintf("%s: %s: %s", place, key, shorten(e.Err.Error()))
}

func (e *Error) Unwrap() error { return e.Err }

// shorten keeps what a file says from filling the terminal.
func shorten(s string) string {
	const limit = 400
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// document is a YAML file whose keys know their lines.
type document struct {
	file string
	root ast.Node
}

// decodeStrict reads one YAML document into out: an unknown key, a duplicate,
// an anchor, an alias or a second document is an error, as is a scalar that YAML
// would rewrite.
func decodeStrict(file string, data []byte, out any) (*document, error) {
	d := &document{file: file}
	if len(data) > maxFile {
		return nil, d.fail("", fmt.Errorf("file of %d octets is larger than %d", len(data), maxFile))
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, d.fail("", errors.New("is not a text in UTF-8"))
	}
	// 1. The lexer doesn't recurse, all that follows does: so look at the tokens
	// before the parser sees them.
	tokens := lexer.Tokenize(strings.TrimPrefix(string(data), "\ufeff"))
	if err := d.checkTokens(tokens); err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, d.syntax(err)
	}
	if len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		return nil, d.fail("", errors.New("must hold exactly one YAML document"))
	}
	d.root = parsed.Docs[0].Body
	// 2. Scalars.
	v := &scalarChecker{}
	ast.Walk(v, d.root)
	if v.found != nil {
		tk := v.found.GetToken()
		return nil, &Error{File: file, Line: tk.Position.Line, Key: keyAt(d.root, tk), Err: fmt.Errorf("%s is a number to YAML, which would rewrite it: put it in quotes", tk.Value)}
	}
	if err := yaml.NodeToValue(d.root, out, yaml.Strict()); err != nil {
		return nil, d.syntax(err)
	}
	return d, nil
}

// checkTokens refuses what a plan doesn't use and what would make the parser
// recurse without end. Aliases are refused because a few of them grow to
// gigabytes. Blocks nest by indentation alone, so that a bound on the column
// bounds them too.
func (d *document) checkTokens(tokens token.Tokens) error {
	flow, documents := 0, 0
	var keys [maxColumn + 1]int // of the mapping or list that begins at this column
	count := func(column int) string {
		clear(keys[column+1:])
		if keys[column]++; keys[column] > maxKeys {
			return fmt.Sprintf("more than %d keys or list entries below each other", maxKeys)
		}
		return ""
	}
	for _, tk := range tokens {
		bad := ""
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType:
			bad = "anchors, aliases, tags, directives and merge keys are not used in a plan: write the value out"
		case token.DocumentHeaderType:
			if documents++; documents > 1 || tk.Prev != nil && tk.Prev.Type != token.CommentType {
				bad = "must hold exactly one YAML document"
			}
		case token.SequenceStartType, token.MappingStartType:
			if flow++; flow > maxNesting {
				bad = fmt.Sprintf("nested deeper than %d", maxNesting)
			}
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.MappingKeyType:
			bad = `keys that begin with "?" are not used in a plan`
		case token.SequenceEntryType:
			if tk.Position.Column > maxColumn {
				bad = fmt.Sprintf("indented by more than %d", maxColumn)
				break
			}
			bad = count(max(tk.Position.Column, 0))
		case token.MappingValueType:
			if flow > 0 {
				break
			}
			if tk.Prev == nil || tk.Prev.Position.Column > maxColumn {
				bad = fmt.Sprintf("indented by more than %d", maxColumn)
				break
			}
			bad = count(max(tk.Prev.Position.Column, 0))
		}
		if bad != "" {
			return &Error{File: d.file, Line: tk.Position.Line, Err: errors.New(bad)}
		}
	}
	return nil
}

// scalarChecker finds a plain scalar that is another text after YAML has read it
// as a number: "1.30" would become the OID 1.3, and "0500" the DER of 320.
type scalarChecker struct{ found ast.Node }

func (v *scalarChecker) Visit(n ast.Node) ast.Visitor {
	bad := false
	switch n := n.(type) {
	case *ast.IntegerNode:
		bad = fmt.Sprint(n.Value) != n.Token.Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		bad = true
	}
	if bad && v.found == nil {
		v.found = n
	}
	return v
}

// fail makes an *Error at the line of a key such as "authorities.x.validity".
// If the key is not in the file, the nearest one above it gives the line.
func (d *document) fail(key string, err error) error {
	return &Error{File: d.file, Line: d.line(key), Key: key, Err: err}
}

func (d *document) line(key string) int {
	line, _ := d.find(key)
	return line
}

// find returns the line of a key, or of the nearest one above it, and whether the
// key itself is there.
func (d *document) find(key string) (line int, ok bool) {
	node := d.root
	if key == "" || node == nil {
		return 0, false
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
			return line, false
		}
	}
	return line, true
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
	if !errors.As(err, &y) {
		return e
	}
	e.Err = errors.New(y.GetMessage())
	if tk := y.GetToken(); tk != nil {
		e.Line = tk.Position.Line
		if e.Key = keyAt(d.root, tk); e.Key == "" && tk.Next != nil && tk.Next.Type == token.MappingValueType {
			e.Key = tk.Value // there is no tree yet
		}
	}
	// The library speaks of Go's types.
	var wrong *yaml.TypeError
	var overflow *yaml.OverflowError
	if errors.As(err, &wrong) {
		is, should := typeName(wrong.SrcType), typeName(wrong.DstType)
		e.Err = fmt.Errorf("%s stands where %s should", is, should)
		if is == "a mapping" && should == "a string" {
			// Inside braces rsa:2048 is a mapping to this library.
			e.Err = fmt.Errorf("%w: if there is a colon in the text, put it in quotes", e.Err)
		}
	} else if errors.As(err, &overflow) {
		e.Err = fmt.Errorf("%s is out of range", overflow.SrcNum)
	}
	return e
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	default:
		return "a string"
	}
}

// keyAt returns the path of the key that is, or whose value begins with, a token.
func keyAt(n ast.Node, tk *token.Token) string {
	if list, ok := n.(*ast.SequenceNode); ok {
		for i, v := range list.Values {
			if below := keyAt(v, tk); below != "" {
				return fmt.Sprintf("[%d].%s", i, below)
			}
			if v.GetToken() == tk {
				return fmt.Sprintf("[%d]", i)
			}
		}
	}
	for _, v := range mappingValues(n) {
		key := keyOf(v)
		if v.Key.GetToken() == tk {
			return key
		}
		if below := keyAt(v.Value, tk); below != "" {
			return strings.ReplaceAll(key+"."+below, ".[", "[")
		}
		if v.Value.GetToken() == tk {
			return key
		}
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
