package setup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/rockpool/rootvm/guest"
)

// guest is a machine in a directory: sysfs and /etc as files, disks as
// sparse files, and a kernel that writes down what it was asked.
type machine struct {
	t        *testing.T
	root     string
	calls    []string
	chowns   map[string]string
	fail     map[string]error // by the first word of a call
	disks    map[string]func(target string) error
	commands Commands
}

func newGuest(t *testing.T) *machine {
	g := &machine{t: t, root: t.TempDir(), chowns: map[string]string{}, fail: map[string]error{}, disks: map[string]func(string) error{}, commands: Exec{}}
	for _, d := range []string{"sys/block", "dev", "proc/self", "etc/ssh", "run", "opt", "var/lib", "home/admin/sub", "home/rockpool"} {
		must(t, os.MkdirAll(filepath.Join(g.root, d), 0o755))
	}
	g.write("etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nadmin:x:%d:%d::/home/admin:/bin/bash\nrockpool:x:990:990::/home/rockpool:/bin/sh\nother:x:1500:1500::/:/bin/sh\n", os.Getuid(), os.Getgid()))
	g.write("etc/group", fmt.Sprintf("root:x:0:\nusers:x:100:\nadmin:x:%d:\nrockpool:x:990:\nother:x:1500:\n", os.Getgid()))
	g.write("etc/subuid", "rockpool:100000:1000000\n")
	g.write("etc/subgid", "rockpool:100000:1000000\n")
	g.write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n")
	g.write("proc/meminfo", "MemTotal:        4003844 kB\nMemFree:         3613124 kB\n")
	g.write("proc/self/mountinfo", "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n")
	g.disk("vda", "254:0", 4<<30, "rockpool-root")
	g.partition("vda", "vda1", "254:1")
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *machine) write(path, content string) {
	g.t.Helper()
	full := filepath.Join(g.root, path)
	must(g.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(g.t, os.WriteFile(full, []byte(content), 0o644))
}

func (g *machine) read(path string) string {
	g.t.Helper()
	b, err := os.ReadFile(filepath.Join(g.root, path))
	must(g.t, err)
	return string(b)
}

// disk adds a blank disk and returns the file that stands for it.
func (g *machine) disk(name, number string, size int64, serial string) string {
	g.t.Helper()
	g.write("sys/block/"+name+"/dev", number+"\n")
	g.write("sys/block/"+name+"/size", fmt.Sprint(size/512)+"\n")
	g.write("sys/block/"+name+"/ro", "0\n")
	g.write("sys/block/"+name+"/serial", serial)
	path := filepath.Join(g.root, "dev", name)
	f, err := os.Create(path)
	must(g.t, err)
	must(g.t, f.Truncate(size))
	must(g.t, f.Close())
	return path
}

func (g *machine) partition(disk, name, number string) {
	g.t.Helper()
	g.write("sys/block/"+disk+"/"+name+"/dev", number+"\n")
	g.write("sys/block/"+disk+"/"+name+"/partition", "1\n")
	g.write("sys/block/"+disk+"/"+name+"/size", "0\n")
}

// configDisk adds a disk that looks like an ISO and, when mounted, shows the
// files.
func (g *machine) configDisk(files map[string]string) {
	g.t.Helper()
	path := g.disk("vdz", "254:96", 1<<20, "rockpool-config")
	pvd := make([]byte, 72)
	copy(pvd, "\x01CD001")
	copy(pvd[40:], "ROCKPOOL                        ")
	writeAt(g.t, path, pvd, 32<<10)
	g.disks["/dev/vdz"] = func(target string) error {
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(g.root, target, name), []byte(content), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
}

func writeAt(t *testing.T, path string, b []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(b, at)
	must(t, errors.Join(err, f.Close()))
}

func (g *machine) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	g.calls = append(g.calls, c)
	for prefix, err := range g.fail {
		if strings.HasPrefix(c, prefix) {
			return err
		}
	}
	return nil
}

// Mount implements Kernel. What is mounted shows up in mountinfo.
func (g *machine) Mount(source, target, fstype string, _ uintptr, _ string) error {
	if err := g.call("mount %s %s %s", source, target, fstype); err != nil {
		return err
	}
	line := fmt.Sprintf("30 22 254:16 / %s rw - ext4 %s rw\n", target, source)
	g.write("proc/self/mountinfo", g.read("proc/self/mountinfo")+line)
	if show := g.disks[source]; show != nil {
		return show(target)
	}
	return nil
}

func (g *machine) Unmount(target string) error {
	if err := g.call("unmount %s", target); err != nil {
		return err
	}
	var keep strings.Builder
	for line := range strings.Lines(g.read("proc/self/mountinfo")) {
		if strings.Fields(line)[4] != target {
			keep.WriteString(line)
		}
	}
	g.write("proc/self/mountinfo", keep.String())
	entries, err := os.ReadDir(filepath.Join(g.root, target))
	must(g.t, err)
	for _, e := range entries {
		must(g.t, os.Remove(filepath.Join(g.root, target, e.Name())))
	}
	return nil
}

func (g *machine) SetHostname(name string) error { return g.call("hostname %s", name) }

func (g *machine) Chown(path string, uid, gid int) error {
	rel, err := filepath.Rel(g.root, path)
	must(g.t, err)
	g.chowns["/"+rel] = fmt.Sprintf("%d:%d", uid, gid)
	return nil
}

// run runs the set-up once, as a boot does.
func (g *machine) run() error {
	s := &Setup{
		Root: g.root, Kernel: g, Commands: g.commands, Random: zeroes{}, Now: time.Now,
		HashCost: bcrypt.MinCost, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return s.Run(context.Background())
}

// reboot forgets the mounts and what is in /run.
func (g *machine) reboot() {
	g.calls = nil
	g.write("proc/self/mountinfo", "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
	must(g.t, os.RemoveAll(filepath.Join(g.root, "run")))
	must(g.t, os.MkdirAll(filepath.Join(g.root, "run"), 0o755))
}

// zeroes is randomness for tests.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (g *machine) mounted(source, target string) bool {
	return slices.ContainsFunc(g.calls, func(c string) bool { return strings.HasPrefix(c, "mount "+source+" "+target+" ") })
}

func needMkfs(t *testing.T) {
	t.Helper()
	for _, p := range []string{"mkfs.ext4", "e2fsck"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not there: install e2fsprogs", p)
		}
	}
}

func TestSetup_Run(t *testing.T) {
	t.Run("without any disk", func(t *testing.T) {
		g := newGuest(t)
		must(t, g.run())
		if got := g.read("etc/hosts"); got != "127.0.0.1 localhost\n127.0.1.1 rockpool-root\n" {
			t.Errorf("hosts: %q", got)
		}
		if got := g.read("opt/rockpool/dashboard-password"); got != "aaaaaaa-aaaaaaa-aaaaaaa-aaaaaaa\n" {
			t.Errorf("password: %q", got)
		}
		if !g.mounted(guest.DataDir+"/state", guest.StateDir) || !g.mounted(guest.DataDir+"/containers", guest.ContainerDir) {
			t.Errorf("binds are missing: %q", g.calls)
		}
		if got := g.chowns["/var/lib/rockpool/state"]; got != "990:990" {
			t.Errorf("owner of state: %s", got)
		}
	})
	t.Run("everything, twice", func(t *testing.T) {
		needMkfs(t)
		g := newGuest(t)
		disk := g.disk("vdb", "254:16", 2<<30, "rockpool-data")
		g.configDisk(map[string]string{
			"config.json":     fmt.Sprintf(`{"version":1,"hostname":"box","uid":%d,"gid":4242}`, 4242),
			"AUTHORIZED_KEYS": "ssh-ed25519 AAAAC3Nz me@host\n",
		})
		must(t, g.run())
		if !g.mounted("/dev/vdb", guest.DataDir) || !slices.Contains(g.calls, "hostname box") {
			t.Fatalf("calls: %q", g.calls)
		}
		if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
			t.Fatalf("file system: %v\n%s", err, out)
		}
		key, pass, env := g.read("etc/ssh/ssh_host_ed25519_key"), g.read("opt/rockpool/dashboard-password"), g.read("run/rockpool-setup/password-hash")
		if got := g.read("home/admin/.ssh/authorized_keys"); got != "ssh-ed25519 AAAAC3Nz me@host\n" {
			t.Errorf("authorized_keys: %q", got)
		}
		if !strings.Contains(g.read("etc/passwd"), "admin:x:4242:4242:") || !strings.Contains(g.read("etc/group"), "admin:x:4242:") {
			t.Errorf("admin was not renumbered:\n%s", g.read("etc/passwd"))
		}
		if got := g.chowns["/var/lib/rockpool/ecosystem"]; got != "4242:4242" {
			t.Errorf("owner of the ecosystem's directory: %q", got)
		}
		if got := g.chowns["/home/admin/sub"]; got != "4242:4242" {
			t.Errorf("owner of home: %q", got)
		}
		g.reboot()
		g.write("var/lib/rockpool/ecosystem/pm2/dump.pm2", "[]")
		g.commands = noCommands{t} // a normal boot needs no other program
		must(t, g.run())
		if got := g.chowns["/var/lib/rockpool/ecosystem/pm2/dump.pm2"]; got != "4242:4242" {
			t.Errorf("owner of what was there when the ids changed: %q", got)
		}
		if !g.mounted("/dev/vdb", guest.DataDir) {
			t.Errorf("second boot: %q", g.calls)
		}
		if key != g.read("etc/ssh/ssh_host_ed25519_key") || pass != g.read("opt/rockpool/dashboard-password") || env != g.read("run/rockpool-setup/password-hash") {
			t.Error("identity changed over a reboot")
		}
	})
	t.Run("again in the same boot", func(t *testing.T) {
		g := newGuest(t)
		must(t, g.run())
		g.calls = nil
		must(t, g.run())
		if slices.ContainsFunc(g.calls, func(c string) bool { return strings.HasPrefix(c, "mount") }) {
			t.Errorf("mounted again: %q", g.calls)
		}
	})
	t.Run("bad configuration stops nothing else", func(t *testing.T) {
		g := newGuest(t)
		g.configDisk(map[string]string{
			"config.json":     `{"version":7}`,
			"authorized_keys": "ssh-ed25519 AAAAC3Nz me@host\n",
		})
		err := g.run()
		if err == nil || !strings.HasPrefix(err.Error(), "config-disk: ") || !strings.Contains(err.Error(), "version 7") || strings.Contains(err.Error(), "\n") {
			t.Errorf("error: %v", err)
		}
		if got := g.read("home/admin/.ssh/authorized_keys"); got == "" {
			t.Error("no key")
		}
		g.read("run/rockpool-setup/password-hash")
		if slices.Contains(g.calls, "unmount "+configMount) == false {
			t.Error("configuration disk is still mounted")
		}
	})
	t.Run("unusable data disk", func(t *testing.T) {
		g := newGuest(t)
		g.disk("vdb", "254:16", 2<<30, "rockpool-data")
		writeAt(t, filepath.Join(g.root, "dev/vdb"), []byte("LUKS\xba\xbe"), 0)
		err := g.run()
		if err == nil || !strings.Contains(err.Error(), "holds a LUKS container and was left alone") {
			t.Errorf("error: %v", err)
		}
		g.read("etc/ssh/ssh_host_ed25519_key") // one can log in all the same
		_, err = ReadResult(os.DirFS(g.root), "run/rockpool-setup")
		if err == nil || !strings.Contains(err.Error(), "LUKS") {
			t.Errorf("the daemon would start: %v", err)
		}
	})
	t.Run("fsck gives up", func(t *testing.T) {
		needMkfs(t)
		g := newGuest(t)
		disk := g.disk("vdb", "254:16", 2<<30, "rockpool-data")
		must(t, g.run())
		g.reboot()
		writeAt(t, disk, []byte{2, 0}, 1024+0x3a) // state: errors
		g.commands = fakeCommands(func(name string, args ...string) ([]byte, error) {
			return []byte("UNEXPECTED INCONSISTENCY"), exec.Command("sh", "-c", "exit 4").Run()
		})
		err := g.run()
		if err == nil || !strings.Contains(err.Error(), "sudo e2fsck -f /dev/vdb") || g.mounted("/dev/vdb", guest.DataDir) {
			t.Errorf("error: %v, calls %q", err, g.calls)
		}
	})
}

