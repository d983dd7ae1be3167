package vm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// button is a machine that goes off when its power button is pressed.
type button struct {
	exited  chan struct{}
	pressed []StopMethod
}

func (*button) Processes() []Process { return nil }
func (*button) Events() <-chan Event { return nil }
func (*button) Channel(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.ErrUnsupported
}

func (b *button) Stop(_ context.Context, how StopMethod) error {
	b.pressed = append(b.pressed, how)
	close(b.exited)
	return nil
}

// TestLadder_GuestDoesNotHear goes on at once: the hour is never waited for.
func TestLadder_GuestDoesNotHear(t *testing.T) {
	m := &button{exited: make(chan struct{})}
	rungs := make(chan string, 8)
	l := ladder{
		machine: m, exited: m.exited, stopped: make(chan struct{}), rungs: rungs,
		log: slog.New(slog.DiscardHandler), total: time.Hour,
		askGuest: func(context.Context) error { return errors.New("the guest's agent does not answer") },
	}
	l.climb(t.Context())
	close(rungs)
	var taken []string
	for r := range rungs {
		taken = append(taken, r)
	}
	if !slices.Equal(taken, []string{"asked the guest", "power button"}) || !slices.Equal(m.pressed, []StopMethod{PowerDown}) {
		t.Errorf("took %q, pressed %v", taken, m.pressed)
	}
}

// TestLadder_GuestStopsItself presses the button as soon as the guest is done.
func TestLadder_GuestStopsItself(t *testing.T) {
	m := &button{exited: make(chan struct{})}
	stopped := make(chan struct{})
	l := ladder{
		machine: m, exited: m.exited, stopped: stopped, rungs: make(chan string, 8),
		log: slog.New(slog.DiscardHandler), total: time.Hour,
		askGuest: func(context.Context) error { close(stopped); return nil },
	}
	l.climb(t.Context())
	if !slices.Equal(m.pressed, []StopMethod{PowerDown}) {
		t.Errorf("pressed %v", m.pressed)
	}
}

// TestSupervisor_lastRung hears of the machine's end before it hears what the
// ladder did.
func TestSupervisor_lastRung(t *testing.T) {
	s := &supervisor{
		inst: Instance{Dir: t.TempDir()}, machine: new(button), stopping: true,
		exited: make(chan struct{}), rungs: make(chan string, 8), log: slog.New(slog.DiscardHandler),
	}
	s.rungs <- "asked the guest"
	s.rungs <- "power button"
	s.recordEnd(Event{Kind: Exited})
	if s.state.Status != Stopped || s.state.LastStop != "power button" {
		t.Errorf("%s by %q", s.state.Status, s.state.LastStop)
	}
}
