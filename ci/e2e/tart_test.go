//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
	"github.com/rockpool/rootvm/builders/bootstrap"
	"github.com/rockpool/rootvm/builders/tart"
	"github.com/rockpool/rootvm/builders/toolchain"
	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/tart/standin"
)

// asTart has the test binary play Tart.
const asTart = "as-tart"

// TestTart_Up is a Mac's day, on the stand-in for Tart, which boots the disk of
// the Tart VM with the devices that Tart gives: up from the VM's directory, a
// workspace with its IDE, the shared project, down. The disk is this machine's
// own image: of the architecture the stand-in knows nothing.
func TestTart_Up(t *testing.T) {
	s := &standalone{t: t, home: t.TempDir(), program: filepath.Join(t.TempDir(), "rockpool")}
	compile := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", toolchain.Tags, "-o", s.program, "./cmd/rockpool")
	compile.Dir, compile.Env = checkout, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tools := testTools(t)
	s.env = []string{"ROCKPOOL_DRIVER=tart", "PATH=" + tartDirectory(t, tools) + ":/usr/bin:/bin:/usr/sbin:/sbin"}
	project := filepath.Join(s.home, "rockpool")
	if err := os.Mkdir(project, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(project, "hello.txt"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"supervisor.log", "tart.log", vm.SerialLog} {
				b, _ := os.ReadFile(filepath.Join(s.dir(), name))
				t.Logf("%s\n%s", name, indent(string(b)))
			}
		}
		s.try("vm", "destroy", "--yes=1")
	})
	s.run("up", "--image", tartVM(t, tools), "--ssh-port=9722", "--web-port=9780", "--memory=2G", "--cpus=2", "--data-size=8G",
		"--project", project, fmt.Sprintf("--wait=%d", int(readyLimit.Seconds())))
	if !healthy(9780) {
		t.Error("the dashboard is not healthy")
	}
	var state vm.State
	if err := json.Unmarshal([]byte(s.run("vm", "status", "--json")), &state); err != nil || state.Status != vm.Ready || state.Share != vm.ShareAutomount || len(state.Troubles) > 0 {
		t.Errorf("state %+v, %v", state, err)
	}

	// What Tart gives is what the guest found: the disks without serials, the
	// share under macOS's one tag, the host over vsock.
	seen := s.run("vm", "ssh", "--", `cat /mnt/rockpool/hello.txt; echo to the host | sudo tee /mnt/rockpool/answer.txt
		cat /sys/block/vd*/serial; findmnt -no SOURCE /mnt/rockpool; findmnt -no LABEL -T /opt/rockpool; systemctl is-active rockpool-streams`)
	if want := "from the host\nto the host\ncom.apple.virtio-fs.automount[/rockpool]\nrockpool-data\nactive\n"; seen != want {
		t.Errorf("the guest has\n%s\nwant\n%s", indent(seen), indent(want))
	}
	if b, err := os.ReadFile(filepath.Join(project, "answer.txt")); err != nil || string(b) != "to the host\n" {
		t.Errorf("the guest's file holds %q, %v", b, err)
	}

	i := &instance{name: "alone", web: 9780, secret: strings.TrimSpace(s.run("vm", "password"))}
	w := i.create(t, "tart")
	i.reach(t, w.ID, "running")
	ideTest(t, i, w)
	if out := s.run("ws", "list"); !strings.Contains(out, "tart") {
		t.Errorf("ws list: %q", out)
	}
	if out := s.run("vm", "ssh", "--", "systemctl --failed --no-legend --plain"); out != "" {
		t.Errorf("failed units: %q", out)
	}

	if out := s.run("down"); !strings.Contains(out, "asked the guest") || !strings.Contains(out, "alone is stopped") {
		t.Errorf("down: %q", out)
	}
	console, err := os.ReadFile(filepath.Join(s.dir(), vm.SerialLog))
	if err != nil || !strings.Contains(string(console), "reboot: Power down") {
		t.Errorf("the console does not tell of a clean end: %v", err)
	}
}

// testTools is the pinned tools tree.
func testTools(t *testing.T) *bootstrap.Tools {
	t.Helper()
	dir := os.Getenv("ROCKPOOL_TEST_TOOLS")
	if dir == "" {
		t.Fatal("ROCKPOOL_TEST_TOOLS does not lead to the tools tree: run the tests by `go tool mage e2e`")
	}
	return &bootstrap.Tools{Dir: dir}
}

// tartDirectory is a directory with the program tart: the stand-in, with QEMU.
func tartDirectory(t *testing.T, tools *bootstrap.Tools) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	list := func(name string, more ...string) string {
		argv, err := tools.Argv(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(append(argv, more...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var data []string
	for _, dir := range tools.QEMUData() {
		data = append(data, "-L", dir)
	}
	variables := append(tools.Env(),
		standin.GuestVariable+"="+standin.GuestQEMU,
		standin.QEMUVariable+"="+list("qemu-system-x86_64", data...),
		standin.VirtiofsdVariable+"="+list("virtiofsd"),
		standin.FirmwareVariable+"="+tools.Path("usr/share/OVMF/OVMF_CODE_4M.fd")+":"+tools.Path("usr/share/OVMF/OVMF_VARS_4M.fd"),
	)
	script := "#!/bin/sh\nexec env"
	for _, v := range append(variables, self, asTart) {
		script += " '" + v + "'"
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tart"), []byte(script+` "$@"`+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tartVM makes a Tart VM of the image in dist/.
func tartVM(t *testing.T, tools *bootstrap.Tools) string {
	t.Helper()
	dir := t.TempDir()
	raw, path := filepath.Join(dir, "raw"), filepath.Join(dir, "rockpool.tart")
	spec := builders.Spec{Architecture: builders.TartArchitecture, SourceDateEpoch: 1}
	spec.FillDefaults()
	if err := os.WriteFile(raw, make([]byte, 512), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tart.New(spec, raw).WriteDirectory(t.Context(), path); err != nil {
		t.Fatal(err)
	}

	convert := tools.Command(t.Context(), "qemu-img", "convert", "-O", "raw", filepath.Join(checkout, "dist", defaultImage(t)), filepath.Join(path, "disk.img"))
	if out, err := convert.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
