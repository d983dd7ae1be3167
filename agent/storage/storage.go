// Package storage keeps the files of workspaces and the images below them in one
// btrfs, the pool, which is a file on the data disk: a subvolume for each, with a
// quota. It is the root side of [agent.Storage] ([Pool]) and the agent's ([Client]).
//
// Only root can make subvolumes, mount them and map their ids.
// rockpool-storage.socket starts "rockpool-agent storage", which runs as root,
// answers a request on each connection and ends when nobody asks any more: [Serve],
// [Answer]. Ids, digests, numbers and archives are all that it takes; the places are
// its own.
//
// The package owns what lies below [Pool.Dir], and takes over what an older
// release left in Podman's directories.
package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// Pool keeps files of workspaces and images. Several processes may work on one at
// once; locks below RunDir part them.
type Pool struct {
	Dir        string // on the data disk
	RunDir     string // locks, until the next boot
	Image      string // directory of the VM's own image: its root file system in rootfs/, its digest, one line, in digest
	Containers string // Podman's directory, in which an older release left files
	SubUIDs    string // file like /etc/subuid: the ranges of User; /etc/subgid must say the same
	User       string // whose containers use the files
	Account    int    // user and group id of User

	// step is called after each step that a power cut may follow; nil outside
	// tests.
	step func()
}

// InVM returns the pool of the VM.
func InVM() *Pool {
	return &Pool{
		Dir:        guest.StorageDir,
		RunDir:     guest.StorageRunDir,
		Image:      guest.WorkspaceDir,
		Containers: guest.DataDir + "/containers",
		SubUIDs:    "/etc/subuid",
		User:       guest.ServiceUser,
		Account:    guest.ServiceID,
	}
}

var _ agent.Storage = (*Pool)(nil)

// done marks the end of a step.
func (p *Pool) done() {
	if p.step != nil {
		p.step()
	}
}

// lockRetry is how often a lock that another process holds is tried again.
const lockRetry = 20 * time.Millisecond

// lock waits until no other process works on what has this name: the id of a
// workspace, the name of an image, or "pool" for all of them.
func (p *Pool) lock(ctx context.Context, name string) (unlock func(), err error) {
	l, err := p.fileLock(name)
	if err != nil {
		return nil, err
	}
	if _, err := l.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, errors.Join(err, l.Close()))
	}
	return func() { _ = l.Close() }, nil
}

// tryLock reports whether nobody works on what has this name; then it is locked.
func (p *Pool) tryLock(name string) (unlock func(), ok bool, err error) {
	l, err := p.fileLock(name)
	if err != nil {
		return nil, false, err
	}
	ok, err = l.TryLock()
	if err != nil || !ok {
		return nil, false, errors.Join(err, l.Close())
	}
	return func() { _ = l.Close() }, true, nil
}

// fileLock is the lock of a name. It stays until the next boot: one that was
// deleted could be held by two.
func (p *Pool) fileLock(name string) (*flock.Flock, error) {
	dir := filepath.Join(p.RunDir, "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the locks: %w", err)
	}
	return flock.New(filepath.Join(dir, name+".lock"), flock.SetPermissions(0o600)), nil
}
