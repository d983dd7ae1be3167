package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// errLocked says that another process holds a lock.
var errLocked = errors.New("held by another process")

// tryLock takes a lock file of an instance without waiting. The kernel drops
// it with the process, so that a stale one does not exist.
func tryLock(dir, name string) (*flock.Flock, error) {
	l := flock.New(filepath.Join(dir, name))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	if !ok {
		return nil, fmt.Errorf("lock %s: %w", l.Path(), errLocked)
	}
	return l, nil
}

// lockOperation waits until no other start, stop or destroy works on the
// instance. The directory is made when it does not exist.
func lockOperation(ctx context.Context, dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the instance's directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	l := flock.New(filepath.Join(dir, operationLock))
	if ok, err := l.TryLockContext(ctx, 100*time.Millisecond); err != nil || !ok {
		return nil, fmt.Errorf("another command has been working on %s for long: wait for it, or end it: %w", filepath.Base(dir), err)
	}
	return l, nil
}

// lastWords is how long the supervisor of a machine that has just died may take
// to clean up behind it.
const lastWords = 20 * time.Second

// lockSupervisor takes the lock of the one that watches over an instance's
// machine. With wait it lets the one before finish: its machine may be dead and
// itself at work still.
func lockSupervisor(ctx context.Context, dir string, wait bool) (*flock.Flock, error) {
	if !wait {
		return tryLock(dir, supervisorLock)
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	l := flock.New(filepath.Join(dir, supervisorLock))
	ok, err := l.TryLockContext(ctx, 50*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) || err == nil && !ok {
		err = errLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	return l, nil
}