type noCommands struct{ t *testing.T }

func (n noCommands) Run(_ context.Context, name string, args ...string) ([]byte, error) {
	n.t.Errorf("started %s %q", name, args)
	return nil, errors.New("no")
}

type fakeCommands func(name string, args ...string) ([]byte, error)

func (f fakeCommands) Run(_ context.Context, name string, args ...string) ([]byte, error) {
	return f(name, args...)
}

func TestSetup_mountData(t *testing.T) {
	needMkfs(t)
	t.Run("cut while formatting", func(t *testing.T) {
		g := newGuest(t)
		disk := g.disk("vdb", "254:16", 2<<30, "")
		writeAt(t, disk, []byte(formatMark), 0)
		writeAt(t, disk, []byte("group descriptors of the attempt"), 4096)
		must(t, g.run())
		if !g.mounted("/dev/vdb", guest.DataDir) {
			t.Fatalf("calls: %q", g.calls)
		}
		if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
			t.Fatalf("file system: %v\n%s", err, out)
		}
	})
	t.Run("mkfs fails, next boot formats", func(t *testing.T) {
		g := newGuest(t)
		g.disk("vdb", "254:16", 2<<30, "")
		g.commands = fakeCommands(func(string, ...string) ([]byte, error) { return []byte("killed"), errors.New("signal: killed") })
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "data-disk: format /dev/vdb") {
			t.Fatalf("error: %v", err)
		}
		g.reboot()
		g.commands = Exec{}
		must(t, g.run())
		if !g.mounted("/dev/vdb", guest.DataDir) {
			t.Errorf("calls: %q", g.calls)
		}
	})
	t.Run("grows", func(t *testing.T) {
		g := newGuest(t)
		disk := g.disk("vdb", "254:16", 2<<30, "rockpool-data")
		must(t, g.run())
		g.reboot()
		must(t, os.Truncate(disk, 4<<30))
		g.write("sys/block/vdb/size", fmt.Sprint((4<<30)/512))
		var ran []string
		g.commands = fakeCommands(func(name string, args ...string) ([]byte, error) {
			ran = append(ran, name+" "+strings.Join(args, " "))
			return nil, nil
		})
		must(t, g.run())
		if !slices.Equal(ran, []string{"resize2fs /dev/vdb"}) {
			t.Errorf("ran %q", ran)
		}
	})
	t.Run("shrunk", func(t *testing.T) {
		g := newGuest(t)
		g.disk("vdb", "254:16", 2<<30, "rockpool-data")
		must(t, g.run())
		g.reboot()
		g.write("sys/block/vdb/size", fmt.Sprint((1<<30)/512))
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "smaller") {
			t.Errorf("error: %v", err)
		}
	})
}

