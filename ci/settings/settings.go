// Package settings reads what a user may set from the environment into typed
// values and reports every fault at once. It owns no state and has no effects;
// nothing else in the project reads the environment.
package settings

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/vm"
)

// Settings is everything that the targets need to know.
type Settings struct {
	Spec     builders.Spec
	EpochErr error // why Spec has no SourceDateEpoch; only a build needs one
	// Workspace is the workspace image, without its SourceDateEpoch and
	// Revision, which its definition decides.
	Workspace images.Spec
	Mirrors   []string // MIRROR: Debian archives, tried in order; empty means the host's own
	Force     bool     // FORCE: build even when nothing changed
	Source    string   // the checkout
	PlainHTTP bool     // PLAIN_HTTP, --plain-http: registries have no TLS
	Dist      string   // where finished images go
	CacheDir  string   // ROCKPOOL_CACHE: can be deleted at any time
	StateDir  string   // ROCKPOOL_STATE: instances and their data disks

	VM          vm.Config     // without its Image
	MemoryAsked bool          // ROOT_VM_MEMORY is set: do not shrink it
	CPUsAsked   bool          // ROOT_VM_CPUS is set: do not shrink it
	QEMU        string        // ROCKPOOL_QEMU: auto, host or bundled
	StartLimit  time.Duration // SSH_WAIT_TIMEOUT
	StopLimit   time.Duration // STOP_TIMEOUT
	AssumeYes   bool          // ASSUME_YES: answer questions with yes
}

// Host is what Load asks of the machine, so that tests can answer instead.
type Host struct {
	Getenv  func(string) string
	HomeDir func() (string, error)
	// CommitTime is the time of the checkout's last commit in seconds since
	// 1970.
	CommitTime func(dir string) (int64, error)
}

