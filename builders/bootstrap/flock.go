package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockFile opens file for reading and writing, creating it when absent, and
// holds its flock(2) until unlock is called or the process dies. The file is
// what is at its path: not one that was renamed or removed meanwhile.
func lockFile(ctx context.Context, file string) (f *os.File, unlock func(), err error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if f, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
			return nil, nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && samePath(f, file) {
			return f, func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, nil, fmt.Errorf("lock %s: %w", file, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for the builder that holds %s: %w", file, ctx.Err())
		case <-tick.C:
		}
	}
}

func samePath(f *os.File, file string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(file)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// tryLock is lockFile for those who have no need to wait.
func tryLock(file string) (unlock func(), ok bool) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || !samePath(f, file) {
		f.Close()
		return nil, false
	}
	return func() { f.Close() }, true
}
