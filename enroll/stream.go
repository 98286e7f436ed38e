package enroll

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"

	"tmpki/ca"
)

// maxRequest bounds one request of a stream, in octets of PEM.
const maxRequest = 2 * ca.MaxCertificate

// Requests reads the PEM requests of a stream one after the other, or the one DER
// request that it is. Text between the blocks is passed over. What is wrong with
// a block is told in its place, and the rest goes on; a failure to read ends it.
func Requests(source string, in io.Reader) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		r := bufio.NewReaderSize(in, 64<<10)
		// 1. A DER request begins with a SEQUENCE, whose length has two octets or more.
		if head, _ := r.Peek(2); len(head) == 2 && head[0] == 0x30 && head[1] >= 0x80 {
			data, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
			if err == nil && len(data) > maxRequest {
				err = fmt.Errorf("is larger than %d octets", maxRequest)
			}
			yield(Request{Source: source, Data: data, Err: err})
			return
		}
		// 2. PEM, line by line.
		var block []byte
		inside, tooLarge, found := false, false, false
		give := func(err error) bool {
			inside, found = false, true
			return yield(Request{Source: source, Data: bytes.Clone(block), Err: err})
		}
		for {
			line, err := r.ReadSlice('\n')
			switch {
			case bytes.HasPrefix(line, []byte("-----BEGIN ")):
				if inside && !give(errors.New("the PEM block is cut off")) {
					return
				}
				inside, tooLarge, block = true, false, append(block[:0], line...)
			case inside:
				if tooLarge = tooLarge || len(block)+len(line) > maxRequest; !tooLarge {
					block = append(block, line...)
				}
				if bytes.HasPrefix(line, []byte("-----END ")) {
					var bad error
					if tooLarge {
						bad = fmt.Errorf("is larger than %d octets", maxRequest)
					}
					if !give(bad) {
						return
					}
				}
			}
			switch {
			case err == nil, errors.Is(err, bufio.ErrBufferFull):
			case err == io.EOF:
				if inside {
					give(errors.New("the PEM block is cut off"))
				} else if !found {
					yield(Request{Source: source, Err: errors.New("holds no certificate request")})
				}
				return
			default:
				yield(Request{Source: source, Err: fmt.Errorf("reading: %w", err)})
				return
			}
		}
	}
}
