package tartcheck

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// emptyNVRAM is the SHA-256 of the nvram.bin that `tart create` makes.
const emptyNVRAM = "8b8dccf70d6393cffae2428b730120fe0695a8e05207131f56c0f8bb2da8c1da"

// Directory checks a VM's directory and names every fault. Its disk's content is
// another matter: [Layout] compares it.
func Directory(dir string) error {
	faults := []error{checkNames(dir)}

	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = checkConfig(config)
	}
	faults = append(faults, err)

	nvram, err := os.ReadFile(filepath.Join(dir, "nvram.bin"))
	if err == nil {
		err = checkNVRAM(nvram)
	}
	faults = append(faults, err)

	disk, err := os.Stat(filepath.Join(dir, "disk.img"))
	if err == nil {
		err = checkDiskSize(disk.Size())
	}
	faults = append(faults, err)

	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("the Tart VM %s: %w", dir, err)
	}
	return nil
}

// checkNames compares the files and their modes with those that `tart create`
// leaves.
func checkNames(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprintf("%s %v", e.Name(), info.Mode()))
	}
	want := []string{"config.json -rw-r--r--", "disk.img -rw-r--r--", "nvram.bin -rw-------"}
	if !slices.Equal(names, want) {
		return fmt.Errorf("%w: there are %s, and there should be %s", ErrFiles, strings.Join(names, ", "), strings.Join(want, ", "))
	}
	return nil
}

func checkDiskSize(size int64) error {
	if size <= 0 || size%512 != 0 {
		return fmt.Errorf("%w: the disk has %d bytes, which is no multiple of 512", ErrSize, size)
	}
	return nil
}

func checkNVRAM(b []byte) error {
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != emptyNVRAM {
		return fmt.Errorf("%w: it has the SHA-256 %s, not %s", ErrNVRAM, got, emptyNVRAM)
	}
	return nil
}

func checkConfig(b []byte) error {
	var c struct {
		Version                   int
		OS, Arch                  string
		CPUCount, CPUCountMin     int
		MemorySize, MemorySizeMin uint64
		MACAddress, DiskFormat    string
		Display                   struct{ Width, Height int }
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}

	mac, _ := net.ParseMAC(c.MACAddress)
	var faults []string
	for _, check := range []struct {
		fault string
		found bool
	}{
		{"its version is not 1", c.Version != 1},
		{"its os is not linux", c.OS != "linux"},
		{"its arch is not arm64", c.Arch != "arm64"},
		{"its diskFormat is not raw", c.DiskFormat != "raw"},
		{"it may have fewer than 2 processors", c.CPUCountMin < 2 || c.CPUCount < c.CPUCountMin},
		{"it may have less memory than its minimum", c.MemorySizeMin == 0 || c.MemorySize < c.MemorySizeMin},
		{"its display has no size", c.Display.Width <= 0 || c.Display.Height <= 0},
		{"its macAddress is not that of one card, locally administered", len(mac) != 6 || mac[0]&3 != 2 || strings.Count(c.MACAddress, ":") != 5},
	} {
		if check.found {
			faults = append(faults, check.fault)
		}
	}
	if faults != nil {
		return fmt.Errorf("%w: %s", ErrConfig, strings.Join(faults, ", "))
	}
	return nil
}
