// Package channel is the guest's end of the channel to the host, in the words
// of package guest. It imports the domain and guest, and owns the open port.
package channel

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// DecodeCall reads one line of the host.
func DecodeCall(line []byte) (guest.Call, error) {
	var c guest.Call
	if err := json.Unmarshal(line, &c); err != nil {
		return guest.Call{}, fmt.Errorf("decode request: %w", err)
	}

	var err error
	switch c.Request {
	case guest.RequestStatus, guest.RequestShutdown:
	case guest.RequestNetworks:
		_, err = guest.ParseHostNetworks(c.HostNetworks)
	case guest.RequestClock:
		if c.HostClock != 0 && !guest.ValidClock(time.Unix(0, c.HostClock)) {
			err = fmt.Errorf("%d is no time of a host", c.HostClock)
		}
	case guest.RequestFiles:
		if c.Files == nil {
			err = errors.New("file events without a batch")
		} else {
			err = c.Files.Validate()
		}
	default:
		err = fmt.Errorf("unknown request %.40q", c.Request)
	}

	if err != nil {
		return guest.Call{}, fmt.Errorf("decode request: %w", err)
	}
	return c, nil
}

// Record is where boot events come from.
type Record interface {
	Since(n int) ([]agent.BootEvent, <-chan struct{})
}

// Files raises the events of the host's files.
type Files interface {
	// Take takes a batch and does not wait. Answers are said later, from
	// another goroutine.
	Take(b guest.FileBatch, say func(guest.FileAnswer))
}

// Port serves the channel. All fields but Files, Disk and Open must be set.
type Port struct {
	Path     string
	Version  string
	Record   Record
	Shutdown func(ctx context.Context) error // returns when the machine may go away
	Networks func(host []netip.Prefix)       // the host's networks are these now; does not wait
	Clock    func(host time.Time)            // the host's clock has jumped, and says this now; does not wait
	Files    Files                           // nil: no events of files are raised
	Disk     Disk                            // nil: the host is told nothing of the disk
	Retry    time.Duration                   // between two looks for the port, or for the host's end
	Patience time.Duration                   // how long the port may take to appear
	Log      *slog.Logger

	Open func(path string) (io.ReadWriteCloser, error) // nil: a character device

	askedTime time.Time     // when the host was asked for its time; zero when its answer is here
	again     chan struct{} // holds one when the host wants to be told of the disk again
}

// Run serves until ctx ends. The port may appear a little later than the
// agent, whose driver udev loads meanwhile; one that does not come is no
// fault: the VM was started without a launcher, and Run returns.
func (p *Port) Run(ctx context.Context) {
	open := p.Open
	if open == nil {
		open = openDevice
	}
	absentUntil := time.Now().Add(p.Patience)
	told := ""
	for {
		f, err := open(p.Path)
		switch {
		case err == nil:
			p.serve(ctx, f)
			told = ""
		case errors.Is(err, os.ErrNotExist) && time.Now().After(absentUntil):
			p.Log.Info("no channel to the host", "path", p.Path)
			return
		case !errors.Is(err, os.ErrNotExist) && err.Error() != told:
			told = err.Error()
			p.Log.Warn("channel to the host does not open", "err", err)
		}
		if !p.pause(ctx) {
			return
		}
	}
}

// ServeConnections serves the channel on each connection that comes in at l, as
// on an open port, until ctx ends or l is closed. There the host reaches the
// guest by connections, one after the other.
func (p *Port) ServeConnections(ctx context.Context, l net.Listener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("channel: %w", err)
		}
		of := *p // what was asked on one connection is not answered on another
		of.askedTime = time.Time{}
		serving.Go(func() { of.serve(ctx, connection{conn}) })
	}
}

// connection is a port whose end is one: nobody takes it up again.
type connection struct{ net.Conn }

// Read implements [io.Reader].
func (c connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = net.ErrClosed
	}
	return n, err
}

func openDevice(path string) (io.ReadWriteCloser, error) {
	return os.OpenFile(path, os.O_RDWR, 0)
}

// pause waits a moment and reports whether to go on.
func (p *Port) pause(ctx context.Context) bool {
	t := time.NewTimer(p.Retry)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// serve speaks over one open port until it fails or ctx ends.
func (p *Port) serve(ctx context.Context, f io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(ctx)
	closed := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer func() {
		cancel()
		if closed() {
			_ = f.Close()
		}
	}()
	w := &writer{w: f}
	p.again = make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer cancel()
		p.push(ctx, w)
	})
	if p.Disk != nil {
		wg.Go(func() { p.pushDisk(ctx, w) })
	}
	p.answer(ctx, f, w)
	cancel()
}

