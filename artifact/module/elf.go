package module

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
)

// checkELF refuses what no kernel loads as a module: it must be a relocatable
// ELF file (elf_validity_check in kernel/module/main.c) with a .modinfo
// section, which an ordinary object file does not have. For which machine it
// is, we can't know better than the one who built it.
func checkELF(content []byte) error {
	if !bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
		return errors.New("not a kernel module: no ELF header")
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("not a kernel module: %v", err)
	}
	if f.Type != elf.ET_REL {
		return fmt.Errorf("not a kernel module: ELF type is %v, not %v", f.Type, elf.ET_REL)
	}
	if f.Section(".modinfo") == nil {
		return errors.New("not a kernel module: no .modinfo section, so an object file of something else")
	}
	return nil
}
