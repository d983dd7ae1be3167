package bootstrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/store"
	"github.com/rockpool/rootvm/builders/userns"
)

//go:embed scripts/rootfs.sh
var rootfsScript string

// Rootfs fills dir, which must not exist or be empty, with the system that the
// packages of the lock make. The first call bootstraps it and keeps the result
// in the cache; later ones extract that. It returns the archive that dir is.
//
// The system depends on the lock alone: whatever tells the time in it tells
// l.Date. A caller that clamps times to an epoch of its own does so when it
// archives the finished tree. The lock's packages must have been fetched.
func (f *Fetcher) Rootfs(ctx context.Context, ns *userns.Namespace, l *PackageLock, dir string) (a Archive, cached bool, err error) {
	recipe, err := rootfsRecipe(ctx, l)
	if err != nil {
		return a, false, err
	}

	cached = true
	for range 2 {
		var made bool
		a, made, err = f.RootfsArchive(ctx, ns, l)
		if err != nil {
			return a, false, err
		}
		cached = cached && made

		err = untarVerified(ctx, ns, a.File, dir)
		if err == nil {
			return a, cached, nil
		}
		if !errors.Is(err, errCorrupt) {
			return a, false, fmt.Errorf("bootstrap: %w", err)
		}

		// Made again, once.
		if err := f.Store().Remove(recipe, err); err != nil {
			return a, false, fmt.Errorf("bootstrap: %w", err)
		}
	}
	return a, false, fmt.Errorf("bootstrap %s %s: the archive is damaged each time it is written: check the disk", l.Suite, l.Architecture)
}

// Archive is a root file system in the cache: an uncompressed POSIX tar.
type Archive struct {
	File   string // absolute when the cache's directory is
	SHA256 string // of the file when it was written, in hexadecimal
}

// RootfsArchive makes the cache hold the system that the packages of the lock
// make, as Rootfs does, and returns it as an archive. It does not read an
// archive that is there: who extracts it compares its SHA256.
func (f *Fetcher) RootfsArchive(ctx context.Context, ns *userns.Namespace, l *PackageLock) (a Archive, cached bool, err error) {
	recipe, err := rootfsRecipe(ctx, l)
	if err != nil {
		return a, false, err
	}
	dir, cached, err := f.Store().Make(ctx, recipe, func(ctx context.Context, dir string) error {
		return f.bootstrap(ctx, ns, l, recipe, filepath.Join(dir, rootfsArchive))
	})
	if err != nil {
		return a, false, fmt.Errorf("bootstrap %s %s: %w", l.Suite, l.Architecture, err)
	}
	a, err = archived(dir)
	return a, cached, err
}

// Bootstrap is [Fetcher.RootfsArchive] that fetches the packages first. With
// the archive in the cache it needs neither packages nor namespaces.
func (f *Fetcher) Bootstrap(ctx context.Context, l *PackageLock) (a Archive, cached bool, err error) {
	recipe, err := rootfsRecipe(ctx, l)
	if err != nil {
		return a, false, err
	}
	if dir, ok := f.Store().Find(recipe); ok {
		a, err = archived(dir)
		return a, true, err
	}

	ns, err := userns.New()
	if err != nil {
		return a, false, err
	}
	if err := f.Fetch(ctx, l); err != nil {
		return a, false, err
	}
	return f.RootfsArchive(ctx, ns, l)
}

// rootfsArchive is the archive of a root file system, a file in the store.
const rootfsArchive = "root.tar"

// archived returns the archive in dir, whose SHA-256 tarVerified wrote beside it.
func archived(dir string) (Archive, error) {
	file := filepath.Join(dir, rootfsArchive)
	b, err := os.ReadFile(file + ".sha256")
	if err != nil {
		return Archive{}, fmt.Errorf("bootstrap: %w", err)
	}
	return Archive{File: file, SHA256: strings.TrimSpace(string(b))}, nil
}

// rootfsRecipe is what the root file system of a lock is made from.
func rootfsRecipe(ctx context.Context, l *PackageLock) (store.Recipe, error) {
	r := store.Recipe{Step: "rootfs-" + l.Set + "-" + l.Suite + "-" + l.Architecture}
	r.Value("package lock", l.Digest())
	r.Value("script", rootfsScript)
	r.Value("archive's format", userns.TarFormat())

	for _, program := range []string{"mmdebstrap", "apt-get", "dpkg", "tar"} {
		version, err := exec.CommandContext(ctx, program, "--version").Output()
		if errors.Is(err, exec.ErrNotFound) {
			return r, fmt.Errorf("bootstrap %s %s: %s is missing: run `sudo apt-get install mmdebstrap`", l.Suite, l.Architecture, program)
		} else if err != nil {
			return r, fmt.Errorf("bootstrap %s %s: %s --version: %w", l.Suite, l.Architecture, program, err)
		}
		r.Value("the host's "+program, string(version))
	}
	return r, nil
}

