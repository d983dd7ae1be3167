package agent

import "time"

// EventKind says what an event is about.
type EventKind string

// The kinds of events.
const (
	EventWorkspace  EventKind = "workspace" // a workspace was made or changed
	EventDeleted    EventKind = "deleted"   // a workspace is gone
	EventStep       EventKind = "step"      // a job came to a step or left it
	EventPort       EventKind = "port"      // the ports of a workspace changed
	EventPreference EventKind = "setting"   // a preference was saved; the wire calls it a setting
)

// Event is one change that clients can follow. Events are numbered from 1
// without gaps within one life of the agent; Epoch tells lives apart, so that
// a client that returns with an id of another life begins anew.
type Event struct {
	Seq         uint64
	Epoch       string
	Kind        EventKind
	WorkspaceID string
	Workspace   *Workspace // of EventWorkspace, as it is now
	Step        *Step      // of EventStep
	Name        string     // of EventPreference
	At          time.Time
}