func TestChooseData(t *testing.T) {
	blank := diskContent{kind: kindBlank}
	data := diskContent{kind: kindExt4, label: guest.DataLabel}
	type disks = map[string]struct {
		serial  string
		size    int64
		content diskContent
	}
	for name, tt := range map[string]struct {
		disks disks
		want  string
		err   string
	}{
		"nothing":              {disks{}, "", "no data disk"},
		"label first":          {disks{"vdb": {guest.DataDiskSerial, 2 << 30, blank}, "vdc": {"", 2 << 30, data}}, "/dev/vdc", ""},
		"two labels":           {disks{"vdb": {"", 2 << 30, data}, "vdc": {"", 2 << 30, data}}, "", "attach only one"},
		"serial":               {disks{"vdb": {guest.DataDiskSerial, 2 << 30, blank}, "vdc": {"", 2 << 30, blank}}, "/dev/vdb", ""},
		"serial, foreign":      {disks{"vdb": {guest.DataDiskSerial, 2 << 30, diskContent{kind: kindUnknown}}}, "", "left alone"},
		"serial, ext4":         {disks{"vdb": {guest.DataDiskSerial, 2 << 30, diskContent{kind: kindExt4}}}, "/dev/vdb", ""},
		"only blank":           {disks{"vdb": {"", 2 << 30, blank}}, "/dev/vdb", ""},
		"two blank":            {disks{"vdb": {"", 2 << 30, blank}, "vdc": {"", 2 << 30, blank}}, "", "none was formatted"},
		"small":                {disks{"vdb": {"", 1 << 30, blank}}, "", "no data disk"},
		"blank beside foreign": {disks{"vdb": {"", 2 << 30, diskContent{kind: kindUnknown}}, "vdc": {"", 2 << 30, blank}}, "/dev/vdc", ""},
		"foreign only":         {disks{"vdb": {"", 2 << 30, diskContent{kind: kindUnknown}}}, "", "no data disk"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			for n, d := range tt.disks {
				fakeContent(t, g.disk(n, "254:"+n, d.size, d.serial), d.content)
			}
			s := &Setup{Root: g.root, Kernel: g, Log: slog.New(slog.DiscardHandler)}
			d, _, err := s.findData()
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
				t.Fatalf("error: %v, want %q", err, tt.err)
			}
			if err == nil && d.path != tt.want {
				t.Errorf("chose %s, want %s", d.path, tt.want)
			}
		})
	}
}

