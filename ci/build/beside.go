package build

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// beside is work that goes on beside the steps before the one that needs it.
// Much of a build keeps one processor busy.
type beside struct {
	stop   context.CancelFunc
	done   chan struct{}
	cached bool  // valid after done
	err    error // valid after done

	mu   sync.Mutex
	said bytes.Buffer // before anybody waited
	out  io.Writer    // nil: nobody waits yet
}

// begin starts work, which says its progress on the pipeline that it is given.
// It is shown from when the work is waited for. The caller defers end.
func (p *Pipeline) begin(ctx context.Context, work func(context.Context, *Pipeline) (cached bool, err error)) *beside {
	ctx, stop := context.WithCancel(ctx)
	b := &beside{stop: stop, done: make(chan struct{})}
	quiet := *p
	quiet.Out = b
	go func() {
		defer close(b.done)
		b.cached, b.err = work(ctx, &quiet)
	}()
	return b
}

// Write keeps what the work says, or shows it.
func (b *beside) Write(s []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out != nil {
		return b.out.Write(s)
	}
	return b.said.Write(s)
}

// wait shows on out what the work says and returns when it is done.
func (b *beside) wait(out io.Writer) (cached bool, err error) {
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

// end stops the work if it still goes on.
func (b *beside) end() {
	b.stop()
	<-b.done
}