// Load reads the settings for the checkout at source.
func Load(source string, host Host) (Settings, error) {
	r := reader{getenv: host.Getenv}
	s := Settings{
		Source:    source,
		Dist:      filepath.Join(source, "dist"),
		Mirrors:   strings.Fields(host.Getenv("MIRROR")),
		Force:     r.flag("FORCE"),
		PlainHTTP: r.flag("PLAIN_HTTP"),
	}
	s.Spec.Bind(specSettings{&r})
	if s.Spec.SourceDateEpoch == 0 {
		var err error
		if s.Spec.SourceDateEpoch, err = host.CommitTime(source); err != nil {
			s.EpochErr = fmt.Errorf("the commit's time is not known (%w): set SOURCE_DATE_EPOCH, the latest time in the image, in seconds since 1970", err)
		}
	}
	s.Spec.FillDefaults()
	valid := s.Spec
	if s.EpochErr != nil {
		valid.SourceDateEpoch = 1
	}
	r.fail(valid.Validate())
	s.Workspace = images.Spec{
		Suite:     s.Spec.Suite,
		Platforms: r.list("WORKSPACE_PLATFORMS"),
		Base:      host.Getenv("BASE"),
		Version:   builders.Version + "-" + builders.Prerelease,
	}
	s.Workspace.FillDefaults("linux/" + s.Spec.Architecture)
	s.VM = loadVM(&r, source, s.Spec.Architecture)
	s.MemoryAsked = host.Getenv("ROOT_VM_MEMORY") != ""
	s.CPUsAsked = host.Getenv("ROOT_VM_CPUS") != ""
	s.QEMU = r.choice("ROCKPOOL_QEMU", "auto", "host", "bundled")
	s.StartLimit = time.Duration(r.number("SSH_WAIT_TIMEOUT", 120)) * time.Second
	s.StopLimit = time.Duration(r.number("STOP_TIMEOUT", 90)) * time.Second
	s.AssumeYes = r.flag("ASSUME_YES")
	home, err := host.HomeDir()
	if err != nil && (host.Getenv("ROCKPOOL_CACHE") == "" || host.Getenv("ROCKPOOL_STATE") == "") {
		r.fail(fmt.Errorf("no home directory: set HOME, or both ROCKPOOL_CACHE and ROCKPOOL_STATE: %w", err))
	}
	s.CacheDir = r.directory(source, "ROCKPOOL_CACHE", "XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	s.StateDir = r.directory(source, "ROCKPOOL_STATE", "XDG_STATE_HOME", filepath.Join(home, ".local", "state"))
	return s, errors.Join(r.faults...)
}

// specSettings reads for [builders.Spec.Bind].
type specSettings struct{ *reader }

func (s specSettings) Text(env, _ string, value *string)    { *value = s.text(env, *value) }
func (s specSettings) Words(env, _ string, value *[]string) { *value = s.list(env) }
func (s specSettings) Size(env, _ string, value *int64)     { *value = s.size(env, *value) }
func (s specSettings) Number(env, _ string, value *int64) {
	*value = int64(s.number(env, int(*value)))
}

// loadVM reads what an instance is. The faults of its values are found by
// [vm.Config.Validate] when it starts.
func loadVM(r *reader, source, architecture string) vm.Config {
	web := r.port("ROOT_VM_WEB_PORT", 8080)
	c := vm.Config{
		Name:         r.getenv("ROOT_VM_NAME"),
		Architecture: architecture,
		Memory:       r.size("ROOT_VM_MEMORY", 0),
		CPUs:         r.number("ROOT_VM_CPUS", 0),
		DataSize:     r.size("ROOT_VM_DATA_SIZE", 0),
		DiskSize:     r.size("ROOT_VM_DISK_SIZE", 0),
		Ports:        guest.Ports{SSH: r.port("ROOT_VM_SSH_PORT", 2222), Dashboard: web, IDE: web + 1, Preview: web + 2},
		ShareDir:     r.text("ROCKPOOL_PROJECT", source),
		Share:        r.choice("SHARE", vm.Auto, vm.ShareVirtiofs, vm.Share9P, vm.ShareNone),
		Boot:         r.choice("BOOT", vm.BootKernel, vm.BootBIOS, vm.BootUEFI),
		Accel:        r.choice("ACCEL", vm.Auto, vm.AccelKVM, vm.AccelTCG),
	}
	if !filepath.IsAbs(c.ShareDir) {
		c.ShareDir = filepath.Join(source, c.ShareDir)
	}
	c.FillDefaults()
	return c
}

// reader collects faults while values are read.
type reader struct {
	getenv func(string) string
	faults []error
}

func (r *reader) fail(err error) {
	if err != nil {
		r.faults = append(r.faults, err)
	}
}

func (r *reader) text(name, fallback string) string {
	if v := r.getenv(name); v != "" {
		return v
	}
	return fallback
}

func (r *reader) list(name string) []string {
	return strings.FieldsFunc(r.getenv(name), func(c rune) bool { return c == ',' || c == ' ' })
}

func (r *reader) flag(name string) bool {
	switch r.getenv(name) {
	case "", "0", "false", "no":
		return false
	case "1", "true", "yes":
		return true
	}
	r.fail(fmt.Errorf("%s=%q: use 1 or 0", name, r.getenv(name)))
	return false
}

func (r *reader) choice(name string, allowed ...string) string {
	v := r.text(name, allowed[0])
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	r.fail(fmt.Errorf("%s=%q: use one of %s", name, v, strings.Join(allowed, ", ")))
	return allowed[0]
}

func (r *reader) number(name string, fallback int) int {
	v := r.getenv(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		r.fail(fmt.Errorf("%s=%q: use a whole number above 0", name, v))
		return fallback
	}
	return n
}

func (r *reader) port(name string, fallback int) int {
	n := r.number(name, fallback)
	if n > 65533 {
		r.fail(fmt.Errorf("%s=%d: use a port from 1 to 65533", name, n))
		return fallback
	}
	return n
}

func (r *reader) size(name string, fallback int64) int64 {
	v := r.getenv(name)
	if v == "" {
		return fallback
	}
	n, err := vm.ParseSize(v)
	if err == nil && n == 0 {
		err = fmt.Errorf("size %q: use a size above 0", v)
	}
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", name, err))
		return fallback
	}
	return n
}

// directory resolves our own directory below an XDG base.
func (r *reader) directory(source, own, xdg, fallback string) string {
	if v := r.getenv(own); v != "" {
		if !filepath.IsAbs(v) {
			v = filepath.Join(source, v)
		}
		return filepath.Clean(v)
	}
	return filepath.Join(r.text(xdg, fallback), "rockpool-root-vm")
}

// GitCommitTime is Host.CommitTime for a git checkout.
func GitCommitTime(dir string) (int64, error) {
	out, err := exec.Command("git", "-C", dir, "log", "-1", "--format=%ct").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			first, _, _ := strings.Cut(string(exit.Stderr), "\n")
			return 0, fmt.Errorf("git: %s", first)
		}
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}
