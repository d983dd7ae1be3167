package setup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// device is a disk or a partition.
type device struct {
	name     string // vdb, vda1
	path     string // /dev/vdb, in the guest
	number   string // major:minor
	size     int64  // bytes
	serial   string // of a virtio disk
	disk     bool   // not a partition
	readOnly bool
	root     bool // the root file system is on it or on one of its partitions
	drive    bool // a CD-ROM drive: opening one without a medium takes a second
}

// skipDevices are the kinds of device that are never ours.
var skipDevices = []string{"loop", "ram", "zram", "fd", "dm-", "md", "nbd", "mtd"}

// devices lists disks, each followed by its partitions, by name. It reads
// sysfs only (Documentation/ABI/stable/sysfs-block).
func (s *Setup) devices() ([]device, error) {
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("/sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var list []device
	for _, e := range entries {
		if skipDevice(e.Name()) {
			continue
		}
		dir := s.path(filepath.Join("/sys/block", e.Name()))
		disk := readDevice(dir, e.Name())
		disk.disk = true
		disk.drive = strings.HasPrefix(e.Name(), "sr")
		parts, err := filepath.Glob(filepath.Join(dir, e.Name()+"*", "partition"))
		if err != nil {
			return nil, fmt.Errorf("list partitions: %w", err)
		}
		at := len(list)
		list = append(list, disk)
		for _, p := range parts {
			part := readDevice(filepath.Dir(p), filepath.Base(filepath.Dir(p)))
			part.root = part.number == mounts["/"].number
			list[at].root = list[at].root || part.root
			list = append(list, part)
		}
		list[at].root = list[at].root || disk.number == mounts["/"].number
	}
	return list, nil
}

func skipDevice(name string) bool {
	for _, prefix := range skipDevices {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func readDevice(dir, name string) device {
	attr := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "" // not every device has every attribute
		}
		return strings.TrimSpace(string(b))
	}
	sectors, err := strconv.ParseInt(attr("size"), 10, 64)
	if err != nil {
		sectors = 0
	}
	return device{
		name:     name,
		path:     "/dev/" + name,
		number:   attr("dev"),
		size:     sectors * 512, // always units of 512, whatever the disk's sectors
		serial:   attr("serial"),
		readOnly: attr("ro") == "1",
	}
}

// examineDevice opens a device and tells what it holds. An empty drive holds
// nothing at all.
func (s *Setup) examineDevice(d device) (diskContent, error) {
	if d.size == 0 {
		return diskContent{kind: "no medium"}, nil
	}
	f, err := os.Open(s.path(d.path))
	if err != nil {
		return diskContent{}, fmt.Errorf("open %s: %w", d.path, err)
	}
	defer f.Close()
	c, err := examine(f, d.size)
	if err != nil {
		return diskContent{}, fmt.Errorf("%s: %w", d.path, err)
	}
	return c, nil
}

// mount is one line of mountinfo.
type mount struct {
	number string // major:minor of the file system
	source string
}

// mounts returns what is mounted, by mount point; of several at one point,
// the last, which is on top (proc_pid_mountinfo(5)).
func (s *Setup) mounts() (map[string]mount, error) {
	b, err := os.ReadFile(s.path("/proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	list := map[string]mount{}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 2 {
			return nil, errors.New("read mounts: mountinfo has a line of an unknown shape")
		}
		list[f[4]] = mount{number: f[2], source: g[1]}
	}
	return list, nil
}
