package standin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of vhost-user (docs/interop/vhost-user.rst of QEMU), by which QEMU
// leaves the queues of a device to another process.
const (
	vhostGetFeatures         = 1
	vhostSetMemTable         = 5
	vhostSetVringNum         = 8
	vhostSetVringAddr        = 9
	vhostSetVringBase        = 10
	vhostGetVringBase        = 11
	vhostSetVringKick        = 12
	vhostSetVringCall        = 13
	vhostGetProtocolFeatures = 15
	vhostGetConfig           = 24

	vhostVersion = 1
	vhostReply   = 1 << 2
	vhostNoFD    = 1 << 8 // of a vring's number: no file comes with it

	featureProtocol = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featureVersion1 = 1 << 32 // VIRTIO_F_VERSION_1
	protocolConfig  = 1 << 9  // VHOST_USER_PROTOCOL_F_CONFIG

	// maxVhost bounds a message, and maxVhostFiles the files with it.
	maxVhost      = 4 << 10
	maxVhostFiles = 8
)

// vhostDevice is a device of QEMU's whose queues this process serves.
type vhostDevice struct {
	config []byte // the device's configuration, as the guest reads it
	queues []*queue

	mu     sync.Mutex
	memory []region
}

// region is a part of the guest's memory.
type region struct {
	guest, user uint64 // its address in the guest, and in QEMU
	bytes       []byte
}

// find are the bytes at an address.
func (d *vhostDevice) find(at, size uint64, address func(region) uint64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.memory {
		if start := address(r); at >= start && at-start <= uint64(len(r.bytes)) && size <= uint64(len(r.bytes))-(at-start) {
			return r.bytes[at-start:][:size:size], nil
		}
	}
	return nil, fmt.Errorf("%d bytes at %#x are not in the guest's memory", size, at)
}

func inGuest(r region) uint64 { return r.guest }
func inQEMU(r region) uint64  { return r.user }

