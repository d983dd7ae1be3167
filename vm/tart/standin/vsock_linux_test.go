package standin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// fakeGuest is QEMU and a kernel in one: a memory with two queues in it, and a
// driver that answers as a guest does which echoes at the port of streams.
type fakeGuest struct {
	*testing.T
	conn   *net.UnixConn // to the device
	memory []byte
	rings  [2]fakeRing // to the guest, from the guest

	mu     sync.Mutex
	wrong  []string
	alloc  uint32 // of the guest's buffer
	taken  uint32
	credit uint32 // what the host may be sent
	sent   uint32
	queued []vsockPacket // to be sent when the host has room
}

// fakeRing is a queue of which the guest is the driver.
type fakeRing struct {
	at         int // in memory; descriptors, then the available ring, then the used one
	kick, call *os.File
	next, used uint16
}

const (
	fakeSize    = 8       // descriptors of a queue
	fakeBuffer  = 1 << 10 // bytes of each, less than a large packet
	fakeBuffers = 64 << 10
	fakeUser    = 0x7f0000000000 // where the memory is in QEMU
	fakeGuestAt = 0x100000       // and in the guest
)

func (g *fakeGuest) descriptor(r, i int) []byte { return g.memory[g.rings[r].at+16*i:] }
func (g *fakeGuest) available(r int) []byte     { return g.memory[g.rings[r].at+16*fakeSize:] }
func (g *fakeGuest) usedRing(r int) []byte      { return g.memory[g.rings[r].at+1024:] }
func (g *fakeGuest) buffer(r, i int) []byte {
	return g.memory[fakeBuffers+(r*fakeSize+i)*fakeBuffer:][:fakeBuffer]
}

// tell sends a message of vhost-user.
func (g *fakeGuest) tell(request uint32, body []byte, files ...int) {
	g.Helper()
	order := binary.LittleEndian
	b := order.AppendUint32(order.AppendUint32(order.AppendUint32(nil, request), vhostVersion), uint32(len(body)))
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	if _, _, err := g.conn.WriteMsgUnix(append(b, body...), rights, nil); err != nil {
		g.Fatal(err)
	}
}

// ask sends a message and returns the answer.
func (g *fakeGuest) ask(request uint32, body []byte) []byte {
	g.Helper()
	g.tell(request, body)
	head := make([]byte, 12)
	if _, err := io.ReadFull(g.conn, head); err != nil {
		g.Fatal(err)
	}
	answer := make([]byte, binary.LittleEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(g.conn, answer); err != nil || binary.LittleEndian.Uint32(head) != request {
		g.Fatal(head, err)
	}
	return answer
}

func words(all ...uint32) (b []byte) {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func longWords(b []byte, all ...uint64) []byte {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func eventFile(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "event")
	t.Cleanup(func() { f.Close() })
	return f
}

// startGuest boots it: the device is set up as QEMU does when a kernel's driver
// has found it.
func startGuest(t *testing.T, v *vsock) *fakeGuest {
	t.Helper()
	g := &fakeGuest{T: t, alloc: 16 << 10}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "vhost")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = conn.(*net.UnixConn)
	}
	g.conn = ends[0]
	served := make(chan error, 1)
	go func() { served <- v.device.serve(ends[1]) }()

	memory, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(memory, 1<<20)
	}
	if err == nil {
		g.memory, err = unix.Mmap(memory, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memory)

	if features := binary.LittleEndian.Uint64(g.ask(vhostGetFeatures, nil)); features != featureProtocol|featureVersion1 {
		t.Errorf("features %#x", features)
	}
	if c := g.ask(vhostGetConfig, append(words(0, 8, 0), make([]byte, 8)...)); binary.LittleEndian.Uint64(c[12:]) != guestCID {
		t.Errorf("configuration %v", c)
	}
	g.tell(vhostSetMemTable, longWords(words(1, 0), fakeGuestAt, 1<<20, fakeUser, 0), memory)
	for i := range g.rings {
		r := &g.rings[i]
		*r = fakeRing{at: i * 4096, kick: eventFile(t), call: eventFile(t)}
		g.tell(vhostSetVringNum, words(uint32(i), fakeSize))
		g.tell(vhostSetVringBase, words(uint32(i), 0))
		at := uint64(fakeUser + r.at)
		g.tell(vhostSetVringAddr, longWords(words(uint32(i), 0), at, at+1024, at+16*fakeSize, 0))
		g.tell(vhostSetVringCall, longWords(nil, uint64(i)), int(r.call.Fd()))
		g.tell(vhostSetVringKick, longWords(nil, uint64(i)), int(r.kick.Fd()))
		unix.SetNonblock(int(r.call.Fd()), true) // Fd made it blocking
		unix.SetNonblock(int(r.kick.Fd()), true)
	}
	for i := range fakeSize {
		g.offer(0, i, fakeBuffer)
	}
	done := make(chan struct{})
	go g.run(done)
	t.Cleanup(func() {
		for i := range g.rings {
			g.ask(vhostGetVringBase, words(uint32(i), 0))
		}
		close(done)
		g.conn.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, w := range g.wrong {
			t.Error(w)
		}
	})
	return g
}

