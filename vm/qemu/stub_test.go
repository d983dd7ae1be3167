package qemu_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/qemu"
)

// TestMain lets the test binary play the programs that the driver runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "as-qemu":
			os.Exit(stubQEMU(os.Getenv("STUB")))
		case "as-qemu-img":
			os.Exit(stubImg(os.Args[2:]))
		case "as-virtiofsd":
			os.Exit(stubVirtiofsd())
		case "as-supervisor":
			os.Exit(stubSupervisor(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// drivers are those of the host program.
var drivers = vm.Drivers{"qemu": func() vm.Driver { return new(qemu.Driver) }}

// mageCommand is how the targets' users call a verb.
func mageCommand(verb ...string) string { return "go tool mage " + strings.Join(verb, ":") }

// stubSupervisor is `rockpool supervise`.
func stubSupervisor(args []string) int {
	err := vm.Supervise(context.Background(), args[1], vm.SuperviseOptions{
		Drivers: drivers,
		Launch:  args[0] == "launch", Ready: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// stubImg is a qemu-img that finds every file in order whose first bytes are
// not "bad", and whose create writes a file.
func stubImg(args []string) int {
	switch args[0] {
	case "check":
		b, err := os.ReadFile(args[len(args)-1])
		if err != nil || strings.HasPrefix(string(b), "bad") {
			fmt.Println("qemu-img: Could not open: Image is not in qcow2 format")
			return 1
		}
	case "create":
		for _, arg := range args {
			if strings.HasSuffix(arg, ".new") {
				os.WriteFile(arg, []byte("QFI\xfb overlay"), 0o600)
			}
		}
	}
	return 0
}

func stubVirtiofsd() int {
	fmt.Fprintln(os.Stderr, "[INFO  virtiofsd] Waiting for vhost-user socket connection...")
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return 1
	}
	conn, err := l.Accept()
	if err != nil {
		return 1
	}
	io.Copy(io.Discard, conn) // until the stub of QEMU ends
	return 0
}

// stubQEMU speaks QMP and the guest's channel in the working directory. mode
// makes it fail: "deaf" ignores the guest's channel and the power button,
// "deaf-qmp" also quit, "broken" does not start, "panic" writes a panic to the
// serial log, "crash" ends before the guest speaks, "crash-once" only the first
// time, "stall-once" hangs the first time before the guest speaks, "late" answers nobody until there is a file called now.
func stubQEMU(mode string) int {
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "qemu-system-x86_64: this is broken")
		return 1
	}
	if _, err := os.Stat("crashed"); strings.HasSuffix(mode, "-once") && err == nil {
		mode = ""
	}
	for end := time.Now().Add(limit); mode == "late" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat("now"); err == nil {
			break
		}
	}
	s := &stub{mode: mode, end: make(chan struct{})}
	if share, err := net.Dial("unix", "virtiofsd.sock"); err == nil {
		defer share.Close()
	}
	for name, serve := range map[string]func(net.Conn){"qmp.sock": s.qmp, "channel.sock": s.channel} {
		l, err := net.Listen("unix", name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serve(conn) // one client at a time, as QEMU does
			}
		}()
	}
	if mode == "panic" {
		os.WriteFile("serial.log", []byte("[    1.0] Kernel panic - not syncing: Attempted to kill init!\n[    1.1] last words\n"), 0o600)
	}
	if mode == "stall-once" {
		os.WriteFile("crashed", nil, 0o600)
		os.WriteFile("serial.log", []byte("[   24.4] rcu: rcu_preempt kthread timer wakeup didn't happen for 5243 jiffies! g-1071\n"), 0o600)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	select {
	case <-s.end:
	case <-term:
	case <-time.After(time.Minute): // nothing is left behind by a failed test
	}
	return 0
}

type stub struct {
	mode string
	end  chan struct{}
}

func (s *stub) qmp(conn net.Conn) {
	defer conn.Close()
	say := func(line string) { fmt.Fprintln(conn, line) }
	say(`{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}}, "capabilities": []}}`)
	in := json.NewDecoder(bufio.NewReader(conn))
	for {
		var c struct {
			Execute string `json:"execute"`
			ID      int64  `json:"id"`
		}
		if in.Decode(&c) != nil {
			return
		}
		if s.mode == "deaf-qmp" && c.Execute == "quit" {
			continue
		}
		say(fmt.Sprintf(`{"return": {}, "id": %d}`, c.ID))
		switch {
		case c.Execute == "quit" || c.Execute == "system_powerdown" && !strings.HasPrefix(s.mode, "deaf"):
			say(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}`)
			close(s.end)
			return
		case c.Execute == "device_del":
			say(`{"event": "DEVICE_DELETED", "data": {"device": "share", "path": "/machine/peripheral/share"}}`)
		case c.Execute == "device_add":
			net.Dial("unix", "virtiofsd.sock")
		}
	}
}

func (s *stub) channel(conn net.Conn) {
	defer conn.Close()
	if strings.HasPrefix(s.mode, "deaf") || s.mode == "panic" || s.mode == "stall-once" {
		io.Copy(io.Discard, conn)
		return
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		switch lines.Text() {
		case `{"request":"status"}`:
			if strings.HasPrefix(s.mode, "crash") {
				os.WriteFile("crashed", nil, 0o600)
				fmt.Fprintln(os.Stderr, "qemu-system-x86_64: warning: nothing to see here\nqemu-system-x86_64: physmem.c:1: Assertion `x' failed.")
				os.Exit(134)
			}
			fmt.Fprintln(conn, `{"event":"phase","phase":"kernel","seconds":0.1}`)
			fmt.Fprintln(conn, `not JSON`)
			fmt.Fprintln(conn, `{"event":"phase","phase":"ssh","seconds":0.2}`)
			if s.mode == "unit" {
				fmt.Fprintln(conn, `{"event":"failed","unit":"rockpool-agent.service","message":"no database"}`)
				continue
			}
			fmt.Fprintln(conn, `{"event":"ready","seconds":0.3,"version":"v1"}`)
		case `{"request":"shutdown"}`:
			fmt.Fprintln(conn, `{"event":"stopped"}`)
		}
	}
}
