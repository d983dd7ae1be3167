package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
)

// ToolsSuite is the suite the tools tree is of, whatever the image's.
const ToolsSuite = "trixie"

// Tools is a tree of packages, extracted and not installed: no maintainer
// script ran, nothing in it is configured. Its programs run on any host
// through the tree's own ELF loader and libraries.
type Tools struct {
	Dir string // absolute
}

// Tools returns the tools tree for this machine's architecture. The first call
// fetches and extracts it; later ones find it in the cache.
func (f *Fetcher) Tools(ctx context.Context) (*Tools, error) {
	l, err := LoadPackageLock(ToolsSuite, runtime.GOARCH, "tools")
	if err != nil {
		return nil, fmt.Errorf("tools tree: %w", err)
	}
	t, err := f.toolsOf(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("tools tree: %w", err)
	}
	return t, nil
}

func (f *Fetcher) toolsOf(ctx context.Context, l *PackageLock) (*Tools, error) {
	recipe := toolsRecipe(l)
	dir, _, err := f.Store().Make(ctx, recipe, func(ctx context.Context, dir string) error {
		if err := f.Fetch(ctx, l); err != nil {
			return err
		}
		return f.extract(ctx, l, dir)
	})
	if err != nil {
		return nil, err
	}
	return newTools(dir)
}

// toolsRecipe is what the tools tree of a lock is made from.
func toolsRecipe(l *PackageLock) store.Recipe {
	r := store.Recipe{Step: "tools"}
	r.Value("package lock", l.Digest())
	r.Value("extraction", extraction)
	return r
}

func newTools(dir string) (*Tools, error) {
	dir, err := filepath.Abs(dir)
	return &Tools{Dir: dir}, err
}

// extraction are the options of tar(1) by which a package is extracted.
var extraction = []string{"--keep-directory-symlink", "--same-permissions", "--no-same-owner", "--warning=no-timestamp"}

// extract unpacks every package into dir: base-files first, whose links make
// /lib and /bin part of /usr.
func (f *Fetcher) extract(ctx context.Context, l *PackageLock, dir string) error {
	packages := l.Packages()
	first := slices.IndexFunc(packages, func(p builders.Package) bool { return p.Name == "base-files" })
	if first < 0 {
		return errors.New("the lock lacks base-files: make it again")
	}
	if err := f.extractOne(ctx, packages[first], dir); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range slices.Delete(packages, first, first+1) {
		group.Go(func() error { return f.extractOne(ctx, p, dir) })
	}
	return group.Wait()
}

func (f *Fetcher) extractOne(ctx context.Context, p builders.Package, dir string) error {
	// Not dpkg-deb --extract: a package that still has a directory /lib must
	// not put it in the link's place.
	unpack := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", f.deb(p.SHA256))
	extract := exec.CommandContext(ctx, "tar", append([]string{"--extract", "--file=-", "--directory=" + dir}, extraction...)...)
	var unpackSaid, extractSaid bytes.Buffer
	unpack.Stderr, extract.Stderr = &unpackSaid, &extractSaid

	pipe, err := unpack.StdoutPipe()
	if err == nil {
		extract.Stdin = pipe
		err = unpack.Start()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("dpkg-deb is missing: run `sudo apt-get install dpkg`")
	}
	if err == nil {
		err = extract.Run()
		pipe.Close() // lets unpack end when extract did not start
		err = errors.Join(unpack.Wait(), err)
	}
	if err != nil {
		return fmt.Errorf("extract package %s %s: %w: %s", p.Name, p.Version, err, strings.TrimSpace(unpackSaid.String()+extractSaid.String()))
	}
	return nil
}

// Path is the place of rel, a path from the root of the tree.
func (t *Tools) Path(rel string) string { return filepath.Join(t.Dir, rel) }

// multiarch names the directory of an architecture's libraries.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// loader is the tree's dynamic linker.
func (t *Tools) loader() (string, error) {
	for _, rel := range []string{"lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"} {
		if fi, err := os.Stat(t.Path(rel)); err == nil && fi.Mode().IsRegular() {
			return t.Path(rel), nil
		}
	}
	return "", fmt.Errorf("%s has no dynamic linker", t.Dir)
}

// binaryDirectories are searched for a program, in this order.
var binaryDirectories = []string{"usr/bin", "usr/sbin", "usr/libexec", "usr/lib/qemu"}

// Argv returns what runs the program called name: the tree's loader with the
// tree's libraries, and the program. A QEMU started so needs its data by -L,
// see [Tools.QEMUData], and the variables of [Tools.Env].
func (t *Tools) Argv(name string) ([]string, error) {
	loader, err := t.loader()
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	libraries := t.Path("usr/lib/" + multiarch[runtime.GOARCH])
	path := strings.Join([]string{libraries, libraries + "/pulseaudio", libraries + "/systemd"}, ":")
	for _, dir := range binaryDirectories {
		file := t.Path(dir + "/" + name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return []string{loader, "--library-path", path, "--argv0", name, file}, nil
		}
	}
	return nil, fmt.Errorf("tool %s is not in the tools tree %s: delete that directory and try again", name, t.Dir)
}

// Env are the variables that point programs of the tree to its data files, as
// NAME=value.
func (t *Tools) Env() []string {
	return []string{
		"MKE2FS_CONFIG=" + t.Path("etc/mke2fs.conf"),
		"QEMU_MODULE_DIR=" + t.Path("usr/lib/"+multiarch[runtime.GOARCH]+"/qemu"),
	}
}

// QEMUData lists the directories of firmware that QEMU takes by -L.
func (t *Tools) QEMUData() []string {
	return []string{t.Path("usr/share/qemu"), t.Path("usr/share/seabios"), t.Path("usr/lib/ipxe/qemu")}
}

// Command prepares a program of the tree. A name that the tree does not have
// shows when the command is started, as with [exec.Command].
func (t *Tools) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv, err := t.Argv(name)
	if err != nil {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Err = err
		return cmd
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], args...)...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), t.Env()...)
	return cmd
}
