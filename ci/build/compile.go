package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/provision"
	"github.com/rockpool/rootvm/templates"
)

// Tags are the build tags of everything that is compiled or checked from this
// module, the same everywhere, so that packages are compiled once: no C library
// but SQLite's own source, OpenPGP in Go, no driver for btrfs.
const Tags = "netgo osusergo sqlite_omit_load_extension containers_image_openpgp exclude_graphdriver_btrfs"

// PodmanTags are those of the agent: Podman's bindings, as a client only. What
// uses Buildah does not compile with them.
const PodmanTags = Tags + " remote"

// StaticLink are the linker's flags for one static file with C in it. The linker
// would warn of PKCS #11, which comes along with the container modules and is
// never used.
const StaticLink = "-linkmode external -extldflags '-static -Wl,--no-warnings' -s -w"

// staticCgo are the arguments that compile the agent with SQLite into one
// static file, the same bytes every time.
var staticCgo = []string{
	"-trimpath", "-buildvcs=false", "-tags", PodmanTags,
	"-ldflags", StaticLink + " -buildid= -X main.version=" + builders.Version + "-" + builders.Prerelease,
}

// static is the same for the other programs. Those that must run anywhere are
// compiled without C.
var static = []string{"-trimpath", "-buildvcs=false", "-tags", Tags, "-ldflags", "-s -w -buildid="}

// compile builds what goes into the image, into stage, and the plugin that
// builds it, into the cache.
func (p *Pipeline) compile(ctx context.Context, stage string) error {
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	if err := p.goBuild(ctx, p.Settings.Source, "./cmd/rockpool-agent", filepath.Join(stage, "rockpool-agent"), staticCgo, "CGO_ENABLED=1"); err != nil {
		return err
	}
	queue := filepath.Join(p.Settings.Source, "provision", "queue")
	if err := p.goBuild(ctx, queue, provision.QueuePackage, filepath.Join(stage, "rockpool-queue"), static, "CGO_ENABLED=0"); err != nil {
		return err
	}
	if err := p.goBuild(ctx, p.Settings.Source, "./cmd/packer-plugin-rootvm", p.plugin(), static, "CGO_ENABLED=0"); err != nil {
		return err
	}
	rendered := filepath.Join(stage, "templates")
	if err := os.RemoveAll(rendered); err != nil {
		return err
	}
	return templates.Write(rendered, templates.Defaults())
}

func (p *Pipeline) plugin() string {
	return filepath.Join(p.Settings.CacheDir, "bin", "packer-plugin-rootvm")
}

// goBuild compiles one program of the module in dir.
func (p *Pipeline) goBuild(ctx context.Context, dir, pkg, out string, args []string, env ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", out}, args...), pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", pkg, err)
	}
	return nil
}

// hostArchitecture is Debian's name for the host's architecture, which Go
// shares for the two that are supported.
func hostArchitecture() string { return runtime.GOARCH }

// needSpace fails when the file system of dir has fewer free bytes. hint says
// what the user can do besides freeing some.
func needSpace(dir string, want int64, hint string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < want {
		return fmt.Errorf("%s has %.1f GiB free and the build needs %.1f GiB there: free some, or %s",
			dir, float64(free)/float64(builders.GiB), float64(want)/float64(builders.GiB), hint)
	}
	return nil
}

// Supervisor compiles the program that watches over a running instance and
// returns its path.
func (p *Pipeline) Supervisor(ctx context.Context) (string, error) {
	path := filepath.Join(p.Settings.CacheDir, "bin", "rockpool-vm")
	return path, p.goBuild(ctx, p.Settings.Source, "./cmd/rockpool-vm", path, static, "CGO_ENABLED=0")
}
