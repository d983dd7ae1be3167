// Package relay leads to applications that listen inside workspaces, on
// whatever address of theirs, and tells which do.
//
// The relay is a process of its own, "rockpool-agent relay" behind
// rockpool-relay.socket: it stands outside the containers, in the user
// namespace of the rootless Podman that made them, where it may enter their
// network namespaces and nothing else of theirs. It does so with one thread for
// each question, which ends with it. Its own network namespace is empty
// (PrivateNetwork), so a mistake leads nowhere. It owns the connections that it
// was handed, and no other state; it ends at will and is started by the next
// question.
//
// [Previews] is the agent's end: it owns the sockets that Caddy dials, in the
// agent's runtime directory, and hands each connection over, so that none ends
// with the agent. The package imports only the domain.
package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// Operations of the relay.
const (
	opConnect = "connect" // files: the process, then the connection to join to the port
	opListen  = "listening"
)

// request is what the relay is asked, in one message with open files, of which
// the first is a pidfd of the workspace's first process.
type request struct {
	Op   string `json:"op"`
	Port int    `json:"port,omitempty"`
}

// answer is what the relay answers.
type answer struct {
	Reason    string           `json:"reason,omitempty"` // "" is success
	Detail    string           `json:"detail,omitempty"` // for the log
	Listening []agent.Listener `json:"listening,omitempty"`
}

// Why the relay did not do what it was asked.
const (
	reasonAgain   = "again"   // it starts anew: ask again
	reasonRefused = "refused" // nothing listens
	reasonFull    = "full"    // the workspace has as many connections as it may
	reasonEnded   = "ended"   // the workspace's first process has ended
	reasonFault   = "fault"
)

const (
	maxRequest = 512              // bytes
	maxFiles   = 2                // of a request
	askTime    = 10 * time.Second // for a request to arrive, and for an answer
)

// Relay answers at a socket. All exported fields must be set.
type Relay struct {
	Inside  []string // the command line of this program inside Podman's user namespace
	Entered bool     // it is inside already
	Log     *slog.Logger

	open  connections
	scans chan struct{} // holds one while the processes of the machine are looked through
}

// Serve answers at l until that is closed, which Serve itself does when this
// program is inside a namespace of no use any more. It waits for questions that
// were asked, not for connections that it was handed.
func (r *Relay) Serve(l *net.UnixListener) error {
	r.scans = make(chan struct{}, 1)
	var asked sync.WaitGroup
	defer asked.Wait()
	for {
		c, err := acceptNext(l, func(err error) { r.Log.Warn("the relay hears no questions for a moment", "err", err) })
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		if !r.Entered { // no other question is heard until it is inside
			r.serve(l, c)
			continue
		}
		asked.Add(1)
		go func() {
			keep := r.serve(l, c)
			asked.Done()
			keep()
		}()
	}
}

// serve answers the question c. The func that it returns keeps a connection that
// was handed over until both ends have closed it.
func (r *Relay) serve(l *net.UnixListener, c *net.UnixConn) (keep func()) {
	defer c.Close()
	keep = func() {}
	_ = c.SetDeadline(time.Now().Add(askTime))
	q, files, err := receive(c)
	defer closeAll(files)
	if err != nil {
		r.Log.Warn("a question to the relay is not understood", "err", err)
		return keep
	}
	if !r.Entered {
		r.enter(c, files[0])
		return keep
	}

	var a answer
	switch q.Op {
	case opConnect:
		var joined func()
		if joined, err = r.connect(files, q.Port); err == nil {
			keep = joined
		}
	case opListen:
		a.Listening, err = r.listening(files[0])
	default:
		err = fmt.Errorf("there is no operation %q", q.Op)
	}
	if errors.Is(err, errOutside) && sameNamespace(files[0]) {
		err = errors.New("the relay may not enter the workspace's network") // starting anew would not help
	}

	a.Reason, a.Detail = reason(err)
	switch a.Reason {
	case reasonFault:
		r.Log.Warn("the relay failed", "op", q.Op, "port", q.Port, "err", err)
	case reasonAgain:
		_ = l.Close() // before the answer: the next question is the next relay's
	}
	if err := reply(c, a); err != nil {
		r.Log.Debug("nobody waits for the relay's answer", "err", err)
	}
	return keep
}

