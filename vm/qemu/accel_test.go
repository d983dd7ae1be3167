package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// TestDriver_remembered asks twice: that KVM works is kept, and nothing else.
func TestDriver_remembered(t *testing.T) {
	t.Parallel()
	trial := func(program string, limit time.Duration) func(*Driver) error {
		return func(d *Driver) error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			d.Programs.QEMU = []string{"sh", "-c", program}
			return d.trial(ctx, vm.AccelKVM, "amd64", "")
		}
	}
	for _, tt := range []struct {
		name   string
		try    func(*Driver) error
		trials int
		want   string
	}{
		{"works", trial("echo No bootable device; exec sleep 600", time.Minute), 1, ""},
		{"faulty", trial("echo no such device >&2; exit 1", time.Minute), 2, "QEMU with kvm says: no such device"},
		{"slow", trial("exec sleep 600", 100*time.Millisecond), 2, "with kvm a guest started, but was not up after 20s"},
		{"out of the terminal's reach", trial("set -- $(cat /proc/$$/stat); [ $5 = $$ ] || exit 1; echo No bootable device", time.Minute), 1, ""},
		{"cancelled", func(*Driver) error { return context.Canceled }, 2, "context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &Driver{Cache: t.TempDir()}
			trials := 0
			for range 2 {
				err := d.remembered("key", func() error { trials++; return tt.try(d) })
				if err == nil && tt.want != "" || err != nil && err.Error() != tt.want {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
			if trials != tt.trials {
				t.Errorf("tried %d times, want %d", trials, tt.trials)
			}
			_, err := os.Stat(filepath.Join(d.Cache, "acceleration.json"))
			if stored := !errors.Is(err, os.ErrNotExist); stored != (tt.trials == 1) {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

// TestDriver_remembered_transient: a fault that has passed is forgotten, also one
// that an earlier release noted.
func TestDriver_remembered_transient(t *testing.T) {
	t.Parallel()
	d := &Driver{Cache: t.TempDir()}
	busy := errors.New("QEMU with kvm says: device or resource busy")
	if err := d.remembered("key", func() error { return busy }); !errors.Is(err, busy) {
		t.Errorf("the fault: %v", err)
	}
	if err := d.remembered("key", func() error { return nil }); err != nil {
		t.Errorf("once it has passed: %v", err)
	}

	file := filepath.Join(d.Cache, "acceleration.json")
	if err := os.WriteFile(file, []byte(`{"key":"key","fault":"busy"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.remembered("key", func() error { return nil }); err != nil {
		t.Errorf("noted by an earlier release: %v", err)
	}
	if err := d.remembered("key", func() error { return errors.New("was tried") }); err != nil {
		t.Errorf("that it works is not kept: %v", err)
	}
}
