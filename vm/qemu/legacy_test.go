package qemu_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// The files of an instance as revision 0c24eb6 wrote them, when the supervisor
// was a program of its own in the cache. Words in capitals are replaced.
const (
	legacyInstance = `{
  "name": "one",
  "architecture": "amd64",
  "memory": 1073741824,
  "cpus": 1,
  "ports": {
    "ssh": 0,
    "dashboard": DASHBOARD,
    "ide": 0,
    "preview": 0
  },
  "shareDir": "SHARE",
  "share": "auto",
  "boot": "kernel",
  "accel": "tcg",
  "image": {
    "disk": "IMAGES/image.qcow2",
    "sha256": "",
    "kernel": "IMAGES/vmlinuz",
    "initrd": "IMAGES/initrd",
    "commandLine": "root=UUID=u"
  },
  "dataSize": 1073741824,
  "hostname": "one",
  "credentials": {
    "username": "admin"
  }
}
`
	legacyPlan = `{
  "accel": "tcg",
  "share": "virtiofs",
  "boot": "kernel",
  "processes": [
    {
      "name": "virtiofsd",
      "argv": [
        "SELF",
        "as-virtiofsd",
        "--fd",
        "3",
        "--shared-dir",
        "SHARE",
        "--tag",
        "rockpool",
        "--sandbox",
        "namespace",
        "--cache",
        "auto",
        "--xattr",
        "--log-level",
        "info",
        "--translate-uid",
        "squash-guest:0:0:4294967295",
        "--translate-uid",
        "host:0:1000:1",
        "--translate-gid",
        "squash-guest:0:0:4294967295",
        "--translate-gid",
        "host:0:1000:1"
      ],
      "env": [
        "STUB="
      ]
    },
    {
      "name": "qemu",
      "argv": [
        "SELF",
        "as-qemu",
        "-name",
        "guest=one,debug-threads=on",
        "-nodefaults",
        "-machine",
        "q35,graphics=off,memory-backend=mem",
        "-accel",
        "tcg,thread=multi,tb-size=1024"
      ],
      "env": [
        "STUB="
      ]
    }
  ]
}
`
	legacyDriver = `{
  "name": "qemu",
  "settings": {
    "programs": {
      "qemu": [
        "SELF",
        "as-qemu"
      ],
      "qemuImg": [
        "SELF",
        "as-qemu-img"
      ],
      "virtiofsd": [
        "SELF",
        "as-virtiofsd"
      ],
      "env": [
        "STUB="
      ]
    },
    "cache": "IMAGES/cache"
  }
}
`
	legacyReady = `{
  "name": "one",
  "status": "ready",
  "driver": "qemu",
  "supervisor": {
    "name": "supervisor",
    "pid": 4194304,
    "startTime": 188201,
    "bootID": "BOOTID"
  },
  "processes": [
    {
      "name": "qemu",
      "pid": QEMUPID,
      "startTime": QEMUSTART,
      "bootID": "BOOTID"
    },
    {
      "name": "virtiofsd",
      "pid": VIRTIOFSDPID,
      "startTime": VIRTIOFSDSTART,
      "bootID": "BOOTID"
    }
  ],
  "startedAt": "2026-11-27T22:32:50.741056193Z",
  "accel": "tcg",
  "share": "virtiofs",
  "boot": "kernel",
  "memory": 1073741824,
  "cpus": 1,
  "ports": {
    "ssh": 0,
    "dashboard": DASHBOARD,
    "ide": 0,
    "preview": 0
  },
  "phases": [
    {
      "name": "kernel",
      "seconds": 0.1
    },
    {
      "name": "ssh",
      "seconds": 0.2
    }
  ],
  "readyAfter": 0.3,
  "agentVersion": "v1"
}
`
	legacyStopped = `{
  "name": "one",
  "status": "stopped",
  "driver": "qemu",
  "startedAt": "2026-11-27T22:32:50.741056193Z",
  "stoppedAt": "2026-11-27T22:32:51.770989102Z",
  "accel": "tcg",
  "share": "virtiofs",
  "boot": "kernel",
  "memory": 1073741824,
  "cpus": 1,
  "ports": {
    "ssh": 0,
    "dashboard": DASHBOARD,
    "ide": 0,
    "preview": 0
  },
  "phases": [
    {
      "name": "kernel",
      "seconds": 0.1
    },
    {
      "name": "ssh",
      "seconds": 0.2
    }
  ],
  "readyAfter": 0.3,
  "agentVersion": "v1",
  "lastStop": "power button"
}
`
	legacyRoot = `{
  "base": "DIR/base.qcow2",
  "source": "IMAGES/image.qcow2",
  "sha256": "SHA256",
  "size": SIZE,
  "modified": "MODIFIED",
  "diskSize": 0
}
`
)

// legacy is an instance that earlier code made.
type legacy struct {
	*fixture
	words []string // to replace, and by what
}

