package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a file for reading if it is a regular one of at most limit
// octets, as its name leads to it, through symbolic links. It waits for no FIFO's
// writer and wakes no device.
func OpenRegular(path string, limit int64) (*os.File, fs.FileInfo, error) {
	regular := func(info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", path)
		}
		if info.Size() > limit {
			return fmt.Errorf("%s is larger than %d octets", path, limit)
		}
		return nil
	}
	// To open a device can make it do things, so look before; what the name
	// leads to may change meanwhile, so look again.
	info, err := os.Stat(path)
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// ReadFile reads a whole regular file of at most limit octets.
func ReadFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, info, err := OpenRegular(path, limit)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(content)) > limit { // it grew
		return nil, nil, fmt.Errorf("%s is larger than %d octets", path, limit)
	}
	return content, info, nil
}
