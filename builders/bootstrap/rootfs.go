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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
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
		if err := os.Remove(a.File); err != nil {
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
	a, cached, err = f.CachedRootfs(ctx, l)
	if cached || err != nil {
		return a, cached, err
	}
	parent := filepath.Dir(a.File)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return a, false, fmt.Errorf("bootstrap: %w", err)
	}

	unlock, err := builders.LockFile(ctx, strings.TrimSuffix(a.File, ".tar")+".lock")
	if err != nil {
		return a, false, fmt.Errorf("bootstrap: %w", err)
	}
	defer unlock()
	if a.SHA256, err = archived(a.File); err == nil {
		return a, true, nil // another builder was first
	}
	if err := removeAbandoned(ns, parent); err != nil {
		return a, false, fmt.Errorf("bootstrap: %w", err)
	}
	if err := f.bootstrap(ctx, ns, l, a.File); err != nil {
		return a, false, fmt.Errorf("bootstrap %s %s: %w", l.Suite, l.Architecture, err)
	}
	if a.SHA256, err = archived(a.File); err != nil {
		return a, false, fmt.Errorf("bootstrap: %w", err)
	}
	if err := pruneArchives(parent, keptArchives); err != nil {
		return a, false, fmt.Errorf("bootstrap: remove old archives: %w", err)
	}
	return a, false, nil
}

// Bootstrap is [Fetcher.RootfsArchive] that fetches the packages first. With
// the archive in the cache it needs neither packages nor namespaces.
func (f *Fetcher) Bootstrap(ctx context.Context, l *PackageLock) (a Archive, cached bool, err error) {
	a, cached, err = f.CachedRootfs(ctx, l)
	if cached || err != nil {
		return a, cached, err
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

// archived returns the SHA-256 that tarVerified wrote beside file.
func archived(file string) (string, error) {
	if _, err := os.Stat(file); err != nil {
		return "", err
	}
	b, err := os.ReadFile(file + ".sha256")
	return strings.TrimSpace(string(b)), err
}

// removeAbandoned removes what killed builders left: work directories whose
// lock nobody holds, and half-written archives.
func removeAbandoned(ns *userns.Namespace, dir string) error {
	var left []string
	for _, pattern := range []string{"*.work", "*.tar.partial", builders.UnfinishedFiles("*.tar")} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		left = append(left, files...)
	}

	for _, file := range left {
		key, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "."), ".")
		unlock, ok := builders.TryLockFile(filepath.Join(dir, key+".lock"))
		if !ok {
			continue // a builder is at work, or it is ours
		}
		err := ns.RemoveAll(file)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// keptArchives is how many root file systems stay in the cache: one for each
// set, suite and architecture.
const keptArchives = 8

// pruneArchives removes all but the newest archives of dir. They are made
// again when they are asked for.
func pruneArchives(dir string, keep int) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return err
	}
	made := map[string]time.Time{}
	for _, file := range files {
		if fi, err := os.Stat(file); err == nil {
			made[file] = fi.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return made[b].Compare(made[a]) })
	for _, file := range files[min(keep, len(files)):] {
		if err := errors.Join(os.RemoveAll(file), os.RemoveAll(file+".sha256")); err != nil {
			return err
		}
	}
	return nil
}

// RootfsKey digests, in hexadecimal, all that [Fetcher.RootfsArchive] makes the
// archive from: the lock, how it is bootstrapped and by which mmdebstrap, and
// how the system is archived.
func RootfsKey(ctx context.Context, l *PackageLock) (string, error) {
	version, err := exec.CommandContext(ctx, "mmdebstrap", "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("mmdebstrap is missing: run `sudo apt-get install mmdebstrap`")
	} else if err != nil {
		return "", fmt.Errorf("mmdebstrap --version: %w", err)
	}
	sum := sha256.Sum256([]byte(l.Digest() + "\n" + rootfsScript + "\n" + string(version) + strings.Join(userns.TarFormat(), "\n")))
	return hex.EncodeToString(sum[:16]), nil
}

// bootstrap makes the archive final, with its checksum beside it.
func (f *Fetcher) bootstrap(ctx context.Context, ns *userns.Namespace, l *PackageLock, final string) (err error) {
	workDir := strings.TrimSuffix(final, ".tar") + ".work"
	if err := ns.RemoveAll(workDir); err != nil { // of a killed builder
		return err
	}
	defer func() { err = errors.Join(err, ns.RemoveAll(workDir)) }()
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
