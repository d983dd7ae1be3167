package standin

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// guestCID is the guest's address on vsock.
const guestCID = 3

// Operations and flags of packets (virtio 1.2, 5.10).
const (
	vsockRequest       = 1
	vsockResponse      = 2
	vsockReset         = 3
	vsockShutdown      = 4
	vsockData          = 5
	vsockCredit        = 6
	vsockCreditRequest = 7

	vsockStream   = 1
	vsockNoReads  = 1 // of a shutdown: the sender reads no more
	vsockNoWrites = 2 // or writes no more

	vsockHeader = 44
	// vsockBuffer is how much of a connection the device keeps for this side.
	vsockBuffer = 256 << 10
	// vsockTime is how long a guest may take to answer a request.
	vsockTime = 10 * time.Second
)

// vsockPacket is a packet's header without its addresses, and its data.
type vsockPacket struct {
	local, remote uint32 // ports: this side's, the guest's
	op            uint16
	flags         uint32
	alloc, taken  uint32 // the sender's buffer, and what it has taken of the other's data
	data          []byte
}

// encode writes a packet to the guest into b.
func (p vsockPacket) encode(b []byte) {
	order := binary.LittleEndian
	order.PutUint64(b, guest.HostCID)
	order.PutUint64(b[8:], guestCID)
	order.PutUint32(b[16:], p.local)
	order.PutUint32(b[20:], p.remote)
	order.PutUint32(b[24:], uint32(len(p.data)))
	order.PutUint16(b[28:], vsockStream)
	order.PutUint16(b[30:], p.op)
	order.PutUint32(b[32:], p.flags)
	order.PutUint32(b[36:], p.alloc)
	order.PutUint32(b[40:], p.taken)
}

// decodeVsock reads a packet of the guest.
func decodeVsock(b []byte) (p vsockPacket, ok bool) {
	order := binary.LittleEndian
	if len(b) < vsockHeader || order.Uint64(b) != guestCID || order.Uint64(b[8:]) != guest.HostCID {
		return p, false
	}
	size := int(order.Uint32(b[24:]))
	if size > len(b)-vsockHeader || order.Uint16(b[28:]) != vsockStream {
		return p, false
	}
	return vsockPacket{
		remote: order.Uint32(b[16:]), local: order.Uint32(b[20:]),
		op: order.Uint16(b[30:]), flags: order.Uint32(b[32:]),
		alloc: order.Uint32(b[36:]), taken: order.Uint32(b[40:]),
		data: b[vsockHeader:][:size],
	}, true
}

// vsock is a guest's vsock device, of which this process is the host.
type vsock struct {
	device      *vhostDevice
	toGuest     *queue
	fromGuest   *queue
	sending     sync.Mutex // held while packets are put into the queue
	mu          sync.Mutex // guards what follows
	outgoing    []vsockPacket
	connections map[uint32]*vsockConn // by this side's port
	lastPort    uint32
}

func newVsock() *vsock {
	v := &vsock{connections: map[uint32]*vsockConn{}, lastPort: 1 << 10}
	v.device = &vhostDevice{config: binary.LittleEndian.AppendUint64(nil, guestCID)}
	v.toGuest = &queue{device: v.device, kicked: v.flush}
	v.fromGuest = &queue{device: v.device, kicked: v.receive}
	v.device.queues = []*queue{v.toGuest, v.fromGuest}
	return v
}

// send puts a packet into the guest's queue, now or when there is room.
func (v *vsock) send(p vsockPacket) {
	v.mu.Lock()
	v.outgoing = append(v.outgoing, p)
	v.mu.Unlock()
	v.flush()
}

// flush passes on what is outgoing, as far as the guest has room. What is too
// long for its buffer goes in parts.
func (v *vsock) flush() {
	v.sending.Lock()
	defer v.sending.Unlock()
	for v.toGuest.take(func(_, write [][]byte) (int, bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		room := 0
		for _, b := range write {
			room += len(b)
		}
		if len(v.outgoing) == 0 || room <= vsockHeader {
			return 0, false
		}
		p := v.outgoing[0]
		if rest := room - vsockHeader; len(p.data) > rest {
			v.outgoing[0].data = p.data[rest:]
			p.data = p.data[:rest]
		} else {
			v.outgoing = v.outgoing[1:]
		}
		packed := make([]byte, vsockHeader, vsockHeader+len(p.data))
		p.encode(packed)
		packed = append(packed, p.data...)
		written := len(packed)
		for _, b := range write {
			packed = packed[copy(b, packed):]
		}
		return written, true
	}) {
	}
}

// receive takes what the guest sends.
func (v *vsock) receive() {
	for v.fromGuest.take(func(read, _ [][]byte) (int, bool) {
		var packed []byte
		for _, b := range read {
			packed = append(packed, b...)
		}
		if p, ok := decodeVsock(packed); ok {
			v.dispatch(p)
		}
		return 0, true
	}) {
	}
}

