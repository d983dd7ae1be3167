package watch

import (
	"errors"
	"os"
)

// hint says where something may have happened.
type hint struct {
	dir  string // that was given to add; "." is the root
	name string // in dir; empty: anything in it
}

// happened says what is known of it.
type happened uint8

const (
	written     happened = 1 << iota // a file was written to, or its time was set
	closedWrite                      // a file was closed that had been open for writing
	saved                            // that, after it was written to
	isOpen                           // a file was written to, and not closed since
	below                            // anything in all directories below
	ended                            // the directory is not watched any more
)

// source tells where something happens in directories. inotify is one; one
// that tells of a whole tree by itself, such as macOS's FSEvents, returns nil
// from add and knows below. A source does not tell what happened: the watcher
// looks.
type source interface {
	// add has everything told that happens directly in the directory dir, which
	// is open as f, from now on. errLimit: the kernel will not take more.
	add(dir string, f *os.File) error

	// remove ends that. It may be called for a directory that is gone or was
	// never added.
	remove(dir string)

	// ready holds one when there are hints.
	ready() <-chan struct{}

	// take returns what happened since the last call, and whether more did than
	// could be kept, so that everything has to be looked at.
	take() (map[hint]happened, bool)

	// close ends it.
	close()
}

// errLimit says that the kernel watches no more directories for this user.
var errLimit = errors.New("the kernel watches no more directories")