// offer puts a buffer into a ring, of which size bytes are the device's.
func (g *fakeGuest) offer(ring, i, size int) {
	r := &g.rings[ring]
	flags := uint16(0)
	if ring == 0 {
		flags = 2 // the device writes it
	}
	order := binary.LittleEndian
	d := g.descriptor(ring, i)
	order.PutUint64(d, uint64(fakeGuestAt+fakeBuffers+(ring*fakeSize+i)*fakeBuffer))
	order.PutUint32(d[8:], uint32(size))
	order.PutUint16(d[12:], flags)
	order.PutUint16(g.available(ring)[4+2*(r.next%fakeSize):], uint16(i))
	r.next++
	atomic.StoreUint32(ringIndex(g.available(ring)), uint32(r.next)<<16)
	r.kick.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// run is the driver: it takes what comes and answers.
func (g *fakeGuest) run(done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		g.mu.Lock()
		r := &g.rings[0]
		for ; uint16(atomic.LoadUint32(ringIndex(g.usedRing(0)))>>16) != r.used; r.used++ {
			entry := g.usedRing(0)[4+8*(r.used%fakeSize):]
			i := int(binary.LittleEndian.Uint32(entry))
			packed := append([]byte(nil), g.buffer(0, i)[:binary.LittleEndian.Uint32(entry[4:])]...)
			g.offer(0, i, fakeBuffer)
			g.take(packed)
		}
		g.flush()
		g.mu.Unlock()
	}
}

// take is the kernel's side of one packet: the host's, so its addresses are the
// other way round.
func (g *fakeGuest) take(b []byte) {
	order := binary.LittleEndian
	if len(b) < vsockHeader || order.Uint64(b) != guest.HostCID || order.Uint64(b[8:]) != guestCID {
		g.wrong = append(g.wrong, "a packet of nobody's")
		return
	}
	local, port, op := order.Uint32(b[16:]), order.Uint32(b[20:]), order.Uint16(b[30:])
	g.credit = order.Uint32(b[36:]) + order.Uint32(b[40:]) // may have been sent in all
	answer := vsockPacket{local: local, remote: port, op: vsockReset}
	switch {
	case op == vsockReset || op == vsockCredit:
		return
	case port != guest.StreamPort:
	case op == vsockRequest:
		answer.op = vsockResponse
	case op == vsockData:
		data := b[vsockHeader:]
		if int(order.Uint32(b[24:])) != len(data) {
			g.wrong = append(g.wrong, "a packet of another length")
		}
		g.taken += uint32(len(data))
		answer.op, answer.data = vsockData, append([]byte(nil), data...)
	case op == vsockShutdown:
		answer.op = vsockReset
	}
	g.queued = append(g.queued, answer)
}

