package qemu

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// Sockets in the instance's directory, which is the working directory of its
// processes: a socket's path must not exceed 107 bytes, a home directory may.
const (
	qmpSocket     = "qmp.sock"
	channelSocket = "channel.sock"
	shareSocket   = "virtiofsd.sock"
)

// Identifiers of parts that are handled while the machine runs.
const (
	shareDevice  = "share"
	sharePort    = "share-port"
	shareChardev = "share-socket"
)

// Disk is a block device of the machine.
type Disk struct {
	File     string
	Format   string // qcow2 or raw
	Serial   string // how the guest tells disks apart; at most 20 bytes
	ReadOnly bool
	Boot     bool
}

// Options say what machine to build a QEMU command line for.
type Options struct {
	vm.Config // with nothing left to choose: Accel and Share are not vm.Auto

	FirmwareCode, FirmwareVars string // for vm.BootUEFI; Vars is the instance's own copy
	FirmwareDirs               []string

	Disks     []Disk // in the order the guest sees them
	SerialLog string
}

// Args is the argument list of QEMU, without the program. Everything that the
// guest does not need is left out (-nodefaults), every device is virtio, and
// every port listens on the host's loopback only.
func (o Options) Args() []string {
	var a argList
	for _, dir := range o.FirmwareDirs {
		a.add("-L", dir)
	}
	a.add("-name", "guest="+escape(o.Name)+",debug-threads=on")
	a.add("-nodefaults", "-no-user-config", "-display", "none")
	a.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	o.machine(&a)
	o.boot(&a)
	for i, d := range o.Disks {
		d.args(&a, i)
	}
	o.network(&a)
	o.channels(&a)
	o.share(&a)
	a.device("virtio-rng-pci", "rng", "rng")
	a.device("virtio-balloon-pci", "free-page-reporting", "on", "deflate-on-oom", "on")
	return a
}

func (o Options) machine(a *argList) {
	machine := "q35,graphics=off" // graphics=off lets SeaBIOS and GRUB speak on the serial port
	if o.Architecture == "arm64" {
		machine = "virt,gic-version=max"
	}
	if o.Share == vm.ShareVirtiofs { // another process must see the guest's memory
		machine += ",memory-backend=mem"
	}
	if o.Boot == vm.BootUEFI {
		machine += ",pflash0=firmware-code,pflash1=firmware-vars"
	}
	a.add("-machine", machine)
	a.add(AccelArgs(o.Accel)...)
	a.add("-smp", strconv.Itoa(o.CPUs))
	a.add("-m", fmt.Sprintf("%dM", o.Memory/vm.MiB))
	if o.Share == vm.ShareVirtiofs {
		a.add("-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", o.Memory/vm.MiB))
	}
	a.add("-object", "rng-random,id=rng,filename=/dev/urandom")
	a.add("-rtc", "base=utc,clock=host")
}

// AccelArgs chooses between the processor's virtualization and emulation. The
// translation buffer of 1 GiB holds a whole Debian boot.
func AccelArgs(accel string) []string {
	if accel == vm.AccelKVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"}
}

func (o Options) boot(a *argList) {
	switch o.Boot {
	case vm.BootKernel:
		a.add("-kernel", o.Image.Kernel, "-initrd", o.Image.Initrd, "-append", o.Image.CommandLine)
	case vm.BootUEFI:
		a.blockdev("raw", "firmware-code", o.FirmwareCode, "read-only", true)
		a.blockdev("raw", "firmware-vars", o.FirmwareVars)
	}
}

func (d Disk) args(a *argList, index int) {
	node := "disk" + strconv.Itoa(index)
	if d.ReadOnly {
		a.blockdev(d.Format, node, d.File, "read-only", true)
	} else {
		a.blockdev(d.Format, node, d.File, "discard", "unmap", "detect-zeroes", "unmap")
	}
	properties := []string{"drive", node, "serial", d.Serial}
	if d.Boot {
		properties = append(properties, "bootindex", "0")
	}
	a.device("virtio-blk-pci", properties...)
}

