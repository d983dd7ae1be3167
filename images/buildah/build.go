package buildah

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containers/buildah"
	"github.com/containers/buildah/define"
	"github.com/containers/buildah/imagebuildah"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/images"
)

// build makes the image of one platform and returns its id in the storage.
func (s *store) build(ctx context.Context, r images.Request, platform string, out *progress) (string, error) {
	reference, digest, err := s.base(ctx, r, platform, out)
	if err != nil {
		return "", fmt.Errorf("base image for %s: %w", platform, err)
	}
	options, err := s.options(r, platform, reference, digest, out)
	if err != nil {
		return "", err
	}

	out.printLine("building the workspace image for %s", platform)
	for left := beginnings; ; left-- {
		steps, cached := out.counted()
		id, _, err := imagebuildah.BuildDockerfiles(ctx, s.Store, options, filepath.Join(r.Definition, "Containerfile"))
		if err == nil {
			return id, nil
		}

		if left == 1 || ctx.Err() != nil || !out.again(steps, cached) {
			return "", fmt.Errorf("build the workspace image for %s: %w", platform, err)
		}
		out.printLine("the step did not begin; the steps before it are kept, trying again")
	}
}

// beginnings is how often a build is begun when the kernel is too busy to begin
// one of its steps.
const beginnings = 5

// options are Buildah's for one platform.
func (s *store) options(r images.Request, platform, base, digest string, out *progress) (define.BuildOptions, error) {
	epoch := r.Spec.Epoch()
	system, err := s.system()
	if err != nil {
		return define.BuildOptions{}, err
	}

	contexts := map[string]*define.AdditionalBuildContext{}
	for name, dir := range r.Contexts[platform] {
		contexts[name] = &define.AdditionalBuildContext{Value: dir}
	}
	args := map[string]string{"BASE": base, "INPUTS": r.Inputs[platform], "OFFLINE": "1"}
	if r.Spec.Base != "" {
		args["OFFLINE"] = ""
	}

	ulimits, err := limits()
	if err != nil {
		return define.BuildOptions{}, err
	}
	o := define.BuildOptions{
		ContextDirectory:        r.Definition,
		AdditionalBuildContexts: contexts,
		Args:                    args,
		PullPolicy:              define.PullNever, // base has brought it
		Isolation:               define.IsolationChroot,
		NamespaceOptions:        define.NamespaceOptions{{Name: string(specs.NetworkNamespace), Host: true}},
		NetworkInterface:        hostNetwork{},
		Layers:                  true,
		RemoveIntermediateCtrs:  true,
		ForceRmIntermediateCtrs: true,
		Output:                  name(r.Spec, platform),
		OutputFormat:            buildah.OCIv1ImageManifest,
		SystemContext:           system,
		SignaturePolicyPath:     system.SignaturePolicyPath,
		DefaultMountsFilePath:   system.SystemRegistriesConfPath, // an empty file: nothing of the host's
		Labels:                  r.Spec.Labels(digest),
		SourceDateEpoch:         &epoch,
		RewriteTimestamp:        true,
		CreatedAnnotation:       types.OptionalBoolFalse,
		Out:                     out,
		Err:                     out,
		ReportWriter:            out,
		CommonBuildOpts: &define.CommonBuildOptions{
			HTTPProxy:     r.Spec.Base != "",
			IdentityLabel: types.OptionalBoolFalse,
			Ulimit:        ulimits,
		},
	}
	o.Platforms = append(o.Platforms, struct{ OS, Arch, Variant string }{"linux", images.Architecture(platform), ""})
	return o, nil
}

// name is the image's in the storage.
func name(spec images.Spec, platform string) string {
	return spec.Reference() + "-" + images.Architecture(platform)
}

// limits keeps RUN within this process's own limits: Buildah asks for more,
// which fails where the hard limit is low.
func limits() ([]string, error) {
	var all []string
	for _, l := range []struct {
		name     string
		resource int
	}{{"nofile", unix.RLIMIT_NOFILE}, {"nproc", unix.RLIMIT_NPROC}} {
		var limit unix.Rlimit
		if err := unix.Getrlimit(l.resource, &limit); err != nil {
			return nil, fmt.Errorf("read the limit %s: %w", l.name, err)
		}
		n := strconv.FormatUint(min(limit.Max, 1<<20), 10)
		all = append(all, l.name+"="+n+":"+n)
	}
	return all, nil
}

// system points containers/image to configuration of our own: the host may
// have none, or another.
func (s *store) system() (*types.SystemContext, error) {
	policy, registries := filepath.Join(s.run, "policy.json"), filepath.Join(s.run, "empty.conf")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		return nil, fmt.Errorf("write the policy: %w", err)
	}
	if err := os.WriteFile(registries, nil, 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return &types.SystemContext{
		SignaturePolicyPath:         policy,
		SystemRegistriesConfPath:    registries,
		SystemRegistriesConfDirPath: filepath.Join(s.run, "none"),
		BigFilesTemporaryDir:        s.run,
		AuthFilePath:                os.Getenv("REGISTRY_AUTH_FILE"),
	}, nil
}