// fakeContent writes the bytes by which content is known.
func fakeContent(t *testing.T, path string, c diskContent) {
	t.Helper()
	switch c.kind {
	case kindExt4:
		sb := make([]byte, 1024)
		binary.LittleEndian.PutUint16(sb[0x38:], 0xef53)
		copy(sb[0x78:], c.label)
		writeAt(t, path, sb, 1024)
	case kindUnknown:
		writeAt(t, path, []byte("somebody's"), 3<<20)
	}
}

func TestExamine(t *testing.T) {
	const size = 64 << 20
	at := func(offset int, content string) []byte {
		b := make([]byte, size)
		copy(b[offset:], content)
		return b
	}
	for name, tt := range map[string]struct {
		disk []byte
		want string
	}{
		"blank":          {make([]byte, size), kindBlank},
		"last byte":      {at(size-1, "x"), kindUnknown},
		"in the middle":  {at(size/2, "x"), kindUnknown},
		"gpt":            {at(512, "EFI PART"), "a GPT partition table"},
		"mbr":            {at(510, "\x55\xaa"), "a partition table"},
		"btrfs":          {at(0x10040, "_BHRfS_M"), "a btrfs file system"},
		"ours, cut off":  {at(0, formatMark), kindUnfinished},
		"iso":            {at(32<<10, "\x01CD001"), kindISO},
		"ext4":           {at(1024+0x38, "\x53\xef"), kindExt4},
		"smaller than 1": {[]byte{0}, kindBlank},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := examine(bytes.NewReader(tt.disk), int64(len(tt.disk)))
			if err != nil || c.kind != tt.want {
				t.Errorf("got %q, %v, want %q", c.kind, err, tt.want)
			}
		})
	}
}

