// Package guestos reads, checks, writes and builds the configs of GuestOSes
// and containers, which the platform keeps in protobuf text format (proto2,
// see guestos.proto). It signs nothing and verifies no signatures.
//
// A config is signed as the bytes of its file, and then read by the platform's
// own parser, written in C, which knows a part of the text format only. What one
// parser accepts another may read differently, so this package reads the
// dialect that both agree on and refuses the rest with line and reason:
//
//   - "mounts {", never "mounts: {" or "mounts <";
//   - strings in double quotes, of raw UTF-8, where the only escapes are \001 to
//     \077 (octal, three digits). So a string can hold no backslash at all;
//   - decimal numbers without sign, true and false, enums by name;
//   - no comments, no lists in brackets, no separators, no joined strings.
//
// Each field must be known, required fields must be there, and a field that is
// not repeated must not be there twice. On top of that come rules of good sense:
// see GuestOSConfig.Validate and ContainerConfig.Validate.
package guestos

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative artifact/guestos/guestos.proto

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Limits on what is read and written. Nesting needs none of its own, because
// no message of the schema can contain itself.
const (
	// MaxSize is the largest config, in bytes.
	MaxSize = 1 << 20
	// MaxString is the longest string in a config, in bytes.
	MaxString = 64 << 10
)

// Pos is a place in a config file. The zero value is "unknown".
type Pos struct {
	// Line counts from 1.
	Line int
	// Column counts bytes from 1.
	Column int
}

// Lines says where the values of a config stand in its file. The keys are field
// paths, such as "mounts[0].image_size". A nil Lines knows no places.
type Lines map[string]Pos

// Error is one fault of a config.
type Error struct {
	// Pos is where the fault is, as far as known.
	Pos Pos
	// Path is the path of the field, such as "mounts[0].image_size"; it is
	// empty for a fault of the file as a whole.
	Path string
	// Reason says what is wrong, with the value.
	Reason string
}

// Error returns place, field and reason: what is known of them.
func (e *Error) Error() string {
	s := e.Reason
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Pos != (Pos{}) {
		s = fmt.Sprintf("line %d, column %d: %s", e.Pos.Line, e.Pos.Column, s)
	}
	return s
}

// ParseGuestOS reads and validates a GuestOS config. A template, whose mounts
// have no sizes and hashes yet, is a valid config too.
//
// The error is an *Error, or joins several of them (errors.Join).
func ParseGuestOS(text []byte) (*GuestOSConfig, Lines, error) {
	cfg := new(GuestOSConfig)
	lines, err := parse(text, cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := cfg.Validate(lines); err != nil {
		return nil, nil, err
	}
	return cfg, lines, nil
}

// ParseContainer reads and validates a container config. For the error see
// ParseGuestOS.
func ParseContainer(text []byte) (*ContainerConfig, Lines, error) {
	cfg := new(ContainerConfig)
	lines, err := parse(text, cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := cfg.Validate(lines); err != nil {
		return nil, nil, err
	}
	return cfg, lines, nil
}

// MarshalText validates the config and returns its one text: what ParseGuestOS
// reads, field by field in the order of their numbers. It implements
// encoding.TextMarshaler.
func (x *GuestOSConfig) MarshalText() ([]byte, error) {
	if err := x.Validate(nil); err != nil {
		return nil, err
	}
	return marshal(x, new(GuestOSConfig))
}

// MarshalText validates the config and returns its one text, as
// GuestOSConfig.MarshalText does.
func (x *ContainerConfig) MarshalText() ([]byte, error) {
	if err := x.Validate(nil); err != nil {
		return nil, err
	}
	return marshal(x, new(ContainerConfig))
}

// marshal writes m, and reads the text back into the empty message again: a text
// that says anything else than m must not get out and be signed.
func marshal(m, again proto.Message) ([]byte, error) {
	if err := proto.CheckInitialized(m); err != nil {
		return nil, fmt.Errorf("writing a config: %v", err)
	}
	text, err := appendMessage(nil, m.ProtoReflect(), "", "")
	if err != nil {
		return nil, err
	}
	if _, err := parse(text, again); err != nil {
		return nil, fmt.Errorf("writing a config that can't be read: %w", err)
	}
	if !proto.Equal(m, again) {
		return nil, errors.New("writing a config: its text reads as something else (unknown fields?)")
	}
	return text, nil
}
