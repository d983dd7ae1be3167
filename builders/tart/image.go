// Package tart writes the Root VM for macOS, on any host: the directory that
// Tart runs, and the OCI artifact that it pulls. The formats are Tart's, as its
// sources have them; the same disk gives the same bytes, whatever the number of
// processors. It owns nothing but what it is told to write, which has its name
// only once it is whole; making it durable is up to whoever promotes it.
//
// The package imports builders alone. What reads these formats is
// builders/tart/tartcheck, which shares no code with it.
package tart

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/rockpool/rootvm/builders"
)

const (
	// sectorSize divides a disk: Virtualization.framework takes no other, and
	// Tart checks nothing.
	sectorSize = 512

	// minCPUs, since with one processor a reboot of the guest fails.
	minCPUs = 2
)

// The files of a VM's directory. Tart takes a fourth for a sign that one is
// missing.
const (
	configName = "config.json"
	diskName   = "disk.img"
	nvramName  = "nvram.bin"
)

// Config is a VM's config.json.
type Config struct {
	Version       int     `json:"version"`       // of the format: 1
	OS            string  `json:"os"`            // linux; without it darwin
	Arch          string  `json:"arch"`          // arm64
	CPUCountMin   int     `json:"cpuCountMin"`   // what `tart set` goes down to
	CPUCount      int     `json:"cpuCount"`      // at least 2
	MemorySizeMin uint64  `json:"memorySizeMin"` // bytes, what `tart set` goes down to
	MemorySize    uint64  `json:"memorySize"`    // bytes
	MACAddress    string  `json:"macAddress"`    // locally administered; Tart draws another one where it is taken
	Display       Display `json:"display"`
	DiskFormat    string  `json:"diskFormat"` // raw
}

// Display is the size of a VM's window.
type Display struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// Image is a Root VM for Tart.
type Image struct {
	Disk    string // path of the raw disk, a multiple of 512 bytes
	Config  Config
	Created time.Time // the artifact's "upload time"
}

// New is the image of a disk that was built for spec.
func New(spec builders.Spec, disk string) Image {
	return Image{
		Disk: disk,
		Config: Config{
			Version:       1,
			OS:            "linux",
			Arch:          spec.Architecture,
			CPUCountMin:   minCPUs,
			CPUCount:      4,
			MemorySizeMin: uint64(builders.GiB),
			MemorySize:    uint64(4 * builders.GiB),
			MACAddress:    macAddress(spec),
			Display:       Display{Width: 1024, Height: 768},
			DiskFormat:    "raw",
		},
		Created: spec.Epoch(),
	}
}

// macAddress derives a locally administered address of one card from what the
// image is, so that two builds have the same.
func macAddress(spec builders.Spec) string {
	sum := sha256.Sum256([]byte(spec.UUID("mac")))
	address := net.HardwareAddr(sum[:6])
	address[0] = address[0]&^1 | 2
	return address.String()
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if c.Arch != builders.TartArchitecture {
		fault("Tart runs %s only, not %s: set ARCH=%s", builders.TartArchitecture, c.Arch, builders.TartArchitecture)
	}
	if c.Version != 1 || c.OS != "linux" || c.DiskFormat != "raw" {
		fault("version %d, os %q, diskFormat %q: the formats here are version 1, linux and raw", c.Version, c.OS, c.DiskFormat)
	}
	if c.CPUCountMin < minCPUs || c.CPUCount < c.CPUCountMin {
		fault("cpuCount %d, cpuCountMin %d: give at least %d, since with one a reboot fails, and no less than the minimum", c.CPUCount, c.CPUCountMin, minCPUs)
	}
	if c.MemorySizeMin == 0 || c.MemorySize < c.MemorySizeMin {
		fault("memorySize %d is below memorySizeMin %d, or that is nothing", c.MemorySize, c.MemorySizeMin)
	}
	if a, err := net.ParseMAC(c.MACAddress); err != nil || len(a) != 6 || a[0]&3 != 2 {
		fault("macAddress %q is no locally administered address of one card", c.MACAddress)
	}
	if c.Display.Width <= 0 || c.Display.Height <= 0 {
		fault("a display of %d×%d has no size", c.Display.Width, c.Display.Height)
	}

	return errors.Join(faults...)
}

// encode is config.json.
func (c Config) encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// openDisk opens the image's disk and returns its size.
func (i Image) openDisk() (*os.File, int64, error) {
	f, err := os.Open(i.Disk)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", i.Disk)
	}
	if err == nil && (info.Size() == 0 || info.Size()%sectorSize != 0) {
		err = fmt.Errorf("%s has %d bytes: a disk is a multiple of %d, and not empty", i.Disk, info.Size(), sectorSize)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
