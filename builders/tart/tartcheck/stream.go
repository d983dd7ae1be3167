package tartcheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// window is how far a match may reach back, across blocks too.
	window = 64 << 10
	// maxBlock bounds what a foreign stream can make us allocate. Apple's blocks
	// have 64 KiB.
	maxBlock = 4 << 20
)

// Decode reads a stream in Apple's framing of LZ4 up to its end, which is that of
// r too, and writes what it holds to w. Blocks may refer back to those before
// them. It fails with [ErrStream] or [ErrTruncated], or when the stream holds
// more than limit bytes, and writes no byte after a fault.
func Decode(w io.Writer, r io.Reader, limit int64) (written int64, err error) {
	var buf, packed []byte // what matches reach, then the block; the block as it is stored
	for {
		header := [12]byte{}
		magic := header[:4]
		if err := readAll(r, magic, "the start of a block"); err != nil {
			return written, err
		}
		if string(magic) == "bv4$" {
			return written, atEnd(r)
		}
		if string(magic) != "bv41" && string(magic) != "bv4-" {
			return written, fmt.Errorf("%w: a block begins with %q", ErrStream, magic)
		}

		if err := readAll(r, header[4:8], "the size of a block"); err != nil {
			return written, err
		}
		size := int64(binary.LittleEndian.Uint32(header[4:8]))
		if size > maxBlock || size > limit-written {
			return written, fmt.Errorf("%w: a block holds %d bytes after %d, of %d in all", ErrStream, size, written, limit)
		}

		buf = append(buf[:0], buf[max(0, len(buf)-window):]...)
		history := len(buf)
		if string(magic) == "bv4-" {
			buf = append(buf, make([]byte, size)...)
			if err := readAll(r, buf[history:], "a block that is not packed"); err != nil {
				return written, err
			}
		} else {
			if err := readAll(r, header[8:12], "the packed size of a block"); err != nil {
				return written, err
			}
			n := int64(binary.LittleEndian.Uint32(header[8:12]))
			if n > size+size/255+16 {
				return written, fmt.Errorf("%w: a block of %d bytes is packed as %d", ErrStream, size, n)
			}
			packed = append(packed[:0], make([]byte, n)...)
			if err := readAll(r, packed, "a packed block"); err != nil {
				return written, err
			}
			if buf, err = decodeBlock(buf, packed, int(size)); err != nil {
				return written, fmt.Errorf("%w: block at %d: %w", ErrStream, written, err)
			}
		}

		n, err := w.Write(buf[history:])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// readAll fills b. what is said of it when the stream ends before.
func readAll(r io.Reader, b []byte, what string) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the stream ends in %s", ErrTruncated, what)
	}
	return err
}

func atEnd(r io.Reader) error {
	var b [1]byte
	switch _, err := io.ReadFull(r, b[:]); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: bytes follow its end", ErrStream)
}

var (
	errBlockEnds   = errors.New("it ends within a sequence")
	errBlockLong   = errors.New("it holds more than its size")
	errBlockShort  = errors.New("it holds less than its size")
	errBlockOffset = errors.New("a match reaches before the stream")
)

// decodeBlock appends the size bytes that the raw LZ4 block src holds to buf,
// whose bytes its matches may reach (lz4_Block_format.md of the reference
// implementation). A block may end with a match.
func decodeBlock(buf, src []byte, size int) ([]byte, error) {
	end := len(buf) + size
	for len(src) > 0 {
		token := src[0]
		src = src[1:]

		literals, rest, ok := length(int(token>>4), src)
		switch {
		case !ok || literals > len(rest):
			return buf, errBlockEnds
		case literals > end-len(buf):
			return buf, errBlockLong
		}
		buf, src = append(buf, rest[:literals]...), rest[literals:]
		if len(src) == 0 {
			break
		}

		if len(src) < 2 {
			return buf, errBlockEnds
		}
		offset := int(binary.LittleEndian.Uint16(src))
		match, rest, ok := length(int(token&15), src[2:])
		match += 4
		switch {
		case !ok:
			return buf, errBlockEnds
		case offset == 0 || offset > len(buf):
			return buf, errBlockOffset
		case match > end-len(buf):
			return buf, errBlockLong
		}
		src = rest

		// A match may overlap what it makes, which then repeats: each copy may take
		// all that is there since from.
		for from := len(buf) - offset; match > 0; {
			n := min(match, len(buf)-from)
			buf = append(buf, buf[from:from+n]...)
			match -= n
		}
	}
	if len(buf) < end {
		return buf, errBlockShort
	}
	return buf, nil
}

// length reads what follows a length of 15: bytes that are added up to the first
// that is not 255.
func length(n int, src []byte) (total int, rest []byte, ok bool) {
	if n < 15 {
		return n, src, true
	}
	for i, b := range src {
		n += int(b)
		if b != 255 {
			return n, src[i+1:], true
		}
	}
	return n, nil, false
}
