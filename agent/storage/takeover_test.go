package storage_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

// capabilities of version 3 that root with this id may give: CAP_NET_RAW, as
// setcap writes them.
func capabilities(root uint32) []byte {
	return []byte{1, 0, 0, 3, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(root), byte(root >> 8), byte(root >> 16), byte(root >> 24)}
}

// access is an access control list with an entry for a user.
func access(user uint32) []byte {
	list := []byte{2, 0, 0, 0}
	for _, e := range []struct{ tag, permissions, id uint32 }{{1, 6, ^uint32(0)}, {2, 4, user}, {4, 4, ^uint32(0)}, {16, 4, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		list = append(list, byte(e.tag), byte(e.tag>>8), byte(e.permissions), byte(e.permissions>>8), byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	return list
}

// oldFiles lays out what an older release has of a workspace, with so many
// directories and so large a file in its home, and returns what it has to be in the
// pool, without the pool's own code.
func oldFiles(t testing.TB, containers string, f agent.Files, dirs, size int) (home, layer map[string]string) {
	t.Helper()
	id := first + f.Slot*agent.SlotSize
	check := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	volume := containers + "/storage/volumes/rockpool-" + f.ID + "-home/_data"
	container := strings.Repeat("c", 64)
	upper := containers + "/storage/overlay-containers/" + container + "/rootfs/upper"
	write(t, containers+"/storage/overlay-containers/containers.json", `[{"id":"`+strings.Repeat("d", 64)+`","names":["rockpool-other"]},{"id":"`+container+`","names":["rockpool-`+f.ID+`"],"created":"2026-01-02T03:04:05Z"}]`)

	for n := range dirs {
		write(t, fmt.Sprintf("%s/project/dir%d/file", volume, n), strings.Repeat(strconv.Itoa(n), 3000))
	}
	write(t, volume+"/.bashrc", "umask 022\n")
	write(t, volume+"/hard", "one of three")
	check(os.Link(volume+"/hard", volume+"/project/hard2"), os.Link(volume+"/hard", volume+"/project/dir1/hard3"))
	check(os.Symlink("/etc/passwd", volume+"/absolute"), os.Symlink("nowhere", volume+"/dangling"), os.Link(volume+"/dangling", volume+"/dangling2"))
	check(unix.Mkfifo(volume+"/pipe", 0o640), os.Mkdir(volume+"/empty", 0o700), os.Chmod(volume+"/.bashrc", 0o4751))
	sparse, err := os.Create(volume + "/sparse")
	check(err)
	_, err = sparse.WriteAt([]byte("far away"), 40*mega)
	check(err, sparse.Truncate(64*mega), sparse.Close())
	large := make([]byte, size)
	for i := range large {
		large[i] = byte(i >> 12 * 7)
	}
	check(os.WriteFile(volume+"/large", large, 0o600), os.Link(volume+"/large", volume+"/large2"))
	check(unix.Setxattr(volume+"/.bashrc", "user.note", []byte("mine"), 0), unix.Setxattr(volume+"/project", "user.note", []byte("ours"), 0))
	check(unix.Setxattr(volume+"/project/dir1/file", "system.posix_acl_access", access(uint32(id+1000)), 0))

	write(t, upper+"/etc/changed", "changed")
	write(t, upper+"/opt/tool", "tool")
	check(os.Symlink("/proc/mounts", upper+"/etc/mtab"))   // Podman's
	check(unix.Mknod(upper+"/etc/fstab", unix.S_IFCHR, 0)) // a whiteout
	check(unix.Setxattr(upper+"/opt", "user.overlay.opaque", []byte("y"), 0), unix.Setxattr(upper+"/etc/changed", "user.overlay.origin", []byte("handle"), 0))

	// Owners, from the innermost on, then times, which change with what is below.
	for _, root := range []string{volume, upper} {
		var all []string
		check(filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error { all = append(all, path); return err }))
		slices.Reverse(all)
		for n, path := range all {
			check(os.Lchown(path, id+1000, id+n%3))
			if path == volume+"/.bashrc" {
				check(os.Chmod(path, 0o4751))
			}
		}
		check(os.Lchown(upper+"/opt/tool", 990, id)) // of nobody in the container
		if root == upper {
			check(unix.Setxattr(upper+"/opt/tool", "security.capability", capabilities(uint32(id)), 0))
		}
		for n, path := range all {
			at := []unix.Timespec{{Sec: int64(1e9 + n), Nsec: 1}, {Sec: int64(1e9 + 2*n), Nsec: 123456789}}
			check(unix.UtimesNanoAt(unix.AT_FDCWD, path, at, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	want := func(root string) map[string]string {
		return describe(t, root, func(d *described) {
			d.uid, d.gid = stored(d.uid, id), stored(d.gid, id)
			if _, ok := d.xattrs["system.posix_acl_access"]; ok {
				d.xattrs["system.posix_acl_access"] = string(access(1000))
			}
			if root == volume {
				return
			}
			delete(d.xattrs, "user.overlay.origin")
			if v, ok := d.xattrs["user.overlay.opaque"]; ok {
				delete(d.xattrs, "user.overlay.opaque")
				d.xattrs["trusted.overlay.opaque"] = v
			}
			if _, opaque := d.xattrs["trusted.overlay.opaque"]; d.dir && !opaque {
				d.xattrs["trusted.overlay.origin"] = ""
			}
			if _, ok := d.xattrs["security.capability"]; ok {
				// Of root itself the kernel shows them in the older form.
				v := capabilities(0)[:20]
				v[3] = 2
				d.xattrs["security.capability"] = string(v)
			}
		})
	}
	return want(volume), want(upper)
}

// stored is the id with which a file is stored in the pool.
func stored(id, first int) int {
	if id < first || id >= first+agent.SlotSize {
		return 65534
	}
	return id - first
}

// described is all that is to be seen of a file, but for its content.
type described struct {
	dir      bool
	uid, gid int
	xattrs   map[string]string
}

// describe returns a line for each file of a tree, by its path in it.
func describe(t testing.TB, root string, change func(*described)) map[string]string {
	t.Helper()
	all, names := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		d := described{dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, uid: int(st.Uid), gid: int(st.Gid), xattrs: map[string]string{}}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(path, list)
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(string(list[:n]), "\x00") {
			value := make([]byte, 4096)
			if n, err := unix.Lgetxattr(path, name, value); name != "" && err == nil {
				d.xattrs[name] = string(value[:n])
			}
		}
		change(&d)

		relative, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%o %d:%d %d.%09d xattrs %q", st.Mode, d.uid, d.gid, st.Mtim.Sec, st.Mtim.Nsec, d.xattrs)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			line += fmt.Sprintf(" %d bytes %s, sparse %v", st.Size, hex.EncodeToString(sum[:8]), st.Blocks*512 < st.Size/2)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " to " + target
		case unix.S_IFCHR:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if names[st.Ino] == "" {
				names[st.Ino] = relative
			}
			line += fmt.Sprintf(" with %d names, one %s", st.Nlink, names[st.Ino])
		}
		all[relative] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare reports what differs between what a tree has to be and what it is.
func compare(t testing.TB, what string, want map[string]string, root string) {
	t.Helper()
	got := describe(t, root, func(d *described) { delete(d.xattrs, "trusted.overlay.uuid") }) // the kernel's
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is\n%s, want\n%s", what, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is too much: %s", what, name, got[name])
		}
	}
}

// checkTakenOver reports what is not as it has to be after taking over.
func checkTakenOver(t testing.TB, what string, p *storage.Pool, f agent.Files, home, layer map[string]string) {
	t.Helper()
	in := p.Dir + "/pool/files/" + f.ID
	compare(t, what+": home", home, in+"/home/upper")
	compare(t, what+": layer", layer, in+"/layer-"+strings.TrimPrefix(ownImage, "sha256:")+"/upper")
	if left, err := os.ReadDir(p.Containers + "/storage/volumes/rockpool-" + f.ID + "-home/_data"); err != nil || len(left) != 0 {
		t.Errorf("%s: left in the volume: %v, %v", what, left, err)
	}
	if _, err := os.Lstat(in + "/takeover"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: left of taking over: %v", what, err)
	}
}

// TestPool_takeOver moves what an older release left, all of it and as it was.
func TestPool_takeOver(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	f := files(2, 50*mega) // less than there is
	home, layer := oldFiles(t, p.Containers, f, 40, 150*mega)
	view := open(t, p, f)
	if got := read(t, view.Root+"/etc/passwd"); !strings.HasPrefix(got, "root:") {
		t.Errorf("passwd: %q", got)
	}
	if _, err := os.Lstat(view.Root + "/etc/fstab"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("fstab, which was deleted: %v", err)
	}
	if out, err := as(t, 2, 1000, view.Home, "cat project/hard2"); err != nil || out != "one of three" {
		t.Errorf("read as the container's user: %q, %v", out, err)
	}
	if n, err := fill(2, view.Home+"/more"); !errors.Is(err, unix.EDQUOT) || n > mega {
		t.Errorf("over its quota the workspace took %d: %v", n, err)
	}
	closeFiles(t, p, f.ID)
	checkTakenOver(t, "closed", p, f, home, layer)
}

// TestPool_takeOver_full takes over from a disk that is full to nine tenths, most of
// it one file.
func TestPool_takeOver_full(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes gigabytes")
	}
	p, data := newPool(t, 4*giga)
	f := files(2, 3*giga)
	volume := p.Containers + "/storage/volumes/rockpool-" + f.ID + "-home/_data"
	write(t, volume+"/first", "first")
	block := make([]byte, 5*mega)
	var disk unix.Statfs_t
	grow := func(file *os.File, to int64) {
		t.Helper()
		for n := 0; used(t, data) < int64(disk.Blocks)*disk.Bsize*to/100; n++ {
			if file == nil {
				write(t, fmt.Sprintf("%s/dir/file%d", volume, n), strings.Repeat(strconv.Itoa(n%10), len(block)))
			} else if _, err := file.Write(append(block[:len(block)-1], byte(n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Statfs(data, &disk); err != nil {
		t.Fatal(err)
	}
	grow(nil, 30)
	large, err := os.Create(volume + "/large")
	if err != nil {
		t.Fatal(err)
	}
	grow(large, 90)
	if err := large.Close(); err != nil {
		t.Fatal(err)
	}
	want := describe(t, volume, func(d *described) { d.uid, d.gid = 65534, 65534 }) // root's are nobody's in a container

	view := open(t, p, f)
	closeFiles(t, p, f.ID)
	compare(t, "home", want, p.Dir+"/pool/files/"+f.ID+"/home/upper")
	open(t, p, f)
	if out, err := as(t, 2, 65534, view.Home, "rm large && echo x >more"); err != nil {
		t.Errorf("delete and write: %v: %s", err, out)
	}
	if err := os.WriteFile(data+"/database", make([]byte, mega), 0o600); err != nil {
		t.Errorf("write beside the pool: %v", err)
	}
}

// TestPool_takeOver_links follows no link that lies where Podman keeps files, and no
// name in Podman's own list that leads elsewhere.
func TestPool_takeOver_links(t *testing.T) {
	p, data := newPool(t, 4*giga)
	safe := data + "/safe"
	write(t, safe+"/secret", "secret")
	f := files(1, giga)
	volumes := p.Containers + "/storage/volumes/rockpool-" + f.ID + "-home"
	write(t, volumes+"/_data/mine", "mine")
	for name, target := range map[string]string{"absolute": safe, "up": "../../../../../../safe", "file": safe + "/secret"} {
		if err := os.Symlink(target, volumes+"/_data/"+name); err != nil {
			t.Fatal(err)
		}
	}
	write(t, p.Containers+"/storage/overlay-containers/containers.json", `[{"id":"../../../safe/x","layer":"../../../safe","names":["rockpool-`+f.ID+`"]}]`)
	write(t, safe+"/x/rootfs/upper/secret", "secret")
	_, err := p.Open(t.Context(), f, nil)
	if err == nil {
		closeFiles(t, p, f.ID)
		if got := read(t, p.Dir+"/pool/files/"+f.ID+"/home/upper/mine"); got != "mine" {
			t.Errorf("mine: %q", got)
		}
	}

	other := files(2, giga)
	linked := p.Containers + "/storage/volumes/rockpool-" + other.ID + "-home"
	if err := os.MkdirAll(linked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(safe, linked+"/_data"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context(), other, nil); err == nil {
		closeFiles(t, p, other.ID)
	}
	if got := read(t, safe+"/secret") + read(t, safe+"/x/rootfs/upper/secret"); got != "secretsecret" {
		t.Errorf("files outside: %q", got)
	}
	err = filepath.WalkDir(p.Dir+"/pool", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() == "secret" {
			t.Errorf("in the pool: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