// flush sends what is queued, as far as the queue and the host have room.
func (g *fakeGuest) flush() {
	r := &g.rings[1]
	for len(g.queued) > 0 {
		r.used = uint16(atomic.LoadUint32(ringIndex(g.usedRing(1))) >> 16)
		p := g.queued[0]
		if r.next-r.used == fakeSize || g.sent+uint32(len(p.data)) > g.credit {
			return
		}
		g.queued = g.queued[1:]
		g.sent += uint32(len(p.data))
		i := int(r.next % fakeSize)
		b := g.buffer(1, i)
		p.alloc, p.taken = g.alloc, g.taken
		p.encode(b)
		order := binary.LittleEndian // from the guest
		order.PutUint64(b, guestCID)
		order.PutUint64(b[8:], guest.HostCID)
		order.PutUint32(b[16:], p.remote)
		order.PutUint32(b[20:], p.local)
		g.offer(1, i, vsockHeader+copy(b[vsockHeader:], p.data))
	}
}

// TestVsock carries more than all buffers hold, both ways at once.
func TestVsock(t *testing.T) {
	v := newVsock()
	startGuest(t, v)
	c, err := v.dial(guest.StreamPort)
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	go c.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came back differs: %v", err)
	}

	c.finish(io.EOF)
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("written after the end")
	}
}

// TestVsock_Join: what is said at control.sock arrives, and its end ends it.
func TestVsock_Join(t *testing.T) {
	v := newVsock()
	startGuest(t, v)
	client, control := net.Pipe()
	over := make(chan struct{})
	go func() {
		v.join(control, guest.StreamPort)
		close(over)
	}()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	client.Close()
	<-over
}

// TestVsock_Refused: a port at which nobody listens.
func TestVsock_Refused(t *testing.T) {
	v := newVsock()
	startGuest(t, v)
	if _, err := v.dial(guest.StreamPort + 1); !errors.Is(err, errVsockReset) {
		t.Errorf("error %v", err)
	}
}

// TestVsock_NoGuest: what is asked before a driver is there waits for it.
func TestVsock_NoGuest(t *testing.T) {
	v := newVsock()
	connected := make(chan error, 1)
	go func() {
		_, err := v.dial(guest.StreamPort)
		connected <- err
	}()
	select {
	case err := <-connected:
		t.Fatalf("without a guest: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	startGuest(t, v)
	if err := <-connected; err != nil {
		t.Error(err)
	}
}

func TestVhostDevice_Faults(t *testing.T) {
	v := newVsock()
	v.device.memory = []region{{guest: fakeGuestAt, user: fakeUser, bytes: make([]byte, 4096)}}
	v.toGuest.size = fakeSize
	for name, c := range map[string]struct {
		request uint32
		body    []byte
	}{
		"no such queue":      {vhostSetVringNum, words(9, 8)},
		"half a message":     {vhostSetVringNum, words(1)},
		"elsewhere":          {vhostSetVringAddr, longWords(words(0, 0), 1, 1, 1, 0)},
		"no size":            {vhostSetVringAddr, longWords(words(1, 0), fakeUser, fakeUser, fakeUser, 0)},
		"over the end":       {vhostSetVringAddr, longWords(words(0, 0), fakeUser+4096-8, fakeUser, fakeUser, 0)},
		"memory of nothing":  {vhostSetMemTable, words(2, 0)},
		"another's settings": {vhostGetConfig, words(99, 8, 0)},
	} {
		if _, err := v.device.answer(c.request, c.body, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}

	packed := make([]byte, vsockHeader)
	vsockPacket{op: vsockData, data: []byte("x")}.encode(packed) // the host's addresses, and less than it says
	for name, b := range map[string][]byte{"short": packed[:vsockHeader-1], "the host's own": packed} {
		if _, ok := decodeVsock(b); ok {
			t.Errorf("%s: understood", name)
		}
	}
}
