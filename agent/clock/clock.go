// Package clock sets the guest's clock by the host's. A host that slept wakes up
// with the right time and a guest whose clock stood still; what keeps the time
// over the network notices that late, or never where there is none.
//
// Only root may set the clock. rockpool-clock.socket hands each connection to a
// short-lived "rockpool-agent clock" that runs as root, reads one time and does
// nothing else: [Setter.Answer]. [Client] is the other end, for the agent. The
// package owns no state.
package clock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/oneline"
	"github.com/rockpool/rootvm/guest"
)

// minJump is how far a clock has to be off to be set: below, what keeps the time
// over the network does better, and the way of a call takes its time, too.
const minJump = 2 * time.Second

// maxLine bounds a request, in bytes.
const maxLine = 256

// Setter sets the clock. All fields must be set; [System] has the machine's.
type Setter struct {
	Now     func() time.Time
	Running func() time.Duration // since the machine started; goes on while its clock is set
	Set     func(time.Time) error
	Log     func(format string, args ...any) // a line about each time that was set
}

// System is the machine's own clock.
func System(log func(format string, args ...any)) Setter {
	return Setter{Now: time.Now, Running: running, Set: setRealtime, Log: log}
}

// running is how long this machine has been running, 0 when that is not known.
func running() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func setRealtime(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// Answer reads a time, a line with the nanoseconds since 1970 and those that the
// machine had been running then, sets the clock when it jumps by what the time is
// by now, and answers "ok", or why not. Until root's program runs, a busy machine
// may take its time.
func (s Setter) Answer(in io.Reader, out io.Writer) error {
	t, at, err := readTime(in)
	waited := s.Running() - at
	switch {
	case err != nil:
	case waited < 0 || waited > answerTime:
		err = fmt.Errorf("the request is %s old", waited)
	default:
		err = s.follow(t.Add(waited))
	}
	return oneline.Answer(out, "ok", err)
}

func readTime(r io.Reader) (t time.Time, running time.Duration, err error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil {
		return time.Time{}, 0, errors.New("the request is no time")
	}
	told, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, err := strconv.ParseInt(told, 10, 64)
	ran, ranErr := strconv.ParseInt(at, 10, 64)
	if err != nil || ranErr != nil {
		return time.Time{}, 0, errors.New("the request is no time")
	}
	if t = time.Unix(0, n); !guest.ValidClock(t) {
		return time.Time{}, 0, fmt.Errorf("the time %s is not one of a host that knows its own", t.UTC().Format(time.RFC3339))
	}
	return t, time.Duration(ran), nil
}

// follow sets the clock, unless it is as good as right.
func (s Setter) follow(t time.Time) error {
	now := s.Now()
	jump := t.Round(0).Sub(now.Round(0)) // by the wall clock
	if jump.Abs() < minJump {
		return nil
	}
	if err := s.Set(t); err != nil {
		return err
	}
	s.Log("the clock was set by the host's, from %s to %s, by %s", now.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339), jump.Round(time.Millisecond))
	return nil
}

// answerTime bounds a request to root's end.
const answerTime = 10 * time.Second

// Client has the machine's root set the clock.
type Client struct{ Socket string }

// Follow has the clock set to the host's, unless it is as good as right.
func (c Client) Follow(ctx context.Context, host time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := oneline.Ask(ctx, c.Socket, fmt.Sprintln(host.UnixNano(), running().Nanoseconds())); err != nil {
		return fmt.Errorf("follow the host's clock: %w", err)
	}
	return nil
}
