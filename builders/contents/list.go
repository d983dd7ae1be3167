// Package contents knows what lies where on an image's disk. A build writes a
// list of it: every structure of the partition tables and file systems and every
// file, each with its place and its SHA-256; what is between them is zero. By such
// a list a disk is compared without trust in anything on it: of a byte that is
// another one the list says whose it is.
//
// The list of a disk is a function of its bytes. It is made by reading a disk that
// is known to be sound; comparing reads no structure of the disk, which may be
// damaged.
//
// The package owns no state. It imports the builders package.
package contents

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/rockpool/rootvm/builders"
)

// Format is that of a list's file in a manifest, Suffix follows the image's name.
const (
	Format = "contents"
	Suffix = ".contents.zst"
)

// Kinds of regions. Those of a file system's files have a path as their name, the
// others a few words.
const (
	File      = "file"
	Directory = "directory"
	Link      = "symbolic link"
	HardLink  = "hard link" // another name of the file at Target
	Special   = "special file"
	Structure = "structure"
)

// Region is a part of a disk, or of the qcow2 file that holds it, and what it
// should be. It is one line of a list, as JSON.
type Region struct {
	Part string `json:"part"` // partition's name, Table, or QCOW2
	Kind string `json:"kind"`
	Name string `json:"name"` // path, or what the structure is called

	// At are places on the disk, in the order of the content; of Part QCOW2 they
	// are places in the file.
	At     []Extent `json:"at,omitempty"`
	Size   int64    `json:"size,omitempty"`   // of the content, bytes; the rest of the last extent is zero
	SHA256 string   `json:"sha256,omitempty"` // of the content; a file's is that of sha256sum(1)
	Zero   bool     `json:"zero,omitempty"`   // the content is, and has no digest
	Bytes  string   `json:"bytes,omitempty"`  // the content in hexadecimal, of a structure whose fields are known
	Fields string   `json:"fields,omitempty"` // which fields: a key of layouts

	// Of what has an inode.
	Inode  uint32 `json:"inode,omitempty"`
	Mode   string `json:"mode,omitempty"` // st_mode, octal
	UID    uint32 `json:"uid,omitempty"`
	GID    uint32 `json:"gid,omitempty"`
	Time   int64  `json:"time,omitempty"`   // of modification, seconds since 1970
	Target string `json:"target,omitempty"` // of a link of either kind
}

// Extent is a stretch of bytes. A Start below 0 is a hole, which reads as zeros.
type Extent struct {
	Start  int64
	Length int64
}

// MarshalJSON writes the extent as [start, length].
func (e Extent) MarshalJSON() ([]byte, error) { return json.Marshal([2]int64{e.Start, e.Length}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Extent) UnmarshalJSON(b []byte) error {
	var pair [2]int64
	err := json.Unmarshal(b, &pair)
	e.Start, e.Length = pair[0], pair[1]
	return err
}

// Parts that are no partitions.
const (
	Table = "partition table"
	QCOW2 = "qcow2"
)

// List is what a disk holds.
type List struct {
	DiskSize   int64
	Partitions []Partition
	Regions    []Region
}

// Partition is the place of one on the disk, in bytes.
type Partition struct {
	Name  string `json:"name"`
	Start int64  `json:"start"`
	Size  int64  `json:"size"`
}

// header is the first line of a list's file.
type header struct {
	Format     int         `json:"format"`
	DiskSize   int64       `json:"diskSize"`
	Partitions []Partition `json:"partitions"`
}

const listFormat = 1

// Write replaces the list in the file at path in one step: JSON, one object a
// line, compressed by zstd.
func (l *List) Write(path string) error {
	f, err := builders.CreateFile(path)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := l.encode(f); err != nil {
		return fmt.Errorf("write list of contents: %w", err)
	}
	return f.CloseAtomicallyReplace()
}

func (l *List) encode(w io.Writer) error {
	// One thread, so that the bytes do not depend on the machine.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(z)
	lines := json.NewEncoder(buffer)
	lines.SetEscapeHTML(false)

	if err := lines.Encode(header{listFormat, l.DiskSize, l.Partitions}); err != nil {
		return err
	}
	for _, r := range l.Regions {
		if err := lines.Encode(r); err != nil {
			return err
		}
	}
	return errors.Join(buffer.Flush(), z.Close())
}

// Read reads what [List.Write] wrote.
func Read(path string) (*List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list of contents: %w", err)
	}
	defer f.Close()
	l, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("read list of contents %s: %w", path, err)
	}
	return l, nil
}

// maxList is how many bytes a list may have; that of our image has 14 MB.
const maxList = 1 << 30

func decode(r io.Reader) (*List, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	lines := json.NewDecoder(io.LimitReader(z, maxList))
	lines.DisallowUnknownFields()

	var h header
	if err := lines.Decode(&h); err != nil {
		return nil, err
	}
	if h.Format != listFormat {
		return nil, fmt.Errorf("format %d is not %d: check it with the release that it is of", h.Format, listFormat)
	}
	l := &List{DiskSize: h.DiskSize, Partitions: h.Partitions}
	for {
		var r Region
		if err := lines.Decode(&r); errors.Is(err, io.EOF) {
			return l, nil
		} else if err != nil {
			return nil, err
		}
		if err := l.check(r); err != nil {
			return nil, err
		}
		l.Regions = append(l.Regions, r)
	}
}

// maxContent is how long a file may be, holes included.
const maxContent = 1 << 40

// maxTail is what may follow a content in its last block.
const maxTail = 1 << 20

// check sees to it that nothing of a region leads out of bounds.
func (l *List) check(r Region) error {
	var length int64
	for _, e := range r.At {
		outside := r.Part != QCOW2 && e.Start >= 0 && (e.Start > l.DiskSize || e.Length > l.DiskSize-e.Start)
		if e.Length <= 0 || e.Length > maxContent-length || outside {
			return fmt.Errorf("%s: its place is out of bounds", r)
		}
		length += e.Length
	}
	if r.Size < 0 || r.Size > length || length-r.Size > maxTail {
		return fmt.Errorf("%s: its size is out of bounds", r)
	}
	if r.Fields == "" {
		return nil
	}
	layout, ok := layouts[r.Fields]
	if b, err := hex.DecodeString(r.Bytes); err != nil || !ok || int64(len(b)) != r.Size || len(b) != layout.size() || len(r.At) != 1 || r.At[0].Start < 0 {
		return fmt.Errorf("%s: its bytes are not those of fields", r)
	}
	return nil
}

// String names the region for people.
func (r Region) String() string {
	where := "partition " + r.Part
	if r.Part == Table || r.Part == QCOW2 {
		where = r.Part
	}
	if r.Kind == Structure {
		return where + ": " + r.Name
	}
	return where + ": " + r.Kind + " " + r.Name
}

// path reports whether the region is one of a file system's paths.
func (r Region) path() bool { return strings.HasPrefix(r.Name, "/") }
