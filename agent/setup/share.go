package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// The numbers by which the virtio bus names its kinds of device
// (include/uapi/linux/virtio_ids.h).
const (
	virtio9P = "0x0009"
	virtioFS = "0x001a"
)

// Share mounts the host's directory.
type Share struct {
	Root    string // as in [Setup]
	Kernel  Kernel
	Tag     string
	Timeout time.Duration // for a device whose driver is not ready yet
}

// Mount mounts the shared directory at [guest.ShareDir] by virtiofs, else 9p, else
// Tart's automount, and says in a few words what it did. A VM without a
// shared directory is no fault.
func (m *Share) Mount(ctx context.Context) (string, error) {
	s := &Setup{Root: m.Root, Kernel: m.Kernel}
	mounts, err := s.mounts()
	if err != nil {
		return "", err
	}
	if _, ok := mounts[guest.ShareDir]; ok {
		return "mounted already", nil
	}
	kinds, err := m.virtioKinds()
	if err != nil {
		return "", err
	}
	if !kinds[virtioFS] && !kinds[virtio9P] {
		return "the host shares no directory", nil
	}
	if err := os.MkdirAll(s.path(guest.ShareDir), 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", guest.ShareDir, err)
	}
	return m.retry(ctx, kinds)
}

// retry tries all ways until one works or the time is over: a device may be
// there a moment before its driver.
func (m *Share) retry(ctx context.Context, kinds map[string]bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		did, err := m.try(kinds)
		if err == nil {
			return did, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-tick.C:
		}
	}
}

func (m *Share) try(kinds map[string]bool) (string, error) {
	const flags = unix.MS_NODEV | unix.MS_NOSUID
	var errs []error
	if kinds[virtioFS] {
		err := m.Kernel.Mount(m.Tag, guest.ShareDir, "virtiofs", flags, "")
		if err == nil {
			return "mounted by virtiofs", nil
		}
		errs = append(errs, fmt.Errorf("mount virtiofs %s: %w", m.Tag, err))
	}
	if kinds[virtio9P] {
		// mmap needs the page cache, and big messages are what makes 9p
		// bearable; the kernel lowers msize to what the device can.
		err := m.Kernel.Mount(m.Tag, guest.ShareDir, "9p", flags, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client")
		if err == nil {
			return "mounted by 9p", nil
		}
		errs = append(errs, fmt.Errorf("mount 9p %s: %w", m.Tag, err))
	}
	if kinds[virtioFS] {
		did, err := m.tart(flags)
		if err == nil {
			return did, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// tart mounts the automount share and shows our folder of it.
func (m *Share) tart(flags uintptr) (string, error) {
	const all = "/run/rockpool-shares"
	s := &Setup{Root: m.Root, Kernel: m.Kernel}
	if err := os.MkdirAll(s.path(all), 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", all, err)
	}
	if err := m.Kernel.Mount(guest.TartShareTag, all, "virtiofs", flags, ""); err != nil {
		return "", fmt.Errorf("mount virtiofs %s: %w", guest.TartShareTag, err)
	}
	if err := m.Kernel.Mount(filepath.Join(all, m.Tag), guest.ShareDir, "", unix.MS_BIND, ""); err != nil {
		return "", errors.Join(fmt.Errorf("show folder %s of Tart's share: %w", m.Tag, err), m.Kernel.Unmount(all))
	}
	return "mounted by Tart's automount", nil
}

// virtioKinds returns which kinds of device the virtio bus has.
func (m *Share) virtioKinds() (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(m.Root, "/sys/bus/virtio/devices/*/device"))
	if err != nil {
		return nil, fmt.Errorf("list virtio devices: %w", err)
	}
	kinds := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("list virtio devices: %w", err)
		}
		kinds[strings.TrimSpace(string(b))] = true
	}
	return kinds, nil
}
