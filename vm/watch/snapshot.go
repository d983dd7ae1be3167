package watch

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/rockpool/rootvm/guest"
)

// entry is what the snapshot knows of one name. Entries that are equal are the
// same to the guest.
type entry struct {
	inode uint64
	mtime int64 // nanoseconds since 1970; 0 for a directory, whose time follows its entries
	size  int64 // 0 for a directory
	dir   bool
}

// folder is what the snapshot knows of a directory that is not left out.
type folder struct {
	entries map[string]entry
	ignore  []pattern
	watched bool // by the kernel; else it is looked at again and again
}

// entryOf is what the snapshot keeps of a file; false for what is neither file,
// directory nor symbolic link, which no watcher in the guest could read.
func entryOf(info fs.FileInfo) (entry, bool) {
	number, _ := inode(info)
	switch info.Mode().Type() {
	case fs.ModeDir:
		return entry{inode: number, dir: true}, true
	case 0, fs.ModeSymlink:
		return entry{inode: number, mtime: info.ModTime().UnixNano(), size: info.Size()}, true
	}
	return entry{}, false
}

// tell has a change told; false when there is no room, so that the snapshot has
// to stay as it is.
func (w *Watcher) tell(op guest.FileOp, p string, e entry, open bool) bool {
	return w.tellOf(op, p, e, 0, open)
}

// tellOf is tell, with the inode of the file that was at the path before.
func (w *Watcher) tellOf(op guest.FileOp, p string, e entry, before uint64, open bool) bool {
	if w.quiet {
		return true
	}
	if !utf8.ValidString(p) { // which JSON cannot carry: the guest looks at what is around it
		for !utf8.ValidString(p) {
			p = path.Dir(p)
		}
		op, e = guest.FileModified, entry{dir: true}
	}
	if len(p) > guest.MaxPath {
		return true
	}
	c := guest.FileChange{Op: op, Path: p, ModTime: e.mtime, Size: e.size, Dir: e.dir, Was: before}
	if !w.stream.add(c, open) {
		w.behind = true
		return false
	}
	return true
}

// look compares one name of a directory with the snapshot.
func (w *Watcher) look(dir, name string, what happened) {
	f := w.folders[dir]
	if f == nil {
		return
	}
	d, err := w.root.OpenRoot(dir)
	if err != nil { // it is gone or another one, as its parent tells
		return
	}
	defer d.Close()
	if slices.Contains(ignoreFiles, name) {
		defer w.reloadIgnore(dir, f, d)
	}
	w.compare(dir, name, f, d, what)
}

// compare is look with the directory open. It returns the entry, and whether it
// is a directory whose content has not been looked at.
func (w *Watcher) compare(dir, name string, f *folder, d *os.Root, what happened) {
	full := path.Join(dir, name)
	was, known := f.entries[name]
	info, err := d.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // not readable for a moment, or for ever
	}
	var is entry
	exists := err == nil
	if exists {
		is, exists = entryOf(info)
	}
	if exists && is.dir && w.ignored(dir, name) {
		if known && was.dir { // it is left out from now on
			w.drop(full)
			delete(f.entries, name)
			return
		}
		exists = false
	}

	open := what&isOpen != 0
	switch {
	case !exists && !known:
	case !exists:
		w.gone(full, name, f, was)
	case !known:
		w.appeared(full, name, f, entry{}, is, open)
	case was == is:
		if !is.dir && w.stream.touched(full, what) {
			w.renew(full, name, f, d)
		}
	case was.dir || is.dir || was.inode != is.inode:
		if was.dir {
			w.drop(full)
		}
		w.appeared(full, name, f, was, is, open)
	case is.mtime <= was.mtime && w.stream.hasSet(full, is.mtime):
		w.renew(full, name, f, d)
	default:
		if w.tell(guest.FileModified, full, is, open) {
			f.entries[name] = is
		}
	}
}

// appeared takes in what is new at a path, or another one than before.
func (w *Watcher) appeared(full, name string, f *folder, was, is entry, open bool) {
	if !w.tellOf(guest.FileCreated, full, is, was.inode, open) {
		return
	}
	f.entries[name] = is
	if is.dir {
		w.scan(full, true)
	}
}

// gone takes in that there is nothing at a path any more.
func (w *Watcher) gone(full, name string, f *folder, was entry) {
	if !w.tellOf(guest.FileDeleted, full, entry{dir: was.dir}, was.inode, false) {
		return
	}
	delete(f.entries, name)
	if was.dir {
		w.drop(full)
	}
}

