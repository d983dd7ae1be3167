package vm

import (
	"context"
	"time"
)

// The supervisor looks at the host's clock every clockInterval. It has jumped when
// it went on by clockJump more, or less, than the time that programs run: the host
// slept, or its clock was set.
const (
	clockInterval = 5 * time.Second
	clockJump     = 2 * time.Second
)

// wallClock is a moment by the wall clock and by the one that stands still while
// the host sleeps.
type wallClock struct {
	wall    time.Time
	running time.Duration
}

// jumped reports whether the wall clock did something else between two moments
// than going on.
func (now wallClock) jumped(before wallClock) bool {
	return (now.wall.Sub(before.wall) - (now.running - before.running)).Abs() >= clockJump
}

// hostClock returns what reads the host's clocks. [time.Time] carries both.
func hostClock() func() wallClock {
	begin := time.Now()
	return func() wallClock {
		now := time.Now()
		return wallClock{wall: now.Round(0), running: now.Sub(begin)}
	}
}

// watchClock has the guest told of each jump of the host's clock, until ctx ends.
// read is asked at each tick.
func (c *channel) watchClock(ctx context.Context, read func() wallClock, tick <-chan time.Time) {
	before := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := read()
		if now.jumped(before) {
			c.noteJump()
		}
		before = now
	}
}

// noteJump has the guest told that the clock has jumped.
func (c *channel) noteJump() {
	c.mu.Lock()
	c.owed = true
	c.mu.Unlock()
	c.remindOfJump()
}

// remindOfJump has the guest told of a jump after which it has not asked for the
// time: what it was told may have been lost.
func (c *channel) remindOfJump() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.owed {
		return
	}
	select {
	case c.jumped <- struct{}{}:
	default: // it is to be told already
	}
}

// noteAsked has the guest, which asks for it, told the time.
func (c *channel) noteAsked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = false
	select {
	case c.asked <- struct{}{}:
	default: // it is to be told already
	}
}
