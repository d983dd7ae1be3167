package agent

import (
	"context"
	"io"
	"os"
	"time"
)

// ContainerStatus is what a runtime knows of a workspace's container.
type ContainerStatus string

// The states of a container.
const (
	ContainerRunning  ContainerStatus = "running"
	ContainerStopped  ContainerStatus = "stopped"
	ContainerNotFound ContainerStatus = "not_found"
)

// The limits of every workspace's container.
const (
	ContainerCPUs = 2
	ContainerPids = 4096
)

// A slot is a range of user and group ids that one workspace's container has
// for itself. They lie behind each other in the user namespace of the account
// that runs the containers, after one range for the image store.
const (
	ContainerSlots = 256   // how many there are
	SlotSize       = 65536 // ids in each
)

// ValidSlot reports whether there is a slot of this number.
func ValidSlot(n int) bool { return n >= 0 && n < ContainerSlots }

// SlotFirstID is the id, in the user namespace of the account that runs the
// containers, that is id 0 in containers of the slot.
func SlotFirstID(slot int) int { return 1 + (slot+1)*SlotSize }

// Container says what to run for a workspace. It depends only on the
// workspace's row, so that creating it again makes the same container.
type Container struct {
	ID    string // of the workspace
	Name  string // of the workspace
	Image string // a reference; [DefaultImage] is the image that the VM carries
	Port  int    // on the VM's loopback interface, leads to the IDE
	Slot  int    // number of the container's range of user and group ids, from 0, below [ContainerSlots]

	Memory int64 // bytes that its processes may use together; 0 is [DefaultMemory]
	Quota  int64 // of home and own layer together, bytes
}

// IDEConfig is what the IDE of a workspace is told before it starts serving.
type IDEConfig struct {
	Name   string // of the workspace: the IDE is served below /workspace/<name>
	Folder string // absolute directory to open, "" is the home directory
}

// Clone is a repository to put into a workspace.
type Clone struct {
	URL    string // https, without credentials
	Folder string // absolute directory in the workspace that will hold the work tree
	Token  string // secret: given to git for this one command and kept nowhere; "" is none
}

// Runtime runs the containers behind workspaces. Every method that changes
// something is an "ensure": when the wanted state is there already it succeeds
// and does nothing. All wait until the effect is there or ctx ends. Unknown
// ids are a [CodeNotFound] error except where a method says otherwise. Foreign
// containers are never touched.
//
// The code of an [Error] tells what trying again is worth: [CodeUnavailable]
// when the runtime itself does not answer (work waits until it does),
// [CodeNoSpace] when its disk is full, [CodeValidation] and [CodeConflict]
// when trying again cannot help (the image is not there, the clone's folder
// is the user's). Their texts, and those of other Errors, are shown to the
// user. Anything that is not an Error is logged and tried again.
type Runtime interface {
	// Create makes the container and its files, stopped. A container that was made
	// for other values of c is made anew; the files stay, and have c's quota. One
	// that differs in its memory or its quota alone stays as it is:
	// [MemoryLimiter] gives it another limit.
	Create(ctx context.Context, c Container) error
	// Start starts the container. It waits for a port that is still in use by
	// the container's former life.
	Start(ctx context.Context, id string) error
	// Stop ends the container's processes, gently for at most grace.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove deletes the container and its files. An unknown id is success.
	Remove(ctx context.Context, id string) error
	// Status never fails for an unknown id: that is [ContainerNotFound].
	Status(ctx context.Context, id string) (ContainerStatus, error)
	// Address is the host:port that reaches the IDE from the VM.
	Address(ctx context.Context, id string) (string, error)
	// Configure writes the IDE's configuration into the workspace, which must
	// run ([CodeConflict] otherwise). What the user changed elsewhere in the home
	// directory stays. What is in the way of the files and cannot be replaced is
	// [CodeUnusableFile].
	Configure(ctx context.Context, id string, c IDEConfig) error
	// Clone puts a repository into the workspace, which must run
	// ([CodeConflict] otherwise). A work tree
	// that an earlier Clone finished is left alone; the remains of one that
	// failed are replaced; a directory of the user's is a [CodeConflict].
	Clone(ctx context.Context, id string, c Clone) error
	// ReadFile reads a file of the workspace, at most [MaxFileSize] bytes. path
	// is absolute, or relative to the home directory. A missing file is
	// [CodeNotFound], a directory [CodeConflict].
	ReadFile(ctx context.Context, id, path string) ([]byte, error)
	// WriteFile replaces a file of the workspace as its user, making missing
	// directories. Content above the limit is [CodeTooLarge].
	WriteFile(ctx context.Context, id, path string, content []byte) error
}

