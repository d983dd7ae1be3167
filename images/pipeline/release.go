package pipeline

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rockpool/rootvm/builders/toolchain"
)

// releaseProgram pushes images. It is a process of its own, so that nobody who
// imports this package compiles a client of registries.
func (p *Pipeline) releaseProgram() string {
	return filepath.Join(p.CacheDir, "bin", "rockpool-release")
}

// Push copies the workspace image in dist/, which must be up to date, to a
// registry.
func (p *Pipeline) Push(ctx context.Context, m Manifest, reference string) error {
	return p.PushLayout(ctx, filepath.Join(p.Dist, m.Layout), reference)
}

// PushLayout copies an OCI layout to a registry, with further flags of
// rockpool-release.
func (p *Pipeline) PushLayout(ctx context.Context, layout, reference string, flags ...string) error {
	if err := toolchain.Build(ctx, p.Source, "./cmd/rockpool-release", p.releaseProgram(), toolchain.Plain, p.Out); err != nil {
		return err
	}

	args := append([]string{"push"}, flags...)
	if p.PlainHTTP {
		args = append(args, "--plain-http")
	}
	cmd := exec.CommandContext(ctx, p.releaseProgram(), append(args, layout, reference)...)
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	cmd.Env = append(os.Environ(), p.credentials()...)
	return cmd.Run()
}

// credentials are the variables that lead to the user's credentials for
// registries. Without those of a session the builder would look for them in
// /run/containers, under its number in the namespace, and fail where root has
// closed that directory; see containers-auth.json(5).
func (p *Pipeline) credentials() []string {
	if os.Getenv("REGISTRY_AUTH_FILE") != "" || os.Getenv("XDG_RUNTIME_DIR") != "" {
		return nil
	}
	file := fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	if _, err := os.Stat(file); err == nil {
		return []string{"REGISTRY_AUTH_FILE=" + file}
	}
	return []string{"XDG_RUNTIME_DIR=" + p.CacheDir}
}
