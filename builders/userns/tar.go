package userns

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// tarFormat are the options of tar(1) by which an archive follows from the tree
// and the epoch alone. What exists only while a system runs is left out.
var tarFormat = []string{
	"--sort=name", "--numeric-owner", "--format=posix", "--clamp-mtime",
	"--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
	"--xattrs", "--xattrs-include=security.capability",
	"--anchored", "--wildcards-match-slash",
	"--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./run/*", "--exclude=./sys/*", "--exclude=./tmp/*",
}

// TarFormat returns what decides how [Namespace.Tar] archives a tree: a part of
// the key under which somebody keeps such archives.
func TarFormat() []string { return slices.Clone(tarFormat) }

// Tar writes the tree at dir to w as a POSIX tar archive that depends on
// nothing but the tree: sorted by name, numeric owners, file capabilities and
// no other extended attributes, no access or change times, and no modification
// time later than epoch. Sockets and the contents of /dev, /proc, /run, /sys
// and /tmp are left out.
func (n *Namespace) Tar(ctx context.Context, dir string, w io.Writer, epoch time.Time) error {
	argv := append([]string{"tar", "--create", "--file=-", "--directory=" + dir,
		"--mtime=@" + strconv.FormatInt(epoch.Unix(), 10), "--warning=no-file-ignored"}, tarFormat...)
	cmd := n.Command(ctx, append(argv, ".")...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TAR_OPTIONS=")
	cmd.Stdout = w
	return Run(ctx, cmd, "archive "+dir)
}

// SetTimes gives what was modified after since the modification time to. What a
// build wrote has the time of the build, or that of an earlier one which its
// caches remember; so it has the same in both. What only exists while a system
// runs is left alone.
func (n *Namespace) SetTimes(ctx context.Context, dir string, since, to time.Time) error {
	cmd := n.Command(ctx, "find", ".", "-xdev",
		"(", "-path", "./dev/*", "-o", "-path", "./proc/*", "-o", "-path", "./run/*", "-o", "-path", "./sys/*", "-o", "-path", "./tmp/*", ")", "-prune",
		"-o", "-newermt", "@"+strconv.FormatInt(since.Unix(), 10),
		"-exec", "touch", "--no-dereference", "--date=@"+strconv.FormatInt(to.Unix(), 10), "{}", "+")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	return Run(ctx, cmd, "set times in "+dir)
}

// Untar extracts the archive r, as made by [Namespace.Tar], into dir, which is
// created when absent. Owners, modes and file capabilities are kept.
func (n *Namespace) Untar(ctx context.Context, dir string, r io.Reader) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	// Device nodes cannot be made in a user namespace, and none is needed.
	cmd := n.Command(ctx, "tar", "--extract", "--file=-", "--directory="+dir,
		"--numeric-owner", "--same-owner", "--same-permissions",
		"--xattrs", "--xattrs-include=security.capability",
		"--anchored", "--wildcards-match-slash", "--exclude=./dev/*")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TAR_OPTIONS=")
	cmd.Stdin = r
	return Run(ctx, cmd, "extract to "+dir)
}
