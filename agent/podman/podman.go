//go:build remote

// Package podman runs workspaces as rootless Podman containers: it implements
// [agent.Runtime], [agent.Inventory], [agent.Observer], [agent.Tidier] and
// [agent.IDEHealth]. What containers run from and write to is [agent.Storage]'s.
//
// It speaks to the socket of a user's Podman service, of versions 4.3 to 5,
// through Podman's own bindings. It owns the containers that carry its labels, the
// volumes that earlier releases made, and the [Catalog]. Besides the bindings it
// knows how Podman writes error texts (errors.go) and where a container's cgroup is.
//
// Build tag remote: the bindings want the tags "remote
// containers_image_openpgp exclude_graphdriver_btrfs", or else C libraries.
package podman

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// The labels of containers and volumes.
const (
	labelID    = "dev.rockpool.id"    // of the workspace
	labelName  = "dev.rockpool.name"  // of the workspace
	labelPort  = "dev.rockpool.port"  // on the VM's loopback interface
	labelImage = "dev.rockpool.image" // as asked for
	labelSlot  = "dev.rockpool.slot"  // whose ids its processes have
	labelSpec  = "dev.rockpool.spec"  // digest of what the container was made for
)

// Engine is a user's Podman service. Its methods may be used at the same time,
// but not for the same workspace.
type Engine struct {
	Socket  string        // path of the service's unix socket
	Storage agent.Storage // files of workspaces and images
	Carried Carried       // the default image
	Catalog Catalog
	Cgroups fs.FS // usually os.DirFS("/sys/fs/cgroup")
	Memory  int64 // bytes that all workspaces have together
	Now     func() time.Time
	Log     *slog.Logger

	mu     sync.Mutex
	cpus   map[string]cpuSample // by workspace
	lives  map[string]life      // by workspace: of containers that ran when they were looked at
	starts map[string]time.Time // by workspace: of container lives that began with the configuration as it is

	turns  turns
	making sync.RWMutex // read-locked from the look for an image until files belong to it
	swept  bool         // nothing is left of what an earlier agent was unpacking; guarded by making
}

func containerName(id string) string { return "rockpool-" + id }

// volumeName names the volume in which earlier releases kept a home directory.
func volumeName(id string) string { return "rockpool-" + id + "-home" }

// call runs f with a context that holds a connection of its own: one that
// was used for an exec cannot be used again, and one that is kept would keep
// the service from going to sleep. The connection ends with ctx, even where
// the bindings took it over.
func (e *Engine) call(ctx context.Context, op string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := bindings.NewConnection(ctx, "unix://"+e.Socket)
	if err != nil {
		return fault(ctx, op, err)
	}
	client, err := bindings.GetClient(conn)
	if err != nil {
		return fault(ctx, op, err)
	}

	client.Client.CloseIdleConnections()

	var d net.Dialer
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(dialCtx context.Context, _, _ string) (net.Conn, error) {
			c, err := d.DialContext(dialCtx, "unix", e.Socket)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = c.Close() })
			}
			return c, err
		},
	}

	client.Client.Transport = transport
	return fault(ctx, op, f(conn))
}

// inspect returns the workspace's container, and [agent.CodeNotFound] when
// there is none. A foreign container of the same name is a conflict.
func inspect(ctx context.Context, id string) (*define.InspectContainerData, error) {
	name := containerName(id)
	c, err := containers.Inspect(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	if c.Config == nil || c.State == nil {
		return nil, errors.New("podman did not say what the container is")
	}
	if c.Config.Labels[labelID] != id {
		return nil, agent.Errorf(agent.CodeConflict, "A container named %s exists that is not this workspace's. Remove or rename it.", name)
	}
	return c, nil
}

// running returns the workspace's container, which must run.
func running(ctx context.Context, id string) (*define.InspectContainerData, error) {
	c, err := inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	if status(c.State.Status, c.State.Pid) != agent.ContainerRunning {
		return nil, agent.Errorf(agent.CodeConflict, "The workspace does not run. Start it first.")
	}
	return c, nil
}

// status reduces Podman's states to ours. Podman learns of a container's end from
// its monitor: when that was killed before, it takes the container for one that
// runs, for ever. The kernel knows whether its first process, pid, is there.
func status(state string, pid int) agent.ContainerStatus {
	if takenForRunning(state) && !hasGone(pid) {
		return agent.ContainerRunning
	}
	return agent.ContainerStopped
}

// takenForRunning reports whether Podman takes a container for one that runs.
func takenForRunning(state string) bool {
	return slices.Contains([]string{
		define.ContainerStateRunning.String(), define.ContainerStateStopping.String(), define.ContainerStatePaused.String(),
	}, state)
}

// hasGone reports whether there is no process of this id. Of id 0, which Podman
// has not said, nothing is known.
func hasGone(pid int) bool {
	return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
