package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// A batch is what is moved before it is written out and deleted where it was.
const (
	batchFiles = 2000
	batchBytes = 32 << 20 // of content
	batchRoom  = 4 * batchBytes
)

// Marks on what is being moved. Nobody in a workspace can set or see attributes of
// this kind.
const (
	markTimes  = "trusted.rockpool.times"  // of a directory: the times that it had
	markCopied = "trusted.rockpool.copied" // of a file: how much of it is there, and gone where it was
)

// partName ends the name, by its inode of before, of a file that is not all there.
const partName = ".part"

// reportEvery is how often is said how far moving is.
const reportEvery = time.Second

// nobody owns what belongs to none of the slot's ids; it is what a container saw.
const nobody = 65534

// mover moves files from one file system into the pool, each of which is complete
// there before it goes where it was. What it did last may be lost by a power cut,
// never what it deleted; moving again goes on from there.
type mover struct {
	pool    *Pool
	links   *os.File        // directory, see takeOverDir
	linked  map[uint64]bool // inodes of before that have a name there, all written out
	fresh   map[uint64]bool // those of this batch, which may not be written out
	begun   map[uint64]bool // those of large files that are there in part
	convert converter
	report  func(string)

	moved    []moved // copied, not yet deleted where they were
	bytes    int64   // of content in moved
	files    int     // so far, of all batches
	total    int64   // bytes so far
	reported time.Time
}

// moved is a file that has been copied, or a directory whose files have been moved
// and which can be closed.
type moved struct {
	dir    *os.File
	name   string
	isDir  bool
	closes *os.File
}

// newMover returns one that knows what an earlier one has in links.
func newMover(p *Pool, links *os.File, report func(string)) (*mover, error) {
	m := &mover{pool: p, links: links, linked: map[uint64]bool{}, fresh: map[uint64]bool{}, begun: map[uint64]bool{}, report: report}
	names, err := links.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		inode, err := strconv.ParseUint(strings.TrimSuffix(name, partName), 10, 64)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s/%s is no file that was begun: %w", links.Name(), name, err)
		case !strings.HasSuffix(name, partName):
			m.linked[inode] = true
		case hasMark(links, name, markCopied):
			m.begun[inode] = true
		}
	}
	return m, nil
}

// hasMark reports whether a file of a directory has a mark.
func hasMark(dir *os.File, name, mark string) bool {
	_, err := unix.Lgetxattr(inDir(dir, name), mark, nil)
	return err == nil
}

// moveAll moves what is in a directory, and its attributes.
func (m *mover) moveAll(ctx context.Context, from *os.File, to string, convert converter) error {
	m.convert = convert
	made, err := os.Open(to)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := m.moveInto(ctx, from, made); err != nil {
		return errors.Join(err, m.forget())
	}
	return m.flush(ctx)
}

// moveInto moves what is in a directory into another, which may have some of it
// already.
func (m *mover) moveInto(ctx context.Context, from, to *os.File) error {
	finish, err := m.dress(from, to)
	if err != nil {
		return err
	}
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := m.move(ctx, from, to, name); err != nil {
			return err
		}
	}
	return finish()
}

// dress gives a directory the attributes that it had, and returns what gives it its
// times again when all is in it. A directory that is just made has no permissions;
// one with permissions and without a mark was finished.
func (m *mover) dress(from, to *os.File) (finish func() error, err error) {
	a, err := readAttributes(from, ".")
	if err != nil {
		return nil, err
	}
	m.convert(&a)
	there, err := readAttributes(to, ".")
	if err != nil {
		return nil, err
	}

	mark, marked := there.xattrs[markTimes]
	switch {
	case marked:
		a.Atim, a.Mtim = timesOf(mark)
	case there.Mode&^unix.S_IFMT != 0:
		a.Atim, a.Mtim = there.Atim, there.Mtim
	default:
		if err := unix.Setxattr(inDir(to, "."), markTimes, timesMark(&a), 0); err != nil {
			return nil, fmt.Errorf("mark %s: %w", to.Name(), err)
		}
		if err := a.apply(to, "."); err != nil {
			return nil, err
		}
	}
	return func() error {
		err := unix.Removexattr(inDir(to, "."), markTimes)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
		return a.applyTimes(to, ".")
	}, nil
}

