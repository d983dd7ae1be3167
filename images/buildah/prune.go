package buildah

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/rockpool/rootvm/images"
)

// anyBaseName is what the names of all images begin with that were a build's base:
// our own, with the archive's digest at the end, and those that were pulled for
// BASE, with the id.
const anyBaseName = "localhost/rockpool-workspace-base:"

// baseName is anyBaseName of a suite and platform.
func baseName(spec images.Spec, platform string) string {
	return anyBaseName + spec.Suite + "-" + images.Architecture(platform) + "-"
}

// prune removes the images that earlier builds of the same suite and platforms
// left and this one had no use for: former bases, pulled ones too, and what was
// built on any of them. What stands on no base that has its name was pulled
// before pulled bases had one, or was not of the platform that was asked for, and
// goes too. before lists the images that were there when this build began, used
// those it took steps from.
func (s *store) prune(spec images.Spec, before []storage.Image, used map[string]bool) error {
	all, err := s.Images()
	if err != nil {
		return fmt.Errorf("prune the storage of layers: %w", err)
	}

	named, ours := map[string]bool{}, map[string]bool{} // bottom layers of bases: of any, of this Spec's
	for _, img := range all {
		bottom, err := s.bottomLayer(img.TopLayer)
		if err != nil {
			return fmt.Errorf("prune the storage of layers: %w", err)
		}
		if slices.ContainsFunc(img.Names, func(name string) bool { return strings.HasPrefix(name, anyBaseName) }) {
			named[bottom] = true
		}
		if len(s.basesOf(spec, img)) > 0 {
			ours[bottom] = true
		}
	}

	var old []storage.Image
	for _, img := range before {
		bottom, err := s.bottomLayer(img.TopLayer)
		if err != nil {
			return fmt.Errorf("prune the storage of layers: %w", err)
		}
		if (ours[bottom] || !named[bottom]) && !used[img.ID] {
			old = append(old, img)
		}
	}
	return s.remove(old)
}

// basesOf returns the names by which an image is a base for the Spec.
func (s *store) basesOf(spec images.Spec, img storage.Image) []string {
	return slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool {
		return !slices.ContainsFunc(spec.Platforms, func(platform string) bool {
			return strings.HasPrefix(name, baseName(spec, platform))
		})
	})
}

// bottomLayer follows a layer's parents to the last.
func (s *store) bottomLayer(layer string) (string, error) {
	for layer != "" {
		l, err := s.Layer(layer)
		if err != nil {
			return "", err
		}
		if l.Parent == "" {
			return layer, nil
		}
		layer = l.Parent
	}
	return "", nil
}

// remove removes images, those on top of others first.
func (s *store) remove(old []storage.Image) error {
	for len(old) > 0 {
		left := old[:0]
		var last error
		for _, img := range old {
			_, err := s.DeleteImage(img.ID, true)
			if err != nil && !errors.Is(err, storage.ErrImageUnknown) {
				last = fmt.Errorf("prune the image %s: %w", img.ID, err)
				left = append(left, img)
			}
		}
		if len(left) == len(old) {
			return last
		}
		old = left
	}
	return nil
}
