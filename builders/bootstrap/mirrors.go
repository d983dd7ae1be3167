package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// DefaultMirrors returns the bases of the Debian archives this machine uses:
// those of its own apt where it is a Debian, and mmdebstrap's elsewhere.
func DefaultMirrors(ctx context.Context) ([]string, error) {
	// No apt, or one without sources, is as good as another distribution.
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--no-release-info",
		"--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err == nil {
		if mirrors := hostMirrors(out); len(mirrors) > 0 {
			return mirrors, nil
		}
	}

	list, err := defaultSources(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a Debian mirror: %w: set MIRROR to the base of a Debian archive", err)
	}

	var mirrors []string
	for _, s := range list {
		if !slices.Contains(mirrors, s.base) {
			mirrors = append(mirrors, s.base)
		}
	}
	return mirrors, nil
}

// DefaultSnapshots returns the bases of the archives that keep what Debian's
// mirrors drop. Debian's own lies beside the archive that mmdebstrap(1) takes, as
// the host "snapshot" of its domain, so that no name of a host is in this
// program.
func DefaultSnapshots(ctx context.Context) ([]string, error) {
	list, err := defaultSources(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a snapshot archive: %w", err)
	}
	var bases []string
	for _, s := range list {
		base, ok := snapshotOf(s.base)
		if ok && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	return bases, nil
}

// snapshotOf is the snapshot archive in the domain of a mirror.
func snapshotOf(mirror string) (base string, ok bool) {
	u, err := url.Parse(mirror)
	if err != nil {
		return "", false
	}
	_, domain, ok := strings.Cut(u.Hostname(), ".")
	if !ok || !strings.Contains(domain, ".") {
		return "", false
	}
	return u.Scheme + "://snapshot." + domain + "/archive/debian", true
}

// debianReleases that a host's sources may name. Their archive holds every
// suite.
var debianReleases = []string{"bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"}

// hostMirrors reads lines of repository, release and component.
func hostMirrors(indextargets []byte) []string {
	var mirrors []string
	for s := bufio.NewScanner(bytes.NewReader(indextargets)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		release, _, _ := strings.Cut(f[1], "-")
		if !slices.Contains(debianReleases, release) {
			continue
		}

		for _, base := range expand(f[0]) {
			base = strings.TrimRight(base, "/")
			isDebian := strings.HasPrefix(path.Base(base), "debian") || strings.Contains(base, "/archive/debian")
			if isDebian && !slices.Contains(mirrors, base) {
				mirrors = append(mirrors, base)
			}
		}
	}
	return mirrors
}

// expand resolves apt's mirror lists, which cloud images of Debian use, and
// drops what is not HTTP.
func expand(uri string) []string {
	if file, ok := strings.CutPrefix(uri, "mirror+file:"); ok {
		b, err := os.ReadFile(path.Clean("/" + strings.TrimRight(file, "/")))
		if err != nil {
			return nil
		}
		var all []string
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "mirror") {
				all = append(all, expand(f[0])...)
			}
		}
		return all
	}
	if strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://") {
		return []string{uri}
	}
	return nil
}

// source is one line of a sources.list(5).
type source struct{ base, suite string }

// defaultSources asks mmdebstrap(1) which sources it gives to a system of
// Debian's stable suite, so that no name of a host is in this program.
func defaultSources(ctx context.Context) ([]source, error) {
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=custom", "--format=null",
		`--setup-hook=cat "$1/etc/apt/sources.list" >&2; exit 1`, "trixie", "/dev/null")
	out, err := cmd.CombinedOutput() // fails by design once it has told
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("mmdebstrap is missing: run `sudo apt-get install mmdebstrap`")
	}
	list := parseSources(out)
	if len(list) == 0 {
		return nil, fmt.Errorf("mmdebstrap names none: %v", err)
	}
	return list, nil
}

// parseSources reads the deb lines of a sources.list(5).
func parseSources(b []byte) []source {
	var list []source
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		if _, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(rest, "[") {
			rest = after
		}
		if f := strings.Fields(rest); len(f) >= 2 {
			list = append(list, source{strings.TrimRight(f[0], "/"), f[1]})
		}
	}
	return list
}
