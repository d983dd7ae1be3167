package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// qemu is a VM's disk, booted.
type qemu struct {
	dir     string // of its sockets and of the firmware's variables
	process *exec.Cmd
	share   *exec.Cmd // nil: nothing is shared
	ended   chan error

	mu  sync.Mutex
	qmp net.Conn
}

// startQEMU boots the VM with the devices that Virtualization.framework gives,
// as far as QEMU has them for this machine's own architecture: what config.json
// says of the architecture is not looked at.
func (p program) startQEMU(o options, _ string) (m machine, err error) {
	q := &qemu{ended: make(chan error, 2)}
	if q.dir, err = os.MkdirTemp("", "tart-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			q.cutPower()
			q.cleanUp()
		}
	}()

	vsock := newVsock()
	device, err := net.Listen("unix", filepath.Join(q.dir, "vsock"))
	if err != nil {
		return nil, err
	}
	go func() {
		defer device.Close()
		if conn, err := device.Accept(); err == nil {
			if err := vsock.device.serve(conn.(*net.UnixConn)); err != nil {
				fmt.Fprintln(p.err, "vsock:", err)
			}
		}
	}()

	if err := q.startShare(p, o); err != nil {
		return nil, err
	}
	if err := q.start(p, o); err != nil {
		return nil, err
	}
	control, err := listenControl(o.dir)
	if err != nil {
		return nil, err
	}
	go serveEach(control, func(conn net.Conn) { vsock.join(conn, guest.StreamPort) })
	return q, nil
}

// start starts QEMU and connects to its monitor.
func (q *qemu) start(p program, o options) error {
	var argv []string
	if err := json.Unmarshal([]byte(p.env(QEMUVariable)), &argv); err != nil || len(argv) == 0 {
		return fmt.Errorf("%s is no list of a program and its arguments: %w", QEMUVariable, err)
	}
	code, variables, found := strings.Cut(p.env(FirmwareVariable), ":")
	if !found {
		return fmt.Errorf("%s does not name two files", FirmwareVariable)
	}
	// Tart's own are in a form that this firmware does not know, and hold nothing.
	b, err := os.ReadFile(variables)
	if err == nil {
		variables = filepath.Join(q.dir, "variables")
		err = os.WriteFile(variables, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	s, err := readSettings(o.dir)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(o.serial, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	defer console.Close()

	argv = append(argv, q.arguments(o, s, code, variables)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = console, console, p.err
	if err := startBound(cmd); err != nil {
		return fmt.Errorf("QEMU: %w", err)
	}
	q.process = cmd
	go func() {
		err := cmd.Wait()
		q.cleanUp()
		q.ended <- err
	}()
	return q.connect()
}

// arguments are those of QEMU.
func (q *qemu) arguments(o options, s settings, code, variables string) []string {
	megabytes := fmt.Sprintf("%dM", s.number("memorySize")>>20)
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,memory-backend=mem,pflash0=code,pflash1=variables",
		"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max",
		"-smp", fmt.Sprint(s.number("cpuCount")), "-m", megabytes,
		"-object", "memory-backend-memfd,id=mem,share=on,size=" + megabytes,
		"-blockdev", blockdev("code", code, true), "-blockdev", blockdev("variables", variables, false),
		"-qmp", "unix:" + filepath.Join(q.dir, "qmp") + ",server=on,wait=off",
		"-chardev", "stdio,id=console,signal=off", "-chardev", "null,id=version",
		"-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console",
		"-device", "virtserialport,chardev=version,name=tart-version-" + Version,
		"-netdev", "user,id=net" + forwards(natAddress(o.dir)), "-device", "virtio-net-pci,netdev=net,romfile=",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
		"-chardev", "socket,id=vsock,path=" + filepath.Join(q.dir, "vsock"), "-device", "vhost-user-vsock-pci,chardev=vsock",
	}
	for i, d := range append([]disk{{path: filepath.Join(o.dir, "disk.img")}}, o.disks...) {
		name := fmt.Sprintf("disk%d", i)
		args = append(args, "-blockdev", blockdev(name, d.path, d.readOnly), "-device", "virtio-blk-pci,drive="+name)
	}
	for tag := range o.shares { // one at most
		args = append(args, "-chardev", "socket,id=share,path="+filepath.Join(q.dir, "share"), "-device", "vhost-user-fs-pci,chardev=share,tag="+tag)
	}
	return args
}

// blockdev is a raw file as QEMU takes it.
func blockdev(name, path string, readOnly bool) string {
	b, _ := json.Marshal(map[string]any{ // strings and truths: there is nothing to fail
		"node-name": name, "driver": "raw", "read-only": readOnly,
		"file": map[string]any{"driver": "file", "filename": path, "read-only": readOnly},
	})
	return string(b)
}

// forwards show the guest's ports at its address on the NAT.
func forwards(address string) (options string) {
	for _, port := range guest.StreamPorts() {
		options += fmt.Sprintf(",hostfwd=tcp:%s:%d-:%d", address, port, port)
	}
	return options
}

// startShare starts virtiofsd. The automount share has folders in it, which here
// is the directory above the shared one: that has to have the folder's name.
func (q *qemu) startShare(p program, o options) error {
	if len(o.shares) == 0 {
		return nil
	}
	var argv []string
	if err := json.Unmarshal([]byte(p.env(VirtiofsdVariable)), &argv); err != nil || len(argv) == 0 || len(o.shares) > 1 {
		return fmt.Errorf("%s is no list of a program and its arguments, or there are several shares: %w", VirtiofsdVariable, err)
	}
	for tag, dir := range o.shares {
		if tag == automountTag {
			folder, path, _ := strings.Cut(dir, "=")
			if filepath.Base(path) != folder {
				return fmt.Errorf("the stand-in cannot share %s as %s", path, folder)
			}
			dir = filepath.Dir(path)
		}
		socket := filepath.Join(q.dir, "share")
		argv = append(argv, "--socket-path="+socket, "--shared-dir="+dir, "--sandbox=none", "--announce-submounts")
		q.share = exec.Command(argv[0], argv[1:]...)
		q.share.Stderr = p.err
		if err := startBound(q.share); err != nil {
			return fmt.Errorf("virtiofsd: %w", err)
		}
		go q.share.Wait()
		return awaitFile(socket)
	}
	return nil
}

// startBound starts a process that ends with this one, which holds the thread
// that started it.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never gives the thread back
		started <- cmd.Start()
		select {}
	}()
	return <-started
}

// startTime is how long QEMU and virtiofsd may take to listen.
const startTime = 30 * time.Second

func awaitFile(path string) error {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not come", path)
}

// connect connects to QEMU's monitor, and drops what it says.
func (q *qemu) connect() error {
	path := filepath.Join(q.dir, "qmp")
	if err := awaitFile(path); err != nil {
		return err
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	q.qmp = conn
	go io.Copy(io.Discard, conn)
	return q.say("qmp_capabilities")
}

// say gives QEMU a command.
func (q *qemu) say(command string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.qmp == nil {
		return errors.New("QEMU is not there")
	}
	return json.NewEncoder(q.qmp).Encode(map[string]string{"execute": command})
}

func (q *qemu) powerButton() { _ = q.say("system_powerdown") }

func (q *qemu) cutPower() {
	if q.process != nil {
		_ = q.process.Process.Kill()
	}
}

func (q *qemu) cleanUp() {
	if q.share != nil {
		_ = q.share.Process.Kill()
	}
	_ = os.RemoveAll(q.dir)
}

func (q *qemu) off() <-chan error { return q.ended }