// dispatch gives a packet to its connection. One that nobody knows is reset.
func (v *vsock) dispatch(p vsockPacket) {
	v.mu.Lock()
	c := v.connections[p.local]
	v.mu.Unlock()
	if c == nil || c.remote != p.remote {
		if p.op != vsockReset {
			go v.send(vsockPacket{local: p.local, remote: p.remote, op: vsockReset})
		}
		return
	}
	c.take(p)
}

// errVsockReset says that the guest has nobody at a port, or has broken off.
var errVsockReset = errors.New("reset by the guest")

// vsockConn is a connection to a port of the guest.
type vsockConn struct {
	v             *vsock
	local, remote uint32

	mu       sync.Mutex
	changed  *sync.Cond
	opened   bool
	over     error  // the connection's end, for both directions
	received []byte // and not taken yet
	ended    bool   // the guest writes no more
	taken    uint32 // bytes of the guest's data, in all
	told     uint32 // of that, what the guest knows
	sent     uint32
	alloc    uint32 // the guest's buffer
	reported uint32 // what the guest has taken, by its own word
}

// dial connects to a port of the guest.
func (v *vsock) dial(port uint32) (*vsockConn, error) {
	c := &vsockConn{v: v, remote: port}
	c.changed = sync.NewCond(&c.mu)
	v.mu.Lock()
	v.lastPort++
	c.local = v.lastPort
	v.connections[c.local] = c
	v.mu.Unlock()

	limit := time.AfterFunc(vsockTime, func() { c.finish(errors.New("the guest does not answer")) })
	defer limit.Stop()
	v.send(c.packet(vsockRequest))
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.opened && c.over == nil {
		c.changed.Wait()
	}
	return c, c.over
}

// packet is one of the connection, with its credit. The caller holds mu, or is
// its only user.
func (c *vsockConn) packet(op uint16) vsockPacket {
	return vsockPacket{local: c.local, remote: c.remote, op: op, alloc: vsockBuffer, taken: c.taken}
}

// take takes a packet of the guest.
func (c *vsockConn) take(p vsockPacket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alloc, c.reported = p.alloc, p.taken
	switch p.op {
	case vsockResponse:
		c.opened = true
	case vsockData:
		c.received = append(c.received, p.data...)
	case vsockCreditRequest:
		answer := c.packet(vsockCredit)
		go c.v.send(answer)
	case vsockShutdown:
		c.ended = c.ended || p.flags&vsockNoWrites != 0
		if p.flags == vsockNoReads|vsockNoWrites && c.over == nil {
			c.over = io.EOF
			go c.v.send(c.packet(vsockReset)) // which ends it for the guest
			c.forget()
		}
	case vsockReset:
		if c.over == nil {
			c.over = errVsockReset
		}
		c.ended = true
		c.forget()
	}
	c.changed.Broadcast()
}

// forget has packets of the connection be strange. The caller holds mu.
func (c *vsockConn) forget() {
	go func() {
		c.v.mu.Lock()
		defer c.v.mu.Unlock()
		delete(c.v.connections, c.local)
	}()
}

// finish ends the connection from this side.
func (c *vsockConn) finish(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return
	}
	c.over, c.ended = why, true
	c.forget()
	end := c.packet(vsockShutdown)
	end.flags = vsockNoReads | vsockNoWrites
	go c.v.send(end)
	c.changed.Broadcast()
}

// Read implements [io.Reader].
func (c *vsockConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.received) == 0 && !c.ended && c.over == nil {
		c.changed.Wait()
	}
	if len(c.received) == 0 {
		if c.over != nil && c.over != io.EOF {
			return 0, c.over
		}
		return 0, io.EOF
	}
	n := copy(b, c.received)
	c.received = c.received[n:]
	c.taken += uint32(n)
	if c.taken-c.told >= vsockBuffer/2 {
		c.told = c.taken
		go c.v.send(c.packet(vsockCredit))
	}
	return n, nil
}

// Write implements [io.Writer]. It waits for room in the guest's buffer.
func (c *vsockConn) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		c.mu.Lock()
		for c.over == nil && c.alloc-(c.sent-c.reported) == 0 {
			c.changed.Wait()
		}
		if c.over != nil {
			defer c.mu.Unlock()
			return written, c.over
		}
		n := min(len(b), int(c.alloc-(c.sent-c.reported)))
		p := c.packet(vsockData)
		p.data = append([]byte(nil), b[:n]...)
		c.sent += uint32(n)
		c.mu.Unlock()
		c.v.send(p)
		written, b = written+n, b[n:]
	}
	return written, nil
}

// join joins a connection to control.sock with one to a port of the guest, both
// ways, until either side ends. What that does with half an end is not known of
// Tart; here it is the end of both.
func (v *vsock) join(client net.Conn, port uint32) {
	defer client.Close()
	c, err := v.dial(port)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(c, client)
		c.finish(io.EOF)
	}()
	_, _ = io.Copy(client, c)
	c.finish(io.EOF)
}
