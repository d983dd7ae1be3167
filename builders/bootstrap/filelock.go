package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// lockFile makes file when it is absent and holds its flock(2) until unlock is
// called or the process dies. The lock is on what is at the path: not on a file
// that was renamed or removed meanwhile.
func lockFile(ctx context.Context, file string) (unlock func(), err error) {
	for {
		l := flock.New(file, flock.SetPermissions(0o644))
		locked, err := l.TryLockContext(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for the builder that holds %s: %w", file, ctx.Err()), l.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if locked && atItsPath(l) {
			return func() { l.Close() }, nil
		}
		l.Close()
	}
}

// tryLockFile is lockFile for those who have no need to wait.
func tryLockFile(file string) (unlock func(), ok bool) {
	l := flock.New(file, flock.SetPermissions(0o644))
	if locked, err := l.TryLock(); err != nil || !locked || !atItsPath(l) {
		l.Close()
		return nil, false
	}
	return func() { l.Close() }, true
}

func atItsPath(l *flock.Flock) bool {
	a, err1 := l.Stat()
	b, err2 := os.Stat(l.Path())
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Lock lets one build at a time use the cache. It calls waiting once when
// another build does, and waits for that to end.
//
// The lock is a flock(2) lock on an open file that the caller's processes
// inherit: when the caller is killed and they are not, the cache stays locked
// until they have ended too. So it is not taken through the flock library, which
// gives nobody its file.
func (c Cache) Lock(ctx context.Context, waiting func()) (*os.File, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, "build.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}

	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock the cache: %w", err), f.Close())
		}
		if !said {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another build: %w", ctx.Err()), f.Close())
		case <-tick.C:
		}
	}
}
