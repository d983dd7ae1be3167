// Package toolchain compiles the programs of a checkout, the same bytes every
// time, and names the checkout's revision. It owns no state: callers say where a
// program goes.
package toolchain

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/builders"
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

// Options are how a program is compiled.
type Options struct {
	arguments []string
	env       []string
}

// Target is a kind of machine that a program runs on, by Go's names.
type Target struct{ OS, Architecture string }

// HostTargets lists the machines that the host program runs on.
func HostTargets() []Target {
	return []Target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}
}

// For returns the options for another machine than this one.
func (o Options) For(t Target) Options {
	o.env = append(slices.Clone(o.env), "GOOS="+t.OS, "GOARCH="+t.Architecture)
	return o
}

// Stamped returns the options for a program whose variable name of package main
// has a value. The value may have spaces and no quotes.
func (o Options) Stamped(name, value string) Options {
	o.arguments = slices.Clone(o.arguments)
	i := slices.Index(o.arguments, "-ldflags") + 1
	o.arguments[i] += fmt.Sprintf(" -X 'main.%s=%s'", name, value)
	return o
}

var (
	// Plain is for programs that must run anywhere: without C.
	Plain = Options{plainArguments, []string{"CGO_ENABLED=0"}}
	// WithC is for programs that need C and run on the host that compiled
	// them.
	WithC = Options{plainArguments, []string{"CGO_ENABLED=1"}}
	// Agent is for the agent, with SQLite in one static file.
	Agent = Options{[]string{
		"-trimpath", "-buildvcs=false", "-tags", PodmanTags,
		"-ldflags", StaticLink + " -buildid= -X main.version=" + builders.Version + "-" + builders.Prerelease,
	}, []string{"CGO_ENABLED=1"}}

	plainArguments = []string{"-trimpath", "-buildvcs=false", "-tags", Tags, "-ldflags", "-s -w -buildid="}
)

// Build compiles pkg, a program of the module in dir, to file. What the compiler
// says is shown on out.
func Build(ctx context.Context, dir, pkg, file string, options Options, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", file}, options.arguments...), pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), options.env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", pkg, err)
	}
	return nil
}

// shaping are the settings of Go's by which the same sources compile to other
// programs, and its version.
var shaping = []string{
	"GOVERSION", "GOFLAGS", "GOEXPERIMENT", "GOAMD64", "GOARM64", "GOFIPS140", "CC",
	"CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_LDFLAGS",
}

// Compilers digests, in hexadecimal, what compiles the checkout in dir: Go and the
// C compiler, by what they say of themselves, and their settings.
func Compilers(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env"}, shaping...)...)
	cmd.Dir = dir
	env, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}

	settings := strings.Split(string(env), "\n")
	compiler := strings.Fields(settings[slices.Index(shaping, "CC")])
	if len(compiler) == 0 {
		return builders.DigestOf(string(env)), nil
	}
	version, err := exec.CommandContext(ctx, compiler[0], "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", compiler[0], err)
	}
	return builders.DigestOf(string(env), string(version)), nil
}

// HostArchitecture is Debian's name for the host's architecture, which Go shares
// for the two that are supported.
func HostArchitecture() string { return runtime.GOARCH }

// Revision names the sources in dir: the commit, with "-dirty" when files differ
// from it, or nothing when git does not know. Of the files that git does not track
// only those at or below madeFrom count; those that it is told to ignore never do.
func Revision(ctx context.Context, dir string, madeFrom ...string) string {
	commit, err := git(ctx, dir, "describe", "--always", "--abbrev=12")
	if err != nil {
		return ""
	}
	tracked, err := git(ctx, dir, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return ""
	}
	untracked := ""
	if len(madeFrom) > 0 {
		if untracked, err = changed(ctx, dir, madeFrom); err != nil {
			return ""
		}
	}
	return named(commit, tracked+untracked)
}

// RevisionOf is [Revision] of what is at or below paths alone: the last commit
// that changed something there.
func RevisionOf(ctx context.Context, dir string, paths ...string) string {
	commit, differing := LastCommit(ctx, dir, paths...)
	if commit == "" {
		return ""
	}
	return named(commit[:12], differing)
}

// CheckTagged fails unless the checkout in dir is exactly what a tag names.
func CheckTagged(ctx context.Context, dir, tag string) error {
	want, err := git(ctx, dir, "rev-parse", "--verify", "--quiet", "refs/tags/"+tag+"^{commit}")
	if err != nil {
		return fmt.Errorf("there is no tag %s: make it with `git tag %s`", tag, tag)
	}
	head, err := git(ctx, dir, "rev-parse", "HEAD")
	if err != nil {
		return fmt.Errorf("git: %w", err)
	}
	if head != want {
		return fmt.Errorf("the checkout is of %.12s, the tag %s of %.12s: `git checkout %s`", head, tag, want, tag)
	}
	differing, err := git(ctx, dir, "status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return fmt.Errorf("git: %w", err)
	}
	if differing != "" {
		first, _, _ := strings.Cut(differing, "\n")
		return fmt.Errorf("the checkout differs from the tag %s: %s", tag, strings.TrimSpace(first))
	}
	return nil
}

// LastCommit is the full name of the last commit that changed something at or
// below paths, and what git lists as differing from it there. The name is empty
// where there is none.
func LastCommit(ctx context.Context, dir string, paths ...string) (commit, differing string) {
	commit, err := git(ctx, dir, append([]string{"log", "-1", "--format=%H", "--"}, paths...)...)
	if err != nil || len(commit) < 12 {
		return "", ""
	}
	if differing, err = changed(ctx, dir, paths); err != nil {
		return "", ""
	}
	return commit, differing
}

func named(commit, differing string) string {
	if differing != "" {
		return commit + "-dirty"
	}
	return commit
}

// changed lists the files at or below paths that differ from the commit or are
// not in it.
func changed(ctx context.Context, dir string, paths []string) (string, error) {
	return git(ctx, dir, append([]string{"status", "--porcelain", "--untracked-files=normal", "--"}, paths...)...)
}

// git asks about the checkout in dir and changes nothing there, not even the
// index.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"--no-optional-locks", "-C", dir}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}
