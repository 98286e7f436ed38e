// Package uefi reads and makes what Secure Boot is configured with: signature
// lists (UEFI Specification 2.10, Section 32.4.1) and signed updates of the
// variables PK, KEK, db and dbx (Section 8.2.2), which the firmware takes as
// .auth files. It follows what EDK II accepts, where that is less than the
// specification allows: RSA keys with SHA-256, and nothing else.
//
// Which keys a platform has, and who may see them, is for others; so are signed
// images. Left out are other variables of the firmware, dbt and dbr, counter
// based and EFI_VARIABLE_AUTHENTICATION_3 updates, signature types that nobody
// uses any more (SHA-1, bare RSA keys), and nonces.
package uefi

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// Variable names a UEFI variable.
type Variable struct {
	Name   string // as the firmware spells it, case included
	Vendor GUID
}

// SecureBootVariable returns PK, KEK, db or dbx (UEFI 2.10, Sections 3.3 and
// 32.4.1), and an error for other names: db is not DB.
func SecureBootVariable(name string) (Variable, error) {
	switch name {
	case "PK", "KEK":
		return Variable{Name: name, Vendor: GlobalVariable}, nil
	case "db", "dbx":
		return Variable{Name: name, Vendor: ImageSecurityDatabase}, nil
	default:
		return Variable{}, fmt.Errorf("variable %q: use PK, KEK, db or dbx", name)
	}
}

// Check tells, as an error, why the firmware would not take db as the value of
// v, or would take it to no use: PK is at most one certificate, KEK has
// certificates only, and every certificate has a key that firmware can use.
func (v Variable) Check(db SignatureDatabase) error {
	if known, err := SecureBootVariable(v.Name); err != nil {
		return err
	} else if known != v {
		return fmt.Errorf("variable %s: the vendor is %v, not %v", v.Name, known.Vendor, v.Vendor)
	}
	entries := db.Entries()
	for i, e := range entries {
		if err := checkEntry(e); err != nil {
			return fmt.Errorf("%s: entry %d: %w", v.Name, i+1, err)
		}
		if e.Type != CertX509 && (v.Name == "PK" || v.Name == "KEK") {
			return fmt.Errorf("%s: entry %d: is a hash, where only certificates make sense", v.Name, i+1)
		}
	}
	if v.Name == "PK" && len(entries) > 1 {
		return fmt.Errorf("PK: %d certificates, where firmware takes one", len(entries))
	}
	return nil
}

// Attributes of a variable (UEFI 2.10, Section 8.2.1).
const (
	attrNonVolatile       = 0x01
	attrBootserviceAccess = 0x02
	attrRuntimeAccess     = 0x04
	attrTimeBasedAuth     = 0x20
	attrAppendWrite       = 0x40
)

// Attributes returns the attributes that a Secure Boot variable has: 0x27, or
// 0x67 for an update that is appended. SetVariable must be called with exactly
// these, for they are part of what is signed.
func Attributes(appendWrite bool) uint32 {
	const attributes = attrNonVolatile | attrBootserviceAccess | attrRuntimeAccess | attrTimeBasedAuth
	if appendWrite {
		return attributes | attrAppendWrite
	}
	return attributes
}

// message returns what the signature of an update covers: the variable's name
// without its final zero, its vendor, the attributes, the time and the new
// value (UEFI 2.10, Section 8.2.2).
func (v Variable) message(appendWrite bool, efiTime, payload []byte) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(v.Name)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	b = append(b, v.Vendor[:]...)
	b = binary.LittleEndian.AppendUint32(b, Attributes(appendWrite))
	b = append(b, efiTime...)
	return append(b, payload...)
}
