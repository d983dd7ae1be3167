package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// lock holds the lock at path until unlock is called or the process ends. The
// lock is on what is at the path, not on a file that was removed meanwhile.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		l := flock.New(path, flock.SetPermissions(0o644))
		locked, err := l.TryLockContext(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for another build: %w", context.Cause(ctx)), l.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if locked && atItsPath(l) {
			return func() { _ = l.Close() }, nil
		}
		_ = l.Close()
	}
}

// tryLock is lock for those who have no need to wait.
func tryLock(path string) (unlock func(), ok bool) {
	l := flock.New(path, flock.SetPermissions(0o644))
	if locked, err := l.TryLock(); err != nil || !locked || !atItsPath(l) {
		_ = l.Close()
		return nil, false
	}
	return func() { _ = l.Close() }, true
}

func atItsPath(l *flock.Flock) bool {
	held, err1 := l.Stat()
	there, err2 := os.Stat(l.Path())
	return err1 == nil && err2 == nil && os.SameFile(held, there)
}
