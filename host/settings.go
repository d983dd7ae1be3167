package host

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/host/settings"
	"github.com/rockpool/rootvm/vm"
)

// Settings is what a user may set of the host's side. README.md lists them.
type Settings struct {
	VM         vm.Config // without its Image
	Image      string    // directory or manifest of an image, or a reference to a registry
	PlainHTTP  bool      // the registry has no TLS
	AuthFile   string    // credentials of registries; empty is the default place
	Driver     string    // what runs the machine; empty is this system's default
	QEMU       string    // which QEMU to run
	Tart       TartSettings
	Mirrors    []string      // Debian archives to fetch it from, tried in order; none: the host's own
	StartLimit time.Duration // for a start, until the guest serves
	StopLimit  time.Duration // for all of a stop
	AssumeYes  bool          // answer questions with yes
	TakeOver   bool          // start an instance that belongs to another checkout
	CacheDir   string        // can be deleted at any time
	StateDir   string        // instances and their data disks, images

	portsChosen bool // some port of VM was set

	base     string // what relative paths are taken from
	userHome string // the user's home directory
}

// TartSettings are what a user may set of Tart.
type TartSettings struct {
	Home          string // TART_HOME, where its VMs lie; empty is Tart's default
	VM            string // its name of the VM; empty is the instance's
	Softnet       bool   // softnet in the place of the NAT
	SoftnetExpose string // ports that softnet opens to the LAN
}

// newSettings returns the defaults. Relative paths are taken from base.
func newSettings(base string) *Settings {
	s := &Settings{
		QEMU: qemuAuto, StartLimit: 2 * time.Minute, StopLimit: vm.DefaultStopTimeout, base: base,
	}
	s.VM.Name = vm.DefaultName
	s.VM.Ports.FillDefaults()
	return s
}

// everyVerb are the settings of all verbs.
func (s *Settings) everyVerb() settings.List {
	return settings.List{
		{Env: "ROOT_VM_NAME", Flag: "name", Usage: "the instance", Value: settings.Text(&s.VM.Name)},
		{Env: "ROCKPOOL_STATE", Flag: "state", Usage: "directory of instances and their data", Value: settings.Path(&s.StateDir, s.base)},
		{Env: "ROCKPOOL_CACHE", Flag: "cache", Usage: "directory of what can be fetched again", Value: settings.Path(&s.CacheDir, s.base)},
	}
}

