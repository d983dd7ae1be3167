package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/rockpool/rootvm/agent"
)

// retryPause is how long the start waits before it tries the database again.
const retryPause = 3 * time.Second

// agentUnit is the unit that this program is the service of.
const agentUnit = "rockpool-agent.service"

// waiting is the patience of a start with faults of the database that pass by
// themselves: a full disk, another program's lock. A process that ended
// instead would be started again five times within seconds, and then never.
//
// Meanwhile there is no socket, so Caddy says that the agent does not answer
// yet: nothing that could be asked has an answer without the database.
type waiting struct {
	pause  time.Duration     // before the next try
	err    io.Writer         // for the fault, one line, as [report] writes it
	record *agent.BootRecord // for the fault, which is told to the host

	told string // code of the fault that was told last
}

// until calls f until it succeeds, fails for good, or ctx ends, which is
// ctx's error.
func until[T any](ctx context.Context, w *waiting, f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if !passes(err) {
			return v, err
		}
		if ctx.Err() == nil {
			w.tellFault(err)
		}
		t := time.NewTimer(w.pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return v, ctx.Err()
		case <-t.C:
		}
	}
}

// passes reports whether an error is one that ends by itself.
func passes(err error) bool {
	switch agent.ErrorCode(err) {
	case agent.CodeUnavailable, agent.CodeNoSpace:
		return true
	}
	return errors.Is(err, syscall.ENOSPC) // for the lock's file
}

// tellFault tells a fault to people, systemd and the host, unless it is known. To systemd the agent counts as
// started: what is ordered after it, such as growing the disk and the
// containers' service, may be what ends the fault, and must not wait for it,
// and the time for a start does not run out.
func (w *waiting) tellFault(err error) {
	if code := agent.ErrorCode(err); code != w.told {
		w.told = code
		line := oneLine(err.Error())
		const promise = "it waits, and starts as soon as this is over"
		fmt.Fprintf(w.err, "rockpool-agent serve: %s: %s\n", line, promise)
		w.record.Add(agent.BootEvent{Failed: agent.FailedUnit{Unit: agentUnit, Message: line + ": " + promise}})
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=Waiting: "+line)
	}
}

// stopped is what a start that failed comes to: being told to end while it
// waits is no fault.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
