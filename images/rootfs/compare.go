package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Differences says what differs between the root file systems and the
// configurations of two images, a line for each path, sorted. It is empty when
// they are alike: then only the compression of layers, or their number, can be
// different.
func Differences(a, b Image) ([]string, error) {
	left, err := a.contents()
	if err != nil {
		return nil, fmt.Errorf("read the image %s: %w", a.Digest, err)
	}
	right, err := b.contents()
	if err != nil {
		return nil, fmt.Errorf("read the image %s: %w", b.Digest, err)
	}

	var all []string
	for name, was := range left {
		switch is, ok := right[name]; {
		case !ok:
			all = append(all, name+": only in the first")
		case was != is:
			all = append(all, fmt.Sprintf("%s: %s, then %s", name, was, is))
		}
	}

	for name := range right {
		if _, ok := left[name]; !ok {
			all = append(all, name+": only in the second")
		}
	}
	slices.Sort(all)

	if string(a.Config) != string(b.Config) {
		all = append(all, fmt.Sprintf("configuration: %s, then %s", a.Config, b.Config))
	}
	return all, nil
}

// contents describes every member of the root file system.
func (i Image) contents() (map[string]string, error) {
	layers := mutate.Extract(i.layers)
	defer layers.Close()

	all := map[string]string{}
	for t := tar.NewReader(layers); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}

		sum := sha256.New()
		if _, err := io.Copy(sum, t); err != nil {
			return nil, err
		}
		all[clean(h.Name)] = fmt.Sprintf("%c %04o %d:%d %s %s %s %q", h.Typeflag, h.Mode, h.Uid, h.Gid,
			h.ModTime.UTC().Format("2006-01-02T15:04:05"), hex.EncodeToString(sum.Sum(nil))[:16], h.Linkname,
			h.PAXRecords["SCHILY.xattr.security.capability"])
	}
}
