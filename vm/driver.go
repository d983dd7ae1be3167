package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"time"
)

// Drivers makes a driver by its name, its settings still empty. A program has
// one such registry, for starting instances and for supervising them.
type Drivers map[string]func() Driver

// Names lists the drivers, sorted.
func (d Drivers) Names() []string { return slices.Sorted(maps.Keys(d)) }

// Capabilities is what a driver can do. Whoever has to know asks these and not
// for the driver's name. Of each list the first value is what an empty setting
// becomes.
type Capabilities struct {
	Architectures []string // of the guest: Debian's names
	Boots         []string // accepted values of [Config.Boot]
	Shares        []string // of [Config.Share]
	Accels        []string // of [Config.Accel]

	// MinCPUs is the least number of CPUs that a machine works with; 0 is 1.
	MinCPUs int

	// ImageFormat is that of [Image.Disk], as an image's manifest names it.
	ImageFormat string

	// Forwards says that the machine forwards [Config.Ports] by itself.
	// Otherwise the supervisor listens on 127.0.0.1 and dials the machine,
	// which is a [Dialer] then.
	Forwards bool
}

// Driver runs machines of one kind. The zero value of a driver, filled from
// the JSON of another by encoding/json, is the same driver: that is how its
// settings reach the supervisor.
type Driver interface {
	// Name identifies the driver in an instance's directory.
	Name() string

	// Capabilities is what the driver can do, whatever its settings are.
	Capabilities() Capabilities

	// Prepare makes everything that Launch needs: the disposable root disk, as
	// an overlay or a clone of the image (made again when the image changed),
	// and the data disk (made once, never overwritten); and decides what was
	// left to the driver. It starts nothing that outlives it. Every error is
	// one sentence with its cure. Ports are free and the configuration disk is
	// there.
	Prepare(ctx context.Context, inst Instance) (Plan, error)

	// Launch switches the machine on. On error nothing of it is left running.
	// The machine's processes do not die with the caller. started is called
	// with each of them as soon as it runs, the machine's own last.
	Launch(ctx context.Context, inst Instance, plan Plan, started func(Process)) (Machine, error)

	// Attach takes over the machine that a dead supervisor launched, whose
	// processes are in state. It fails when the machine does not answer.
	Attach(ctx context.Context, inst Instance, plan Plan, state State) (Machine, error)

	// Destroy removes what Prepare made for the instance, inside and outside
	// its directory. The machine is off. It succeeds when nothing is there,
	// and may be called again after it was interrupted.
	Destroy(ctx context.Context, inst Instance) error
}

// Plan is what a driver decided about one start.
type Plan struct {
	Accel string   `json:"accel"` // AccelKVM, AccelTCG or the driver's own
	Share string   `json:"share"` // ShareVirtiofs, Share9P or ShareNone
	Boot  string   `json:"boot"`
	Notes []string `json:"notes,omitempty"` // sentences for the user, such as why a fallback was taken

	// Restart is how the user restarts the machine, for messages: see
	// [Plan.RestartCure]. [Host.Start] sets it.
	Restart string `json:"restart,omitempty"`

	// Processes are the command lines to run, in order, the machine's last.
	Processes []Command `json:"processes"`
}

// RestartCure is what to do when only a restart of the machine helps.
func (p Plan) RestartCure() string {
	if p.Restart == "" {
		return "stop the VM, then start it"
	}
	return p.Restart
}

// Command is one program to run in the instance's directory.
type Command struct {
	Name string   `json:"name"` // "qemu", "virtiofsd"
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // added to the environment
}

// StopMethod is a rung of the stop ladder that the driver performs.
type StopMethod int

// The rungs, gentlest first.
const (
	PowerDown StopMethod = iota // press the power button: the guest shuts down by itself
	Quit                        // flush the disks and end the machine at once
	Kill                        // end every process of the machine
)

func (m StopMethod) String() string { return [...]string{"powerdown", "quit", "kill"}[m] }

// Machine is a running machine. Its methods may be called from several
// goroutines.
type Machine interface {
	// Processes lists what runs for the machine, the machine itself first.
	Processes() []Process

	// Events tells what happens to the machine. The last event is Exited,
	// after which the channel is closed.
	Events() <-chan Event

	// Channel connects to the guest's channel. At most one connection is
	// open at a time. It may be called again when a connection broke.
	Channel(ctx context.Context) (io.ReadWriteCloser, error)

	// Stop starts one rung of the ladder; Exited tells that it worked.
	Stop(ctx context.Context, how StopMethod) error
}

// Dialer is implemented by the machines of a driver that does not forward
// ports ([Capabilities]).
type Dialer interface {
	// Dial connects to a TCP port of the guest. It fails at once when nobody
	// listens there. A connection that has a CloseWrite method passes on the
	// end of one direction; for another, that is the end of both.
	Dial(ctx context.Context, port int) (net.Conn, error)
}

// EventKind says what happened to a machine.
type EventKind string

// Kinds of events.
const (
	Exited    EventKind = "exited"    // the machine is off; Message is empty when it was asked to
	Panicked  EventKind = "panicked"  // the guest's kernel died
	Degraded  EventKind = "degraded"  // a part named by Part failed, the machine goes on
	Recovered EventKind = "recovered" // the part works again
	Rebooted  EventKind = "rebooted"  // the guest restarted by itself
	Note      EventKind = "note"      // worth a line in the log
)

// Event is something that happened to a machine.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Part    string // for Degraded and Recovered, such as "share"
	Message string
	Cure    string // what the user can do
}

// savedDriver is driver.json: the driver that an instance was started with.
type savedDriver struct {
	Name     string          `json:"name"`
	Settings json.RawMessage `json:"settings"`
}

func saveDriver(inst Instance, d Driver) error {
	settings, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("save the driver's settings: %w", err)
	}
	return writeJSON(inst.Path(driverFile), savedDriver{d.Name(), settings})
}

// savedDriverName is the name of the driver that the instance was started
// with, or "" when there is no readable record of it.
func savedDriverName(inst Instance) string {
	var saved savedDriver
	if readJSON(inst.Path(driverFile), &saved) != nil {
		return ""
	}
	return saved.Name
}

// errNoDriver says that an instance was never prepared by a driver.
var errNoDriver = errors.New("never started")

// saved makes the driver that the instance was started with.
func (d Drivers) saved(inst Instance) (Driver, error) {
	var saved savedDriver
	err := readJSON(inst.Path(driverFile), &saved)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoDriver
	}
	if err != nil {
		return nil, err
	}

	create := d[saved.Name]
	if create == nil {
		return nil, fmt.Errorf("instance %s: driver %q is not known to this program, which has %q", inst.Config.Name, saved.Name, d.Names())
	}
	driver := create()
	if err := json.Unmarshal(saved.Settings, driver); err != nil {
		return nil, fmt.Errorf("instance %s: settings of driver %s: %w", inst.Config.Name, saved.Name, err)
	}
	return driver, nil
}
