package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/tart/tartcheck"
	"github.com/rockpool/rootvm/vm/tart"
)

// Artifacts fetches images from registries.
type Artifacts interface {
	// Digest asks for the digest of the manifest that the reference names now.
	Digest(ctx context.Context, from Remote) (string, error)

	// Fetch brings the artifact whose manifest has a digest into the OCI layout
	// dir, with every digest verified, and goes on with what is there. accept is
	// asked once the layout has its manifest; its error ends it.
	Fetch(ctx context.Context, from Remote, digest, dir string, accept func() error) error
}

// Remote is where an artifact is, and how to get there.
type Remote struct {
	Reference string
	PlainHTTP bool
	AuthFile  string // credentials; empty: where containers-auth.json(5) says
	Say       func(line string)
}

// isReference reports whether what was given is a reference to a registry: a
// host's name, which has a dot or a port or is localhost, and a name there.
func isReference(given string) bool {
	host, name, found := strings.Cut(given, "/")
	return found && name != "" && host != "." && host != ".." && (host == "localhost" || strings.ContainsAny(host, ".:"))
}

// layoutSuffix is that of what was fetched of an image in the store.
const layoutSuffix = ".layout"

// givenReference finds the Tart artifact that the user gave by its reference.
func (a *App) givenReference(ctx context.Context) (givenImage, error) {
	reference := a.Settings.Image
	if a.diskFormat() != builders.TartFormat {
		return givenImage{}, fmt.Errorf("%s is no directory, and from a registry an image is taken for Tart only (ROCKPOOL_DRIVER=tart): give the directory of an image", reference)
	}
	if a.Program.Artifacts == nil {
		return givenImage{}, fmt.Errorf("%s is in a registry, from which only the program %s takes images: give the directory of an image", reference, Name)
	}

	from := Remote{
		Reference: reference, PlainHTTP: a.Settings.PlainHTTP, AuthFile: a.Settings.AuthFile,
		Say: func(line string) { a.printLine("  %s", line) },
	}
	digest, err := a.Program.Artifacts.Digest(ctx, from)
	if err != nil {
		return givenImage{}, err
	}
	key, isSHA256 := strings.CutPrefix(digest, "sha256:")
	if !isSHA256 || !isKey(key) {
		return givenImage{}, fmt.Errorf("%s has the digest %q, which is none of SHA-256", reference, digest)
	}
	return givenImage{key, func(ctx context.Context, s imageStore, to string) error { return s.fetch(ctx, from, digest, to) }}, nil
}

// tartName is the name of a Tart VM's directory in the store.
const tartName = "rockpool-root." + builders.TartFormat

// fetch makes an image of a Tart artifact. What was fetched stays when it is cut
// off, for the next command to go on from there.
func (s imageStore) fetch(ctx context.Context, from Remote, digest, to string) error {
	layout := filepath.Join(s.dir, strings.TrimPrefix(digest, "sha256:")+layoutSuffix)
	s.app.printLine("fetching %s", from.Reference)
	err := s.app.Program.Artifacts.Fetch(ctx, from, digest, layout, func() error { return tartcheck.Manifest(layout) })
	if errors.Is(err, tartcheck.ErrOrder) || errors.Is(err, tartcheck.ErrMediaType) {
		return errors.Join(fmt.Errorf("%w: give the reference of an artifact that `go tool mage rootvm:push` made", err), os.RemoveAll(layout))
	}
	if err != nil {
		return err
	}

	s.app.printLine("unpacking and checking it")
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	err = tartcheck.Extract(ctx, layout, filepath.Join(to, tartName))
	if ctx.Err() != nil {
		return err
	}
	// Whether it is here now or is wrong: nothing goes on from it.
	if err := errors.Join(err, os.RemoveAll(layout)); err != nil {
		return err
	}
	made, err := describeTart(ctx, filepath.Join(to, tartName))
	if err != nil {
		return err
	}
	return made.manifest.Write(filepath.Join(to, made.name))
}

// describeTart is the image that a Tart VM's directory is. It has no manifest of
// its own, so it is what it is.
func describeTart(ctx context.Context, dir string) (imageFiles, error) {
	if err := tart.CheckDirectory(dir); err != nil {
		return imageFiles{}, fmt.Errorf("image %s: %w", dir, err)
	}
	m := builders.Manifest{Name: "rockpool-root", Architecture: builders.TartArchitecture}
	for _, name := range []string{"config.json", tartDisk, "nvram.bin"} {
		if err := ctx.Err(); err != nil {
			return imageFiles{}, err
		}
		artifact, err := builders.Describe(filepath.Join(dir, name), builders.TartFormat)
		if err != nil {
			return imageFiles{}, err
		}
		artifact.File = filepath.Base(dir) + "/" + name
		m.Artifacts = append(m.Artifacts, artifact)
	}
	return imageFiles{dir: filepath.Dir(dir), name: "rockpool-root-" + m.Architecture + manifestSuffix, manifest: m}, nil
}
