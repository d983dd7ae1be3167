package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// DefaultName is the instance that the verbs mean when none is named.
const DefaultName = guest.DefaultHostname

// Sizes in bytes.
const (
	MiB = int64(1) << 20
	GiB = int64(1) << 30
)

// Values of [Config.Share], [Config.Boot] and [Config.Accel]. "auto" lets the
// driver choose, and the state file says what it chose.
const (
	Auto = "auto"

	ShareVirtiofs  = "virtiofs"
	Share9P        = "9p"
	ShareAutomount = "automount" // virtiofs, as a folder of the one tag that macOS has for all shares
	ShareDirect    = "direct"    // virtiofs, under a tag of its own
	ShareNone      = "none"

	BootKernel = "kernel" // kernel and initrd given by the launcher: the fastest
	BootBIOS   = "bios"
	BootUEFI   = "uefi"

	AccelKVM = "kvm"
	AccelTCG = "tcg"
)

// Image is the built disk an instance boots. The files are only read.
type Image struct {
	Disk        string `json:"disk"`             // in the driver's ImageFormat: a qcow2 file; for Tart a VM's directory
	SHA256      string `json:"sha256"`           // of Disk, from the manifest: the image's identity
	Kernel      string `json:"kernel,omitempty"` // needed for BootKernel
	Initrd      string `json:"initrd,omitempty"`
	CommandLine string `json:"commandLine,omitempty"` // of the kernel, needed for BootKernel
	Suite       string `json:"suite,omitempty"`       // for display
	Renew       string `json:"renew,omitempty"`       // the command that makes the image anew, for messages
}

// Cure is what helps when something is wrong with the image.
func (i Image) Cure() string {
	if i.Renew == "" {
		return "start with another image"
	}
	return "build it again with `" + i.Renew + "`"
}

// Config says what an instance is. [Host.Start] needs no more than an Image.
type Config struct {
	Name         string            `json:"name"`
	Architecture string            `json:"architecture"` // Debian's name: amd64 or arm64
	Memory       int64             `json:"memory"`       // bytes
	CPUs         int               `json:"cpus"`
	Ports        guest.Ports       `json:"ports"`
	ShareDir     string            `json:"shareDir,omitempty"`    // absolute; empty shares nothing
	ShareChosen  bool              `json:"shareChosen,omitempty"` // by the user: later starts keep ShareDir
	Share        string            `json:"share"`                 // one of the driver's [Capabilities], as the next two
	Boot         string            `json:"boot"`
	Accel        string            `json:"accel"`
	Image        Image             `json:"image"`
	Checkout     string            `json:"checkout,omitempty"` // whose images it runs; empty when it is nobody's
	DiskSize     int64             `json:"diskSize,omitempty"` // of the disposable root disk, bytes; 0 is the image's
	DataSize     int64             `json:"dataSize"`           // of the data disk, bytes; 0 is no data disk
	Hostname     string            `json:"hostname"`
	Credentials  guest.Credentials `json:"credentials"`
}

