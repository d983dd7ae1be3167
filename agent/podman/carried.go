//go:build remote

package podman

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// CarriedDir is where the VM carries the default image: its root file system
// in rootfs/ (package slots makes views of it), its OCI configuration in
// config.json, and its digest, one line, in digest.
const CarriedDir = guest.WorkspaceDir

// Carried is the image that the VM carries.
type Carried struct {
	FS fs.FS // usually os.DirFS(CarriedDir)
}

// image is what a container is made from.
type image struct {
	reference string            // as asked for
	digest    string            // of the carried image; "" of others, which a reference may stand for anew
	config    ociv1.ImageConfig // of the carried image; Podman knows those of others
	view      string            // of the carried image; "" of others
}

func (i image) carried() bool { return i.view != "" }

// read returns the image's configuration and digest.
func (c Carried) read() (ociv1.ImageConfig, string, error) {
	b, err := fs.ReadFile(c.FS, "config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return ociv1.ImageConfig{}, "", agent.Errorf(agent.CodeValidation, "This VM carries no workspace image. Build the VM's image again, or name an image of your own.")
	}
	if err != nil {
		return ociv1.ImageConfig{}, "", fmt.Errorf("read the carried image: %w", err)
	}
	var i ociv1.Image
	if err := json.Unmarshal(b, &i); err != nil {
		return ociv1.ImageConfig{}, "", fmt.Errorf("config.json of the carried image: %w", err)
	}
	digest, err := fs.ReadFile(c.FS, "digest")
	if err != nil {
		return ociv1.ImageConfig{}, "", fmt.Errorf("read the carried image: %w", err)
	}
	return i.Config, strings.TrimSpace(string(digest)), nil
}
