package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/builders/bootstrap"
)

// cancelLimit is how long Packer may clean up after an interrupt.
const cancelLimit = 30 * time.Second

// inputs names everything the image is made from: the Spec, the lock, the
// template, the provisioning files and what was staged. The plugin stands for
// the code that shapes the disk, and its digest for the workspace image.
func (p *Pipeline) inputs(stage, workspace string) (string, error) {
	spec := p.Settings.Spec
	lock, err := bootstrap.Lock(spec.Suite, spec.Architecture, "rootvm")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %s %s\n", spec.Name(), spec.DiskSize, spec.SourceDateEpoch, lock.Digest(), workspace)
	for _, path := range []string{
		filepath.Join(p.Settings.Source, "packer"),
		filepath.Join(p.Settings.Source, "provision"),
		filepath.Join(p.Settings.Source, "templates"),
		stage, p.plugin(),
	} {
		d, err := digestFiles(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, d)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestFiles is the SHA-256, in hexadecimal, over the names, modes and
// contents of the files at or below path.
func digestFiles(path string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %o %d\n", rel, info.Mode(), info.Size())
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
