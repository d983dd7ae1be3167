//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rockpool/rootvm/vm"
)

// TestBuild_SameBytes builds again without the cache of the layers and, unless
// with -short, without that of the root file system; every artifact must have
// the digest it had.
func TestBuild_SameBytes(t *testing.T) {
	primary.mage(t, "rootvm:build")
	before := readManifest(t, "trixie")
	cache := t.TempDir()
	if testing.Short() {
		shareCache(t, cache, rootfsResults)
	} else {
		shareCache(t, cache)
	}

	build := builds.with("FORCE=1", "ROCKPOOL_CACHE="+cache)
	build.mage(t, "rootvm:build")
	after := readManifest(t, "trixie")
	for _, a := range before.Artifacts {
		if b, ok := after.Artifact(a.Format); !ok || b.SHA256 != a.SHA256 {
			t.Errorf("%s: digest %s, then %s", a.File, a.SHA256, b.SHA256)
		}
	}

	for _, s := range after.Steps {
		t.Logf("%7.2f s  %s", s.Seconds, s.Name)
	}
	check := exec.Command("sha256sum", "--check", "--quiet", "--ignore-missing", "SHA256SUMS")
	check.Dir = filepath.Join(checkout, "dist")
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("SHA256SUMS: %v: %s", err, out)
	}
}

// TestBuild_Killed kills a build, with every process of it, at several
// moments; the next build must work and leave the old image until it is done.
func TestBuild_Killed(t *testing.T) {
	takesLong(t)
	primary.mage(t, "rootvm:build")
	before := readManifest(t, "trixie")
	build := builds.with("FORCE=1")
	for _, stage := range []string{"Bootstrap the root file system", "seal", "Make the disk", "Pack as qcow2"} {
		killAt(t, build, "rootvm:build", stage)
		if m := readManifest(t, "trixie"); m.Artifacts[0].SHA256 != before.Artifacts[0].SHA256 {
			t.Errorf("killed at %q: the manifest names another image", stage)
		}
	}
	build.mage(t, "rootvm:build")
	if after := readManifest(t, "trixie"); after.Artifacts[0].SHA256 != before.Artifacts[0].SHA256 {
		t.Error("the build after the kills differs")
	}
	left, err := filepath.Glob(filepath.Join(cacheDir(t), "work", "*", "root"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// killAt starts a build and sends SIGKILL to its process group when it says
// that it has come to stage.
func killAt(t *testing.T, i *instance, target, stage string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, mageBin, target)
	cmd.Dir, cmd.Env = checkout, i.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}

	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	w.Close()
	var said strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(said.String(), stage) {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("the build ended before %q:\n%s", stage, said.String())
		}
		said.Write(buf[:n])
	}

	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Logf("killed at %q", stage)
}

// TestBuild_BadSettings expects every fault in one message.
func TestBuild_BadSettings(t *testing.T) {
	bad := builds.with("SUITE=sid", "DISK_SIZE=1M", "FORMATS=vhd")
	bad.fails(t, []string{"SUITE", "DISK_SIZE", "FORMATS"}, "rootvm:build")
}

// TestDown_KeepsData stops the VM, starts it with another image, and finds all
// that is the user's again.
func TestDown_KeepsData(t *testing.T) {
	primary.up(t)
	password, hostKey := primary.password(t), primary.sh(t, "cat /etc/ssh/ssh_host_ed25519_key.pub")
	primary.sh(t, "echo kept | sudo tee /opt/rockpool/over-the-update; echo gone | sudo tee /root/on-the-root-disk")
	before := primary.status(t).ImageSHA256
	primary.env = []string{"DISK_SIZE=5G"} // another image, made of the same layers
	defer func() { primary.env = nil }()
	primary.mage(t, "rootvm:build")

	if out := primary.mage(t, "down"); !strings.Contains(out, "stopped") {
		t.Errorf("down said %q", out)
	}
	if _, err := os.Stat(filepath.Join(primary.dir(), "state.json")); err != nil {
		t.Error(err)
	}
	if state := primary.status(t); state.Status != vm.Stopped || state.On() {
		t.Errorf("state = %s", state.Status)
	}
	primary.mage(t, "down") // again

	primary.mage(t, "up")
	if after := primary.status(t).ImageSHA256; after == before || after == "" {
		t.Errorf("image = %s, was %s", after, before)
	}
	out := primary.sh(t, "sudo cat /opt/rockpool/over-the-update; sudo test ! -e /root/on-the-root-disk")
	if out != "kept" {
		t.Errorf("the data disk says %q", out)
	}
	if primary.password(t) != password {
		t.Error("the dashboard's password changed")
	}
	if primary.sh(t, "cat /etc/ssh/ssh_host_ed25519_key.pub") != hostKey {
		t.Error("the SSH host key changed")
	}
}

// rootfsResults are the root file systems in the store of a cache.
const rootfsResults = "store/rootfs-*"

// shareCache gives a new cache directory the downloads and programs of the
// tests' cache, and of what else it has built the results at the patterns.
func shareCache(t testing.TB, dir string, built ...string) {
	t.Helper()
	copyCached(t, dir, "debs", "--link") // the user's own, and never changed in its place
	for _, pattern := range append([]string{"npm", "packer", "bin", "store/tools", "store/npm", "store/packer"}, built...) {
		found, err := filepath.Glob(filepath.Join(cacheDir(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			part, err := filepath.Rel(cacheDir(t), path)
			if err != nil {
				t.Fatal(err)
			}
			copyCached(t, dir, part, "--reflink=auto")
		}
	}
}

func copyCached(t testing.TB, dir, part, how string) {
	t.Helper()
	from, to := filepath.Join(cacheDir(t), part), filepath.Join(dir, part)
	if _, err := os.Stat(from); err != nil {
		return
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if exec.Command("cp", "-a", how, from, to).Run() == nil {
		return
	}
	_ = os.RemoveAll(to) // links do not lead to another file system
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy the cache: %v: %s", err, out)
	}
}

func cacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("ROCKPOOL_CACHE"); dir != "" {
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "rockpool-root-vm")
}
