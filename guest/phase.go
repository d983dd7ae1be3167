package guest

// Phase is a named stretch of the guest's boot. Its time is when it was over,
// in seconds since the guest's kernel started.
type Phase string

// The phases in the order in which a boot usually passes them.
const (
	PhaseKernel    Phase = "kernel"    // the kernel started its first process
	PhaseInitrd    Phase = "initrd"    // the initrd handed over to the root file system
	PhaseUserspace Phase = "userspace" // basic.target: file systems, sockets, timers
	PhaseSetup     Phase = "setup"     // rockpool-setup.service: disks, keys, credentials
	PhaseNetwork   Phase = "network"   // an address is configured
	PhaseSSH       Phase = "ssh"       // sshd listens
	PhaseAgent     Phase = "agent"     // the agent serves its socket
	PhaseCaddy     Phase = "caddy"     // Caddy listens
)

// Phases returns all of them in order.
func Phases() []Phase {
	return []Phase{PhaseKernel, PhaseInitrd, PhaseUserspace, PhaseSetup, PhaseNetwork, PhaseSSH, PhaseAgent, PhaseCaddy}
}

// Bounds of what a guest can make its host keep, for a guest of another release
// may know other phases and a broken one may say anything.
const (
	MaxPhases    = 32
	MaxPhaseName = 40 // bytes
)
