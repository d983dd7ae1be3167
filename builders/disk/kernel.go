package disk

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// Where the guest keeps its current kernel, as links that Debian maintains.
const (
	kernelLink = "/vmlinuz"
	initrdLink = "/initrd.img"
)

// ExtractKernel writes the root file system's kernel and initial RAM disk, for
// launchers that load them without a boot loader, to the files kernel and
// initrd. Its error names everything that is missing.
func ExtractKernel(rootfsTar, kernel, initrd string) error {
	f, err := os.Open(rootfsTar)
	if err != nil {
		return fmt.Errorf("extract kernel: %w", err)
	}
	defer f.Close()
	targets, err := resolveLinks(f, kernelLink, initrdLink)
	if err != nil {
		return fmt.Errorf("extract kernel from %s: %w", rootfsTar, err)
	}
	for link, out := range map[string]string{kernelLink: kernel, initrdLink: initrd} {
		err := replace(out, func(tmp string) error { return extractFile(f, targets[link], tmp) })
		if err != nil {
			return fmt.Errorf("extract %s from %s: %w", targets[link], rootfsTar, err)
		}
	}
	return nil
}

// resolveLinks follows links of the archive from each name to a regular file
// that is not empty.
func resolveLinks(f io.ReadSeeker, names ...string) (map[string]string, error) {
	links, files := map[string]string{}, map[string]int64{}
	err := eachEntry(f, func(name string, h *tar.Header, _ io.Reader) error {
		switch h.Typeflag {
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
			if path.IsAbs(h.Linkname) {
				links[name] = path.Clean(h.Linkname)
			}
		case tar.TypeLink:
			links[name] = absolute(h.Linkname)
		case tar.TypeReg:
			files[name] = h.Size
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	found := map[string]string{}
	var faults []error
	for _, name := range names {
		target := name
		for hops := 0; hops < 8 && links[target] != ""; hops++ {
			target = links[target]
		}
		switch size, ok := files[target]; {
		case !ok && target == name:
			faults = append(faults, fmt.Errorf("%s is missing: the package set has no kernel", name))
		case !ok:
			faults = append(faults, fmt.Errorf("%s leads to %s, which is missing", name, target))
		case size == 0:
			faults = append(faults, fmt.Errorf("%s leads to %s, which is empty", name, target))
		default:
			found[name] = target
		}
	}
	return found, errors.Join(faults...)
}

// extractFile writes one regular file of the archive to out.
func extractFile(f io.ReadSeeker, name, out string) error {
	w, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer w.Close()
	err = eachEntry(f, func(n string, h *tar.Header, r io.Reader) error {
		if n != name || h.Typeflag != tar.TypeReg {
			return nil
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		return errStop
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// errStop ends eachEntry early.
var errStop = errors.New("stop")

// eachEntry calls visit for every entry of the archive, from its start, with
// the entry's absolute path. Contents that are not read are skipped by seeking.
func eachEntry(f io.ReadSeeker, visit func(name string, h *tar.Header, r io.Reader) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(absolute(h.Name), h, r); err == errStop {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// absolute is the path in the guest of an entry named like "./etc/passwd".
func absolute(name string) string { return path.Clean("/" + name) }
