package replay

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/guest"
)

// pinned is a replayer of a directory that is taken for one by 9p, with the
// files of that name in it.
func pinned(t *testing.T, most int, names ...string) *Replayer {
	t.Helper()
	r := &Replayer{Dir: t.TempDir(), Pins: NewPins(most)}
	r.Pins.everywhere = true
	for _, name := range names {
		file := filepath.Join(r.Dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { r.Pins.dropAll() })
	return r
}

func (r *Replayer) names() []string { return slices.Sorted(maps.Keys(r.Pins.held)) }

func TestPins(t *testing.T) {
	r := pinned(t, 100, "a", "dir/b", "dir/below/c", ".git/HEAD", "dir/node_modules/x/y")
	if err := os.Symlink("a", filepath.Join(r.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	replay := func(changes ...guest.FileChange) {
		t.Helper()
		if result := r.Replay(changes); result.Fault != nil {
			t.Fatal(result.Fault)
		}
	}
	want := func(names ...string) {
		t.Helper()
		if got := r.names(); !slices.Equal(got, names) {
			t.Errorf("held are %q, want %q", got, names)
		}
	}

	replay(guest.FileChange{Path: ".", Op: guest.FileModified})
	want(".", "a", "dir", "dir/b", "dir/below", "dir/below/c", "link")

	if err := os.WriteFile(filepath.Join(r.Dir, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(r.Dir, "dir")); err != nil {
		t.Fatal(err)
	}
	fd := r.Pins.held["dir/b"]
	replay(guest.FileChange{Path: "new", Op: guest.FileCreated}, guest.FileChange{Path: "dir", Op: guest.FileDeleted})
	want(".", "a", "link", "new")
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("a descriptor of what is gone stays open")
	}
}

// TestPins_max: directories come first when there is not room for all.
func TestPins_max(t *testing.T) {
	r := pinned(t, 3, "a", "b", "dir/c", "dir/d")
	r.Replay([]guest.FileChange{{Path: "a", Op: guest.FileModified}})
	if got := r.names(); len(got) != 3 || !slices.Contains(got, ".") || !slices.Contains(got, "dir") {
		t.Errorf("held are %q", got)
	}
}

func TestFileSystem(t *testing.T) {
	const mounts = "27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n" +
		"288 27 0:42 / /mnt/rockpool rw,nosuid,nodev,relatime shared:150 - 9p rockpool rw,cache=0x5,trans=virtio\n"
	for device, want := range map[uint64]string{unix.Mkdev(254, 1): "ext4", unix.Mkdev(0, 42): "9p", unix.Mkdev(0, 4): ""} {
		if got := fileSystem(mounts, device); got != want {
			t.Errorf("device %d is %q, want %q", device, got, want)
		}
	}
}

// TestPins_elsewhere: nothing is held where the kernel keeps names by itself.
func TestPins_elsewhere(t *testing.T) {
	r := pinned(t, 100, "a")
	r.Pins.everywhere = false
	r.Replay([]guest.FileChange{{Path: "a", Op: guest.FileModified}})
	if got := r.names(); len(got) != 0 {
		t.Errorf("held are %q", got)
	}
}

// TestPins_written: what a program in the guest wrote is held, too.
func TestPins_written(t *testing.T) {
	r := pinned(t, 100, "a", "node_modules/x")
	r.Replay([]guest.FileChange{{Path: ".", Op: guest.FileModified}})
	for _, name := range []string{"written", "node_modules/x"} {
		f, err := os.Create(filepath.Join(r.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		r.Pins.holdWritten(r.Dir, int(f.Fd()))
		f.Close()
	}
	if got := r.names(); !slices.Equal(got, []string{".", "a", "written"}) {
		t.Errorf("held are %q", got)
	}
}
