package agent

import (
	"context"
	"time"
)

// MaxWorkspaces is how many workspaces there can be: each has a slot, a range
// of user and group ids of its own.
const MaxWorkspaces = ContainerSlots

// FirstLoopbackPort is the loopback port of the workspace in slot 0; the
// others follow in order. The range ends below Linux's ephemeral ports
// (32768), so that no outgoing connection takes one.
const FirstLoopbackPort = 20000

// Record is a workspace as it is stored: what users see, and what its
// container is made from.
type Record struct {
	Workspace
	Slot   int  // from 0 to MaxWorkspaces-1
	Port   int  // on the VM's loopback interface
	Cloned bool // the repository is there: it is never cloned again
}

// Store keeps the control plane's state. What an Update did is on the disk
// when it returns nil, all of it, and otherwise none.
//
// Faults of the database are [Error]s that say what to do: [CodeUnavailable]
// when another program holds it, [CodeNoSpace] when its disk is full.
type Store interface {
	// Update runs f in a write transaction, one at a time.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f on one state of the database; f must not write.
	View(ctx context.Context, f func(Tx) error) error
}

// Tx is a transaction. It is bound to the context it was begun with and ends
// with the function it was given to.
type Tx interface {
	WorkspaceRows
	PortRows
	PreferenceRows
	JobRows
	StepRows
}

// WorkspaceRows are the stored workspaces.
type WorkspaceRows interface {
	// InsertWorkspace stores w with the lowest slot that is free, and its port.
	// The slots in taken are not free: data without a row has their ids. A name
	// that is taken is [CodeConflict], and so is no free slot.
	InsertWorkspace(w Workspace, taken []int) (Record, error)
	// UpdateWorkspace stores what can change: status, address, error message,
	// image's digest, limits, shortage, whether it is cloned, time of update.
	UpdateWorkspace(r Record) error
	// DeleteWorkspace deletes the row with its ports, jobs and steps. From then
	// on its slot may belong to another workspace: the data must be gone.
	DeleteWorkspace(id string) error
	// Workspace is [CodeNotFound] for an unknown id.
	Workspace(id string) (Record, error)
	// Workspaces returns at most limit rows after the cursor, newest first.
	Workspaces(after Cursor, limit int) ([]Record, error)
}

// PortRows are the registered ports.
type PortRows interface {
	// Ports returns the ports of one workspace, or of all with "", by number.
	Ports(workspaceID string) ([]Port, error)
	InsertPort(p Port) error
	// DeletePort reports whether it was there.
	DeletePort(workspaceID string, port int) (bool, error)
	DeletePorts(workspaceID string) error
}

// PreferenceRows are the stored preferences.
type PreferenceRows interface {
	// Preferences are in the order of their names.
	Preferences() ([]Preference, error)
	// PreferenceTimes tells when each was stored, by name, without reading them.
	PreferenceTimes() (map[string]time.Time, error)
	PutPreference(p Preference) error
	// DeletePreference reports whether it was there.
	DeletePreference(name string) (bool, error)
	PreferenceCopyRows
}

// PreferenceCopyRows are what is known of preferences' files in workspaces.
type PreferenceCopyRows interface {
	// PreferenceCopy of which nothing is stored has neither base nor note.
	PreferenceCopy(workspaceID, name string) (PreferenceCopy, error)
	PutPreferenceCopy(c PreferenceCopy) error
	// NotedCopies are those of one workspace, or of all with "", that have a
	// note, by workspace and name, without content of files.
	NotedCopies(workspaceID string) ([]PreferenceCopy, error)
	// ForgetPreferenceCopies is for a workspace whose home directory is gone.
	ForgetPreferenceCopies(workspaceID string) error
}

// JobRows are the jobs that are not done.
type JobRows interface {
	// InsertJob stores a job behind those that the workspace has. Parked jobs
	// of the workspace are forgotten, and so are the steps of its last job.
	InsertJob(j Job) error
	// UpdateJob stores what can change: everything but kind, payload, workspace
	// and creation. A job that is not there is [CodeNotFound].
	UpdateJob(j Job) error
	DeleteJob(id string) error
	// Jobs returns the jobs of one workspace, or of all with "", oldest first.
	Jobs(workspaceID string) ([]Job, error)
	// NextJob returns the job to lease at now, of those that q allows; ok is
	// false when there is none, and wait then says how long until one is due
	// by its time alone, 0 when none is waiting.
	NextJob(q JobQuery) (job Job, ok bool, wait time.Duration, err error)
}

// JobQuery says which jobs may be leased: the oldest of their workspace that
// are queued and due, or whose lease has run out and is not Holder's own. A
// time further away than Horizon is a clock that was set back: it is due.
type JobQuery struct {
	Now     time.Time
	Horizon time.Duration
	Holder  string // who asks: its own leases never run out, it knows whether it works

	Only []JobKind // jobs of these kinds, nil: of all
	Not  []JobKind // but not of these
}

// StepRows are the steps of the last job of each workspace.
type StepRows interface {
	// PutStep stores a step; one of the same name is replaced in its place.
	PutStep(s Step) error
	ClearSteps(workspaceID string) error
	// Steps are in the order in which they began.
	Steps(workspaceID string) ([]Step, error)
}