// serve answers QEMU until it ends.
func (d *vhostDevice) serve(conn *net.UnixConn) error {
	for {
		request, body, files, err := readVhost(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var answer []byte
		if err == nil {
			answer, err = d.answer(request, body, files)
		}
		if err == nil && answer != nil {
			head := binary.LittleEndian.AppendUint32(nil, request)
			head = binary.LittleEndian.AppendUint32(head, vhostVersion|vhostReply)
			head = binary.LittleEndian.AppendUint32(head, uint32(len(answer)))
			_, err = conn.Write(append(head, answer...))
		}
		if err != nil {
			return fmt.Errorf("vhost-user, request %d: %w", request, err)
		}
	}
}

// readVhost reads a message, whose files come with its first byte.
func readVhost(conn *net.UnixConn) (request uint32, body []byte, files []*os.File, err error) {
	head, control := make([]byte, 12), make([]byte, unix.CmsgSpace(4*maxVhostFiles))
	n, controls, _, _, err := conn.ReadMsgUnix(head, control)
	if err != nil || n == 0 {
		return 0, nil, nil, errors.Join(err, io.EOF)
	}
	if files, err = vhostFiles(control[:controls]); err != nil {
		return 0, nil, nil, err
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return 0, nil, nil, err
	}
	size := binary.LittleEndian.Uint32(head[8:])
	if size > maxVhost {
		return 0, nil, nil, fmt.Errorf("a message of %d bytes", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(conn, body)
	return binary.LittleEndian.Uint32(head), body, files, err
}

func vhostFiles(control []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			if err := unix.SetNonblock(fd, true); err != nil { // so that a wait for it can be ended
				return nil, err
			}
			files = append(files, os.NewFile(uintptr(fd), "vhost"))
		}
	}
	return files, nil
}

func (d *vhostDevice) answer(request uint32, body []byte, files []*os.File) (answer []byte, err error) {
	order := binary.LittleEndian
	switch request {
	case vhostGetFeatures:
		return order.AppendUint64(nil, featureProtocol|featureVersion1), nil
	case vhostGetProtocolFeatures:
		return order.AppendUint64(nil, protocolConfig), nil
	case vhostSetMemTable:
		return nil, d.setMemory(body, files)
	case vhostGetConfig:
		const head = 12 // offset, size, flags
		if len(body) < head || int(order.Uint32(body)) > len(d.config) {
			return nil, errors.New("it asks for another configuration")
		}
		copy(body[head:], d.config[order.Uint32(body):])
		return body, nil
	case vhostSetVringNum, vhostSetVringAddr, vhostSetVringBase, vhostGetVringBase, vhostSetVringKick, vhostSetVringCall:
	default:
		return nil, nil // settings that say nothing to this device
	}

	if len(body) < 8 {
		return nil, errors.New("it names no queue")
	}
	number := order.Uint32(body) & (vhostNoFD - 1)
	if int(number) >= len(d.queues) {
		return nil, fmt.Errorf("there is no queue %d", number)
	}
	q := d.queues[number]
	switch request {
	case vhostSetVringNum:
		q.size = uint16(order.Uint32(body[4:]))
	case vhostSetVringAddr:
		return nil, q.place(body)
	case vhostSetVringBase:
		q.next = uint16(order.Uint32(body[4:]))
	case vhostSetVringCall:
		q.setCall(files)
	case vhostSetVringKick:
		if len(files) == 1 {
			q.start(files[0])
		}
	case vhostGetVringBase:
		next := q.stop()
		return order.AppendUint32(order.AppendUint32(nil, number), uint32(next)), nil
	}
	return nil, nil
}

// setMemory maps the guest's memory. What was mapped before stays: it is the
// same memory, and a queue may still be looking at it.
func (d *vhostDevice) setMemory(body []byte, files []*os.File) error {
	order := binary.LittleEndian
	const head, each = 8, 32
	if len(body) < head || len(body) < head+each*len(files) || int(order.Uint32(body)) != len(files) {
		return fmt.Errorf("%d bytes tell of %d files", len(body), len(files))
	}
	var memory []region
	for i, file := range files {
		entry := body[head+each*i:]
		size, offset := order.Uint64(entry[8:]), order.Uint64(entry[24:])
		mapped, err := unix.Mmap(int(file.Fd()), int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("map the guest's memory: %w", err)
		}
		memory = append(memory, region{order.Uint64(entry), order.Uint64(entry[16:]), mapped})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory = memory
	return nil
}

// queue is a split virtqueue (virtio 1.2, 2.7): the guest puts chains of buffers
// into the available ring, the device gives them back in the used ring.
type queue struct {
	device *vhostDevice
	kicked func() // called whenever the guest has put something in

	size uint16
	next uint16 // of the available ring

	descriptors, available, used []byte // in the guest's memory

	mu      sync.Mutex
	kick    *os.File // nil: the queue is off
	call    *os.File
	waiting sync.WaitGroup
}

// place finds the rings, by their addresses in QEMU.
func (q *queue) place(body []byte) (err error) {
	order := binary.LittleEndian
	if len(body) < 32 || q.size == 0 {
		return errors.New("a queue without a size or a place")
	}
	n := uint64(q.size)
	if q.descriptors, err = q.device.find(order.Uint64(body[8:]), 16*n, inQEMU); err != nil {
		return err
	}
	if q.used, err = q.device.find(order.Uint64(body[16:]), 4+8*n, inQEMU); err != nil {
		return err
	}
	q.available, err = q.device.find(order.Uint64(body[24:]), 4+2*n, inQEMU)
	return err
}

// start waits for kicks until the queue is stopped.
func (q *queue) start(kick *os.File) {
	q.mu.Lock()
	q.kick = kick
	q.mu.Unlock()
	q.waiting.Go(func() {
		q.kicked() // for what was put in before
		for b := make([]byte, 8); ; q.kicked() {
			if _, err := kick.Read(b); err != nil {
				return
			}
		}
	})
}

// stop returns where in the available ring a next start goes on.
func (q *queue) stop() (next uint16) {
	q.mu.Lock()
	kick := q.kick
	q.kick = nil
	q.mu.Unlock()
	if kick != nil {
		_ = kick.Close()
		q.waiting.Wait()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.next
}

func (q *queue) setCall(files []*os.File) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.call != nil {
		_ = q.call.Close()
	}
	q.call = nil
	if len(files) == 1 {
		q.call = files[0]
	}
}

// ringIndex is the word of a ring's flags and index, which the other side reads
// and writes at the same time.
func ringIndex(ring []byte) *uint32 { return (*uint32)(unsafe.Pointer(&ring[0])) }

// take calls do with the next chain, and gives it back with as many bytes as do
// says it has written. It reports whether there was one, and do took it.
func (q *queue) take(do func(read, write [][]byte) (written int, taken bool)) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.kick == nil || uint16(atomic.LoadUint32(ringIndex(q.available))>>16) == q.next {
		return false
	}
	order := binary.LittleEndian
	head := order.Uint16(q.available[4+2*(q.next%q.size):])
	read, write, err := q.chain(head)
	if err != nil {
		return false // a guest that is broken gets no answer
	}
	written, taken := do(read, write)
	if !taken {
		return false
	}

	q.next++
	index := uint16(atomic.LoadUint32(ringIndex(q.used)) >> 16)
	entry := q.used[4+8*(index%q.size):]
	order.PutUint32(entry, uint32(head))
	order.PutUint32(entry[4:], uint32(written))
	atomic.StoreUint32(ringIndex(q.used), uint32(index+1)<<16)
	if q.call != nil {
		_, _ = q.call.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// chain are the buffers that begin with a descriptor.
func (q *queue) chain(head uint16) (read, write [][]byte, err error) {
	const more, writable = 1, 2
	order := binary.LittleEndian
	for i, at := uint16(0), head; i < q.size && at < q.size; i++ {
		d := q.descriptors[16*int(at):]
		b, err := q.device.find(order.Uint64(d), uint64(order.Uint32(d[8:])), inGuest)
		if err != nil {
			return nil, nil, err
		}
		flags := order.Uint16(d[12:])
		if flags&writable != 0 {
			write = append(write, b)
		} else {
			read = append(read, b)
		}
		if flags&more == 0 {
			return read, write, nil
		}
		at = order.Uint16(d[14:])
	}
	return nil, nil, errors.New("a chain without an end")
}
