package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// workTime bounds how long a connection may take to be handed over: Podman may
// have to be started, and the relay.
const workTime = 20 * time.Second

// Previews implements [agent.Previews] with a socket for each port that somebody
// looks at. Connections to it go to the relay. All exported fields must be set.
type Previews struct {
	Dir       string // of the sockets; made anew by the first
	Relay     Client
	Processes agent.Processes
	Log       *slog.Logger

	mu        sync.Mutex
	made      bool // Dir is this agent's
	doors     map[string][]door
	processes map[string]*os.File // by workspace: pidfds of those that run
}

// door is where a preview is entered.
type door struct {
	port int
	*net.UnixListener
}

// Preview implements [agent.Previews].
func (p *Previews) Preview(_ context.Context, id string, port int) (string, error) {
	if !agent.ValidID(id) || port <= 0 || port > 65535 {
		return "", fmt.Errorf("preview: not a port of a workspace: %q, %d", id, port)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	path := filepath.Join(p.Dir, fmt.Sprintf("%s-%d.sock", id, port))
	for _, d := range p.doors[id] {
		if d.port == port {
			return "unix/" + path, nil
		}
	}

	if err := p.makeDir(); err != nil {
		return "", fmt.Errorf("preview: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return "", fmt.Errorf("preview: %w", err)
	}

	open := p.doors[id]
	if len(open) >= agent.MaxPorts { // the oldest is of a port that was registered once, or opens again
		_ = open[0].Close()
		open = open[1:]
	}
	p.doors[id] = append(open, door{port, l})
	go p.accept(l, id, port)
	return "unix/" + path, nil
}

// makeDir makes the directory of the sockets, without those of an agent that
// ended.
func (p *Previews) makeDir() error {
	if p.made {
		return nil
	}
	if err := errors.Join(os.RemoveAll(p.Dir), os.MkdirAll(p.Dir, 0o700)); err != nil {
		return err
	}
	p.made, p.doors = true, map[string][]door{}
	return nil
}

// accept hands over what comes in until l is closed. After a fault that does not
// pass, the next request opens the socket anew.
func (p *Previews) accept(l *net.UnixListener, id string, port int) {
	for {
		c, err := acceptNext(l, func(err error) {
			p.Log.Warn("a preview takes no connections for a moment", "workspace", id, "port", port, "err", err)
		})
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.Log.Warn("a preview takes no connections", "workspace", id, "port", port, "err", err)
			p.forget(l, id)
			return
		}
		go p.handOver(c, id, port)
	}
}

// forget closes a socket, unless that is done.
func (p *Previews) forget(l *net.UnixListener, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.doors[id], func(d door) bool { return d.UnixListener == l })
	if i >= 0 {
		_ = l.Close()
		p.doors[id] = slices.Delete(p.doors[id], i, i+1)
	}
}

// handOver gives a connection to the relay. Where nothing listens it ends at
// once, of which Caddy makes a page.
func (p *Previews) handOver(c *net.UnixConn, id string, port int) {
	defer c.Close()
	err := p.withProcess(context.Background(), id, func(ctx context.Context, process *os.File) error {
		return p.Relay.connect(ctx, process, c, port)
	})
	switch {
	case errors.Is(err, errNobody), agent.ErrorCode(err) == agent.CodeConflict, agent.ErrorCode(err) == agent.CodeNotFound:
		p.Log.Debug("a preview shows nothing", "workspace", id, "port", port, "err", err)
	case err != nil:
		p.Log.Warn("a preview failed", "workspace", id, "port", port, "err", err)
	}
}

// Listening implements [agent.Previews].
func (p *Previews) Listening(ctx context.Context, id string) (all []agent.Listener, err error) {
	err = p.withProcess(ctx, id, func(ctx context.Context, process *os.File) error {
		all, err = p.Relay.listening(ctx, process)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list what listens: %w", err)
	}
	return all, nil
}

// withProcess calls f with the workspace's first process. It asks the runtime
// once for each life of the container.
func (p *Previews) withProcess(ctx context.Context, id string, f func(context.Context, *os.File) error) error {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	process, err := p.process(ctx, id)
	if err != nil {
		return err
	}
	defer process.Close()
	if err = f(ctx, process); errors.Is(err, os.ErrProcessDone) {
		return agent.Errorf(agent.CodeConflict, "The workspace does not run. Start it first.")
	}
	return err
}

// process is a copy of the pidfd of the workspace's first process.
func (p *Previews) process(ctx context.Context, id string) (*os.File, error) {
	p.mu.Lock()
	known := p.processes[id]
	if known != nil {
		if !ended(known) {
			defer p.mu.Unlock()
			return copyOf(known)
		}
		_ = known.Close()
		delete(p.processes, id)
	}
	p.mu.Unlock()

	found, err := p.Processes.Process(ctx, id)
	if err != nil {
		return nil, err
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.processes == nil {
		p.processes = map[string]*os.File{}
	}
	if other := p.processes[id]; other != nil {
		_ = other.Close()
	}
	p.processes[id] = found
	return copyOf(found)
}

func copyOf(process *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(process.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the handle of a process: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// ended reports whether the process behind a pidfd has ended.
func ended(process *os.File) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(process.Fd()), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// Forget implements [agent.Previews]. Connections that were handed over stay.
func (p *Previews) Forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.doors[id] {
		_ = d.Close()
	}
	if process := p.processes[id]; process != nil {
		_ = process.Close()
	}
	delete(p.doors, id)
	delete(p.processes, id)
}

// Close takes no more connections. Those that were handed over stay.
func (p *Previews) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, open := range p.doors {
		for _, d := range open {
			_ = d.Close()
		}
	}
	for _, process := range p.processes {
		_ = process.Close()
	}
	p.doors, p.processes, p.made = nil, nil, false
}
