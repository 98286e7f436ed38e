package ca

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

const (
	spoolBuffer = 256 << 10
	maxSample   = 8 << 10 // octets of entries that are linted
)

// spool keeps encoded entries in a temporary file that has no name any more.
type spool struct {
	file   *os.File
	buffer *bufio.Writer
	size   int64
	count  int64
	sample []byte // the first entries
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "tmpki-crl-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	s := &spool{file: f, buffer: bufio.NewWriterSize(f, spoolBuffer)}
	if err := os.Remove(f.Name()); err != nil {
		s.close()
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return s, nil
}

func (s *spool) add(entry []byte) error {
	if len(s.sample)+len(entry) <= maxSample {
		s.sample = append(s.sample, entry...)
	}
	s.size += int64(len(entry))
	s.count++
	if s.size > MaxCRL-MaxCertificate { // room for the rest of the CRL
		return fmt.Errorf("more than %d octets of entries: divide them into partitions", MaxCRL-MaxCertificate)
	}
	_, err := s.buffer.Write(entry)
	return err
}

// reader reads all entries from the first one on.
func (s *spool) reader() (io.Reader, error) {
	if err := s.buffer.Flush(); err != nil {
		return nil, err
	}
	return io.NewSectionReader(s.file, 0, s.size), nil
}

// close throws the entries away. Nothing is lost by an error here.
func (s *spool) close() { s.file.Close() }
