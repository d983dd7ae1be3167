package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Flatten writes the image's root file system to file as an uncompressed POSIX
// tar: what its layers make together, sorted by name, hard links last, names
// as "./usr/bin/env". The same image gives the same bytes. The file gets its
// name when it is complete.
func (i Image) Flatten(file string) error {
	if err := i.flatten(file); err != nil {
		return fmt.Errorf("flatten the image %s: %w", i.Digest, err)
	}
	return nil
}

func (i Image) flatten(file string) error {
	spool, err := os.CreateTemp(path.Dir(file), ".flatten-")
	if err != nil {
		return err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	layers := mutate.Extract(i.image)
	defer layers.Close()
	entries, err := readEntries(io.TeeReader(layers, spool))
	if err != nil {
		return err
	}
	out, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	defer out.Close()
	if err := errors.Join(writeSorted(out, spool, entries), out.Sync()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return os.Rename(out.Name(), file)
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

// readEntries reads an archive to its end.
func readEntries(r io.Reader) ([]entry, error) {
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
		h.Name = clean(h.Name)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = clean(h.Linkname)
		}
		entries = append(entries, entry{h, counted.n})
		if _, err := io.Copy(io.Discard, t); err != nil {
			return nil, err
		}
	}
}

// clean is the name of a member as Flatten writes it, but for the slash at the
// end of directories.
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

func writeSorted(w io.Writer, spool io.ReaderAt, entries []entry) error {
	slices.SortStableFunc(entries, compare)
	names := map[string]bool{}
	t := tar.NewWriter(w)
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
	return t.Close()
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