// RootfsKey digests, in hexadecimal, all that [Fetcher.RootfsArchive] makes the
// archive from: the lock, how it is bootstrapped and by which programs of the
// host, and how the system is archived.
func RootfsKey(ctx context.Context, l *PackageLock) (string, error) {
	r, err := rootfsRecipe(ctx, l)
	return r.Key(), err
}

// bootstrap makes the archive final, with its checksum beside it. The caller holds
// the lock on the recipe's result.
func (f *Fetcher) bootstrap(ctx context.Context, ns *userns.Namespace, l *PackageLock, r store.Recipe, final string) (err error) {
	workDir, done, err := f.workDirectory(ctx, ns, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.RemoveAll(workDir)); done() }()
	root, repository := filepath.Join(workDir, "root"), filepath.Join(workDir, "repository")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := f.repository(l, repository); err != nil {
		return err
	}

	cmd := ns.Offline().Command(ctx, "bash", "-c", rootfsScript, "rootfs", repository, root, l.Suite, l.Architecture, strings.Join(l.Include, ","))
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(l.Date.Unix(), 10), "TMPDIR=/tmp")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("mmdebstrap: %w:\n%s", err, lastLines(output.String(), 20))
	}
	return tarVerified(ctx, ns, root, final, l.Date)
}

// workDirectory is where a root file system is bootstrapped: in the cache's
// rootfs/, not in the store, which removes only files of the caller's own. It is
// the caller's until done is called. What killed builds left there is removed.
func (f *Fetcher) workDirectory(ctx context.Context, ns *userns.Namespace, r store.Recipe) (dir string, done func(), err error) {
	parent := filepath.Join(f.Dir, "rootfs")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, err
	}
	dir = filepath.Join(parent, r.Key()+workSuffix)
	unlock, err := builders.LockFile(ctx, lockOf(dir))
	if err != nil {
		return "", nil, err
	}
	if err := errors.Join(removeAbandoned(ns, parent), ns.RemoveAll(dir)); err != nil {
		unlock()
		return "", nil, err
	}
	return dir, unlock, nil
}

const workSuffix = ".work"

func lockOf(workDir string) string { return strings.TrimSuffix(workDir, workSuffix) + ".lock" }

// removeAbandoned removes the work directories that killed builds left: those
// whose lock nobody holds.
func removeAbandoned(ns *userns.Namespace, dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*"+workSuffix))
	if err != nil {
		return err
	}
	for _, workDir := range left {
		unlock, ok := builders.TryLockFile(lockOf(workDir))
		if !ok {
			continue // a builder is at work, or it is ours
		}
		err := ns.RemoveAll(workDir)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// repository makes a flat repository of the lock and the cached files.
func (f *Fetcher) repository(l *PackageLock, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range l.packages {
		deb := f.deb(p.get("SHA256"))
		if err := linkOrCopy(deb, filepath.Join(dir, p.localName())); err != nil {
			return fmt.Errorf("%w: fetch the packages first", err)
		}
	}
	index := l.index()
	digest := sha256.Sum256(index)
	// mmdebstrap finds the required packages by the codename in the Release file.
	release := fmt.Sprintf("Origin: Debian\nLabel: Debian\nSuite: %[1]s\nCodename: %[1]s\nDate: %[2]s\nArchitectures: all %[3]s\nSHA256:\n %[4]x %[5]d Packages\n",
		l.Suite, l.Date.Format(time.RFC1123), l.Architecture, digest, len(index))
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "Packages"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "Release"), []byte(release), 0o644),
	)
}

func linkOrCopy(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// errCorrupt says that a cached archive is not what was written.
var errCorrupt = errors.New("damaged in the cache")

// tarVerified archives dir as file, its SHA-256 in file.sha256. The archive
// gets its name last.
func tarVerified(ctx context.Context, ns *userns.Namespace, dir, file string, epoch time.Time) error {
	archive, err := builders.CreateFile(file)
	if err != nil {
		return err
	}
	defer archive.Cleanup()
	h := sha256.New()
	if err := ns.Tar(ctx, dir, io.MultiWriter(archive, h), epoch); err != nil {
		return err
	}
	if err := os.WriteFile(file+".sha256", []byte(sum(h)+"\n"), 0o644); err != nil {
		return err
	}
	return archive.CloseAtomicallyReplace()
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// untarVerified extracts file into dir and empties dir again when file is not
// what tarVerified wrote.
func untarVerified(ctx context.Context, ns *userns.Namespace, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	want, err := os.ReadFile(file + ".sha256")
	if err != nil {
		return err
	}

	h := sha256.New()
	err = ns.Untar(ctx, dir, io.TeeReader(f, h))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	// tar(1) may stop reading at the end mark.
	if _, copyErr := io.Copy(h, f); copyErr != nil {
		return copyErr
	}
	if sum(h) != strings.TrimSpace(string(want)) {
		return errors.Join(fmt.Errorf("%s: %w", file, errCorrupt), ns.RemoveAll(dir))
	}
	return err
}
