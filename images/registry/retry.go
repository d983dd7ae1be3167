package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"go.podman.io/common/pkg/retry"
)

// maxTries is how often in a row a copy may fail without a blob more.
const maxTries = 5

// Retry copies until that succeeds, fails for good, or gets no further. there
// says what the next try goes on with.
func (r Remote) Retry(ctx context.Context, p *Progress, there string, try func() error) error {
	first := r.Delay
	if first == 0 {
		first = time.Second
	}

	delay, tries := first, 0
	for {
		before := p.complete()
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if p.complete() > before {
			delay, tries = first, 0
		}
		tries++
		if tries >= maxTries || !passes(err, p.complete() > 0) {
			return err
		}

		r.Tell(fmt.Sprintf("%v: going on in %v, with %s", err, delay, there))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
		delay *= 2
	}
}

// passes reports whether a fault may be over in a while. That nobody listens is
// one that passes only where somebody did before: else the name is wrong.
func passes(err error, reached bool) bool {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return reached
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return retry.IsErrorRetryable(err)
}
