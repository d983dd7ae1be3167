//go:build remote

package podman

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"github.com/rockpool/rootvm/agent"
)

var _ agent.ImageSource = (*Engine)(nil)

// DefaultDigest implements [agent.ImageSource].
func (e *Engine) DefaultDigest(context.Context) (string, error) {
	i, err := e.Carried.read()
	return i.Digest, err
}

// Packages implements [agent.ImageSource].
func (e *Engine) Packages(ctx context.Context, id string) ([]string, error) {
	f, err := e.Carried.FS.Open("rootfs" + dpkgStatus)
	if err != nil {
		return nil, fmt.Errorf("packages of the carried image: %w", err)
	}
	defer f.Close()
	carried, err := readPackages(f)
	if err != nil {
		return nil, fmt.Errorf("packages of the carried image: %w", err)
	}

	var has map[string]bool
	err = e.whileShown(ctx, id, func() error {
		return e.call(ctx, "packages", func(ctx context.Context) error {
			return download(ctx, id, dpkgStatus, func(r io.Reader) error {
				has, err = readStatus(r)
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return missingIn(carried, has), nil
}

// readStatus reads what dpkg says from an archive of its one file.
func readStatus(r io.Reader) (map[string]bool, error) {
	archive := tar.NewReader(r)
	h, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("read the archive of %s: %w", dpkgStatus, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, agent.Errorf(agent.CodeConflict, "%s in the workspace is not a file", dpkgStatus)
	}
	return readPackages(archive)
}
