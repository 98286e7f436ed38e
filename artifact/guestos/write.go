package guestos

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// appendMessage appends the fields of m in the order of the schema, which is
// that of their numbers, in the style of the platform's own configs: one field
// per line, nested messages indented by a tab.
func appendMessage(dst []byte, m protoreflect.Message, path, indent string) ([]byte, error) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		path := join(path, string(fd.Name()))
		if !fd.IsList() {
			var err error
			if dst, err = appendField(dst, fd, m.Get(fd), path, indent); err != nil {
				return nil, err
			}
			continue
		}
		list := m.Get(fd).List()
		for i := range list.Len() {
			var err error
			if dst, err = appendField(dst, fd, list.Get(i), fmt.Sprintf("%s[%d]", path, i), indent); err != nil {
				return nil, err
			}
		}
	}
	return dst, nil
}

func appendField(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value, path, indent string) ([]byte, error) {
	dst = append(dst, indent...)
	dst = append(dst, fd.Name()...)
	if fd.Kind() == protoreflect.MessageKind {
		dst = append(dst, " {\n"...)
		dst, err := appendMessage(dst, v.Message(), path, indent+"\t")
		if err != nil {
			return nil, err
		}
		return append(dst, indent+"}\n"...), nil
	}
	text, reason := formatScalar(fd, v)
	if reason != "" {
		return nil, &Error{Path: path, Reason: reason}
	}
	return append(dst, ": "+text+"\n"...), nil
}

// formatScalar returns the text of a value, or why it has none.
func formatScalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) (text, reason string) {
	switch kind := fd.Kind(); kind {
	case protoreflect.StringKind:
		return quote(v.String())
	case protoreflect.BytesKind:
		return quote(string(v.Bytes()))
	case protoreflect.BoolKind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind:
		return fmt.Sprint(v.Interface()), ""
	case protoreflect.EnumKind:
		value := fd.Enum().Values().ByNumber(v.Enum())
		if value == nil {
			return "", fmt.Sprintf("%d where one of %s should be", v.Enum(), enumNames(fd.Enum()))
		}
		return string(value.Name()), ""
	default:
		return "", fmt.Sprintf("fields of kind %v are unknown", kind)
	}
}

// quote returns s between double quotes, or why the platform could not read
// it. What is wrong in other ways shows when the text is read back.
func quote(s string) (text, reason string) {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			return "", fmt.Sprintf("%q holds a backslash, which the platform's parser can't read", s)
		case c == 0:
			return "", fmt.Sprintf("%q holds a zero byte, which ends a string for the platform", s)
		case c < ' ', c == '"':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String(), ""
}
