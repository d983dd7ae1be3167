package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Variables that say what guest a VM has.
const (
	// GuestVariable is one of the Guest constants; empty is GuestStub.
	GuestVariable = "STANDIN_GUEST"
	// QEMUVariable is a JSON list: the program and first arguments of QEMU.
	QEMUVariable = "STANDIN_QEMU"
	// FirmwareVariable is the UEFI firmware's code, and its variables, after a colon.
	FirmwareVariable = "STANDIN_FIRMWARE"
)

// Kinds of guests.
const (
	GuestStub      = "stub"       // speaks and obeys
	GuestDeaf      = "deaf"       // never speaks, and does not feel the power button
	GuestPanic     = "panic"      // its kernel dies on the console
	GuestNoControl = "no-control" // as on macOS 13: there is no control.sock
	GuestBroken    = "broken"     // cannot be run
	GuestQEMU      = "qemu"       // the VM's disk, booted
)

// Version is what the stand-in says it is.
const Version = "2.35.0"

// program is one run of the stand-in.
type program struct {
	home     string
	out, err io.Writer
	env      func(string) string
}

// Main runs the stand-in as `tart` is run and returns its exit code.
func Main(args []string, env func(string) string, out, errs io.Writer) int {
	p := program{home: env("TART_HOME"), out: out, err: errs, env: env}
	if len(args) == 0 || p.home == "" {
		fmt.Fprintln(errs, "Error: Missing expected argument")
		return 64
	}
	if args[0] == "--version" {
		fmt.Fprintln(out, Version)
		return 0
	}

	verbs := map[string]func([]string) error{
		"run": p.run, "stop": p.stop, "ip": p.ip, "get": p.get, "list": p.list,
		"set": p.set, "delete": p.remove,
	}
	verb := verbs[args[0]]
	if verb == nil {
		fmt.Fprintf(errs, "Error: Unexpected argument '%s'\n", args[0])
		return 64
	}
	if err := verb(args[1:]); err != nil {
		if code := exitCode(0); errors.As(err, &code) {
			return int(code)
		}
		fmt.Fprintf(errs, "Error: %v\n", err)
		return 1
	}
	return 0
}

// exitCode is the code that a command in the guest ended with.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func (p program) dir(name string) string { return filepath.Join(p.home, "vms", name) }

// find is the directory of a VM that there is: one that has its three files.
func (p program) find(args []string) (name, dir string, err error) {
	if len(args) == 0 {
		return "", "", errors.New("Missing expected argument '<name>'")
	}
	name, dir = args[0], p.dir(args[0])
	for _, file := range []string{"config.json", "disk.img", "nvram.bin"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return name, dir, fmt.Errorf("the specified VM %q does not exist", name)
		}
	}
	return name, dir, nil
}

// owner is the process that runs the VM in dir, by its lock on config.json, or 0.
func owner(dir string) int {
	f, err := os.OpenFile(filepath.Join(dir, "config.json"), os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock) != nil || lock.Type == unix.F_UNLCK {
		return 0
	}
	return int(lock.Pid)
}

func state(dir string) string {
	if owner(dir) > 0 {
		return "running"
	}
	return "stopped"
}

// settings are a VM's config.json, with what nobody here knows.
type settings map[string]any

func readSettings(dir string) (settings, error) {
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	var s settings
	return s, json.Unmarshal(b, &s)
}

func (s settings) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644)
}

func (s settings) number(key string) int64 {
	n, _ := s[key].(float64)
	return int64(n)
}

func (p program) get(args []string) error {
	_, dir, err := p.find(args)
	if err != nil {
		return err
	}
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(dir, "disk.img"))
	if err != nil {
		return err
	}
	const gigabyte = 1000 * 1000 * 1000
	return json.NewEncoder(p.out).Encode(map[string]any{
		"OS": s["os"], "CPU": s["cpuCount"], "Memory": s.number("memorySize") >> 20, "Disk": info.Size() / gigabyte,
		"DiskFormat": "raw", "Size": fmt.Sprintf("%.3f", float64(info.Size())/gigabyte), "Display": "1024x768",
		"Running": state(dir) == "running", "State": state(dir),
	})
}

func (p program) list([]string) error {
	found, err := filepath.Glob(p.dir("*"))
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, dir := range found {
		if name, _, err := p.find([]string{filepath.Base(dir)}); err == nil {
			list = append(list, map[string]any{"Source": "local", "Name": name, "State": state(dir), "Running": state(dir) == "running"})
		}
	}
	return json.NewEncoder(p.out).Encode(list)
}

