package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/release"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/host/settings"
)

// releaseNotes is what a release says of itself, from the changelog.
const releaseNotes = "NOTES.md"

// Release makes all files of a release into dist/release/VERSION: the image and the
// workspace image with what is beside them, the host program, notes, and the
// list of all, signed when there is a key. Arguments: VERSION [--key FILE].
func (p *Pipeline) Release(ctx context.Context, args []string) error {
	var keyFile string
	flags := pflag.NewFlagSet("release", pflag.ContinueOnError)
	flags.SetOutput(p.Out)
	settings.List{
		{Flag: "key", Usage: "private key to sign with, made by `ssh-keygen -t ed25519`", Value: settings.Path(&keyFile, p.Source)},
	}.Bind(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() != 1:
		return errors.New("release needs a version, such as " + builders.Version)
	}
	r := releasing{Pipeline: p, version: flags.Arg(0)}
	if err := r.prepare(ctx, keyFile); err != nil {
		return fmt.Errorf("release: %w", err)
	}

	if _, err := p.Build(ctx); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if err := r.assemble(ctx); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// releasing is a release under way.
type releasing struct {
	*Pipeline
	version string
	key     []byte // private; nil: it is not signed
	stamp   string // the public key of key
	notes   string
}

// prepare finds what would be wrong with the release before anything is built.
func (r *releasing) prepare(ctx context.Context, keyFile string) (err error) {
	if r.version != builders.Version {
		return fmt.Errorf("the version of this checkout is %s, in builders/spec.go, not %s", builders.Version, r.version)
	}
	if err := toolchain.CheckTagged(ctx, r.Source, "v"+r.version); err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(r.Source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if r.notes, err = notesOf(string(changelog), r.version); err != nil {
		return err
	}
	if keyFile == "" {
		r.printLine("no key is given: the release will not be signed; `ssh-keygen -t ed25519 -N '' -f release.key` makes one, for --key release.key")
		return nil
	}
	if r.key, err = os.ReadFile(keyFile); err != nil {
		return err
	}
	r.stamp, err = release.PublicKey(r.key)
	return err
}

// notesOf is the section of a version in the changelog.
func notesOf(changelog, version string) (string, error) {
	_, section, ok := strings.Cut(changelog, "\n## "+version)
	if !ok {
		return "", fmt.Errorf("CHANGELOG.md has no section \"## %s\"", version)
	}
	first, section, _ := strings.Cut(section, "\n") // a date may follow the version
	if first != "" && !strings.HasPrefix(first, " ") {
		return "", fmt.Errorf("CHANGELOG.md has no section \"## %s\"", version)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	if section = strings.TrimSpace(section); section == "" {
		return "", fmt.Errorf("the section %q of CHANGELOG.md is empty", version)
	}
	return "# Rockpool Root VM " + version + first + "\n\n" + section + "\n", nil
}

// verify compares the image in dist/ with its manifest, and what its qcow2 holds
// with the list of contents, by readers that share no code with what made it.
func (r *releasing) verify(ctx context.Context) error {
	if err := r.verifyFile(ctx, r.dist(".manifest.json"), ""); err != nil {
		return err
	}
	if _, err := os.Stat(r.dist(".qcow2")); errors.Is(err, os.ErrNotExist) {
		return nil // of another format
	}
	list, err := contents.Read(r.dist(contents.Suffix))
	if err != nil {
		return err
	}
	faults, err := list.CompareQCOW2(ctx, r.dist(".qcow2"))
	if err != nil {
		return err
	}
	return r.printFaults(faults)
}

// assemble puts the files of the release together and gives their directory its
// name when it is whole.
func (r *releasing) assemble(ctx context.Context) error {
	dir := filepath.Join(r.Dist, "release", r.version)
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return err
	}
	manifests := []string{r.dist(".manifest.json"), filepath.Join(r.Dist, r.WorkspaceImage.Name()+".manifest.json")}
	for _, manifest := range manifests {
		if err := r.collect(manifest, partial); err != nil {
			return err
		}
	}
	if err := builders.WriteFile(filepath.Join(partial, releaseNotes), []byte(r.notes)); err != nil {
		return err
	}
	if err := r.compilePrograms(ctx, partial, toolchain.Plain.Stamped("releaseKey", r.stamp)); err != nil {
		return err
	}
	if err := r.sign(ctx, partial); err != nil {
		return err
	}
	if err := syncAll(partial); err != nil {
		return err
	}
	if err := builders.ReplaceDirectory(partial, dir); err != nil {
		return err
	}
	r.printLine("release %s is %s", r.version, dir)
	return nil
}

// collect links into dir a manifest and the files that it names.
func (r *releasing) collect(manifest, dir string) error {
	m, err := builders.ReadManifest(manifest)
	if err != nil {
		return err
	}
	for _, name := range append(namesOf(m), filepath.Base(manifest)) {
		if err := linkOver(filepath.Join(filepath.Dir(manifest), name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// sign writes the list of files, signed if there is a key, and reads it back.
func (r *releasing) sign(ctx context.Context, dir string) error {
	if r.key == nil {
		return release.WriteSums(dir)
	}
	if err := release.Sign(dir, r.key); err != nil {
		return err
	}
	checked, err := release.Check(ctx, dir, []byte(r.stamp))
	if err != nil {
		return err
	}
	r.printLine("%d files are signed by %s", checked.Files, checked.Key)
	return nil
}
