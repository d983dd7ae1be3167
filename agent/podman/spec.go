//go:build remote

package podman

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/specgen"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/common/libnetwork/types"
	"go.podman.io/common/pkg/signal"
	"go.podman.io/storage/pkg/idtools"
	storage "go.podman.io/storage/types"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// cpuPeriod is the time in which a container may use up its share, in
// microseconds: the kernel's default.
const cpuPeriod = 100_000

// network is the program that connects containers.
type network string

const (
	pasta network = "pasta"       // Podman 5
	slirp network = "slirp4netns" // Podman 4
)

// options leave a container the way out and nothing else: no address leads to
// the VM's loopback interface or stands for the VM itself. What a program
// outside the container could still be talked into (the VM's own addresses,
// the host behind it, neighbours) the VM's packet filter refuses:
// workspaces.nft in package templates.
func (n network) options() []string {
	if n == slirp {
		return []string{"allow_host_loopback=false", "enable_ipv6=false", "port_handler=rootlesskit", "cidr=" + slirpNetwork}
	}
	return []string{"--no-map-gw", "--map-guest-addr", "none", "--dns-forward", pastaDNS, "-T", "none", "-U", "none"}
}

// Addresses inside a container. slirp4netns' own choice is QEMU's.
const (
	slirpNetwork = "169.254.41.0/24"
	slirpDNS     = "169.254.41.3"
	pastaDNS     = "169.254.1.1"
)

func (n network) dns() net.IP {
	if n == slirp {
		return net.ParseIP(slirpDNS)
	}
	return net.ParseIP(pastaDNS)
}

// newSpec says what to make for c. It is a pure function: the same values give
// the same container.
func newSpec(c agent.Container, i image, view agent.FilesView, n network) (*specgen.SpecGenerator, error) {
	s := specgen.NewSpecGenerator(view.Root, true)
	if err := applyConfig(s, i); err != nil {
		return nil, err
	}
	if isDefault(c.Image) {
		s.Command = append(s.Command, "--abs-proxy-base-path="+basePath(c.Name))
	}

	s.Name = containerName(c.ID)
	s.Hostname = c.Name
	s.Labels = map[string]string{
		labelID:    c.ID,
		labelName:  c.Name,
		labelPort:  strconv.Itoa(c.Port),
		labelImage: c.Image,
		labelSlot:  strconv.Itoa(c.Slot),
	}

	s.Mounts = []runtimespec.Mount{{Type: define.TypeBind, Source: view.Home, Destination: agent.Home, Options: []string{"rbind", "rprivate"}}}
	s.Systemd = "false"
	s.CgroupParent = guest.WorkspaceSlice
	s.UserNS = specgen.Namespace{NSMode: specgen.Private}
	s.IDMappings = slotMapping(c.Slot)
	restrict(s, cmp.Or(c.Memory, agent.DefaultMemory))
	connect(s, n, c.Port)
	hash, err := specHash(s, i.Digest)
	s.Labels[labelSpec] = hash
	return s, err
}

// applyConfig does for a bare root file system what Podman does for an image.
func applyConfig(s *specgen.SpecGenerator, i image) error {
	s.Entrypoint = i.Config.Entrypoint
	s.Command = append([]string(nil), i.Config.Cmd...)
	s.User = i.Config.User
	s.WorkDir = i.Config.WorkingDir
	s.Env = map[string]string{}
	for _, e := range i.Config.Env {
		name, value, _ := strings.Cut(e, "=")
		s.Env[name] = value
	}
	if i.Config.StopSignal == "" {
		return nil
	}
	sig, err := signal.ParseSignalNameOrNumber(i.Config.StopSignal)
	if err != nil {
		return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeValidation, "The image %q names a stop signal that there is not.", i.Reference), err)
	}
	s.StopSignal = &sig
	return nil
}

// slotMapping maps the container's ids into the namespace of the rootless
// user.
func slotMapping(slot int) *storage.IDMappingOptions {
	ids := []idtools.IDMap{{ContainerID: 0, HostID: agent.SlotFirstID(slot), Size: agent.SlotSize}}
	return &storage.IDMappingOptions{UIDMap: ids, GIDMap: ids}
}

// restrict takes away what a workspace does not need. Podman's default seccomp
// profile and masked paths stay. no-new-privileges is off because sudo, with
// which the user installs packages, needs it off; root in the container is
// nobody outside it. Capabilities are dropped from Podman's default set, never
// added: added ones would be those of every process of the user.
func restrict(s *specgen.SpecGenerator, memory int64) {
	s.NoNewPrivileges = no()
	s.CapDrop = []string{"AUDIT_WRITE", "MKNOD", "NET_RAW", "SETPCAP"}
	s.EnvHost = no()
	s.HTTPProxy = no()
	s.OOMScoreAdj = oomScore()
	// ping without a privilege, for every group of the container.
	s.Sysctl = map[string]string{"net.ipv4.ping_group_range": fmt.Sprintf("0 %d", agent.SlotSize-1)}
	shared := memory / 4 // Chromium needs more than the 64 MB of Podman
	s.ShmSize = &shared
	quota, period, pids := int64(agent.ContainerCPUs*cpuPeriod), uint64(cpuPeriod), int64(agent.ContainerPids)
	s.ResourceLimits = &runtimespec.LinuxResources{
		Memory: memoryLimit(memory),
		CPU:    &runtimespec.LinuxCPU{Quota: &quota, Period: &period},
		Pids:   &runtimespec.LinuxPids{Limit: pids},
	}
}

// oomScore has the kernel take a workspace's process before one that looks after
// workspaces, should the whole VM run out of memory: user.conf in package
// templates.
func oomScore() *int { n := 200; return &n }

// memoryLimit is memory alone: no swap comes on top.
func memoryLimit(bytes int64) *runtimespec.LinuxMemory {
	return &runtimespec.LinuxMemory{Limit: &bytes, Swap: &bytes}
}

// connect gives the container the way out, and the VM, on its loopback
// interface alone, the way to the IDE.
func connect(s *specgen.SpecGenerator, n network, port int) {
	s.NetNS = specgen.Namespace{NSMode: specgen.NamespaceMode(n)}
	s.NetworkOptions = map[string][]string{string(n): n.options()}
	s.DNSServers = []net.IP{n.dns()}
	s.PortMappings = []types.PortMapping{{HostIP: "127.0.0.1", HostPort: uint16(port), ContainerPort: agent.IDEPort, Protocol: "tcp", Range: 1}}
}

// specHash is the digest of what a container is made from. Its memory is left
// out: another limit is given to the container that is there, with all that was
// installed in it.
func specHash(s *specgen.SpecGenerator, digest string) (string, error) {
	made := *s
	made.ShmSize = nil
	if s.ResourceLimits != nil {
		limits := *s.ResourceLimits
		limits.Memory, made.ResourceLimits = nil, &limits
	}
	b, err := json.Marshal(&made)
	if err != nil {
		return "", fmt.Errorf("encode the container: %w", err)
	}
	sum := sha256.Sum256(append(b, digest...))
	return hex.EncodeToString(sum[:]), nil
}

// basePath is where the proxy shows the IDE of a workspace.
func basePath(name string) string { return "/workspace/" + name }

func no() *bool { return new(bool) }
