package storage_test

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// TestPool_Open_account makes files as Podman does: as the account that runs
// containers, which then gives them to the container's user.
func TestPool_Open_account(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	f := files(5, giga)
	view := open(t, p, f)
	const user = first + 5*agent.SlotSize + 1000
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := errors.Join(unix.Capget(&header, &sets[0]), unix.Setfsgid(account), unix.Setfsuid(account), unix.Capset(&header, &sets[0]))
		for _, place := range []string{view.Home + "/put", view.Root + "/var"} {
			err = errors.Join(err, unix.Mkdir(place, 0o755), unix.Lchown(place, user, user))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{view.Home + "/put", view.Root + "/var"} {
		if uid, gid := owner(t, place); uid != user || gid != user {
			t.Errorf("%s belongs to %d:%d", place, uid, gid)
		}
	}
	if out, err := as(t, 5, 1000, view.Home, "touch put/in"); err != nil {
		t.Errorf("the container's user: %v: %s", err, out)
	}
	closeFiles(t, p, f.ID)
	if uid, _ := owner(t, p.Dir+"/pool/files/"+f.ID+"/home/upper/put"); uid != 1000 {
		t.Errorf("it is stored as %d", uid)
	}
	if _, err := os.Lstat(view.Home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is shown still: %v", err)
	}
}
