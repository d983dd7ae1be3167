package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rockpool/rootvm/guest"
)

// Status is where an instance is in its life.
type Status string

// The statuses.
const (
	Stopped  Status = "stopped"
	Starting Status = "starting" // switched on, the guest has not said that it is ready
	Ready    Status = "ready"
	Stopping Status = "stopping"
	Failed   Status = "failed" // see State.Failure; the machine may be on (see State.On)
)

// Phase is a step of the guest's boot.
type Phase struct {
	Name    guest.Phase `json:"name"`
	Seconds float64     `json:"seconds"` // since the guest's kernel started
}

// Failure is why an instance is in the status Failed.
type Failure struct {
	Time    time.Time `json:"time"`
	Unit    string    `json:"unit,omitempty"` // the guest's systemd unit, when it told
	Message string    `json:"message"`
	Log     []string  `json:"log,omitempty"` // last lines of the serial log
}

// Trouble is a part of a running machine that does not work.
type Trouble struct {
	Part    string    `json:"part"`
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
	Cure    string    `json:"cure"`
}

// State is what is known of an instance. It is kept in state.json, which is
// replaced in one step at every change, and is only believed together with
// the processes it names (see [Process.Alive]).
type State struct {
	Name         string      `json:"name"`
	Status       Status      `json:"status"`
	Driver       string      `json:"driver,omitempty"`
	Supervisor   Process     `json:"supervisor,omitzero"`
	Processes    []Process   `json:"processes,omitempty"` // the machine's own first
	StartedAt    time.Time   `json:"startedAt,omitzero"`  // switched on
	StoppedAt    time.Time   `json:"stoppedAt,omitzero"`
	Accel        string      `json:"accel,omitempty"`
	Share        string      `json:"share,omitempty"`
	Boot         string      `json:"boot,omitempty"`
	Memory       int64       `json:"memory,omitempty"`
	CPUs         int         `json:"cpus,omitempty"`
	Ports        guest.Ports `json:"ports"`
	ImageSHA256  string      `json:"imageSHA256,omitempty"`
	Phases       []Phase     `json:"phases,omitempty"`
	ReadyAfter   float64     `json:"readyAfter,omitempty"` // seconds since switched on
	AgentVersion string      `json:"agentVersion,omitempty"`
	Troubles     []Trouble   `json:"troubles,omitempty"`
	Failure      *Failure    `json:"failure,omitempty"`
	FileEvents   *FileEvents `json:"fileEvents,omitempty"` // of the shared directory
	// Disk is who took what of the guest's disk for workspaces when it was last on.
	Disk *guest.DiskReport `json:"disk,omitempty"`
	// EcosystemPorts lead to the guest's loopback: [Host.ForwardEcosystem].
	EcosystemPorts []guest.Forward `json:"ecosystemPorts,omitempty"`

	SerialRead  int64   `json:"serialRead,omitempty"`  // how far the serial log was looked through, bytes
	Launching   bool    `json:"launching,omitempty"`   // the machine is being launched: Processes may lack it
	StopTimeout float64 `json:"stopTimeout,omitempty"` // of the stop that was asked for last, seconds
	LastStop    string  `json:"lastStop,omitempty"`    // how the machine ended
}

// On says whether the machine runs, as far as this host can tell. What a
// supervisor left that died in the middle of a launch is no machine.
func (s State) On() bool {
	if len(s.Processes) == 0 || s.Launching && !s.Supervisor.Alive() {
		return false
	}
	return s.Processes[0].Alive()
}

// crashed reports whether the guest is past help while its machine is on: it did
// not say itself that a unit of it failed.
func (s State) crashed() bool {
	return s.Status == Failed && s.Failure != nil && s.Failure.Unit == ""
}

// Serving reports whether the machine is on with a guest that is not past help:
// a start has nothing to do.
func (s State) Serving() bool { return s.On() && !s.crashed() }

// phase records that the guest reached a phase; false when it was known, or is
// more than a guest may make this host keep.
func (s *State) phase(name guest.Phase, seconds float64) bool {
	if name == "" || len(name) > guest.MaxPhaseName || len(s.Phases) >= guest.MaxPhases {
		return false
	}
	for _, p := range s.Phases {
		if p.Name == name {
			return false
		}
	}
	s.Phases = append(s.Phases, Phase{name, seconds})
	return true
}

// readState reads an instance's state. No file, or one that is not JSON after
// a crash of the host, is the state Stopped.
func readState(dir string) (State, error) {
	s := State{Name: filepath.Base(dir), Status: Stopped}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read state: %w", err)
	}
	if json.Unmarshal(b, &s) != nil {
		return State{Name: filepath.Base(dir), Status: Stopped}, nil
	}
	return s, nil
}

func writeState(dir string, s State) error { return writeJSON(filepath.Join(dir, stateFile), s) }

// writeJSON replaces the file at path in one step; only its owner can read it.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile writes a file in one step; only its owner can read it.
func replaceFile(path string, b []byte) error {
	err := renameio.WriteFile(path, b, 0o600, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