func newLegacy(t *testing.T) *legacy {
	t.Helper()
	l := &legacy{fixture: newFixture(t, "")}
	if err := os.MkdirAll(l.path(""), 0o700); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(l.cfg.Image.Disk)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(l.cfg.Image.Disk)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(image)
	l.words = []string{
		"DIR", strings.TrimSuffix(l.path(""), "/"), "IMAGES", filepath.Dir(l.cfg.Image.Disk), "SHARE", l.cfg.ShareDir, "SELF", self,
		"DASHBOARD", strconv.Itoa(l.cfg.Ports.Dashboard), "BOOTID", vm.BootID(),
		"SHA256", hex.EncodeToString(sum[:]), "SIZE", strconv.Itoa(len(image)), "MODIFIED", info.ModTime().Format(time.RFC3339Nano),
	}

	l.write("instance.json", legacyInstance)
	l.write("plan.json", legacyPlan)
	l.write("driver.json", legacyDriver)
	l.write("root.json", legacyRoot)
	l.write("root.qcow2", "QFI\xfb overlay of then")
	l.write("data.raw", "data of then")
	if err := os.Truncate(l.path("data.raw"), vm.GiB); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(l.cfg.Image.Disk, l.path("base.qcow2")); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *legacy) write(name, content string) {
	l.t.Helper()
	if err := os.WriteFile(l.path(name), []byte(strings.NewReplacer(l.words...).Replace(content)), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *legacy) begins(name, want string) bool {
	l.t.Helper()
	f, err := os.Open(l.path(name))
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, len(want))
	f.Read(b)
	return string(b) == want
}

// run starts the machine of plan.json, as a supervisor that has died since did.
func (l *legacy) run() (qemu vm.Process) {
	l.t.Helper()
	var plan vm.Plan
	b, err := os.ReadFile(l.path("plan.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &plan); err != nil {
		l.t.Fatal(err)
	}
	listener, err := vm.ListenUnix(l.path(""), "virtiofsd.sock")
	if err != nil {
		l.t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		l.t.Fatal(err)
	}
	defer socket.Close()

	for _, c := range plan.Processes {
		cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
		cmd.Dir, cmd.Env = l.path(""), append(os.Environ(), c.Env...)
		if c.Name == "virtiofsd" {
			cmd.ExtraFiles = []*os.File{socket}
		}
		if err := cmd.Start(); err != nil {
			l.t.Fatal(err)
		}
		go cmd.Wait()
		p, err := vm.Identify(c.Name, cmd.Process.Pid)
		if err != nil {
			l.t.Fatal(err)
		}
		name := strings.ToUpper(c.Name)
		l.words = append(l.words, name+"PID", strconv.Itoa(p.PID), name+"START", strconv.FormatUint(p.StartTime, 10))
		qemu = p // the last
	}
	l.write("state.json", legacyReady)
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(l.path("channel.sock")); err == nil {
			return qemu
		}
		if time.Now().After(end) {
			l.t.Fatal("the machine does not come up")
		}
	}
}

func TestLegacy_running(t *testing.T) {
	l := newLegacy(t)
	qemu := l.run()
	l.host.Driver = nil // no verb but Start needs one
	state := l.status()
	if state.Status != vm.Ready || state.Processes[0] != qemu || !state.Supervisor.Alive() || len(state.Troubles) > 0 {
		t.Fatalf("not adopted: %+v", state)
	}

	// From here on the instance has a supervisor of its own.
	kill(t, state.Supervisor)
	l.host.Supervisor = nil
	var rungs []string
	stopped, err := l.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, func(p vm.Progress) { rungs = append(rungs, p.Note) })
	if err != nil || stopped.Status != vm.Stopped || stopped.LastStop != "power button" || qemu.Alive() {
		t.Errorf("%s by %q after %q, %v", stopped.Status, stopped.LastStop, rungs, err)
	}
}

func TestLegacy_stop(t *testing.T) {
	l := newLegacy(t)
	qemu := l.run()
	stopped, err := l.host.Stop(t.Context(), "one", vm.StopOptions{Timeout: limit}, nil)
	if err != nil || stopped.Status != vm.Stopped || stopped.LastStop != "power button" || qemu.Alive() {
		t.Errorf("%s by %q, %v", stopped.Status, stopped.LastStop, err)
	}
}

func TestLegacy_start(t *testing.T) {
	for _, changed := range []bool{false, true} {
		t.Run(map[bool]string{false: "the same image", true: "another image"}[changed], func(t *testing.T) {
			l := newLegacy(t)
			l.write("state.json", legacyStopped)
			if state := l.status(); state.Status != vm.Stopped || state.LastStop != "power button" {
				t.Errorf("status %+v", state)
			}
			if changed {
				if err := os.WriteFile(l.cfg.Image.Disk+".new", []byte("QFI\xfb another image"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(l.cfg.Image.Disk+".new", l.cfg.Image.Disk); err != nil {
					t.Fatal(err)
				}
			}

			var notes []string
			if _, err := l.host.Start(t.Context(), l.cfg, func(p vm.Progress) { notes = append(notes, p.Note) }); err != nil {
				t.Fatal(err)
			}
			l.ready()
			if kept := l.begins("root.qcow2", "QFI\xfb overlay of then"); kept == changed {
				t.Errorf("root disk kept: %v", kept)
			}
			if told := slices.Contains(notes, "the image changed: the root disk is made again, data stays"); told != changed {
				t.Errorf("notes %q", notes)
			}
			if !l.begins("data.raw", "data of then") {
				t.Error("the data disk is another")
			}
		})
	}
}

func TestLegacy_destroy(t *testing.T) { // by nothing but the registry of drivers
	l := newLegacy(t)
	qemu := l.run()
	host := vm.Host{Dir: l.host.Dir, Drivers: drivers}
	if err := host.Destroy(context.Background(), "one"); err != nil || qemu.Alive() {
		t.Errorf("%v, alive %v", err, qemu.Alive())
	}
}
