package buildah

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/rockpool/rootvm/images"
)

// prune removes nothing yet.
func (s *store) prune(images.Spec) error { return nil }

var _ = []any{errors.Is, fmt.Errorf, slices.Contains[[]string], strings.HasPrefix, storage.ErrImageUnknown}
