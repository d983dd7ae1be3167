package agent

import (
	"context"
	"io"
	"time"
)

// ControlPlane is what users can ask for: the use cases behind the API, the
// dashboard and the command line. Package controlplane implements it. Errors
// for users are [Error]s. What takes long is a job: the method returns as soon
// as the job and the workspace's new state are stored, in one transaction.
type ControlPlane interface {
	Workspaces
	Ports
	Preferences
	Routes
	Watcher
}

// Workspaces are the use cases on workspaces.
type Workspaces interface {
	// CreateWorkspace stores a workspace in state creating and its job.
	CreateWorkspace(ctx context.Context, n NewWorkspace) (Workspace, error)
	Workspace(ctx context.Context, id string) (Workspace, error)
	WorkspaceByName(ctx context.Context, name string) (Workspace, error)
	// ListWorkspaces returns a page, newest first, and the place of the next
	// one, the zero Cursor on the last page.
	ListWorkspaces(ctx context.Context, after Cursor, limit int) ([]Workspace, Cursor, error)
	StartWorkspace(ctx context.Context, id string) (Workspace, error)
	StopWorkspace(ctx context.Context, id string) (Workspace, error)
	// DeleteWorkspace stores the job; the row goes when the job is done.
	DeleteWorkspace(ctx context.Context, id string) error
	// Steps returns what the workspace's last job did, step by step.
	Steps(ctx context.Context, id string) ([]Step, error)
	Usage(ctx context.Context, id string) (Usage, error)
	// Limits returns what the workspace may use, and what it may be given.
	Limits(ctx context.Context, id string) (LimitState, error)
	// SetLimits stores both limits and gives them to a workspace that runs. One
	// that cannot have another limit of its memory while it runs gets it with its
	// next start: until then [Usage] tells the old one.
	// A quota below what the files take holds, too: nothing can be written then
	// until some are deleted.
	SetLimits(ctx context.Context, id string, l Limits) (LimitState, error)
	// Disk tells who takes what of the disk that workspaces share. It may be a
	// few seconds old, and older while the disk does not answer.
	Disk(ctx context.Context) (DiskState, error)
	// Image tells which image the workspace is made from. It stays on it until its
	// owner moves it on.
	Image(ctx context.Context, id string) (ImageState, error)
	// ImageChange tells, beside that, what moving on changes. It may take seconds.
	ImageChange(ctx context.Context, id string) (ImageChange, error)
	// ChangeImage moves a workspace that is stopped or in error on to the newest
	// image, whose digest the owner was shown, and starts it. All outside its home
	// directory is deleted.
	ChangeImage(ctx context.Context, id, digest string) (Workspace, error)
	// Logs copies what the workspace's processes wrote to w, as [Observer].
	Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error
}

// Ports are the use cases on a workspace's ports.
type Ports interface {
	ListPorts(ctx context.Context, workspaceID string) ([]Port, error)
	AddPort(ctx context.Context, workspaceID string, n NewPort) (Port, error)
	RemovePort(ctx context.Context, workspaceID string, port int) error
	// Listening returns what listens in a workspace, which must be running, but
	// for its IDE.
	Listening(ctx context.Context, workspaceID string) ([]Listener, error)
}

// Preferences are the use cases on preferences.
type Preferences interface {
	// ListPreferences returns those that are stored.
	ListPreferences(ctx context.Context) ([]Preference, error)
	Preference(ctx context.Context, name string) (Preference, error)
	// PreferenceTimes tells when each was stored last, by name, without reading
	// what is stored.
	PreferenceTimes(ctx context.Context) (map[string]time.Time, error)
	// SavePreference reads the preference's file from a running workspace and
	// stores it. Without confirm, a file that was not changed in the workspace
	// does not replace what is stored, which is then returned. What was changed
	// in another workspace, too, and what can run a program and was not agreed to
	// before, is stored only when confirm is the digest of the difference;
	// otherwise that is a [CodeConflict] with the difference.
	SavePreference(ctx context.Context, name, workspaceID, confirm string) (Preference, error)
	// RemovePreference forgets a stored preference. Workspaces keep their files.
	RemovePreference(ctx context.Context, name string) error

	// PreferenceNotes returns what is to be looked at in one workspace, or in
	// all with "", without content of files.
	PreferenceNotes(ctx context.Context, workspaceID string) ([]PreferenceCopy, error)
	// PreferenceDifference returns the stored preference beside the file of a
	// workspace that runs, or that has a conflict or something unseen.
	PreferenceDifference(ctx context.Context, workspaceID, name string) (PreferenceDifference, error)
	// ResolvePreference ends a difference by the user's choice. confirm is the
	// digest of the difference that the user saw; when it is another by now that
	// is a [CodeConflict] with the new one.
	ResolvePreference(ctx context.Context, workspaceID, name string, choice PreferenceChoice, confirm string) error
}

// Route is the way to a workspace's IDE or to a preview of an application in
// it.
type Route struct {
	Workspace string // its name
	Upstream  string // what Caddy dials: host:port, or "unix/" and the path of a socket
	Port      int    // of a preview: the application's port; else 0
}

// Routes knows the way to what runs.
type Routes interface {
	// Route returns the way to the IDE of the workspace with this name, or with
	// a port the way to that preview. A name or a registered port that is not
	// there is [CodeNotFound]; a workspace that does not run is
	// [CodeConflict]. It is asked for every request: it reads memory only, and
	// opens the preview's socket unless that is open.
	Route(ctx context.Context, name string, port int) (Route, error)
}

// Watcher lets clients follow what changes.
type Watcher interface {
	// Events sends what happens after the event with number after of the life
	// epoch, until ctx ends; then the channel is closed. With an epoch of
	// another life, or a number that is too old to be remembered, reset is
	// true: the client must read everything anew, and events begin now. A
	// reader that is too slow finds the channel closed before ctx ends.
	Events(ctx context.Context, epoch string, after uint64) (events <-chan Event, reset bool)
}
