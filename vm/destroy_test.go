package vm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// fakeHost is a host whose only driver is d.
func fakeHost(t *testing.T, d *fakeDriver) Host {
	t.Helper()
	return Host{Dir: t.TempDir(), Driver: d, Drivers: Drivers{"fake": func() Driver { return d }}}
}

func TestHost_Destroy_byDriver(t *testing.T) {
	var destroyed []Instance
	d := &fakeDriver{Setting: "of then", destroyed: &destroyed, fault: errors.New("it is busy")}
	c := validConfig()
	c.Name = "one"
	inst := fakeInstance(t, c, d)
	d.Setting = ""
	h := fakeHost(t, d)
	h.Driver, h.Dir = nil, strings.TrimSuffix(inst.Dir, "/one")

	if err := h.Destroy(t.Context(), "one"); !errors.Is(err, d.fault) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(inst.Path(configFile)); err != nil {
		t.Errorf("removed in spite of the fault: %v", err)
	}
	d.fault = nil
	if err := h.Destroy(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if len(destroyed) != 2 || destroyed[1].Dir != inst.Dir || destroyed[1].Config.Name != "one" || d.Setting != "of then" {
		t.Errorf("destroyed %+v with %+v", destroyed, d)
	}
	if _, err := os.Stat(inst.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if err := h.Destroy(t.Context(), "one"); err != nil || len(destroyed) != 2 {
		t.Errorf("once more: %v", err)
	}
}

func TestHost_Destroy_unknownDriver(t *testing.T) {
	c := validConfig()
	c.Name = "one"
	inst := fakeInstance(t, c, &fakeDriver{})
	h := Host{Dir: strings.TrimSuffix(inst.Dir, "/one"), Drivers: Drivers{"qemu": nil}}
	err := h.Destroy(t.Context(), "one")
	if err == nil || !strings.Contains(err.Error(), `nothing was removed: instance one: driver "fake" is not known`) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(inst.Path(driverFile)); err != nil {
		t.Error(err)
	}
}

// TestHost_Destroy_preparedInPart finds what a driver made before it failed.
func TestHost_Destroy_preparedInPart(t *testing.T) {
	var destroyed []Instance
	d := &fakeDriver{can: anything, destroyed: &destroyed, prepared: func(Instance) error { return errors.New("no room") }}
	h := fakeHost(t, d)
	c := validConfig()
	c.Name, c.Ports.SSH, c.Ports.Dashboard, c.Ports.IDE, c.Ports.Preview = "one", freePort(t), freePort(t), freePort(t), freePort(t)
	if _, err := h.Start(t.Context(), c, nil); err == nil || err.Error() != "no room" {
		t.Fatalf("start: %v", err)
	}
	if err := h.Destroy(t.Context(), "one"); err != nil || len(destroyed) != 1 {
		t.Errorf("%v, destroyed %+v", err, destroyed)
	}
}

func TestHost_Destroy_neverPrepared(t *testing.T) {
	h := fakeHost(t, &fakeDriver{fault: errors.New("asked for nothing")})
	if err := os.MkdirAll(h.Dir+"/one", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Destroy(t.Context(), "one"); err != nil {
		t.Error(err)
	}
}

// otherDriver is a second kind.
type otherDriver struct{ fakeDriver }

func (*otherDriver) Name() string { return "other" }

func TestHost_Start_otherDriver(t *testing.T) {
	c := validConfig()
	c.Name = "one"
	inst := fakeInstance(t, c, &fakeDriver{})
	h := Host{Dir: strings.TrimSuffix(inst.Dir, "/one"), Driver: &otherDriver{fakeDriver{can: anything}}}
	_, err := h.Start(context.Background(), c, nil)
	if err == nil || !strings.Contains(err.Error(), "made by the driver fake, not by other") || !strings.Contains(err.Error(), "rockpool vm destroy") {
		t.Errorf("got %v", err)
	}
}
