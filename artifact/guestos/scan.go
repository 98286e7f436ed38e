package guestos

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// tokenKind tells tokens apart.
type tokenKind int

const (
	endToken    tokenKind = iota // end of the file
	wordToken                    // name of a field or enum value, true, false
	numberToken                  // decimal, without sign
	stringToken                  // between double quotes
	colonToken
	openToken  // {
	closeToken // }
)

// token is a word of the dialect that package guestos describes.
type token struct {
	kind tokenKind
	pos  Pos
	text string // as it stands in the file
	str  string // of a stringToken: its value
}

// String names the token for an error.
func (t token) String() string {
	switch t.kind {
	case endToken:
		return "end of file"
	case stringToken:
		return "a string"
	default:
		return fmt.Sprintf("%q", t.text)
	}
}

// scanner cuts a config into tokens.
type scanner struct {
	text      string
	off       int // of the next byte
	line      int // of the next byte, from 1
	lineStart int // offset of that line
}

// pos is the place of the next byte.
func (s *scanner) pos() Pos {
	return Pos{Line: s.line, Column: s.off - s.lineStart + 1}
}

// next returns the next token. Errors are *Error without a path.
func (s *scanner) next() (token, error) {
	for s.off < len(s.text) && isSpace(s.text[s.off]) {
		if s.text[s.off] == '\n' {
			s.line++
			s.lineStart = s.off + 1
		}
		s.off++
	}
	pos := s.pos()
	if s.off == len(s.text) {
		return token{kind: endToken, pos: pos}, nil
	}

	switch c := s.text[s.off]; {
	case c == ':':
		return s.take(colonToken, 1), nil
	case c == '{':
		return s.take(openToken, 1), nil
	case c == '}':
		return s.take(closeToken, 1), nil
	case isLetter(c):
		n := 1
		for s.off+n < len(s.text) && (isLetter(s.text[s.off+n]) || isDigit(s.text[s.off+n])) {
			n++
		}
		return s.take(wordToken, n), nil
	case isDigit(c):
		return s.number()
	case c == '"':
		return s.quoted()
	default:
		return token{}, &Error{Pos: pos, Reason: s.refusal()}
	}
}

// take returns the next n bytes as a token.
func (s *scanner) take(kind tokenKind, n int) token {
	t := token{kind: kind, pos: s.pos(), text: s.text[s.off : s.off+n]}
	s.off += n
	return t
}

// refusal says why the next byte starts no token.
func (s *scanner) refusal() string {
	const platform = "the platform's parser knows no "
	r, _ := utf8.DecodeRuneInString(s.text[s.off:])
	switch r {
	case '#':
		return platform + "comments"
	case '\'':
		return platform + "single quotes: use double quotes"
	case '<', '>':
		return platform + "angle brackets: use braces"
	case '[', ']':
		return platform + "brackets: repeat the field instead"
	case ',', ';':
		return platform + "separators: leave out the " + string(r)
	case '-', '+':
		return "a number with a sign: no field can be negative"
	case '\r':
		return "a carriage return: end lines with a line feed alone"
	case '\ufeff':
		return "a byte order mark: leave it out"
	default:
		return fmt.Sprintf("unexpected character %q", r)
	}
}

// number reads a decimal number.
func (s *scanner) number() (token, error) {
	n := 1
	for s.off+n < len(s.text) && (isLetter(s.text[s.off+n]) || isDigit(s.text[s.off+n]) || s.text[s.off+n] == '.') {
		n++
	}
	t := s.take(numberToken, n)
	switch {
	case strings.Trim(t.text, "0123456789") != "":
		return token{}, &Error{Pos: t.pos, Reason: fmt.Sprintf("number %q: only decimal digits are read alike everywhere", t.text)}
	case len(t.text) > 1 && t.text[0] == '0':
		return token{}, &Error{Pos: t.pos, Reason: fmt.Sprintf("number %q: a leading zero may mean octal", t.text)}
	}
	return t, nil
}

// quoted reads a string between double quotes.
func (s *scanner) quoted() (token, error) {
	start, startPos := s.off, s.pos()
	var value strings.Builder
	for s.off++; ; {
		rest := s.text[s.off:]
		if rest == "" || rest[0] == '\n' {
			return token{}, &Error{Pos: startPos, Reason: "string is not closed at the end of its line"}
		}
		if value.Len() > MaxString {
			return token{}, &Error{Pos: startPos, Reason: fmt.Sprintf("string of more than %d bytes", MaxString)}
		}
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == '"':
			s.off++
			// Two strings in a row are one to Go, and two values touching
			// each other are no good style either.
			if s.off < len(s.text) && !strings.ContainsRune(" \t\r\n}", rune(s.text[s.off])) {
				return token{}, &Error{Pos: s.pos(), Reason: "white space is missing after a string"}
			}
			return token{kind: stringToken, pos: startPos, text: s.text[start:s.off], str: value.String()}, nil
		case r == '\\':
			b, reason := unescape(rest)
			if reason != "" {
				return token{}, &Error{Pos: s.pos(), Reason: reason}
			}
			value.WriteByte(b)
			n = len(`\012`)
		case r < ' ':
			return token{}, &Error{Pos: s.pos(), Reason: fmt.Sprintf("control character %q in a string: write it as \\%03o", r, r)}
		case r == 0x7f:
			return token{}, &Error{Pos: s.pos(), Reason: "control character '\\x7f' in a string"}
		case r == utf8.RuneError && n == 1:
			return token{}, &Error{Pos: s.pos(), Reason: fmt.Sprintf("byte 0x%02x in a string is not UTF-8", rest[0])}
		default:
			value.WriteString(rest[:n])
		}
		s.off += n
	}
}

// unescape reads the escape at the start of s, which is four bytes long, or
// says why it can't be used.
func unescape(s string) (b byte, reason string) {
	const known = "the platform's parser knows octal escapes from \\001 to \\077 only"
	const letters = `ntr"'` // which the text format escapes by themselves
	switch {
	case len(s) < 2 || s[1] == '\\':
		return 0, "a backslash in a string: the platform's parser may take what follows as part of the string"
	case strings.IndexByte(letters, s[1]) >= 0:
		meant := "\n\t\r\"'"[strings.IndexByte(letters, s[1])]
		return 0, fmt.Sprintf("escape %q: %s; write \\%03o", s[:2], known, meant)
	case s[1] < '0' || s[1] > '7':
		r, _ := utf8.DecodeRuneInString(s[1:])
		return 0, fmt.Sprintf("escape %q: %s", `\`+string(r), known)
	case len(s) < 4 || !isOctal(s[2]) || !isOctal(s[3]):
		return 0, "octal escape of less than three digits: readers differ about its end"
	case s[1] != '0':
		return 0, fmt.Sprintf("escape %q: %s; write the character itself", s[:4], known)
	case s[2:4] == "00":
		return 0, "a zero byte in a string ends it for the platform"
	default:
		return 8*(s[2]-'0') + (s[3] - '0'), ""
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isOctal(c byte) bool { return '0' <= c && c <= '7' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