// FileReplacer replaces files that users may change at the same time.
type FileReplacer interface {
	// ReplaceFile is [Runtime.WriteFile] for a file that still is what was read
	// before, old, in a workspace that runs ([CodeConflict] otherwise). It reports
	// whether it was: a file that is another by now stays as it is.
	ReplaceFile(ctx context.Context, id, path string, old File, content []byte) (replaced bool, err error)
}

// MaxFileSize bounds what [Runtime.ReadFile] returns and
// [Runtime.WriteFile] accepts, in bytes.
const MaxFileSize = 1 << 20

// Home is the home directory of a workspace's user.
const Home = "/home/admin"

// Terminator asks containers to end without waiting for it, so that many end at
// the same time.
type Terminator interface {
	// Terminate sends the container's processes the signal that Stop sends first.
	// One that does not run, or is not there, is success.
	Terminate(ctx context.Context, id string) error
}

// ContainerRef is a container, or files, of a workspace.
type ContainerRef struct {
	ID      string // of the workspace it is labelled with
	Name    string // of the workspace
	Slot    int    // whose ids its data belongs to; -1 when that is not known
	Status  ContainerStatus
	HasHome bool // its files exist
}

// Inventory lists what a runtime holds, for reconciliation.
type Inventory interface {
	// List returns one entry for each workspace of which there is a container,
	// or the home directory that an earlier release kept in a volume, in any order.
	List(ctx context.Context) ([]ContainerRef, error)
}

// Usage is what a running workspace uses.
type Usage struct {
	CPU         float64 // of one processor: 1 is one processor busy, since the last look
	Memory      int64   // bytes
	MemoryLimit int64   // bytes
	Pids        int
}

// Observer looks into running workspaces.
type Observer interface {
	// Usage of a running workspace; [CodeConflict] when it does not run.
	Usage(ctx context.Context, id string) (Usage, error)
	// MemoryKills of a container that is there, [CodeNotFound] otherwise. While it
	// runs this costs the reading of a file.
	MemoryKills(ctx context.Context, id string) (MemoryKills, error)
	// Logs copies what the container's processes wrote, oldest first, to w:
	// the last tail lines, and with follow what comes until ctx or the
	// container ends.
	Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error
	// Wait returns when the container does not run, however it ended, and
	// [Runtime] says so; at once when it does not run already. There must be
	// one ([CodeNotFound] otherwise). It costs nothing while it waits.
	Wait(ctx context.Context, id string) error
}

// Processes finds the processes of running workspaces.
type Processes interface {
	// Process opens a handle (pidfd) of the first process of the workspace's
	// container, which must run ([CodeConflict] otherwise). The caller closes it.
	Process(ctx context.Context, id string) (*os.File, error)
}

// Listener is a port of a workspace at which a program waits for connections.
type Listener struct {
	Port      int
	Program   string   // its name, which is the workspace's to say; "" when it is not known
	Addresses []string // at which it listens, of the workspace
}

// Previews leads to applications in running workspaces.
type Previews interface {
	// Preview returns what Caddy dials for an application that listens on a port
	// of the workspace, on whatever address: host:port, or "unix/" and the path
	// of a socket. It is asked for every request, and waits for nothing. Whether
	// something listens shows when it is dialled.
	Preview(ctx context.Context, id string, port int) (upstream string, err error)
	// Listening returns what listens for TCP connections in the workspace, which
	// must run ([CodeConflict] otherwise), ordered by port.
	Listening(ctx context.Context, id string) ([]Listener, error)
	// Forget releases what is kept for a workspace: its container has ended, or it
	// is gone. It waits for nothing; Preview begins anew.
	Forget(id string)
}

// IDEHealth tells whether the IDE behind an address answers.
type IDEHealth interface {
	// Healthy returns nil when GET /healthz of the address is answered well.
	Healthy(ctx context.Context, address string) error
}
