package agent

import "time"

// JobKind is the work that a job does.
type JobKind string

// The kinds of jobs.
const (
	JobCreate JobKind = "create" // container, configuration, clone, health, preferences
	JobStart  JobKind = "start"  // the same for a workspace that was stopped
	JobStop   JobKind = "stop"   // preferences, container stopped
	JobDelete JobKind = "delete" // container, volume and row gone
)

// JobKinds lists the kinds that this release knows. What each means is the
// table of package controlplane; a store keeps jobs of any kind.
func JobKinds() []JobKind { return []JobKind{JobCreate, JobStart, JobStop, JobDelete} }

// JobState is where a job is.
type JobState string

// The states of a job.
const (
	JobQueued JobState = "queued" // waits for its time and for a runner
	JobLeased JobState = "leased" // runs, until its lease ends
	JobParked JobState = "parked" // failed too often; LastError says why
)

// Job is one piece of work on a workspace. Its row goes when it is done. A
// workspace has at most one job that runs.
type Job struct {
	ID          string
	Kind        JobKind
	WorkspaceID string
	Payload     string // JSON text of the kind's arguments, "" for none; never a secret
	State       JobState
	Attempts    int       // begun so far
	RunAt       time.Time // not before
	LeasedUntil time.Time // zero unless leased
	LeaseToken  string    // of the runner that holds the lease
	Step        string    // the named step it is at, "" before the first
	LastError   string    // a sentence without secrets
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Step is a named part of a job and its time, for people who wait.
type Step struct {
	WorkspaceID string
	Job         JobKind
	Name        string // one of the Step constants
	Title       string // "Starting the container"
	State       StepState
	StartedAt   time.Time
	EndedAt     time.Time // zero while it runs
	Message     string    // how far it is, why it failed, or ""
}

// StepState is how a step is doing.
type StepState string

// The states of a step.
const (
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// The named steps of the jobs, in the order in which jobs pass them.
const (
	StepImage       = "image"       // start, where the owner moves on: the files belong to another image
	StepContainer   = "container"   // create: the container exists
	StepStart       = "start"       // create: the container runs
	StepConfigure   = "configure"   // create: the IDE is configured
	StepClone       = "clone"       // create: the repository is there
	StepHealth      = "health"      // create: the IDE answers
	StepPreferences = "preferences" // create: pushed; stop: read
	StepStop        = "stop"        // stop: the container is stopped
	StepRemove      = "remove"      // delete: container and volume are gone
	StepCommit      = "commit"      // all: the row says so
)
