package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// A vhost-user file system cannot reconnect: QEMU tells the device's state only
// once, and a new virtiofsd knows nothing of the guest's open files. So when
// virtiofsd dies the whole device is replaced: unplugged, which ends its mount
// in the guest with errors, and plugged in again with a new virtiofsd, for the
// guest to mount afresh. What the guest asked for after the death and before
// the unplugging is never answered: the kernel waits for it, and then only a
// restart of the VM helps.

// Limits of replacing a share.
const (
	unplugLimit = 20 * time.Second
	deathLimit  = 3 // in deathWindow: then it is given up
	deathWindow = time.Minute
)

// shareCure is what helps when the replacement does not.
func (m *machine) shareCure() string { return "restart the VM: " + m.plan.RestartCure() }

// replacement is the outcome of replacing the share.
type replacement struct{ fault error }

// shareDied reports that virtiofsd is gone and starts the replacement.
func (m *machine) shareDied() {
	message := "virtiofsd ended"
	if log := logFault(tailOf(m.inst.Path(virtiofsdLog))); log != "" {
		message += " (" + log + ")"
	}
	now := time.Now()
	m.deaths = append(m.deaths, now)
	if n := len(m.deaths); n > deathLimit && now.Sub(m.deaths[n-1-deathLimit]) < deathWindow {
		m.emit(vm.Degraded, "share", message+fmt.Sprintf(", %d times in %s", deathLimit+1, deathWindow), m.shareCure())
		return
	}
	m.emit(vm.Degraded, "share", message+": it is being replaced", m.shareCure())
	m.deleted = make(chan struct{})
	go func(deleted <-chan struct{}) {
		m.replaced <- replacement{m.replaceShare(deleted)}
	}(m.deleted)
}

// shareReplaced reports the outcome.
func (m *machine) shareReplaced(r replacement) {
	if r.fault != nil {
		m.emit(vm.Degraded, "share", "virtiofsd ended and could not be replaced: "+r.fault.Error(), m.shareCure())
		return
	}
	m.emit(vm.Recovered, "share", "virtiofsd was replaced", "")
}

// errNoGuest says that the guest did not let go of the share.
var errNoGuest = errors.New("the guest does not let go of the share, because a program there waits for a file of it")

// replaceShare swaps the device and its virtiofsd. deleted is closed when the
// guest has let go of the old device.
func (m *machine) replaceShare(deleted <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), unplugLimit+20*time.Second)
	defer cancel()
	if err := m.execute(ctx, "device_del", map[string]any{"id": shareDevice}); err != nil {
		return err
	}
	select {
	case <-deleted:
	case <-time.After(unplugLimit):
		return errNoGuest
	}
	if err := m.execute(ctx, "chardev-remove", map[string]any{"id": shareChardev}); err != nil {
		return err
	}
	if err := m.startVirtiofsd(); err != nil {
		return err
	}
	if err := m.execute(ctx, "chardev-add", chardevAdd()); err != nil {
		return err
	}
	return m.execute(ctx, "device_add", deviceAdd())
}

// chardevAdd and deviceAdd are the share's -chardev and -device as arguments
// of QMP commands.
func chardevAdd() map[string]any {
	return map[string]any{"id": shareChardev, "backend": map[string]any{"type": "socket", "data": map[string]any{
		"addr":   map[string]any{"type": "unix", "data": map[string]any{"path": shareSocket}},
		"server": false,
	}}}
}

func deviceAdd() map[string]any {
	return map[string]any{"driver": "vhost-user-fs-pci", "id": shareDevice, "bus": sharePort,
		"chardev": shareChardev, "tag": guest.ShareTag, "queue-size": 1024}
}
