package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// qmp is a connection to QEMU's machine protocol
// (https://www.qemu.org/docs/master/interop/qmp-spec.html). The known Go client
// hands out a buffer that its reader overwrites and cannot be cancelled, which
// is why this one exists.
type qmp struct {
	conn    io.ReadWriteCloser
	mu      sync.Mutex // one command at a time
	replies chan qmpLine
	events  chan qmpLine // closed when the connection ends
}

// qmpLine is anything that QEMU says.
type qmpLine struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID    int64           `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// errQMPClosed says that QEMU is gone or took another client.
var errQMPClosed = errors.New("QEMU closed its control connection")

// dialQMP connects to the machine in dir and negotiates. QEMU serves one
// client at a time: a former one's death makes room.
func dialQMP(ctx context.Context, dir string) (*qmp, error) {
	conn, err := vm.DialUnix(ctx, dir, qmpSocket)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, replies: make(chan qmpLine, 1), events: make(chan qmpLine, 256)}
	greeting := make(chan struct{})
	go q.read(greeting)
	select {
	case <-greeting:
	case <-ctx.Done():
		conn.Close()
		return nil, fmt.Errorf("no greeting from QEMU: %w", ctx.Err())
	}
	if err := q.execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) read(greeting chan<- struct{}) {
	defer close(q.events)

	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, 4<<20)

	for lines.Scan() {
		var line qmpLine
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch {
		case line.QMP != nil:
			if greeting != nil {
				close(greeting)
				greeting = nil
			}
		case line.Event != "":
			select {
			case q.events <- line:
			default: // nobody reads: states are asked for again where it matters
			}
		default:
			select {
			case q.replies <- line:
			default:
			}
		}
	}
	close(q.replies)
}

// execute runs a command. result may be nil.
func (q *qmp) execute(ctx context.Context, command string, arguments, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	id := time.Now().UnixNano()
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int64  `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("qmp %s: %w", command, errQMPClosed)
	}

	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("qmp %s: %w", command, ctx.Err())
		case line, ok := <-q.replies:
			switch {
			case !ok:
				return fmt.Errorf("qmp %s: %w", command, errQMPClosed)
			case line.ID != id: // the late answer to a command that was given up
				continue
			case line.Error != nil:
				return fmt.Errorf("qmp %s: %s: %s", command, line.Error.Class, line.Error.Desc)
			case result != nil:
				return json.Unmarshal(line.Return, result)
			}
			return nil
		}
	}
}

func (q *qmp) close() { q.conn.Close() }
