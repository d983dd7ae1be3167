package rootvm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/communicator"
	"github.com/rockpool/rootvm/builders/contents"
	"github.com/rockpool/rootvm/builders/disk"
)

// steps lists the build in order.
func (r *run) steps() []multistep.Step {
	return []multistep.Step{
		&step{build: r, name: "Prepare the work directory", run: r.prepare, cleanup: r.clean},
		&step{build: r, name: "Fetch packages", run: r.fetch},
		&step{build: r, name: "Unpack the tools tree", run: r.unpackTools},
		&step{build: r, name: "Bootstrap the root file system", run: r.bootstrap},
		&step{build: r, name: "Provision", run: r.provision},
		&step{build: r, name: "Archive the root file system", run: r.archive},
		&step{build: r, name: "Make the disk", run: r.makeDisk},
		&step{build: r, name: "Verify the disk", run: r.verify},
		&step{build: r, name: "List what is on the disk", run: r.listContents},
		&step{build: r, name: "Write kernel, initrd and manifest", run: r.writeManifest},
	}
}

func (r *run) root() string         { return filepath.Join(r.config.WorkDirectory, "root") }
func (r *run) tar() string          { return filepath.Join(r.config.WorkDirectory, "root.tar") }
func (r *run) manifestPath() string { return r.config.path(".manifest.json") }

// prepare empties the work directory, which a killed build may have left full
// of files owned by the user's subordinate ids.
func (r *run) prepare(context.Context) (bool, error) {
	if err := r.ns.RemoveAll(r.config.WorkDirectory); err != nil {
		return false, err
	}
	for _, dir := range []string{r.config.WorkDirectory, r.config.OutputDirectory, r.config.CacheDirectory} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (r *run) clean() error { return r.ns.RemoveAll(r.config.WorkDirectory) }

func (r *run) fetch(ctx context.Context) (bool, error) {
	packages, err := bootstrap.LoadPackageLock(r.spec.Suite, r.spec.Architecture, "rootvm")
	if err != nil {
		return false, err
	}
	r.packages = packages
	r.fetcher = bootstrap.NewFetcher(bootstrap.Cache{Dir: r.config.CacheDirectory, Say: r.ui.Say}, r.config.Mirrors, 10)
	return false, r.fetcher.Fetch(ctx, packages)
}

func (r *run) unpackTools(ctx context.Context) (bool, error) {
	var err error
	r.tools, err = r.fetcher.Tools(ctx)
	return false, err
}

func (r *run) bootstrap(ctx context.Context) (bool, error) {
	base, cached, err := r.fetcher.Rootfs(ctx, r.ns, r.packages, r.root())
	if err != nil {
		return false, err
	}
	r.layers = communicator.NewLayers(r.ns.Chroot(r.root()), r.fetcher.Store(), base.SHA256)
	return cached, nil
}

// provision lets Packer run the template's provisioners. The SDK's own
// StepProvision does the same; its package would bring the clients of three
// cloud providers into the plugin.
func (r *run) provision(ctx context.Context) (bool, error) {
	err := r.hook.Run(ctx, packersdk.HookProvision, r.ui, r.layers, map[string]any{
		"ID":            r.spec.Name(),
		"PackerRunUUID": os.Getenv("PACKER_RUN_UUID"),
	})
	hits, misses := r.layers.Hits()
	r.ui.Say(fmt.Sprintf("%d commands from the cache, %d run", hits, misses))
	return misses == 0, err
}

func (r *run) archive(ctx context.Context) (bool, error) {
	f, err := os.Create(r.tar())
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := r.ns.SetTimes(ctx, r.root(), r.packages.Date, r.spec.Epoch()); err != nil {
		return false, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := r.ns.Tar(ctx, r.root(), w, r.spec.Epoch()); err != nil {
		return false, err
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return false, err
	}
	if r.config.WorkspaceRootfs == "" {
		return false, nil
	}
	return false, layOver(r.tar(), r.config.WorkspaceRootfs, r.spec.Epoch())
}

func (r *run) makeDisk(ctx context.Context) (bool, error) {
	_, err := disk.Build(ctx, r.tools, r.spec, r.tar(), r.config.path(".raw"))
	return false, err
}

func (r *run) verify(ctx context.Context) (bool, error) {
	return false, disk.Verify(ctx, r.tools, r.spec, r.tar(), r.config.path(".raw"))
}

// listContents writes what lies where on the disk, for rootvm:verify.
func (r *run) listContents(ctx context.Context) (bool, error) {
	raw, err := contents.OpenRaw(r.config.path(".raw"))
	if err != nil {
		return false, err
	}
	defer raw.Close()
	list, err := contents.Of(ctx, raw)
	if err != nil {
		return false, err
	}
	return false, list.Write(r.config.path(contents.Suffix))
}

func (r *run) writeManifest(context.Context) (bool, error) {
	kernel, initrd := r.config.path(".vmlinuz"), r.config.path(".initrd.img")
	if err := disk.ExtractKernel(r.tar(), kernel, initrd); err != nil {
		return false, err
	}
	toolVersions, err := bootstrap.ToolVersions()
	if err != nil {
		return false, err
	}

	m := builders.Manifest{
		Name:            r.spec.Name(),
		Suite:           r.spec.Suite,
		Architecture:    r.spec.Architecture,
		DiskSize:        r.spec.DiskSize,
		SourceDateEpoch: r.spec.SourceDateEpoch,
		Revision:        r.config.Revision,
		InputDigest:     r.config.InputDigest,
		RootUUID:        disk.RootUUID(r.spec),
		CommandLine:     disk.KernelCommandLine(r.spec),
		LockDigest:      r.packages.Digest(),
		Packages:        r.packages.Packages(),
		Tools:           toolVersions,
		Steps:           r.watch.Steps,
	}

	files := map[string]string{"kernel": kernel, "initrd": initrd, contents.Format: r.config.path(contents.Suffix)}
	if slices.Contains(r.spec.Formats, "raw") {
		files["raw"] = r.config.path(".raw")
	}

	for format, path := range files {
		a, err := builders.Describe(path, format)
		if err != nil {
			return false, err
		}
		m.Artifacts = append(m.Artifacts, a)
	}
	m.SortArtifacts()
	return false, m.Write(r.manifestPath())
}