func (o Options) network(a *argList) {
	netdev := "user,id=net"
	for _, f := range o.Ports.Forwards() {
		netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	a.add("-netdev", netdev)
	a.device("virtio-net-pci", "netdev", "net", "romfile", "") // nobody boots from the network
}

func (o Options) channels(a *argList) {
	a.add("-chardev", "file,id=serial,append=on,path="+escape(o.SerialLog), "-serial", "chardev:serial")
	a.add("-chardev", "socket,id=qmp,server=on,wait=off,path="+qmpSocket, "-mon", "chardev=qmp,mode=control")
	a.add("-chardev", "socket,id=channel,server=on,wait=off,path="+channelSocket)
	a.device("virtio-serial-pci")
	a.device("virtserialport", "chardev", "channel", "name", guest.ChannelPort)
}

func (o Options) share(a *argList) {
	switch o.Share {
	case vm.ShareVirtiofs:
		a.device("pcie-root-port", "id", sharePort, "chassis", "1", "slot", "1") // so that the device can be replaced
		a.add("-chardev", "socket,id="+shareChardev+",path="+shareSocket)
		a.device("vhost-user-fs-pci", "id", shareDevice, "bus", sharePort, "chardev", shareChardev, "tag", guest.ShareTag, "queue-size", "1024")
	case vm.Share9P:
		// security_model=none: modes, owners and links are those of the host's
		// files, as far as the user running QEMU may set them.
		a.add("-fsdev", "local,id=share,security_model=none,multidevs=remap,path="+escape(o.ShareDir))
		a.device("virtio-9p-pci", "id", shareDevice, "fsdev", "share", "mount_tag", guest.ShareTag)
	}
}

// argList grows an argument list.
type argList []string

func (a *argList) add(args ...string) { *a = append(*a, args...) }

// device adds -device with properties given as key, value, key, value.
func (a *argList) device(driver string, properties ...string) {
	for i := 0; i+1 < len(properties); i += 2 {
		driver += "," + properties[i] + "=" + escape(properties[i+1])
	}
	a.add("-device", driver)
}

// blockdev adds a block device node over a file. options are key, value pairs
// of the format layer.
func (a *argList) blockdev(format, node, file string, options ...any) {
	m := map[string]any{"driver": format, "node-name": node}
	protocol := map[string]any{"driver": "file", "filename": file}
	for i := 0; i+1 < len(options); i += 2 {
		key := options[i].(string)
		m[key] = options[i+1]
		if key != "detect-zeroes" { // discard and read-only concern the file as well
			protocol[key] = options[i+1]
		}
	}
	m["file"] = protocol
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and bools only
	}
	a.add("-blockdev", string(b))
}

// escape doubles commas, which separate the options of a QEMU argument.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// VirtiofsdOptions say how to serve the shared directory.
type VirtiofsdOptions struct {
	Dir      string
	Sandbox  string // namespace, chroot or none
	HostUID  int    // owner of Dir: everything the guest creates belongs to it
	HostGID  int
	GuestUID int // owner that the guest sees instead of HostUID
	GuestGID int
	// MapIDs says that virtiofsd runs in a user namespace where HostUID and
	// HostGID are mapped to themselves (an ordinary user's namespace sandbox).
	MapIDs bool
}

// Args is the argument list of virtiofsd, without the program. Descriptor 3 is
// its socket, which listens already.
func (o VirtiofsdOptions) Args() []string {
	a := argList{"--fd", "3", "--shared-dir", o.Dir, "--tag", guest.ShareTag,
		"--sandbox", o.Sandbox, "--cache", "auto", "--xattr", "--log-level", "info"}
	if o.MapIDs {
		a.add("--uid-map", fmt.Sprintf(":%d:%d:1:", o.HostUID, o.HostUID))
		a.add("--gid-map", fmt.Sprintf(":%d:%d:1:", o.HostGID, o.HostGID))
	}
	a.add(translate("--translate-uid", o.HostUID, o.GuestUID)...)
	a.add(translate("--translate-gid", o.HostGID, o.GuestGID)...)
	return a
}

// allIDs is the number of IDs there are; 2³²-1 means "none".
const allIDs = 1<<32 - 1

// translate makes every guest ID the host's one, and the host's one the
// guest's. Other host IDs are shown as they are.
func translate(option string, host, guest int) []string {
	return []string{
		option, fmt.Sprintf("squash-guest:0:%d:%d", host, allIDs),
		option, fmt.Sprintf("host:%d:%d:1", host, guest),
	}
}
