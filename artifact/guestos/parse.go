package guestos

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// parser fills a message from a text in the dialect that package guestos describes.
type parser struct {
	scanner scanner
	lines   Lines
}

// parse reads text into m, which must be empty, and says where each value
// stands. Errors are *Error.
func parse(text []byte, m proto.Message) (Lines, error) {
	if len(text) > MaxSize {
		return nil, &Error{Reason: fmt.Sprintf("config of %d bytes: at most %d are possible", len(text), MaxSize)}
	}
	p := parser{scanner: scanner{text: string(text), line: 1}, lines: make(Lines)}
	if err := p.message(m.ProtoReflect(), "", Pos{}); err != nil {
		return nil, err
	}
	return p.lines, nil
}

// message reads fields into m until the closing brace, or until the end of the
// file if path is empty. open is where the message starts.
func (p *parser) message(m protoreflect.Message, path string, open Pos) error {
	for {
		t, err := p.next(path)
		switch {
		case err != nil:
			return err
		case t.kind == wordToken:
			if err := p.field(m, path, t); err != nil {
				return err
			}
		case t.kind == endToken && path != "":
			return &Error{open, path, "message is not closed"}
		case t.kind == closeToken && path == "":
			return &Error{t.pos, path, `"}" without "{"`}
		case t.kind == endToken, t.kind == closeToken:
			return p.checkRequired(m, path, open)
		default:
			return &Error{t.pos, path, fmt.Sprintf("%v where the name of a field should be", t)}
		}
	}
}

// field reads what follows the name of a field of m.
func (p *parser) field(m protoreflect.Message, parent string, name token) error {
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(name.text))
	path := join(parent, name.text)
	if fd == nil {
		return &Error{name.pos, path, "unknown field"}
	}
	if fd.IsList() {
		path = fmt.Sprintf("%s[%d]", path, m.Get(fd).List().Len())
	} else if m.Has(fd) {
		return &Error{name.pos, path, fmt.Sprintf("field is there twice, first in line %d", p.lines[path].Line)}
	}
	p.lines[path] = name.pos

	t, err := p.next(path)
	if err != nil {
		return err
	}
	if fd.Kind() == protoreflect.MessageKind {
		if t.kind == colonToken {
			return &Error{t.pos, path, fmt.Sprintf(`colon before a message: the platform's parser wants "%s {"`, name.text)}
		}
		if t.kind != openToken {
			return &Error{t.pos, path, fmt.Sprintf(`%v where "{" should be`, t)}
		}
		if fd.IsList() {
			return p.message(m.Mutable(fd).List().AppendMutable().Message(), path, name.pos)
		}
		return p.message(m.Mutable(fd).Message(), path, name.pos)
	}

	if t.kind != colonToken {
		return &Error{t.pos, path, fmt.Sprintf(`%v where ":" should be`, t)}
	}
	if t, err = p.next(path); err != nil {
		return err
	}
	value, reason := scalar(fd, t)
	if reason != "" {
		return &Error{t.pos, path, reason}
	}
	if fd.IsList() {
		m.Mutable(fd).List().Append(value)
	} else {
		m.Set(fd, value)
	}
	return nil
}

// scalar returns the value that t gives to the field, or why it gives none.
func scalar(fd protoreflect.FieldDescriptor, t token) (value protoreflect.Value, reason string) {
	refuse := func(want string) (protoreflect.Value, string) {
		return protoreflect.Value{}, fmt.Sprintf("%v where %s should be", t, want)
	}
	switch kind := fd.Kind(); kind {
	case protoreflect.StringKind, protoreflect.BytesKind:
		if t.kind != stringToken {
			return refuse("a string")
		}
		if kind == protoreflect.BytesKind {
			return protoreflect.ValueOfBytes([]byte(t.str)), ""
		}
		return protoreflect.ValueOfString(t.str), ""
	case protoreflect.BoolKind:
		if t.kind != wordToken || t.text != "true" && t.text != "false" {
			return refuse("true or false")
		}
		return protoreflect.ValueOfBool(t.text == "true"), ""
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(t.text, 10, 32)
		if t.kind != numberToken || err != nil {
			return refuse("a number from 0 to 4294967295")
		}
		return protoreflect.ValueOfUint32(uint32(n)), ""
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(t.text, 10, 64)
		if t.kind != numberToken || err != nil {
			return refuse("a number from 0 to 18446744073709551615")
		}
		return protoreflect.ValueOfUint64(n), ""
	case protoreflect.EnumKind:
		if t.kind == numberToken {
			return refuse("the name of an enum value (the platform's parser knows no numbers)")
		}
		v := fd.Enum().Values().ByName(protoreflect.Name(t.text))
		if t.kind != wordToken || v == nil {
			return refuse("one of " + enumNames(fd.Enum()))
		}
		return protoreflect.ValueOfEnum(v.Number()), ""
	default:
		return protoreflect.Value{}, fmt.Sprintf("fields of kind %v are unknown", kind)
	}
}

func enumNames(e protoreflect.EnumDescriptor) string {
	names := ""
	for i := range e.Values().Len() {
		if i > 0 {
			names += ", "
		}
		names += string(e.Values().Get(i).Name())
	}
	return names
}

// checkRequired refuses the message if a required field is not there.
func (p *parser) checkRequired(m protoreflect.Message, path string, open Pos) error {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); fd.Cardinality() == protoreflect.Required && !m.Has(fd) {
			return &Error{open, join(path, string(fd.Name())), "required field is missing"}
		}
	}
	return nil
}

// next returns the next token; path is where an error belongs.
func (p *parser) next(path string) (token, error) {
	t, err := p.scanner.next()
	if e, ok := err.(*Error); ok {
		e.Path = path
	}
	return t, err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
