package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/provenance"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/host/settings"
)

// Verify checks files of an image against their manifest, or builds the image of
// dist/ again and compares. Arguments: [FILE] [--manifest FILE].
func (p *Pipeline) Verify(ctx context.Context, args []string) error {
	var manifest string
	flags := pflag.NewFlagSet("rootvm:verify", pflag.ContinueOnError)
	flags.SetOutput(p.Out)
	settings.List{
		{Flag: "manifest", Usage: "the manifest to check by; the one beside FILE if none is given", Value: settings.Path(&manifest, p.Source)},
	}.Bind(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 1 || flags.NArg() == 0 && manifest != "":
		return errors.New("rootvm:verify takes one file, such as dist/rockpool-root-trixie-amd64.qcow2, or none to build again and compare")
	}
	if flags.NArg() == 1 {
		return p.verifyFile(ctx, flags.Arg(0), manifest)
	}
	return p.verifyAgain(ctx)
}

// verifyFile checks what is at path. It asks nothing of the network.
func (p *Pipeline) verifyFile(ctx context.Context, path, manifest string) error {
	image, err := contents.Find(path, manifest)
	if err != nil {
		return err
	}
	faults, err := image.Check(ctx)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	faults = append(faults, checkProvenance(image)...)
	if err := p.printFaults(faults); err != nil {
		return fmt.Errorf("%s is not what its manifest says: %w", path, err)
	}
	p.printLine("%s is what its manifest says: %d files", path, image.Files())
	return nil
}

// checkProvenance compares the statement on an image, where it is among the files
// that are checked, with the manifest.
func checkProvenance(image contents.Image) []contents.Fault {
	statement, ok := image.Manifest.Artifact(provenance.Format)
	path, asked := image.Path(statement)
	if !ok || !asked {
		return nil
	}
	if err := provenance.Check(path, image.Manifest); err != nil {
		return []contents.Fault{{Place: statement.File, Why: err.Error()}}
	}
	return nil
}

// maxFaults is how many places are printed.
const maxFaults = 30

// printFaults prints the places, and fails if there are any.
func (p *Pipeline) printFaults(faults []contents.Fault) error {
	for i, f := range faults {
		if i == maxFaults {
			p.printLine("  and %d more", len(faults)-i)
			break
		}
		p.printLine("  %s", f.Error())
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d differences", len(faults))
	}
	return nil
}

// verifyAgain builds the image in dist/ again, with a cache that is empty, and
// compares the two. What differs is kept, to be looked at.
func (p *Pipeline) verifyAgain(ctx context.Context) (err error) {
	want, ok := p.Manifest()
	if !ok {
		return fmt.Errorf("dist has no whole image of %s to compare with: build one with `go tool mage rootvm:build`", p.Spec.Name())
	}
	if note := p.Older(ctx, want); note != "" {
		return errors.New(note)
	}

	again, remove, err := p.fromNothing()
	if err != nil {
		return err
	}
	p.printLine("building %s again, with the empty cache %s", p.Spec.Name(), again.CacheDir)
	got, err := again.Build(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("build again: %w", err), remove())
	}
	made, err := again.cache(p.Out).Store().List()
	if err != nil {
		return err
	}
	p.printLine("nothing came from a store: its cache was empty, and has %d results now", len(made))

	faults, err := differences(p.Dist, want, again.Dist, got)
	if err != nil {
		return err
	}
	if err := p.printFaults(faults); err != nil {
		return fmt.Errorf("%s is not what its sources make: %w; the second build is %s", p.Spec.Name(), err, again.Dist)
	}
	p.printLine("%s is what its sources make: %d files are the same, byte for byte", p.Spec.Name(), len(want.Artifacts))
	return remove()
}

// fromNothing is the pipeline with a cache and a dist/ of its own, beside the
// cache, both empty.
func (p *Pipeline) fromNothing() (again *Pipeline, remove func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(p.CacheDir), 0o755); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(p.CacheDir), "rockpool-verify-")
	if err != nil {
		return nil, nil, fmt.Errorf("verify: %w", err)
	}
	ns, err := userns.New()
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(dir))
	}
	of := *p
	of.CacheDir, of.Dist = filepath.Join(dir, "cache"), filepath.Join(dir, "dist")
	return &of, func() error { return ns.RemoveAll(dir) }, nil
}

// differences compares the files of two builds, and their disks where those
// differ.
func differences(dir string, want builders.Manifest, otherDir string, got builders.Manifest) ([]contents.Fault, error) {
	var faults []contents.Fault
	if want.LockDigest != got.LockDigest {
		faults = append(faults, contents.Fault{Place: "package lock", Why: "is another one"})
	}
	others := map[string]builders.Artifact{}
	for _, a := range got.Artifacts {
		others[a.File] = a
	}
	for _, a := range want.Artifacts {
		switch other, ok := others[a.File]; {
		case !ok:
			faults = append(faults, contents.Fault{Place: a.File, Why: "is missing"})
		case other.SHA256 != a.SHA256:
			faults = append(faults, contents.Fault{Place: a.File, Why: fmt.Sprintf("its SHA-256 is %s instead of %s", other.SHA256, a.SHA256)})
		}
	}

	list, ok := want.Artifact(contents.Format)
	if other, both := got.Artifact(contents.Format); !ok || !both || other.SHA256 == list.SHA256 {
		return faults, nil
	}
	mine, err := contents.Read(filepath.Join(dir, list.File))
	if err != nil {
		return nil, err
	}
	other, err := contents.Read(filepath.Join(otherDir, list.File))
	if err != nil {
		return nil, err
	}
	return append(faults, contents.Differences(mine, other)...), nil
}