// timesMark is the value of [markTimes]: seconds and nanoseconds of access and of
// modification.
func timesMark(a *attributes) []byte {
	var b []byte
	for _, n := range []int64{a.Atim.Sec, a.Atim.Nsec, a.Mtim.Sec, a.Mtim.Nsec} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

// timesOf reads a value of [markTimes].
func timesOf(b []byte) (access, modification unix.Timespec) {
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	return unix.Timespec{Sec: n(0), Nsec: n(1)}, unix.Timespec{Sec: n(2), Nsec: n(3)}
}

// move moves one file of a directory, with all that is in it.
func (m *mover) move(ctx context.Context, from, to *os.File, name string) error {
	a, err := readAttributes(from, name)
	if err != nil {
		return err
	}
	links, inode := a.Nlink, a.Ino
	m.convert(&a)

	err = m.moveOne(ctx, from, to, name, inode, links > 1, &a)
	if errors.Is(err, unix.ENOSPC) && a.kind() != unix.S_IFDIR && len(m.moved) > 0 {
		// What is copied already is still in its old place, too.
		err = m.flush(ctx)
		if err == nil {
			err = m.moveOne(ctx, from, to, name, inode, links > 1, &a)
		}
	}
	if err != nil {
		return err
	}

	m.moved = append(m.moved, moved{dir: from, name: name, isDir: a.kind() == unix.S_IFDIR})
	m.pool.done()
	if len(m.moved) >= batchFiles || m.bytes >= batchBytes {
		return m.flush(ctx)
	}
	return nil
}

// moveOne makes one file, or moves what is in a directory.
func (m *mover) moveOne(ctx context.Context, from, to *os.File, name string, inode uint64, hasOthers bool, a *attributes) error {
	switch {
	case a.kind() == unix.S_IFDIR:
		return m.moveDir(ctx, from, to, name)
	case hasOthers || m.linked[inode] || m.isLarge(inode, a): // the last name of several has no others
		return m.moveLinked(ctx, from, to, name, inode, a)
	}
	return m.make(from, name, to, name, a)
}

// moveDir moves a directory.
func (m *mover) moveDir(ctx context.Context, from, to *os.File, name string) error {
	err := unix.Mkdirat(int(to.Fd()), name, 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: path.Join(to.Name(), name), Err: err}
	}
	made, err := openDir(to, name)
	if err != nil {
		return err
	}
	defer made.Close()
	below, err := openDir(from, name)
	if err != nil {
		return err
	}
	err = m.moveInto(ctx, below, made)
	m.moved = append(m.moved, moved{closes: below}) // needed until its files are deleted
	return err
}

// isLarge reports whether a file is to be moved piece by piece. One of which some is
// gone where it was may look small.
func (m *mover) isLarge(inode uint64, a *attributes) bool {
	return a.kind() == unix.S_IFREG && (a.Blocks*512 > batchBytes || m.begun[inode])
}

// moveLinked moves a file that has several names, or is large, or gives it one more.
func (m *mover) moveLinked(ctx context.Context, from, to *os.File, name string, inode uint64, a *attributes) error {
	link, err := m.ensureLink(ctx, from, name, inode, a)
	if err != nil {
		return err
	}
	if err := removeAt(to, name); err != nil {
		return err
	}
	if err := unix.Linkat(int(m.links.Fd()), link, int(to.Fd()), name, 0); err != nil {
		return &os.LinkError{Op: "link", Old: link, New: path.Join(to.Name(), name), Err: err}
	}
	return nil
}

// ensureLink makes a file in links unless it is there, and returns its name.
func (m *mover) ensureLink(ctx context.Context, from *os.File, name string, inode uint64, a *attributes) (string, error) {
	link := strconv.FormatUint(inode, 10)
	switch {
	case m.linked[inode]:
		return link, nil
	case m.fresh[inode]:
		return link + partName, nil
	case m.isLarge(inode, a):
		if err := m.makeLarge(ctx, from, name, link+partName, a); err != nil {
			return "", err
		}
		return link, m.trust(inode)
	}
	if err := m.make(from, name, m.links, link+partName, a); err != nil {
		return "", err
	}
	m.fresh[inode] = true
	return link + partName, nil
}

// trust gives a file in links, which is written out, the name by which it is known
// to be.
func (m *mover) trust(inode uint64) error {
	link, links := strconv.FormatUint(inode, 10), int(m.links.Fd())
	if err := unix.Renameat(links, link+partName, links, link); err != nil {
		return &os.PathError{Op: "rename", Path: path.Join(m.links.Name(), link+partName), Err: err}
	}
	m.linked[inode] = true
	return nil
}

