package tart

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pierrec/lz4/v4"
	"golang.org/x/sync/errgroup"
)

// Apple's framing of LZ4, which its compression library calls COMPRESSION_LZ4:
// numbers are 32 bits, little-endian.
const (
	packedBlock = "bv41" // its size, its size packed, a raw LZ4 block
	plainBlock  = "bv4-" // its size, its bytes
	endOfStream = "bv4$"

	blockSize   = 64 << 10 // Apple's
	segmentSize = 4 * blockSize
	blockHeader = 12
)

// segment is a run of blocks on its way through a packing. plain and packed are
// buffers that the next segment uses again.
type segment struct {
	plain, packed []byte
	hole          bool // it is zeros, and plain says nothing but its size
	packedDone    chan struct{}
}

func newSegment() *segment {
	return &segment{
		plain:      make([]byte, segmentSize),
		packed:     make([]byte, 0, segmentSize/blockSize*(blockHeader+lz4.CompressBlockBound(blockSize))),
		packedDone: make(chan struct{}, 1),
	}
}

// pack compresses the plain bytes, each block by itself. The compressor's output
// is that of LZ4_compress_fast in the reference implementation, so that it does
// not change with the library's version.
func (s *segment) pack(c *lz4.CompressorCCompat) error {
	s.packed = s.packed[:0]
	for plain := s.plain; len(plain) > 0; {
		block := plain[:min(blockSize, len(plain))]
		plain = plain[len(block):]

		start := len(s.packed)
		room := s.packed[start+blockHeader : cap(s.packed)]
		n, err := c.CompressBlock(block, room)
		if err != nil {
			return err
		}
		if n == 0 || n >= len(block) {
			s.packed = append(s.packed, plainBlock...)
			s.packed = binary.LittleEndian.AppendUint32(s.packed, uint32(len(block)))
			s.packed = append(s.packed, block...)
			continue
		}
		s.packed = append(s.packed, packedBlock...)
		s.packed = binary.LittleEndian.AppendUint32(s.packed, uint32(len(block)))
		s.packed = binary.LittleEndian.AppendUint32(s.packed, uint32(n))
		s.packed = s.packed[:start+blockHeader+n]
	}
	return nil
}

// chunk is a slice of the disk and, when it is packed, what it became.
type chunk struct {
	extent
	data []extent // what of it is no hole

	digest, plainDigest digest.Digest
	packedSize          int64
}

// packing compresses the chunks of a disk: several at a time, and the segments
// of each by all processors, so that one chunk that is left over keeps them busy
// too. What is in memory is bounded by the number of processors.
type packing struct {
	disk    *os.File
	workers int

	free chan *segment          // empty ones; all there are
	jobs chan *segment          // filled ones
	hole func() ([]byte, error) // a whole segment of zeros, packed
}

// zeros are the content of a hole.
var zeros [segmentSize]byte

func newPacking(disk *os.File, workers int) *packing {
	p := &packing{disk: disk, workers: workers, free: make(chan *segment, 4*workers), jobs: make(chan *segment)}
	for range cap(p.free) {
		p.free <- newSegment()
	}
	p.hole = sync.OnceValues(func() ([]byte, error) {
		hole := newSegment()
		err := hole.pack(new(lz4.CompressorCCompat))
		return hole.packed, err
	})
	return p
}

// run packs the chunks, each into the file that fileOf names.
func (p *packing) run(ctx context.Context, chunks []*chunk, fileOf func(*chunk) string) error {
	var workers errgroup.Group
	for range p.workers {
		workers.Go(p.work)
	}

	packers, ctx := errgroup.WithContext(ctx)
	packers.SetLimit(p.workers)
	for _, c := range chunks {
		packers.Go(func() error { return p.chunk(ctx, c, fileOf(c)) })
	}
	err := packers.Wait()
	close(p.jobs)
	return errors.Join(workers.Wait(), err)
}

// work packs segments until there are no more.
func (p *packing) work() error {
	var c lz4.CompressorCCompat
	var faults error
	for s := range p.jobs {
		if err := p.packSegment(s, &c); err != nil {
			faults = err
		}
		s.packedDone <- struct{}{}
	}
	return faults
}

func (p *packing) packSegment(s *segment, c *lz4.CompressorCCompat) error {
	if !s.hole {
		return s.pack(c)
	}
	if len(s.plain) < segmentSize {
		clear(s.plain)
		return s.pack(c)
	}
	packed, err := p.hole()
	s.packed = append(s.packed[:0], packed...)
	return err
}

// chunk reads one chunk into segments, and writes them in order as they come
// back packed.
func (p *packing) chunk(ctx context.Context, c *chunk, file string) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o644); err != nil {
		return err
	}

	ordered := make(chan *segment, cap(p.free)) // never full
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var both errgroup.Group
	both.Go(func() error {
		defer close(ordered)
		return p.readChunk(ctx, c, ordered)
	})
	both.Go(func() error { return p.writeChunk(c, f, ordered, stop) })
	return both.Wait()
}

func (p *packing) readChunk(ctx context.Context, c *chunk, ordered chan<- *segment) error {
	sum := sha256.New()
	data := c.data
	for start := c.start; start < c.end; start += segmentSize {
		var s *segment
		select {
		case s = <-p.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}

		end := min(start+segmentSize, c.end)
		s.plain = s.plain[:end-start]
		var filled bool
		data, filled = overlaps(data, start, end)
		s.hole = !filled
		if s.hole {
			sum.Write(zeros[:len(s.plain)])
		} else {
			if _, err := p.disk.ReadAt(s.plain, start); err != nil {
				return fmt.Errorf("read the disk at %d: %w", start, err)
			}
			sum.Write(s.plain)
		}

		p.jobs <- s // a worker always takes it
		ordered <- s
	}
	c.plainDigest = digest.NewDigest(digest.SHA256, sum)
	return nil
}

// writeChunk gives every segment back, also after it failed. It stops the reader
// then.
func (p *packing) writeChunk(c *chunk, f *os.File, ordered <-chan *segment, stop context.CancelCauseFunc) error {
	sum := sha256.New()
	write := func(b []byte) error {
		sum.Write(b)
		n, err := f.Write(b)
		c.packedSize += int64(n)
		return err
	}

	var fault error
	for s := range ordered {
		<-s.packedDone
		if fault == nil {
			if fault = write(s.packed); fault != nil {
				stop(fault)
			}
		}
		s.plain = s.plain[:segmentSize]
		p.free <- s
	}
	if fault == nil {
		fault = write([]byte(endOfStream))
	}
	c.digest = digest.NewDigest(digest.SHA256, sum)
	return fault
}