// starting are the settings of verbs that start an instance.
func (s *Settings) starting() settings.List {
	return settings.List{
		{Flag: "image", Usage: "directory of an image: its qcow2, kernel, initrd and manifest; for Tart its VM, or a reference to a registry", Value: settings.Text(&s.Image)},
		{Env: "PLAIN_HTTP", Flag: "plain-http", Usage: "the registry of the image has no TLS", Value: settings.Bool(&s.PlainHTTP)},
		{Env: "REGISTRY_AUTH_FILE", Value: settings.Path(&s.AuthFile, s.base)},
		{Env: "ROOT_VM_MEMORY", Flag: "memory", Usage: "memory of the VM, 8G unless the host has less", Value: settings.Size(&s.VM.Memory)},
		{Env: "ROOT_VM_CPUS", Flag: "cpus", Usage: "processors of the VM, 4 unless the host has fewer", Value: settings.Number(&s.VM.CPUs)},
		{Env: "ROOT_VM_DATA_SIZE", Flag: "data-size", Usage: "size of the data disk, 40G; it grows as it is used", Value: settings.Size(&s.VM.DataSize)},
		{Env: "ROOT_VM_DISK_SIZE", Flag: "disk-size", Usage: "size of the root disk, the image's", Value: settings.Size(&s.VM.DiskSize)},
		{Env: "ROOT_VM_SSH_PORT", Flag: "ssh-port", Usage: "port of SSH on 127.0.0.1", Value: sshPort(s)},
		{Env: "ROOT_VM_WEB_PORT", Flag: "web-port", Usage: "port of the dashboard on 127.0.0.1; the other web ports follow it", Value: webPorts(s)},
		{Env: "ROCKPOOL_PROJECT", Flag: "project", Usage: "directory to share with the VM, read-write, at /mnt/rockpool; later starts keep it; none by default", Value: settings.Path(&s.VM.ShareDir, s.base)},
		{Env: "SHARE", Flag: "share", Usage: "how to share it; none ends the sharing", Value: settings.Choice(&s.VM.Share, accepted(func(can vm.Capabilities) []string { return can.Shares })...)},
		{Env: "BOOT", Flag: "boot", Usage: "how to boot", Value: settings.Choice(&s.VM.Boot, accepted(func(can vm.Capabilities) []string { return can.Boots })...)},
		{Env: "ACCEL", Flag: "accel", Usage: "virtualization or emulation", Value: settings.Choice(&s.VM.Accel, accepted(func(can vm.Capabilities) []string { return can.Accels })...)},
		{Env: "ROCKPOOL_DRIVER", Flag: "driver", Usage: "what runs the VM", Value: settings.Choice(&s.Driver, driverNames()...)},
		s.qemu(),
		{Env: "TART_HOME", Value: settings.Path(&s.Tart.Home, s.base)},
		{Env: "TART_VM_NAME", Flag: "tart-vm", Usage: "Tart's name of the VM; the instance's by default", Value: settings.Text(&s.Tart.VM)},
		{Env: "TART_SOFTNET", Flag: "softnet", Usage: "Tart's softnet in the place of its NAT; it needs privileges", Value: settings.Bool(&s.Tart.Softnet)},
		{Env: "TART_SOFTNET_EXPOSE", Flag: "softnet-expose", Usage: "TCP ports that softnet opens to other machines, such as 8080:8080", Value: settings.Text(&s.Tart.SoftnetExpose)},
		{Env: "TAKE_OVER", Flag: "take-over", Usage: "start an instance that belongs to another checkout, with this one's image", Value: settings.Bool(&s.TakeOver)},
		{Env: "MIRROR", Value: settings.Words(&s.Mirrors)},
		{Env: "SSH_WAIT_TIMEOUT", Flag: "wait", Usage: "how many seconds to wait until it serves", Value: settings.Seconds(&s.StartLimit)},
	}
}

// stopping are the settings of verbs that stop an instance.
func (s *Settings) stopping() settings.List {
	return settings.List{
		{Env: "STOP_TIMEOUT", Flag: "timeout", Usage: "seconds for a clean stop", Value: settings.Seconds(&s.StopLimit)},
	}
}

// asking are the settings of verbs that ask before they delete.
func (s *Settings) asking() settings.List {
	return settings.List{
		{Env: "ASSUME_YES", Flag: "yes", Usage: "do not ask", Value: settings.Bool(&s.AssumeYes)},
	}
}

// emulating are the settings of verbs that start nothing, and say with what an
// instance is to be started.
func (s *Settings) emulating() settings.List { return settings.List{s.qemu()} }

func (s *Settings) qemu() settings.Setting {
	return settings.Setting{Env: "ROCKPOOL_QEMU", Flag: "qemu", Usage: "the host's QEMU or the pinned one", Value: settings.Choice(&s.QEMU, qemuAuto, qemuHost, qemuBundled)}
}

// webPorts sets all web ports by their first.
func webPorts(s *Settings) pflag.Value {
	ports := &s.VM.Ports
	return settings.Derived(settings.Port(&ports.Dashboard, guest.FollowingWebPorts), func() {
		ports.SetWeb(ports.Dashboard)
		s.portsChosen = true
	})
}

func sshPort(s *Settings) pflag.Value {
	return settings.Derived(settings.Port(&s.VM.Ports.SSH, 0), func() { s.portsChosen = true })
}
