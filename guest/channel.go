package guest

import "time"

// The channel is a virtio-serial port: one JSON object a line, UTF-8. The guest
// says, unasked, what it learns about its boot, each event once. The host may
// call for all of it again, because what is written to a port that nobody listens
// to may be lost, and may call for a shutdown, of which the guest says that it
// has heard the call, and when it is ready for the end.
//
// A line may wait in the channel for as long as nobody reads it, so the host's
// time is told only to a guest that asks: the host says that its clock has
// jumped, the guest asks for the time, and takes an answer that comes within
// [ClockFresh].
const (
	// ChannelPort is the port's name.
	ChannelPort = "dev.rockpool.host"
	// ChannelDevice is where the guest's udev shows it.
	ChannelDevice = "/dev/virtio-ports/" + ChannelPort
	// MaxLine bounds a line in bytes, its end included.
	MaxLine = 64 << 10
)

// Event says what a [Message] tells.
type Event string

// The events.
const (
	EventPhase    Event = "phase"    // a phase of the boot is over: Phase, Seconds
	EventReady    Event = "ready"    // the stack serves: Seconds, Version
	EventFailed   Event = "failed"   // a unit failed: Unit, Message
	EventStopping Event = "stopping" // the request to shut down was heard
	EventStopped  Event = "stopped"  // workspaces have stopped and data is on the disk
	EventClock    Event = "clock"    // the guest asks for the host's time
	EventFiles    Event = "files"    // of the stream of file events: Files
	EventDisk     Event = "disk"     // who takes what of the disk for workspaces now: Disk
)

// Message is one line of the guest.
type Message struct {
	Event   Event    `json:"event"`
	Phase   Phase    `json:"phase,omitempty"`
	Seconds *float64 `json:"seconds,omitempty"` // since the guest's kernel started
	Version string   `json:"version,omitempty"` // of the agent
	Unit    string   `json:"unit,omitempty"`    // a systemd unit
	Message string   `json:"message,omitempty"` // a sentence for people

	Files *FileAnswer `json:"files,omitempty"`
	Disk  *DiskReport `json:"disk,omitempty"`
}

// Request is what a [Call] asks for.
type Request string

// The requests.
const (
	RequestStatus   Request = "status"   // say every event again
	RequestShutdown Request = "shutdown" // stop workspaces, make data durable, say stopped
	RequestNetworks Request = "networks" // the host's networks are now those of the call
	RequestClock    Request = "clock"    // the host's clock has jumped; or, with HostClock, the answer to EventClock
	RequestFiles    Request = "files"    // raise the events of Files
)

// Call is one line of the host.
type Call struct {
	Request      Request  `json:"request"`
	HostNetworks []string `json:"hostNetworks,omitempty"` // of RequestNetworks, as in [Config]
	HostClock    int64    `json:"hostClock,omitempty"`    // of RequestClock, nanoseconds since 1970, 0 when it is not told; see [ValidClock]

	Files *FileBatch `json:"files,omitempty"` // of RequestFiles
}

// ClockFresh is how long the answer to EventClock may take. One that took longer
// says what the time was.
const ClockFresh = 2 * time.Second

// ValidClock reports whether a host that knows the time can have this one: none
// from before this program, and none beyond what nanoseconds are fit for.
func ValidClock(t time.Time) bool { return t.Year() >= 2025 && t.Year() <= 2200 }
