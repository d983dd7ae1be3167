package contents

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
)

// manifestSuffix follows an image's name.
const manifestSuffix = ".manifest.json"

// Image is files of an image that are to be checked, with their manifest.
type Image struct {
	Manifest builders.Manifest
	files    map[string]string // which of the manifest's artifacts, and where each is
}

// Find finds the manifest of what is at path: a manifest, which stands for all
// files of its image, one of those files, or a directory of them such as a Tart
// VM. manifest is the file to take; empty: the one beside path.
func Find(path, manifest string) (Image, error) {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if err != nil {
		return Image{}, fmt.Errorf("verify: %w", err)
	}
	base := filepath.Base(path)
	name, suffix, _ := strings.Cut(base, ".")
	if manifest == "" {
		manifest = filepath.Join(filepath.Dir(path), name+manifestSuffix)
	}
	m, err := builders.ReadManifest(manifest)
	if errors.Is(err, os.ErrNotExist) {
		return Image{}, fmt.Errorf("verify: %s has no manifest beside it: give it with --manifest FILE", path)
	}
	if err != nil {
		return Image{}, fmt.Errorf("verify: %w", err)
	}

	image := Image{Manifest: m, files: map[string]string{}}
	if _, err := os.Stat(filepath.Join(path, "disk.img")); err == nil {
		suffix = builders.TartFormat // under whatever name Tart has it
	}
	for _, a := range m.Artifacts {
		within, in := strings.CutPrefix(a.File, m.Name+"."+suffix+"/")
		switch {
		case base == filepath.Base(manifest):
			image.files[a.File] = filepath.Join(filepath.Dir(path), filepath.FromSlash(a.File))
		case info.IsDir() && in:
			image.files[a.File] = filepath.Join(path, filepath.FromSlash(within))
		case a.File == m.Name+"."+suffix:
			image.files[a.File] = path
		}
	}
	if len(image.files) == 0 {
		return Image{}, fmt.Errorf("verify: %s names no file such as %s", manifest, base)
	}

	// The list is wanted for whatever else is checked.
	if list, ok := m.Artifact(Format); ok && image.files[list.File] == "" {
		image.files[list.File] = filepath.Join(filepath.Dir(manifest), list.File)
	}
	return image, nil
}

// Check compares the files with the manifest, and returns every place where they
// differ from it. It asks nothing of the network.
func (i Image) Check(ctx context.Context) ([]Fault, error) {
	var faults []Fault
	var list *List
	if a, ok := i.Manifest.Artifact(Format); ok {
		why := i.checkFile(a)
		if why == "" {
			var err error
			if list, err = Read(i.files[a.File]); err != nil {
				return nil, err
			}
		} else {
			faults = append(faults, Fault{Place: a.File, Why: why})
		}
	}

	for _, a := range i.Manifest.Artifacts {
		if _, asked := i.files[a.File]; !asked || a.Format == Format {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		why := i.checkFile(a)
		if why == "" {
			continue
		}
		faults = append(faults, Fault{Place: a.File, Why: why})
		places, err := i.places(ctx, a, list)
		if err != nil {
			places = []Fault{{Place: "where", Why: err.Error()}}
		}
		for _, f := range places {
			f.Place = a.File + ": " + f.Place
			faults = append(faults, f)
		}
	}
	return faults, nil
}

// Path is where an artifact of the manifest is, if it is to be checked.
func (i Image) Path(a builders.Artifact) (path string, asked bool) {
	path, asked = i.files[a.File]
	return path, asked
}

// Files is how many files are checked.
func (i Image) Files() int { return len(i.files) }

// checkFile says why a file as a whole is not the manifest's.
func (i Image) checkFile(a builders.Artifact) string {
	info, err := os.Stat(i.files[a.File])
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "is missing"
	case err != nil:
		return err.Error()
	case info.Size() < a.Size:
		return fmt.Sprintf("is cut off: it has %d bytes of %d", info.Size(), a.Size)
	case info.Size() > a.Size:
		return fmt.Sprintf("has %d bytes instead of %d", info.Size(), a.Size)
	}
	got, err := builders.Describe(i.files[a.File], a.Format)
	switch {
	case err != nil:
		return err.Error()
	case got.SHA256 != a.SHA256:
		return fmt.Sprintf("its SHA-256 is %s instead of %s", got.SHA256, a.SHA256)
	}
	return ""
}

// places finds where a file that is not the manifest's differs from it.
func (i Image) places(ctx context.Context, a builders.Artifact, list *List) ([]Fault, error) {
	path := i.files[a.File]
	disk := a.Format == "raw" || a.Format == builders.TartFormat && strings.HasSuffix(a.File, "/disk.img")
	if list == nil && (disk || a.Format == "qcow2") {
		return nil, errors.New("is not known without the list of contents")
	}

	var faults []Fault
	var err error
	switch {
	case a.Format == "qcow2":
		faults, err = list.CompareQCOW2(ctx, path)
	case disk:
		var raw Disk
		if raw, err = OpenRaw(path); err == nil {
			defer raw.Close()
			faults, err = list.Compare(ctx, raw)
		}
	case list != nil && (a.Format == "kernel" || a.Format == "initrd"):
		return i.compareCopy(a, list)
	default:
		return nil, nil
	}
	if err == nil && len(faults) == 0 {
		faults = []Fault{{Place: "where", Why: "all that it holds is right: a byte that nothing refers to is another one"}}
	}
	return faults, err
}

// compareCopy compares a file with the same one on the disk, where the image has
// a disk that can be read.
func (i Image) compareCopy(a builders.Artifact, list *List) ([]Fault, error) {
	disk, err := i.openDisk()
	if err != nil || disk == nil {
		return nil, err
	}
	defer disk.Close()
	for _, r := range list.Regions {
		if r.Kind != File || r.SHA256 != a.SHA256 {
			continue
		}
		b, err := os.ReadFile(i.files[a.File])
		if err != nil {
			return nil, err
		}
		var content bytes.Buffer
		for _, e := range r.At {
			if _, err := io.Copy(&content, io.NewSectionReader(disk, e.Start, e.Length)); err != nil {
				return nil, err
			}
		}
		content.Truncate(int(min(r.Size, int64(content.Len()))))
		n := min(len(b), content.Len())
		at := firstDifference(b[:n], content.Bytes()[:n])
		return []Fault{{Place: "where", Why: fmt.Sprintf("from its byte %d on it is not %s of the disk", at, r.Name)}}, nil
	}
	return nil, nil
}

// openDisk opens the image's disk, if it is there and as the manifest says.
func (i Image) openDisk() (Disk, error) {
	for _, a := range i.Manifest.Artifacts {
		if i.files[a.File] == "" || a.Format != "qcow2" && a.Format != "raw" || i.checkFile(a) != "" {
			continue
		}
		if a.Format == "raw" {
			return OpenRaw(i.files[a.File])
		}
		return OpenQCOW2(i.files[a.File])
	}
	return nil, nil
}
