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

// maxTries is how often in a row a push may fail without a blob more.
const maxTries = 5

// retry pushes until it succeeds, fails for good, or gets no further.
func (d Destination) retry(ctx context.Context, p *progress, push func() error) error {
	first := d.Delay
	if first == 0 {
		first = time.Second
	}

	delay, tries := first, 0
	for {
		before := p.complete()
		err := push()
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

		d.Say(fmt.Sprintf("%v: going on in %v, with what the registry has", err, delay))
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