// make makes a file anew, with its attributes.
func (m *mover) make(from *os.File, name string, to *os.File, as string, a *attributes) error {
	m.files++
	if err := removeAt(to, as); err != nil {
		return err
	}
	if a.kind() != unix.S_IFREG {
		if err := a.makeSpecial(from, name, to, as); err != nil {
			return err
		}
		return a.apply(to, as)
	}
	if err := copyFile(from, name, to, as, a); err != nil {
		return err
	}
	m.bytes += a.Blocks * 512
	return a.apply(to, as)
}

// makeLarge moves a file piece by piece, so that there need be room for two of a
// piece only, not of the file: each is written out, then taken out of the file
// that it was in, whose length stays. Its marks stay on the new file until no old
// one is left, which has nothing in it any more.
func (m *mover) makeLarge(ctx context.Context, from *os.File, name, part string, a *attributes) error {
	if err := m.flush(ctx); err != nil {
		return err
	}
	m.files++
	in, err := openIn(from, name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(int(m.links.Fd()), part, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: path.Join(m.links.Name(), part), Err: err}
	}
	out := os.NewFile(uintptr(fd), path.Join(m.links.Name(), part))
	defer out.Close()
	offset, err := a.begin(out)
	if err != nil {
		return err
	}

	for offset < a.Size {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		end := min(offset+batchBytes, a.Size)
		if err := m.makePiece(ctx, out, in, offset, end); err != nil {
			return err
		}
		offset = end
	}
	return a.apply(m.links, part)
}

// begin prepares a large file and returns how much of it is there. Taking pieces
// out of the one that it is copied from changes the times of that.
func (a *attributes) begin(out *os.File) (offset int64, err error) {
	times := make([]byte, len(timesMark(a)))
	if n, err := unix.Fgetxattr(int(out.Fd()), markTimes, times); err == nil && n == len(times) {
		a.Atim, a.Mtim = timesOf(times)
		return copiedOf(out), nil
	}
	if err := out.Truncate(a.Size); err != nil {
		return 0, err
	}
	if err := unix.Fsetxattr(int(out.Fd()), markTimes, timesMark(a), 0); err != nil {
		return 0, fmt.Errorf("mark %s: %w", out.Name(), err)
	}
	return 0, nil
}

// unmark takes the marks off what moved. Nothing is left where it was.
func (m *mover) unmark() error {
	for inode := range m.linked {
		file := inDir(m.links, strconv.FormatUint(inode, 10))
		for _, mark := range []string{markTimes, markCopied} {
			if err := unix.Lremovexattr(file, mark); err != nil && !errors.Is(err, unix.ENODATA) {
				return fmt.Errorf("unmark %s: %w", file, err)
			}
		}
	}
	return nil
}

// makePiece moves a piece of a file.
func (m *mover) makePiece(ctx context.Context, out, in *os.File, start, end int64) error {
	if err := copyContent(out, in, start, end); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	mark := binary.BigEndian.AppendUint64(nil, uint64(end))
	if err := unix.Fsetxattr(int(out.Fd()), markCopied, mark, 0); err != nil {
		return fmt.Errorf("mark %s: %w", out.Name(), err)
	}
	m.pool.done()
	if err := commit(m.pool.path()); err != nil {
		return err
	}
	m.pool.done()
	if err := unix.Fallocate(int(in.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, end-start); err != nil {
		return &os.PathError{Op: "give back a piece of", Path: in.Name(), Err: err}
	}
	m.pool.done()
	m.total += end - start
	m.tell()
	return m.pool.makeRoom(ctx)
}

// copiedOf is how much of a file is there, by its mark.
func copiedOf(f *os.File) int64 {
	b := make([]byte, 8)
	if n, err := unix.Fgetxattr(int(f.Fd()), markCopied, b); err != nil || n != len(b) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// removeAt removes a file that a move left, which was cut short. It is no directory.
func removeAt(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: path.Join(dir.Name(), name), Err: err}
	}
	return nil
}

// flush writes out what was copied, then deletes it where it was, and lets the
// pool have the room.
func (m *mover) flush(ctx context.Context) error {
	if len(m.moved) == 0 {
		return nil
	}
	if err := commit(m.pool.path()); err != nil {
		return err
	}
	m.pool.done()
	if err := m.trustAll(); err != nil {
		return err
	}
	for i, f := range m.moved {
		if err := f.delete(); err != nil {
			m.moved = m.moved[i:]
			return errors.Join(err, m.forget())
		}
		m.pool.done()
	}
	m.total += m.bytes
	m.moved, m.bytes = nil, 0
	m.tell()
	return m.pool.makeRoom(ctx)
}

