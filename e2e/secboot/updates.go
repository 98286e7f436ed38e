//go:build e2e

package secboot

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf16"

	"tmpki/uefi"
)

// Update is an update of a Secure Boot variable.
type Update struct {
	Name   string // PK, KEK, db or dbx
	Append bool
	Auth   []byte // an .auth file
}

// StatusError says which update the firmware refused, and how.
type StatusError struct {
	Name   string
	Status uint64 // EFI_STATUS (UEFI 2.10, Appendix D)
}

// Error returns the status in hexadecimal, as the specification lists it.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the firmware refused the update of %s: EFI_STATUS %#x", e.Name, e.Status)
}

// Enrol hands updates to the firmware, in order, in one run. An update that the
// firmware refuses is a *StatusError; those before and after it are still done.
// PK, KEK, db is the order in which the firmware checks every signature: before
// there is a PK it checks none but that of PK itself.
func (m *Machine) Enrol(updates ...Update) error {
	var file []byte
	for _, u := range updates {
		record, err := u.marshal()
		if err != nil {
			return err
		}
		file = append(file, record...)
	}
	verdict, console, err := m.run(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": m.Enroller, "updates.bin": file})
	if err != nil {
		return err
	}
	if verdict != Booted {
		return fmt.Errorf("enrolling: the firmware does not run Machine.Enroller: %v", verdict)
	}
	statuses := enrolled.FindAllStringSubmatch(console, -1)
	if len(statuses) != len(updates) {
		return fmt.Errorf("enrolling: %d of %d updates done: %s", len(statuses), len(updates), console)
	}
	for i, s := range statuses {
		status, err := strconv.ParseUint(s[2], 16, 64)
		if err != nil || s[1] != updates[i].Name {
			return fmt.Errorf("enrolling: can't read %q", s[0])
		}
		if status != 0 {
			return &StatusError{Name: s[1], Status: status}
		}
	}
	return nil
}

// enrolled is what programs/enrol.c says of an update.
var enrolled = regexp.MustCompile(`enrol: (\w+) status=([0-9A-Fa-f]+)`)

// marshal writes the record that programs/enrol.c reads.
func (u Update) marshal() ([]byte, error) {
	v, err := uefi.SecureBootVariable(u.Name)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uefi.Attributes(u.Append))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(u.Auth)))
	b = append(b, v.Vendor[:]...)
	var name [8]uint16 // the longest has three letters
	copy(name[:], utf16.Encode([]rune(v.Name)))
	for _, unit := range name {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return append(b, u.Auth...), nil
}
