package builders

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// Background is work that goes on beside the steps before the one that needs
// its result. Much of a build keeps one processor busy.
type Background struct {
	stop   context.CancelFunc
	done   chan struct{}
	cached bool  // valid after done
	err    error // valid after done

	mu   sync.Mutex
	said bytes.Buffer // before anybody waited
	out  io.Writer    // nil: nobody waits yet
}

// Begin starts work, which says its progress on the writer that it is given.
// The progress is shown from when the work is waited for. The caller defers End.
func Begin(ctx context.Context, work func(ctx context.Context, out io.Writer) (cached bool, err error)) *Background {
	ctx, stop := context.WithCancel(ctx)
	b := &Background{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.cached, b.err = work(ctx, b)
	}()
	return b
}

// Write keeps what the work says, or shows it.
func (b *Background) Write(s []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out != nil {
		return b.out.Write(s)
	}
	return b.said.Write(s)
}

// Wait shows on out what the work says and returns when it is done.
func (b *Background) Wait(out io.Writer) (cached bool, err error) {
	b.mu.Lock()
	_, err = b.said.WriteTo(out)
	b.out = out
	b.mu.Unlock()
	if err != nil {
		return false, err
	}
	<-b.done
	return b.cached, b.err
}

// End stops the work if it still goes on.
func (b *Background) End() {
	b.stop()
	<-b.done
}
