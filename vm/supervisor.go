package vm

import (
	"context"
	"errors"
	"io"
)

// Supervise watches the instance in dir until its machine is off: it attaches
// to a machine that runs, or else launches the one that Start prepared. It
// fails at once when another supervisor holds the instance. drivers makes a
// driver by name, its settings still empty. It writes one line of JSON to
// ready, {"error":"…"} or {}, when the machine runs or did not start.
func Supervise(ctx context.Context, dir string, drivers map[string]func() Driver, ready io.Writer) error {
	return errors.ErrUnsupported
}
