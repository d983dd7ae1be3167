//go:build !e2e

package vm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

// echoingDriver is a fake whose dashboard's port sends back what it gets, also
// in a supervisor of another process.
type echoingDriver struct {
	fakeDriver
	Echo string `json:"echo"` // address of the server
}

func newEchoingDriver() Driver { return new(echoingDriver) }

func (d *echoingDriver) Launch(ctx context.Context, inst Instance, plan Plan, started func(Process)) (Machine, error) {
	d.guest = map[int]string{guest.PortDashboard: d.Echo}
	return d.fakeDriver.Launch(ctx, inst, plan, started)
}

func (d *echoingDriver) Attach(ctx context.Context, inst Instance, plan Plan, state State) (Machine, error) {
	d.guest = map[int]string{guest.PortDashboard: d.Echo}
	return d.fakeDriver.Attach(ctx, inst, plan, state)
}

func (*echoingDriver) Capabilities() Capabilities {
	return Capabilities{Architectures: []string{"amd64"}, Boots: []string{BootUEFI}, Shares: []string{ShareNone}, Accels: []string{"none"}}
}

// FakeHost is a host of the fake driver, with an instance for it.
func FakeHost(t *testing.T, ports guest.Ports) (Host, Config) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := Host{
		Dir:        filepath.Join(t.TempDir(), "instances"),
		Driver:     &echoingDriver{Echo: serveGuest(t, echo)},
		Drivers:    Drivers{"fake": newEchoingDriver},
		Supervisor: func(context.Context) ([]string, error) { return []string{self, "as-supervisor"}, nil },
	}
	return h, Config{Name: "one", Memory: GiB, CPUs: 1, Ports: ports, Image: Image{Disk: "/image"}, DataSize: GiB}
}

// superviseEchoing is the supervisor of a fake.
func superviseEchoing(args []string) int {
	err := Supervise(context.Background(), args[1], SuperviseOptions{
		Drivers: Drivers{"fake": newEchoingDriver}, Launch: args[0] == "launch", Ready: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
