package guest

import (
	"fmt"
	"io/fs"
)

// The events of files go over the channel as one ordered stream: the host tells
// the guest in batches what changed in the shared directory, and the guest
// raises those events there, since the kernel does not know of them. A guest
// that has just started asks for the stream; the host greets with a batch
// without changes, numbered 0; the guest answers the greeting and each batch
// after it. What was not answered is told again after the next greeting.
const (
	// MaxFileBatches is how many batches may be unanswered.
	MaxFileBatches = 4
	// MaxFileBatchBytes bounds a line with more than one change. All batches that
	// may be unanswered fit into the buffer of a socket together, so a guest that
	// stands still does not keep the host from calling for a shutdown.
	MaxFileBatchBytes = 16 << 10
	// MaxPath bounds a path in bytes (PATH_MAX of Linux).
	MaxPath = 4096
)

// FileOp says what happened to a file, a directory or a symbolic link.
type FileOp string

// The operations. One that was renamed was deleted here and created there.
const (
	FileCreated  FileOp = "created" // it was not there, or is another one now
	FileModified FileOp = "modified"
	FileDeleted  FileOp = "deleted"
)

// FileChange is what happened to one path since it was told last.
type FileChange struct {
	Op      FileOp `json:"op"`
	Path    string `json:"path"`            // below the shared directory, as [fs.ValidPath] wants it
	ModTime int64  `json:"mtime,omitempty"` // as the host saw it, in nanoseconds since 1970
	Size    int64  `json:"size,omitempty"`
	Dir     bool   `json:"dir,omitempty"`

	// Was is the inode of the file that was at the path before, where there is
	// another or none by now.
	Was uint64 `json:"was,omitempty"`

	// Busy says that the file is being written again and again, so that its time
	// must not be set, not even to what it is.
	Busy bool `json:"busy,omitempty"`
}

// FileBatch is a line of the host's stream.
type FileBatch struct {
	Epoch   string       `json:"epoch"`             // of the host's watcher
	Seq     uint64       `json:"seq"`               // 0 is the greeting; then the one before and 1
	Clock   int64        `json:"clock"`             // of the host, when this was sent, in nanoseconds since 1970
	Through int64        `json:"through,omitempty"` // whatever changed before this time of the host's is told with this batch
	Changes []FileChange `json:"changes,omitempty"`
}

// Validate reports what the guest does not take.
func (b FileBatch) Validate() error {
	if b.Epoch == "" || len(b.Epoch) > 64 {
		return fmt.Errorf("epoch %.80q has not 1 to 64 bytes", b.Epoch)
	}
	for _, c := range b.Changes {
		if !fs.ValidPath(c.Path) || len(c.Path) > MaxPath {
			return fmt.Errorf("%.80q is not a path below the shared directory", c.Path)
		}
		switch c.Op {
		case FileCreated, FileModified, FileDeleted:
		default:
			return fmt.Errorf("unknown operation %.40q", c.Op)
		}
	}
	return nil
}

// FileAnswer is what the guest says of the stream.
type FileAnswer struct {
	// Epoch is that of the batch; empty asks for a greeting, since batches may
	// have been lost.
	Epoch string `json:"epoch,omitempty"`

	// Greeting says that this answers the greeting.
	Greeting bool `json:"greeting,omitempty"`

	// Seq is the last batch of the epoch that was replayed, 0 for none.
	Seq uint64 `json:"seq,omitempty"`

	// Through is, in the answer to a greeting, [FileBatch.Through] of the last
	// batch, of whatever epoch. 0 is none.
	Through int64 `json:"through,omitempty"`

	Replayed int    `json:"replayed,omitempty"` // changes of the batch that were raised
	Skipped  int    `json:"skipped,omitempty"`  // made in the guest, or newer there
	Fault    string `json:"fault,omitempty"`    // why others were not, a sentence for people
}
