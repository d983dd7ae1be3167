package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/builders/userns"
	"github.com/rockpool/rootvm/images"
)

// builder is the program that builds the image with Buildah.
func (p *Pipeline) builder() string { return filepath.Join(p.CacheDir, "bin", "workspace-image") }

func (p *Pipeline) compileBuilder(ctx context.Context) error {
	return toolchain.Build(ctx, p.Source, "./cmd/workspace-image", p.builder(), toolchain.WithC, p.Out)
}

// builderCommand runs the builder in a namespace of its own: whatever it mounts
// and starts ends with it, even if it is killed. It has no network, unless a base
// that is not ours is to be pulled and completed from its own archive.
func (p *Pipeline) builderCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	ns, err := userns.New()
	if err != nil {
		return nil, err
	}
	if p.Spec.Base == "" {
		ns = ns.Offline()
	}
	cmd := ns.Command(ctx, append([]string{p.builder()}, args...)...)
	userns.Interruptible(cmd) // it gives back what it holds
	cmd.Stderr = p.Out
	cmd.Env = os.Environ()
	if ns.Rootless() {
		// It is in a user namespace already; Buildah need not make one.
		cmd.Env = append(cmd.Env, "_CONTAINERS_USERNS_CONFIGURED=done",
			fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()))
	}
	return cmd, nil
}

// writeRootfs writes the workspace's root file system as [Pipeline.Rootfs]
// returns it. The builder does, because it reads layers.
func (p *Pipeline) writeRootfs(ctx context.Context, m Manifest, architecture, file string) error {
	if err := p.compileBuilder(ctx); err != nil {
		return err
	}
	cmd, err := p.builderCommand(ctx, "rootfs", filepath.Join(p.Dist, m.Layout), architecture, rootfsAt, file)
	if err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("write the workspace's root file system: %w", err)
	}
	return nil
}

// runBuilder asks the builder for images. It inherits the lock of the cache.
func (b *build) runBuilder(ctx context.Context, cacheLock *os.File, r images.Request) (cached bool, err error) {
	request, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(b.Dist, 0o755); err != nil {
		return false, err
	}
	cmd, err := b.builderCommand(ctx, "build")
	if err != nil {
		return false, err
	}

	var answer strings.Builder
	cmd.Stdin, cmd.Stdout = strings.NewReader(string(request)), &answer
	cmd.ExtraFiles = []*os.File{cacheLock}
	cmd.Env = append(cmd.Env, "TMPDIR="+r.Scratch) // not /tmp, which may be small
	if r.Spec.Base != "" {
		cmd.Env = append(cmd.Env, b.credentials()...)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("interrupted: the layers that were finished are kept: %w", context.Cause(ctx))
		}
		return false, err
	}

	var result images.Result
	if err := json.Unmarshal([]byte(answer.String()), &result); err != nil {
		return false, fmt.Errorf("read the builder's answer: %w", err)
	}
	if result.Cached == result.Steps {
		b.printLine("  every step was cached")
		return true, nil
	}
	b.printLine("  %d of %d steps were cached", result.Cached, result.Steps)
	return false, nil
}

// canRun tells whether the kernel runs programs of an architecture, by
// emulation if need be.
func canRun(architecture string) error {
	if architecture == toolchain.HostArchitecture() {
		return nil
	}
	handler := map[string]string{"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}[architecture]
	b, err := os.ReadFile("/proc/sys/fs/binfmt_misc/" + handler)
	if err == nil && strings.HasPrefix(string(b), "enabled") && strings.Contains(flagsOf(string(b)), "F") {
		return nil
	}
	return fmt.Errorf("linux/%s cannot be built on this %s host: its kernel does not run such programs: run `sudo apt-get install qemu-user-binfmt` (Debian 12 and Ubuntu: qemu-user-static), or build on a host of that architecture",
		architecture, toolchain.HostArchitecture())
}

// flagsOf reads the flags of an entry of binfmt_misc.
func flagsOf(entry string) string {
	for line := range strings.Lines(entry) {
		if rest, ok := strings.CutPrefix(line, "flags: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