// push says every event as it becomes known.
func (p *Port) push(ctx context.Context, w *writer) {
	if p.Files != nil { // whatever was sent before is lost
		w.answer(guest.FileAnswer{})
	}
	for n := 0; ; {
		events, more := p.Record.Since(n)
		if err := w.say(p.messages(events)...); err != nil {
			return
		}
		n += len(events)
		select {
		case <-ctx.Done():
			return
		case <-more:
		}
	}
}

// answer obeys requests. A virtio-serial port whose other end nobody holds
// reads as ended, so an end is only a reason to look again a little later,
// and a line may come in parts.
func (p *Port) answer(ctx context.Context, r io.Reader, w *writer) {
	br := bufio.NewReaderSize(r, 4<<10)
	var line []byte
	for ctx.Err() == nil {
		part, err := br.ReadSlice('\n')
		if len(line) <= guest.MaxLine {
			line = append(line, part...)
		}
		switch {
		case err == nil:
			p.handle(ctx, line, w)
			line = line[:0]
		case errors.Is(err, bufio.ErrBufferFull): // the line goes on
		case errors.Is(err, io.EOF):
			if !p.pause(ctx) {
				return
			}
		default:
			return
		}
	}
}

func (p *Port) handle(ctx context.Context, line []byte, w *writer) {
	if len(line) > guest.MaxLine {
		p.Log.Warn("channel: line from the host is too long", "limit", guest.MaxLine)
		return
	}
	call, err := DecodeCall(line)
	if err != nil {
		p.Log.Warn("channel: request from the host not understood", "err", err)
		return
	}

	switch call.Request {
	case guest.RequestStatus:
		events, _ := p.Record.Since(0)
		_ = w.say(p.messages(events)...)
		select {
		case p.again <- struct{}{}:
		default: // it is about to be told
		}
	case guest.RequestShutdown:
		p.Log.Info("shutdown requested by the host")
		_ = w.say(guest.Message{Event: guest.EventStopping})
		if err := p.Shutdown(ctx); err != nil {
			p.Log.Error("shutdown is not clean", "err", err)
		}
		_ = w.say(guest.Message{Event: guest.EventStopped})
	case guest.RequestNetworks:
		if networks, err := guest.ParseHostNetworks(call.HostNetworks); err == nil { // as DecodeCall made sure
			p.Networks(networks)
		}
	case guest.RequestClock:
		p.takeClock(call, w)
	case guest.RequestFiles:
		if p.Files != nil {
			p.Files.Take(*call.Files, w.answer)
		}
	}
}

// takeClock passes on the host's time when it is fresh, and asks for it when the
// host has said that its clock has jumped. A time that nobody asked for, or that
// has waited, says only that there was a jump.
func (p *Port) takeClock(call guest.Call, w *writer) {
	if call.HostClock != 0 && !p.askedTime.IsZero() && time.Since(p.askedTime) < guest.ClockFresh {
		p.askedTime = time.Time{}
		p.Clock(time.Unix(0, call.HostClock))
		return
	}
	if call.HostClock != 0 {
		p.Log.Info("channel: the host's time has waited, and is asked for again")
	}

	p.askedTime = time.Now()
	if err := w.say(guest.Message{Event: guest.EventClock}); err != nil {
		p.Log.Debug("channel: the host is not asked for its time", "err", err)
	}
}

func (p *Port) messages(events []agent.BootEvent) []guest.Message {
	list := make([]guest.Message, 0, len(events))
	for _, e := range events {
		seconds := e.At.Seconds()
		switch {
		case e.Phase != "":
			list = append(list, guest.Message{Event: guest.EventPhase, Phase: e.Phase, Seconds: &seconds})
		case e.Ready:
			list = append(list, guest.Message{Event: guest.EventReady, Seconds: &seconds, Version: p.Version})
		default:
			list = append(list, guest.Message{Event: guest.EventFailed, Unit: e.Failed.Unit, Message: e.Failed.Message})
		}
	}
	return list
}

// writer writes whole lines from several goroutines.
type writer struct {
	mu sync.Mutex
	w  io.Writer
}

// answer says something of the stream of file events.
func (w *writer) answer(a guest.FileAnswer) {
	_ = w.say(guest.Message{Event: guest.EventFiles, Files: &a}) // without a host nobody waits for it
}

// say writes the messages in one write. It may block while nobody reads the
// port; closing the port ends it.
func (w *writer) say(messages ...guest.Message) error {
	if len(messages) == 0 {
		return nil
	}
	var b []byte
	for _, m := range messages {
		if len(m.Message) > guest.MaxLine/8 { // at most six bytes a character when escaped
			m.Message = m.Message[:guest.MaxLine/8]
		}
		line, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode message: %w", err)
		}
		b = append(append(b, line...), '\n')
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write to the host: %w", err)
	}
	return nil
}
