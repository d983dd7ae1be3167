package contents

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"

	"github.com/rockpool/rootvm/builders"
)

// Disk is a disk that can be read. Several goroutines may read it.
type Disk interface {
	io.ReaderAt
	Size() int64 // bytes
	// NextData finds the first part at or after start, and before end, that may
	// not be zero. Without one, both are end.
	NextData(start, end int64) (from, to int64, err error)
	Close() error
}

// OpenRaw opens a file that is the disk, byte for byte.
func OpenRaw(path string) (Disk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &rawDisk{File: f, size: info.Size()}, nil
}

type rawDisk struct {
	*os.File
	size int64
	seek sync.Mutex // NextData moves the file's offset
}

func (d *rawDisk) Size() int64 { return d.size }

func (d *rawDisk) NextData(start, end int64) (from, to int64, err error) {
	d.seek.Lock()
	defer d.seek.Unlock()
	return builders.NextData(d.File, start, end)
}

// OpenQCOW2 opens a qcow2 image without a backing file.
func OpenQCOW2(path string) (Disk, error) {
	registerZstd()
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// Without the file's name, a header that names a backing file opens none.
	image, err := qcow2.Open(struct{ io.ReaderAt }{f}, nil)
	if err == nil {
		err = image.Readable()
	}
	if err == nil && image.BackingFileOffset != 0 {
		err = errors.New("it has a backing file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read qcow2 %s: %w", path, err)
	}
	return &qcow2Disk{image: image, file: f}, nil
}

// qcow2Disk decodes each cluster once for the regions that follow each other in
// it.
type qcow2Disk struct {
	image *qcow2.Qcow2
	file  *os.File
	lock  sync.Mutex

	clusters [16]cluster // the last ones
	next     int
}

type cluster struct {
	number  int64 // from 1; 0: none
	content []byte
	err     error
}

func (d *qcow2Disk) Size() int64  { return d.image.Size() }
func (d *qcow2Disk) Close() error { return d.file.Close() }

func (d *qcow2Disk) ReadAt(p []byte, off int64) (n int, err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	size := int64(1) << d.image.ClusterBits
	for n < len(p) {
		if off >= d.Size() {
			return n, io.EOF
		}
		content, err := d.cluster(off / size)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], content[off%size:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// cluster returns the content of a cluster, from 0.
func (d *qcow2Disk) cluster(number int64) ([]byte, error) {
	for _, c := range d.clusters {
		if c.number == number+1 {
			return c.content, c.err
		}
	}
	size := int64(1) << d.image.ClusterBits
	c := &d.clusters[d.next]
	d.next = (d.next + 1) % len(d.clusters)
	if c.content == nil {
		c.content = make([]byte, size)
	}
	start := number * size
	c.number = number + 1
	c.content = c.content[:min(size, d.Size()-start)]
	n, err := d.image.ReadAt(c.content, start)
	if err == io.EOF && n == len(c.content) {
		err = nil
	}
	c.err = err
	return c.content, err
}

func (d *qcow2Disk) NextData(start, end int64) (from, to int64, err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	for start < end {
		e, err := d.image.Extent(start, end-start)
		if err != nil {
			return 0, 0, err
		}
		if e.Length <= 0 {
			return start, end, nil
		}
		stop := min(start+e.Length, end)
		if e.Allocated && !e.Zero {
			return start, stop, nil
		}
		start = stop
	}
	return end, end, nil
}

// registerZstd tells the reader of qcow2 how our compressed clusters are read.
var registerZstd = sync.OnceFunc(func() {
	var idle sync.Pool
	qcow2.SetDecompressor(qcow2.CompressionTypeZstd, func(r io.Reader) (io.ReadCloser, error) {
		if z, ok := idle.Get().(*zstd.Decoder); ok {
			return pooled{z, &idle}, z.Reset(r)
		}
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		return pooled{z, &idle}, err
	})
})

// pooled is a decoder that is used again.
type pooled struct {
	*zstd.Decoder
	idle *sync.Pool
}

func (p pooled) Close() error {
	if p.Decoder != nil {
		p.idle.Put(p.Decoder)
	}
	return nil
}
