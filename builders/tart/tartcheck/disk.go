package tartcheck

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/rockpool/rootvm/builders"
)

// checkDisk unpacks the blobs of the disk, several at a time and each once, and
// compares them with the file disk, unless that is "".
func (l layout) checkDisk(ctx context.Context, chunks []chunk, disk string) error {
	var file *os.File
	if disk != "" {
		var err error
		if file, err = os.Open(disk); err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if last := chunks[len(chunks)-1]; info.Size() != last.start+last.size {
			return fmt.Errorf("%w: %s has %d bytes, the chunks have %d", ErrDisk, disk, info.Size(), last.start+last.size)
		}
	}

	return eachBlob(chunks, func(same []chunk) error { return l.checkBlob(ctx, same, file) })
}

// eachBlob calls do for the chunks of each blob, several at a time. Every fault
// is returned, in the disk's order.
func eachBlob(chunks []chunk, do func(same []chunk) error) error {
	var blobs [][]chunk
	place := map[string]int{}
	for _, c := range chunks {
		i, ok := place[c.Digest]
		if !ok {
			i = len(blobs)
			place[c.Digest] = i
			blobs = append(blobs, nil)
		}
		blobs[i] = append(blobs[i], c)
	}

	faults := make([]error, len(blobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, same := range blobs {
		group.Go(func() error {
			faults[i] = do(same)
			return faults[i]
		})
	}
	_ = group.Wait() // its error is one of the faults
	return errors.Join(faults...)
}

// checkBlob checks a blob, and the chunks that it is.
func (l layout) checkBlob(ctx context.Context, same []chunk, disk *os.File) error {
	first := same[0]
	zero, err := l.compare(ctx, first, disk)
	if err != nil {
		return err
	}

	for _, c := range same[1:] {
		if err := checkSame(first, c); err != nil {
			return err
		}
		if disk == nil {
			continue
		}

		if zero {
			from, _, err := builders.NextData(disk, c.start, c.start+c.size)
			if err != nil {
				return err
			}
			if from == c.start+c.size { // a hole
				continue
			}
		}
		if _, err := l.compare(ctx, c, disk); err != nil {
			return err
		}
	}
	return nil
}

// checkSame checks what is said of two chunks that are one blob.
func checkSame(first, c chunk) error {
	if c.size != first.size || c.plainDigest != first.plainDigest || c.Size != first.Size {
		return fmt.Errorf("%w: layers %d and %d are one blob, and are annotated differently", ErrAnnotation, first.layer, c.layer)
	}
	return nil
}

// compare checks the blob of a chunk against the disk, and says whether it holds
// zeros alone.
func (l layout) compare(ctx context.Context, c chunk, disk *os.File) (zero bool, err error) {
	same := &comparison{disk: disk, at: c.start, zero: true}
	err = l.unpack(ctx, c, same)
	return same.zero && err == nil, err
}

// unpack checks the blob of a chunk and writes its content to to, before it is
// known whether all of it is right.
func (l layout) unpack(ctx context.Context, c chunk, to io.Writer) error {
	what := fmt.Sprintf("layer %d", c.layer)
	f, err := l.open(what, c.descriptor)
	if err != nil {
		return err
	}
	defer f.Close()

	packed, plain := sha256.New(), sha256.New()
	from := contextReader{ctx, io.TeeReader(f, packed)}
	n, err := Decode(io.MultiWriter(plain, to), bufio.NewReaderSize(from, 256<<10), c.size)
	if err != nil && !errors.Is(err, ErrStream) && !errors.Is(err, ErrTruncated) {
		return fmt.Errorf("%s: %w", what, err)
	}

	// A blob that is not what its digest says has that fault before others.
	if _, readErr := io.Copy(io.Discard, from); readErr != nil {
		return fmt.Errorf("%s: %w", what, readErr)
	}
	if digestErr := checkDigest("the blob of "+what, c.Digest, packed.Sum(nil)); digestErr != nil {
		return errors.Join(digestErr, err)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case n < c.size:
		return fmt.Errorf("%w: %s holds %d bytes of %d", ErrTruncated, what, n, c.size)
	}
	return checkDigest("the content of "+what, c.plainDigest, plain.Sum(nil))
}

// contextReader fails once the context is over.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}

// comparison takes what is unpacked and compares it with the disk.
type comparison struct {
	disk *os.File // nil: no one
	at   int64
	zero bool // all was so far
	buf  []byte
}

var zeros = make([]byte, 64<<10)

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

func (c *comparison) Write(b []byte) (int, error) {
	c.zero = c.zero && isZero(b)
	if c.disk == nil {
		return len(b), nil
	}

	if cap(c.buf) < len(b) {
		c.buf = make([]byte, len(b))
	}
	there := c.buf[:len(b)]
	if _, err := c.disk.ReadAt(there, c.at); err != nil {
		return 0, err
	}
	if !bytes.Equal(there, b) {
		i := 0
		for there[i] == b[i] {
			i++
		}
		return 0, fmt.Errorf("%w: byte %d differs", ErrDisk, c.at+int64(i))
	}
	c.at += int64(len(b))
	return len(b), nil
}