// trustAll has all files in links trusted after a power cut, too.
func (m *mover) trustAll() error {
	if len(m.fresh) == 0 {
		return nil
	}
	for inode := range m.fresh {
		if err := m.trust(inode); err != nil {
			return err
		}
	}
	clear(m.fresh)
	m.pool.done()
	return commit(m.pool.path())
}

// delete deletes a file where it was. A directory whose files wait for another
// batch is deleted with them.
func (f moved) delete() error {
	if f.closes != nil {
		return f.closes.Close()
	}
	flags := 0
	if f.isDir {
		flags = unix.AT_REMOVEDIR
	}
	err := unix.Unlinkat(int(f.dir.Fd()), f.name, flags)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: path.Join(f.dir.Name(), f.name), Err: err}
	}
	return nil
}

// forget closes the directories of what is not deleted.
func (m *mover) forget() error {
	var err error
	for _, f := range m.moved {
		if f.closes != nil {
			err = errors.Join(err, f.closes.Close())
		}
	}
	m.moved = nil
	return err
}

// tell says now and then how far it is.
func (m *mover) tell() {
	now := time.Now()
	if m.report == nil || now.Sub(m.reported) < reportEvery {
		return
	}
	m.reported = now
	m.report(fmt.Sprintf("Moving the files to their new place: %d files, %d MB", m.files, m.total>>20))
}

// fromSlot turns what an older release stored with the ids of a slot, the first of
// which is given, into what is stored now.
func fromSlot(first int) converter {
	id := func(stored uint32) uint32 {
		if stored < uint32(first) || stored >= uint32(first)+agent.SlotSize {
			return nobody
		}
		return stored - uint32(first)
	}
	return func(a *attributes) {
		a.Uid, a.Gid = id(a.Uid), id(a.Gid)
		for name, value := range a.xattrs {
			switch {
			case name == "security.capability":
				a.xattrs[name] = convertCapability(value, id)
			case strings.HasPrefix(name, "system.posix_acl_"):
				a.xattrs[name] = convertACL(value, id)
			}
		}
	}
}

// Attributes by which overlays mark files: one that a user mounted, as older
// releases had it, and one of root's.
const (
	userMark = "user.overlay."
	rootMark = "trusted.overlay."
)

// fromLayer turns, besides, the marks of an overlay that a user mounted into those
// of root's.
func fromLayer(before converter) converter {
	return func(a *attributes) {
		before(a)
		for name, value := range a.xattrs {
			mark, ok := strings.CutPrefix(name, userMark)
			if !ok {
				continue
			}
			delete(a.xattrs, name)
			switch nested, ok := strings.CutPrefix(mark, "overlay."); {
			case ok: // of an overlay in the workspace, which the kernel had set apart
				a.xattrs[userMark+nested] = value
			case mark == "opaque" || mark == "whiteout":
				a.xattrs[rootMark+mark] = value
			} // the others lead to the file system that it was on
		}

		// Without a mark of where it is from, one is written to each directory that
		// is looked at; when the quota is used up, nothing in it can be read.
		if _, opaque := a.xattrs[rootMark+"opaque"]; a.kind() == unix.S_IFDIR && !opaque {
			a.xattrs[rootMark+"origin"] = nil
		}
	}
}

// convertCapability turns the root's id in capabilities of a file, the last four
// bytes of version 3 (struct vfs_ns_cap_data of linux/capability.h).
func convertCapability(value []byte, id func(uint32) uint32) []byte {
	const version3, size3 = 3, 24
	if len(value) != size3 || value[3] != version3 {
		return value
	}
	converted := append([]byte(nil), value[:size3-4]...)
	return binary.LittleEndian.AppendUint32(converted, id(binary.LittleEndian.Uint32(value[size3-4:])))
}

// convertACL turns the ids in an access control list: a version, then entries of
// tag, permissions and id (linux/posix_acl_xattr.h).
func convertACL(value []byte, id func(uint32) uint32) []byte {
	const header, entry, tagUser, tagGroup = 4, 8, 0x02, 0x08
	converted := append([]byte(nil), value...)
	for at := header; at+entry <= len(converted); at += entry {
		if tag := binary.LittleEndian.Uint16(converted[at:]); tag == tagUser || tag == tagGroup {
			binary.LittleEndian.PutUint32(converted[at+4:], id(binary.LittleEndian.Uint32(converted[at+4:])))
		}
	}
	return converted
}