func FuzzExamine(f *testing.F) {
	f.Add([]byte(formatMark))
	f.Add(append(make([]byte, 1024+0x38), 0x53, 0xef))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := examine(bytes.NewReader(b), int64(len(b)))
		if err == nil && c.kind == kindBlank && len(bytes.Trim(b, "\x00")) > 0 && len(b) <= blankHead {
			t.Errorf("%q is not blank", b)
		}
	})
}

func TestSetup_renumberLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		uid, gid int
		err      string
	}{
		"taken uid":       {1500, 4242, "uid 1500 of the host's user belongs to other"},
		"taken gid":       {4242, 1500, "gid 1500 of the host's user belongs to group other"},
		"container range": {150000, 4242, "lies in the range that containers use"},
		"system ids":      {501, 20, ""},
		"root":            {0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			before := g.read("etc/passwd")
			g.configDisk(map[string]string{"config.json": fmt.Sprintf(`{"version":1,"uid":%d,"gid":%d}`, tt.uid, tt.gid)})
			err := g.run()
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error: %v, want %q", err, tt.err)
			}
			if got := g.read("etc/passwd"); got != before {
				t.Errorf("passwd changed:\n%s", got)
			}
		})
	}
}

func TestSetup_ensureCredentials(t *testing.T) {
	t.Run("given hash", func(t *testing.T) {
		g := newGuest(t)
		h, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
		must(t, err)
		g.configDisk(map[string]string{"config.json": fmt.Sprintf(`{"version":1,"credentials":{"username":"me","passwordHash":%q}}`, h)})
		must(t, g.run())
		want := string(h) + "\n"
		if got := g.read("run/rockpool-setup/password-hash"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if strings.Contains(g.read("run/rockpool-setup/config.json"), "passwordHash") {
			t.Error("the hash is readable by all")
		}
	})
	t.Run("edited password", func(t *testing.T) {
		g := newGuest(t)
		must(t, g.run())
		g.reboot()
		g.write("opt/rockpool/dashboard-password", "my own\n")
		must(t, g.run())
		hash := strings.TrimSpace(g.read("run/rockpool-setup/password-hash"))
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte("my own")); err != nil {
			t.Error(err)
		}
	})
	// What is of no use does not lock the user out.
	for name, content := range map[string]string{"too long": strings.Repeat("x", 73), "two lines": "a\nb\n", "no text": "\xff\xfe"} {
		t.Run("edited password, "+name, func(t *testing.T) {
			g := newGuest(t)
			must(t, g.run())
			before := g.read("run/rockpool-setup/password-hash")
			g.reboot()
			g.write("opt/rockpool/dashboard-password", content)
			if err := g.run(); err == nil || !strings.Contains(err.Error(), "credentials: /opt/rockpool/dashboard-password holds no password: write one line of 1 to 72 bytes into it") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error: %v", err)
			}
			if got := g.read("run/rockpool-setup/password-hash"); got != before {
				t.Errorf("the hash is %q, want the last that was valid", got)
			}
			if got := g.read("opt/rockpool/dashboard-password"); got != content {
				t.Errorf("the user's file became %q", got)
			}
		})
	}
	t.Run("link planted by the service user", func(t *testing.T) {
		g := newGuest(t)
		must(t, g.run())
		g.write("etc/secret", "secret")
		must(t, os.Remove(filepath.Join(g.root, "opt/rockpool/dashboard-password")))
		must(t, os.Symlink(filepath.Join(g.root, "etc/secret"), filepath.Join(g.root, "opt/rockpool/dashboard-password")))
		g.reboot()
		if err := g.run(); err == nil || !strings.Contains(err.Error(), "credentials: read dashboard password") {
			t.Errorf("error: %v", err)
		}
		if g.read("etc/secret") != "secret" {
			t.Error("root followed the link")
		}
	})
}

func TestSetup_ensureHostKeys_damaged(t *testing.T) {
	g := newGuest(t)
	must(t, g.run())
	g.write("var/lib/rockpool/ssh/ssh_host_ed25519_key", "")
	g.reboot()
	must(t, g.run())
	if k := g.read("etc/ssh/ssh_host_ed25519_key"); !strings.Contains(k, "OPENSSH PRIVATE KEY") {
		t.Errorf("key: %q", k)
	}
}

func TestCheckKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		keys string
		ok   bool
	}{
		"one":      {"ssh-ed25519 AAAAC3Nz x\n", true},
		"options":  {"# mine\nno-pty ecdsa-sha2-nistp256 AAAAE2Vj\n", true},
		"empty":    {"", false},
		"comment":  {"# ssh-ed25519 AAAAC3Nz\n", false},
		"binary":   {"ssh-ed25519 AAAAC3Nz\x00", false},
		"not text": {"ssh-ed25519 AAAAC3Nz\xff", false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkKeys([]byte(tt.keys)); (err == nil) != tt.ok {
				t.Errorf("error: %v", err)
			}
		})
	}
}