// renew gives a file that was written while the guest raised its last event a
// time of its own: the guest may have set it back to that of the write before.
// The time goes forward, and to about when the file was written.
func (w *Watcher) renew(full, name string, f *folder, d *os.Root) {
	if err := d.Chtimes(name, time.Time{}, time.Now()); err != nil {
		w.o.Log.Debug("a file that was written keeps the time of the write before", "file", w.absolute(full), "err", err)
	}
	info, err := d.Lstat(name)
	if err != nil {
		return
	}
	if is, ok := entryOf(info); ok && w.tell(guest.FileModified, full, is, false) {
		f.entries[name] = is
	}
}

// drop forgets a directory and everything below it, without a word.
func (w *Watcher) drop(dir string) {
	f := w.folders[dir]
	if f == nil {
		return
	}
	w.unwatch(dir, f)
	delete(w.folders, dir)
	for name, e := range f.entries {
		if e.dir {
			w.drop(path.Join(dir, name))
		}
	}
}

func (w *Watcher) unwatch(dir string, f *folder) {
	if f.watched && w.source != nil {
		w.source.remove(dir)
	}
	f.watched = false
}

// rescan looks at everything.
func (w *Watcher) rescan() {
	w.behind = false
	w.mu.Lock()
	w.report.Scans++
	w.mu.Unlock()
	w.scan(".", true)
}

// scan compares all names of a directory with the snapshot, after it is
// watched, so that nothing is missed between; deep goes on to the directories
// below.
func (w *Watcher) scan(dir string, deep bool) {
	d, err := w.root.OpenRoot(dir)
	if err != nil {
		return
	}
	defer d.Close()
	list, err := d.Open(".")
	if err != nil {
		return
	}
	defer list.Close()
	f := w.folders[dir]
	if f == nil {
		f = &folder{entries: map[string]entry{}}
		w.folders[dir] = f
	}
	w.watch(dir, f, list)

	names, err := list.Readdirnames(-1)
	if err != nil {
		return
	}
	f.ignore = readIgnore(d)
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		seen[name] = true
		before := f.entries[name]
		w.compare(dir, name, f, d, 0)
		if after := f.entries[name]; deep && after.dir && after == before { // a new one is looked at already
			w.scan(path.Join(dir, name), true)
		}
	}
	for name, was := range f.entries {
		if !seen[name] {
			w.gone(path.Join(dir, name), name, f, was)
		}
	}
}

// watch has the kernel tell of a directory, unless it does.
func (w *Watcher) watch(dir string, f *folder, open *os.File) {
	if f.watched || w.source == nil {
		return
	}
	err := w.source.add(dir, open)
	f.watched = err == nil
	if err != nil && !errors.Is(err, errLimit) {
		w.o.Log.Debug("a directory is looked at again and again", "directory", w.absolute(dir), "err", err)
	}
}

// readIgnore reads a directory's files of patterns.
func readIgnore(d *os.Root) []pattern {
	var list []pattern
	for _, name := range ignoreFiles {
		if info, err := d.Lstat(name); err != nil || !info.Mode().IsRegular() {
			continue
		}
		file, err := d.Open(name)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(file, maxIgnoreFile))
		_ = file.Close()
		if err == nil {
			list = append(list, parseIgnore(b)...)
		}
	}
	return list
}

// reloadIgnore looks at a directory anew whose patterns have changed.
func (w *Watcher) reloadIgnore(dir string, f *folder, d *os.Root) {
	same := func(a, b pattern) bool { return a.negate == b.negate && a.match.String() == b.match.String() }
	if now := readIgnore(d); !slices.EqualFunc(f.ignore, now, same) {
		f.ignore = now
		w.scan(dir, true)
	}
}

// tellSince tells of everything that changed after a time, also what the
// snapshot was made from: the guest knows what was before.
func (w *Watcher) tellSince(t time.Time) {
	if w.root == nil {
		return
	}
	dirs := make([]string, 0, len(w.folders))
	for dir := range w.folders {
		dirs = append(dirs, dir)
	}
	slices.SortFunc(dirs, cmp.Compare[string])
	for _, dir := range dirs {
		w.tellFolderSince(dir, w.folders[dir], t)
	}
}

func (w *Watcher) tellFolderSince(dir string, f *folder, t time.Time) {
	d, err := w.root.OpenRoot(dir)
	if err != nil {
		return
	}
	defer d.Close()
	if info, err := d.Lstat("."); err == nil {
		if _, changed := inode(info); changed.After(t) { // something was deleted, perhaps
			w.tell(guest.FileModified, dir, entry{dir: true}, false)
		}
	}
	for name, e := range f.entries {
		info, err := d.Lstat(name)
		if err != nil || e.dir {
			continue
		}
		if _, changed := inode(info); changed.After(t) {
			w.tell(guest.FileModified, path.Join(dir, name), e, false)
		}
	}
}