// FillDefaults sets what was left empty, but for what the driver decides:
// [Host.Start] fills in its first choice of boot, share and acceleration.
func (c *Config) FillDefaults() {
	setDefault(&c.Name, DefaultName)
	setDefault(&c.Architecture, "amd64")
	setDefault(&c.Memory, 8*GiB)
	setDefault(&c.CPUs, 4)
	if c.Ports == (guest.Ports{}) {
		c.Ports.FillDefaults()
	}
	setDefault(&c.DataSize, 40*GiB)
	setDefault(&c.Hostname, c.Name)
	setDefault(&c.Credentials.Username, guest.DefaultUsername)
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$`)

// choose sets what was left empty to the first choice of a driver that can do
// this.
func (c *Config) choose(can Capabilities) {
	for _, setting := range []struct {
		value    *string
		accepted []string
	}{{&c.Architecture, can.Architectures}, {&c.Boot, can.Boots}, {&c.Share, can.Shares}, {&c.Accel, can.Accels}} {
		if len(setting.accepted) > 0 {
			setDefault(setting.value, setting.accepted[0])
		}
	}
}

// Validate reports every fault of the Config at once: what no driver accepts,
// and what one that can do this does not.
func (c Config) Validate(can Capabilities) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if !nameForm.MatchString(c.Name) {
		fault("instance name %q: use lower-case letters, digits and dashes, at most 50", c.Name)
	}
	if !nameForm.MatchString(c.Hostname) {
		fault("host name %q: use lower-case letters, digits and dashes, at most 50", c.Hostname)
	}

	oneOf := func(what, value string, accepted []string) {
		if !slices.Contains(accepted, value) {
			fault("%s %q: use one of %v", what, value, accepted)
		}
	}
	oneOf("architecture", c.Architecture, can.Architectures)
	oneOf("share", c.Share, can.Shares)
	oneOf("boot mode", c.Boot, can.Boots)
	oneOf("acceleration", c.Accel, can.Accels)

	if c.Memory < GiB {
		fault("memory of %s: give at least 1G", Bytes(c.Memory))
	}
	if least := max(can.MinCPUs, 1); c.CPUs < least {
		fault("%d cpus: give at least %d", c.CPUs, least)
	}

	seen := map[int]string{}
	for _, f := range c.Ports.Forwards() {
		if f.Host < 1 || f.Host > 65535 {
			fault("port %d for %s: use 1 to 65535", f.Host, f.Name)
		}
		if other, ok := seen[f.Host]; ok {
			fault("port %d is given for both %s and %s", f.Host, other, f.Name)
		}
		seen[f.Host] = f.Name
	}

	if c.DataSize != 0 && c.DataSize < GiB {
		fault("data disk of %s: give at least 1G", Bytes(c.DataSize))
	}

	if c.Image.Disk == "" {
		fault("no image given: %s", c.Image.Cure())
	}
	if c.Boot == BootKernel && (c.Image.Kernel == "" || c.Image.Initrd == "" || c.Image.CommandLine == "") {
		fault("direct kernel boot needs the image's kernel, initrd and command line: %s, or boot with bios or uefi", c.Image.Cure())
	}
	if c.Boot == BootBIOS && c.Architecture != "amd64" {
		fault("arm64 has no BIOS: boot with kernel or uefi")
	}

	if c.ShareDir != "" && !filepath.IsAbs(c.ShareDir) {
		fault("shared directory %q is not an absolute path", c.ShareDir)
	}
	return errors.Join(faults...)
}

// Instance is one named VM: its directory and what it is.
type Instance struct {
	Dir    string
	Config Config
}

// Path is a file of the instance.
func (i Instance) Path(name string) string { return filepath.Join(i.Dir, name) }

// Files of an instance, below its directory. Sockets are addressed relative to
// the directory, because a socket's path must not exceed 107 bytes.
const (
	configFile     = "instance.json" // Config
	planFile       = "plan.json"     // Plan of the last start
	driverFile     = "driver.json"   // the Driver's own settings
	stateFile      = "state.json"    // State
	keyFile        = "id_ed25519"
	knownHostsFile = "known_hosts"
	operationLock  = "operation.lock"
	supervisorLock = "supervisor.lock"
	supervisorLog  = "supervisor.log"

	supervisorProgram = "supervisor"      // copy of the program that supervises the instance
	supervisorFile    = "supervisor.json" // its arguments

	// ConfigDisk is the ISO9660 image labelled ROCKPOOL.
	ConfigDisk = "config.iso"
	// SerialLog is what the guest wrote on its first serial port since the last start.
	SerialLog = "serial.log"
	// ControlSocket is where the supervisor listens.
	ControlSocket = "control.sock"
)

// ErrNotFound says that an instance does not exist.
var ErrNotFound = errors.New("no such instance")

// ErrDamaged says that what is stored of an instance's configuration cannot be
// read. Its disks are as they were, and a start writes it anew.
var ErrDamaged = errors.New("the configuration of the instance is damaged")

// loadInstance reads the instance in dir.
func loadInstance(dir string) (Instance, error) {
	i := Instance{Dir: dir}
	b, err := os.ReadFile(i.Path(configFile))
	if errors.Is(err, os.ErrNotExist) {
		return i, fmt.Errorf("%s: %w", filepath.Base(dir), ErrNotFound)
	}
	if err != nil {
		return i, fmt.Errorf("read instance: %w", err)
	}
	if err := json.Unmarshal(b, &i.Config); err != nil {
		return i, fmt.Errorf("%w: %s: %w: start it again to have it rewritten", ErrDamaged, i.Path(configFile), err)
	}
	return i, nil
}

// Bytes prints a size the way the settings are written: 8G, 512M, or bytes.
func Bytes(n int64) string {
	switch {
	case n >= GiB && n%GiB == 0:
		return fmt.Sprintf("%dG", n/GiB)
	case n >= 10*GiB:
		return fmt.Sprintf("%.1fG", float64(n)/float64(GiB))
	case n >= MiB:
		return fmt.Sprintf("%dM", n/MiB)
	}
	return fmt.Sprintf("%d bytes", n)
}

// Progress is one thing learnt while an instance starts.
type Progress struct {
	Phase   guest.Phase   // a phase's name, or "" for a note
	Note    string        // a sentence for the user
	Seconds float64       // when the phase was over, since the guest's kernel started
	Elapsed time.Duration // since the start was asked for
}
