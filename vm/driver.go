package vm

import (
	"context"
	"io"
	"time"
)

// Driver runs machines of one kind. The zero value of a driver, filled from
// the JSON of another by encoding/json, is the same driver: that is how its
// settings reach the supervisor.
type Driver interface {
	// Name identifies the driver in an instance's directory.
	Name() string

	// Prepare makes everything that Launch needs below inst.Dir: the
	// disposable root disk (made again when the image changed) and the data
	// disk (made once, never overwritten); and decides what was left to the
	// driver. It starts nothing that outlives it. Every error is one sentence
	// with its cure. ports are free and the configuration disk is there.
	Prepare(ctx context.Context, inst Instance) (Plan, error)

	// Launch switches the machine on. On error nothing of it is left running.
	// The machine's processes do not die with the caller. started is called
	// with each of them as soon as it runs, the machine's own last.
	Launch(ctx context.Context, inst Instance, plan Plan, started func(Process)) (Machine, error)

	// Attach takes over the machine that a dead supervisor launched, whose
	// processes are in state. It fails when the machine does not answer.
	Attach(ctx context.Context, inst Instance, plan Plan, state State) (Machine, error)
}

// Plan is what a driver decided about one start.
type Plan struct {
	Accel string   `json:"accel"` // AccelKVM, AccelTCG or the driver's own
	Share string   `json:"share"` // ShareVirtiofs, Share9P or ShareNone
	Boot  string   `json:"boot"`
	Notes []string `json:"notes,omitempty"` // sentences for the user, such as why a fallback was taken

	// Processes are the command lines to run, in order, the machine's last.
	Processes []Command `json:"processes"`
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
