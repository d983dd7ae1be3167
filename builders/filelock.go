package builders

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// LockFile makes file when it is absent and holds its flock(2) until unlock is
// called or the process dies. The lock is on what is at the path: not on a file
// that was renamed or removed meanwhile.
func LockFile(ctx context.Context, file string) (unlock func(), err error) {
	for {
		l := flock.New(file, flock.SetPermissions(0o644))
		locked, err := l.TryLockContext(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for another build that holds %s: %w", file, context.Cause(ctx)), l.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if locked && atItsPath(l) {
			return func() { _ = l.Close() }, nil
		}
		_ = l.Close()
	}
}

// TryLockFile is [LockFile] for those who have no need to wait.
func TryLockFile(file string) (unlock func(), ok bool) {
	l := flock.New(file, flock.SetPermissions(0o644))
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