func (p program) set(args []string) error {
	_, dir, err := p.find(args)
	if err != nil {
		return err
	}
	s, err := readSettings(dir)
	if err != nil {
		return err
	}

	for i := 1; i+1 < len(args); i += 2 {
		n, err := strconv.ParseInt(args[i+1], 10, 64)
		switch {
		case err != nil:
			return err
		case args[i] == "--cpu":
			s["cpuCount"] = float64(n)
		case args[i] == "--memory":
			s["memorySize"] = float64(n << 20)
		default:
			return fmt.Errorf("Unknown option '%s'", args[i])
		}
	}

	if s.number("cpuCount") < s.number("cpuCountMin") {
		return fmt.Errorf("VM's CPU count is less than %d", s.number("cpuCountMin"))
	}
	return s.write(dir)
}

func (p program) remove(args []string) error {
	name, dir, err := p.find(args)
	if err != nil {
		return err
	}
	if owner(dir) > 0 {
		return fmt.Errorf("VM %q is running", name)
	}
	return os.RemoveAll(dir)
}

// stop is a hard power-off, as `tart stop` is.
func (p program) stop(args []string) error {
	name, dir, err := p.find(args)
	if err != nil {
		return err
	}
	pid := owner(dir)
	if pid == 0 {
		return fmt.Errorf("VM %q is not running", name)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if owner(dir) == 0 {
			return nil
		}
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// ip is the guest's address on the NAT: one of this host's loopback, on which a
// booted guest's ports are.
func (p program) ip(args []string) error {
	name, dir, err := p.find(args)
	if err != nil {
		return err
	}
	if owner(dir) == 0 {
		return fmt.Errorf("VM %q is not running", name)
	}
	_, err = fmt.Fprintln(p.out, natAddress(dir))
	return err
}

// disk is a value of --disk.
type disk struct {
	path     string
	readOnly bool
	cached   bool
}

// options are those of `tart run` that are imitated.
type options struct {
	name, dir string
	serial    string
	disks     []disk
	shares    map[string]string // tag to directory; of the automount tag, folder=directory
}

// automountTag is that of shares without one (VZVirtioFileSystemDeviceConfiguration.macOSGuestAutomountTag).
const automountTag = "com.apple.virtio-fs.automount"

func (p program) parse(args []string) (o options, err error) {
	if o.name, o.dir, err = p.find(args); err != nil {
		return o, err
	}
	o.shares = map[string]string{}

	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "--no-graphics", "--no-audio", "--net-softnet", "--net-softnet-allow", "--net-softnet-expose":
		case "--serial-path":
			o.serial = value
		case "--disk":
			d, err := parseDisk(value)
			if err != nil {
				return o, err
			}
			o.disks = append(o.disks, d)
		case "--dir":
			if err := o.share(value); err != nil {
				return o, err
			}
		default:
			return o, fmt.Errorf("Unknown option '%s'", arg)
		}
	}
	return o, nil
}

func parseDisk(value string) (disk, error) {
	parts := strings.Split(value, ":")
	d := disk{path: parts[0]}
	for _, option := range parts[1:] {
		switch option {
		case "ro":
			d.readOnly = true
		case "caching=cached":
			d.cached = true
		default:
			return d, fmt.Errorf("disk %q has the unknown option %q", d.path, option)
		}
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return d, err
	}
	if info.Size()%512 != 0 {
		return d, errors.New("Invalid virtual machine configuration. The storage device attachment is invalid.")
	}
	return d, nil
}

func (o *options) share(value string) error {
	parts := strings.Split(value, ":")
	path, tag := parts[0], automountTag
	if len(parts) > 1 && !strings.HasPrefix(parts[1], "tag=") { // NAME:PATH
		path = parts[1]
		o.shares[tag] = parts[0] + "=" + path
	} else if len(parts) > 1 {
		tag = strings.TrimPrefix(parts[1], "tag=")
		o.shares[tag] = path
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return errors.New("Error Domain=VZErrorDomain Code=2 \"A directory sharing device configuration is invalid.\"")
	}
	return nil
}

// machine is a guest that runs.
type machine interface {
	powerButton()
	cutPower()
	off() <-chan error // gets one value when the guest is off
}

func (p program) run(args []string) error {
	o, err := p.parse(args)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(o.dir, "config.json"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("VM %q is already running", o.name)
	}

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGUSR2)
	start := map[string]func(options, string) (machine, error){
		"": p.startStub, GuestStub: p.startStub, GuestDeaf: p.startStub, GuestPanic: p.startStub, GuestNoControl: p.startStub, GuestQEMU: p.startQEMU,
	}[p.env(GuestVariable)]
	if start == nil {
		return errors.New("Failed to lock auxiliary storage.")
	}
	m, err := start(o, p.env(GuestVariable))
	if err != nil {
		return err
	}
	control := filepath.Join(o.dir, "control.sock")
	defer os.Remove(control)

	for {
		select {
		case s := <-signals:
			if s == syscall.SIGUSR2 {
				m.powerButton()
			} else {
				m.cutPower()
			}
		case err := <-m.off():
			return err
		}
	}
}