// enter starts this program anew in the user namespace of Podman, which is the
// parent of that of the process. Until then it may enter no container's network.
func (r *Relay) enter(c *net.UnixConn, process *os.File) {
	ns, err := podmanNamespace(process)
	if err != nil {
		why, detail := reason(err)
		_ = reply(c, answer{Reason: why, Detail: detail})
		r.Log.Warn("the relay does not find Podman's user namespace", "err", err)
		return
	}

	defer ns.Close()
	if err := reply(c, answer{Reason: reasonAgain}); err != nil {
		r.Log.Debug("nobody waits for the relay's answer", "err", err)
	}
	_ = c.Close()
	r.Log.Error("the relay cannot enter Podman's user namespace", "err", execInside(ns, r.Inside))
}

// reason is err in an answer.
func reason(err error) (reason, detail string) {
	switch {
	case err == nil:
		return "", ""
	case errors.Is(err, errOutside):
		return reasonAgain, err.Error()
	case errors.Is(err, unix.ESRCH), errors.Is(err, os.ErrProcessDone):
		return reasonEnded, err.Error()
	case errors.Is(err, errNobody):
		return reasonRefused, err.Error()
	case errors.Is(err, errFull):
		return reasonFull, err.Error()
	}
	return reasonFault, err.Error()
}

// receive reads a request and its files, which are the caller's also when there
// is an error.
func receive(c *net.UnixConn) (request, []*os.File, error) {
	buf, oob := make([]byte, maxRequest), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return request{}, nil, fmt.Errorf("read: %w", err)
	}
	files, err := received(oob[:oobn])
	if err != nil {
		return request{}, files, err
	}

	var q request
	if err := json.Unmarshal(buf[:n], &q); err != nil {
		return q, files, fmt.Errorf("read: %w", err)
	}

	want := 1
	if q.Op == opConnect {
		want = 2
	}
	if flags&unix.MSG_CTRUNC != 0 || len(files) != want {
		return q, files, fmt.Errorf("%d files came with the operation %q", len(files), q.Op)
	}
	return q, files, nil
}

// received are the files of a message.
func received(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, fmt.Errorf("read files: %w", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func reply(c *net.UnixConn, a answer) error { return json.NewEncoder(c).Encode(a) }

// Client asks the relay.
type Client struct{ Socket string }

// patience is how often a relay that starts anew is asked again.
const patience = 4

// connect hands conn over, to be joined to the port of a workspace. The
// caller's own conn is to be closed whatever comes.
func (cl Client) connect(ctx context.Context, process *os.File, conn *net.UnixConn, port int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("hand over a connection: %w", err)
	}
	var asked error
	if err := raw.Control(func(fd uintptr) {
		_, asked = cl.ask(ctx, request{Op: opConnect, Port: port}, int(process.Fd()), int(fd))
	}); err != nil {
		return fmt.Errorf("hand over a connection: %w", err)
	}
	return asked
}

// listening asks what listens in a workspace.
func (cl Client) listening(ctx context.Context, process *os.File) ([]agent.Listener, error) {
	a, err := cl.ask(ctx, request{Op: opListen}, int(process.Fd()))
	return a.Listening, err
}

// ask asks, and again while the relay starts anew.
func (cl Client) ask(ctx context.Context, q request, files ...int) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for range patience {
		a, err := cl.askOnce(ctx, q, files)
		switch {
		case err != nil:
			return a, fmt.Errorf("ask the relay: %w", err)
		case a.Reason == reasonAgain:
			continue
		case a.Reason == reasonRefused:
			return a, errNobody
		case a.Reason == reasonFull:
			return a, errFull
		case a.Reason == reasonEnded:
			return a, os.ErrProcessDone
		case a.Reason != "":
			return a, fmt.Errorf("relay: %s", a.Detail)
		}
		return a, nil
	}
	return answer{}, errors.New("the relay starts again and again")
}

func (cl Client) askOnce(ctx context.Context, q request, files []int) (answer, error) {
	var d net.Dialer
	dialed, err := d.DialContext(ctx, "unix", cl.Socket)
	if err != nil {
		return answer{}, err
	}
	defer dialed.Close()
	defer context.AfterFunc(ctx, func() { _ = dialed.Close() })()

	c := dialed.(*net.UnixConn)
	b, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(files...), nil); err != nil {
		return answer{}, err
	}

	var a answer
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		return a, errors.Join(err, context.Cause(ctx))
	}
	return a, nil
}
