// Package rootfs reads the layers of an image: it writes the root file system
// that they make together, and says what differs between two. Only programs
// import it, never what mage or the pipelines import: what reads layers is large. It owns no state.
package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/images/oci"
)

// Image is an image whose layers can be read.
type Image struct {
	oci.Image
	layers v1.Image
}

// Open returns the image of an architecture in a layout.
func Open(l oci.Layout, architecture string) (Image, error) {
	described, err := l.Image(architecture)
	if err != nil {
		return Image{}, err
	}
	layers, err := find(l, described.Digest)
	if err != nil {
		return Image{}, fmt.Errorf("layout %s: %w", l.Dir, err)
	}
	return Image{described, layers}, nil
}

// find looks for the image of a digest in a layout's index and the indexes that
// this names.
func find(l oci.Layout, digest string) (v1.Image, error) {
	hash, err := v1.NewHash(digest)
	if err != nil {
		return nil, err
	}

	index, err := layout.ImageIndexFromPath(l.Dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}

	for _, d := range m.Manifests {
		if d.MediaType.IsIndex() {
			if index, err = index.ImageIndex(d.Digest); err != nil {
				return nil, err
			}
		}
	}
	return index.Image(hash)
}

// Write writes a file: an uncompressed POSIX tar that holds, below the directory
// dir, what a container can start from without an engine's storage:
//
//	rootfs/      the root file system that the image's layers make together
//	config.json  the image's configuration, as it is stored
//	digest       the digest of the image's manifest and a newline
//
// Members are sorted by name, hard links last, and named as "./usr/bin/env";
// the directories that lead to dir are members too. The same image gives the
// same bytes. The file gets its name when it is complete.
func (i Image) Write(file, dir string) error {
	if err := i.write(file, clean(dir)); err != nil {
		return fmt.Errorf("write the root file system of the image %s: %w", i.Digest, err)
	}
	return nil
}

func (i Image) write(file, dir string) error {
	spool, err := os.CreateTemp(path.Dir(file), ".rootfs-")
	if err != nil {
		return err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	layers := mutate.Extract(i.layers)
	defer layers.Close()
	entries, err := readEntries(io.TeeReader(layers, spool), dir+"/rootfs")
	if err != nil {
		return err
	}
	out, err := builders.CreateFile(file)
	if err != nil {
		return err
	}
	defer out.Cleanup()

	t := tar.NewWriter(out)
	if err := errors.Join(i.writeBeside(t, dir), writeSorted(t, spool, entries), t.Close()); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// writeBeside writes the members that are not of the root file system.
func (i Image) writeBeside(t *tar.Writer, dir string) error {
	var faults []error
	at := "."
	for _, part := range strings.Split(dir, "/")[1:] {
		at += "/" + part
		faults = append(faults, t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: 0o755, Format: tar.FormatPAX}))
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{"config.json", i.Config}, {"digest", []byte(i.Digest + "\n")}} {
		faults = append(faults, t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + f.name, Mode: 0o644, Size: int64(len(f.content)), Format: tar.FormatPAX}))
		_, err := t.Write(f.content)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// entry is a member of a spooled archive.
type entry struct {
	header *tar.Header
	offset int64 // of its content in the spool
}

// countingReader knows how much was read.
type countingReader struct {
	io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

// readEntries reads an archive to its end. Its members are named below dir.
func readEntries(r io.Reader, dir string) ([]entry, error) {
	counted := &countingReader{Reader: r}
	var entries []entry
	for t := tar.NewReader(counted); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, counted)
			return entries, err
		}
		if err != nil {
			return nil, err
		}

		h.Name = dir + clean(h.Name)[1:]
		if h.Typeflag == tar.TypeLink {
			h.Linkname = dir + clean(h.Linkname)[1:]
		}

		entries = append(entries, entry{h, counted.n})
		if _, err := io.Copy(io.Discard, t); err != nil {
			return nil, err
		}
	}
}

// clean is a name as [Image.Write] writes it, such as "./usr/bin", but for the slash
// at the end of directories; the root is ".".
func clean(name string) string {
	name = path.Clean("/" + name)
	if name == "/" {
		return "."
	}
	return "." + name
}

// compare puts hard links last and parents before what is in them.
func compare(a, b entry) int {
	if x, y := a.header.Typeflag == tar.TypeLink, b.header.Typeflag == tar.TypeLink; x != y {
		if x {
			return 1
		}
		return -1
	}
	return slices.Compare(strings.Split(a.header.Name, "/"), strings.Split(b.header.Name, "/"))
}

func writeSorted(t *tar.Writer, spool io.ReaderAt, entries []entry) error {
	slices.SortStableFunc(entries, compare)

	names := map[string]bool{}
	for _, e := range entries {
		h := e.header
		if names[h.Name] {
			return fmt.Errorf("%s is there twice", h.Name)
		}
		names[h.Name] = true
		if h.Typeflag == tar.TypeLink && !names[h.Linkname] {
			return fmt.Errorf("%s is a link to %s, which a later layer removes", h.Name, h.Linkname)
		}

		if err := t.WriteHeader(portable(h)); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.Copy(t, io.NewSectionReader(spool, e.offset, h.Size)); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return nil
}

// portable reduces a header to what a root file system needs: numeric owners,
// modification times in whole seconds and file capabilities.
func portable(h *tar.Header) *tar.Header {
	out := &tar.Header{
		Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode,
		Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime.UTC().Truncate(1e9), Devmajor: h.Devmajor, Devminor: h.Devminor,
		Format: tar.FormatPAX,
	}
	if h.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	if h.Typeflag == tar.TypeLink {
		out.Size = 0
	}
	const capability = "SCHILY.xattr.security.capability"
	if v, ok := h.PAXRecords[capability]; ok {
		out.PAXRecords = map[string]string{capability: v}
	}
	return out
}
