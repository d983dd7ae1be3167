package watch

import (
	"io/fs"
	"syscall"
	"time"
)

// inode is the number of a file in its file system, and changed when anything
// of it was changed last.
func inode(info fs.FileInfo) (number uint64, changed time.Time) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, time.Time{}
	}
	return st.Ino, time.Unix(st.Ctim.Unix())
}
