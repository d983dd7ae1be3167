package controlplane_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/stub"
)

// shortage is what a workspace says of memory that was used up.
func (p *plane) shortage(id string) agent.Shortage {
	p.t.Helper()
	w, err := p.Workspace(p.t.Context(), id)
	must(p.t, err)
	return w.Shortage
}

// slowStarts makes every start take a while, so that what a workspace says on its
// way up can be seen.
func slowStarts(ctx context.Context, c stub.Call) error {
	if c.Op == stub.OpStart && !c.After {
		time.Sleep(5 * time.Second)
	}
	return ctx.Err()
}

// TestShortage_process: a process that the kernel ended is told while the
// workspace lives on, with the time and with whose memory was used up, once, and
// until its owner starts the workspace anew.
func TestShortage_process(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		one, two := p.created("one"), p.created("two")
		time.Sleep(time.Minute)
		before := time.Now()
		p.rt.Starve(one.ID, stub.Starvation{})
		eventually(t, "it is told", func() bool { return p.shortage(one.ID).Message != "" })
		got := p.shortage(one.ID)
		if want := "A process was ended because the workspace used more than its 4.0 GiB of memory."; got.Message != want {
			t.Errorf("%q, want %q", got.Message, want)
		}
		if since := got.At.Sub(before); since < 0 || since > 5*time.Second {
			t.Errorf("told as of %s after it", since)
		}
		if p.status(one.ID) != agent.StatusRunning || p.shortage(two.ID) != (agent.Shortage{}) {
			t.Errorf("%s; another workspace says %+v", p.status(one.ID), p.shortage(two.ID))
		}

		time.Sleep(time.Minute)
		if again := p.shortage(one.ID); again != got {
			t.Errorf("told again: %+v", again)
		}
		p.rt.Starve(one.ID, stub.Starvation{Shared: true})
		eventually(t, "the next one is told", func() bool { return p.shortage(one.ID) != got })
		if got := p.shortage(one.ID); !strings.Contains(got.Message, "A process was ended because the workspace used the most when all workspaces together needed more than the 8.0 GiB of memory") {
			t.Errorf("%q", got.Message)
		}

		p.end()
		p = w.live(t)
		got = p.shortage(one.ID)
		time.Sleep(time.Minute)
		if again := p.shortage(one.ID); again != got || got.Message == "" {
			t.Errorf("after a restart of the agent: %+v, was %+v", again, got)
		}
		p.restart(one.ID)
		if got := p.shortage(one.ID); got != (agent.Shortage{}) {
			t.Errorf("after its next start: %+v", got)
		}
		p.rt.Starve(one.ID, stub.Starvation{})
		eventually(t, "one of the next life is told", func() bool { return p.shortage(one.ID).Message != "" })
	})
}

// TestShortage_missed: what the kernel ended while no agent looked is told by
// the next one.
func TestShortage_missed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		one := p.created("one")
		p.end()
		w.rt.Starve(one.ID, stub.Starvation{})
		p = w.live(t)
		eventually(t, "it is told", func() bool { return p.shortage(one.ID).Message != "" })
	})
}

// TestShortage_whole: a workspace that the kernel ended says so, while it is
// started again and when it runs, and after the fourth time what to do.
func TestShortage_whole(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		one, two := p.created("one"), p.created("two")
		_, err := p.SetLimits(t.Context(), one.ID, agent.Limits{Memory: 512 << 20})
		must(t, err)
		time.Sleep(time.Minute)
		w.hooks.set(slowStarts)
		const why = "The workspace ended because it used more than its 512 MiB of memory."
		for range 3 {
			p.rt.Starve(one.ID, stub.Starvation{Whole: true})
			eventually(t, "it is started again", func() bool { return p.status(one.ID) == agent.StatusCreating })
			ws, err := p.Workspace(t.Context(), one.ID)
			must(t, err)
			if want := why + " It is started again."; ws.ErrorMessage != want {
				t.Errorf("%q, want %q", ws.ErrorMessage, want)
			}
			if ws = p.wait(one.ID, agent.StatusRunning); ws.Shortage.Message != why || ws.ErrorMessage != "" {
				t.Errorf("when it runs again: %+v, %q", ws.Shortage, ws.ErrorMessage)
			}
			time.Sleep(time.Minute)
		}

		p.rt.Starve(one.ID, stub.Starvation{Whole: true})
		ws := p.wait(one.ID, agent.StatusError)
		if want := why + " It was the 4th time within 10m0s: give it more memory, or let less go on in it."; ws.ErrorMessage != want {
			t.Errorf("%q, want %q", ws.ErrorMessage, want)
		}

		p.rt.Starve(two.ID, stub.Starvation{Whole: true, Shared: true})
		eventually(t, "it is told", func() bool { return p.shortage(two.ID).Message != "" })
		if got, want := p.shortage(two.ID).Message, "The workspace ended because it used the most when all workspaces together needed more than the 8.0 GiB of memory that the VM has for them."; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestShortage_outlived: a workspace that outlived the end of a process and ends
// much later, for whatever reason, did not end by that.
func TestShortage_outlived(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		one := p.created("one")
		time.Sleep(time.Minute)
		p.rt.Starve(one.ID, stub.Starvation{})
		eventually(t, "it is told", func() bool { return p.shortage(one.ID).Message != "" })
		told := p.shortage(one.ID)
		time.Sleep(time.Hour)
		w.hooks.set(slowStarts)
		p.rt.Outlive(one.ID)
		eventually(t, "it is started again", func() bool { return p.status(one.ID) == agent.StatusCreating })
		ws, err := p.Workspace(t.Context(), one.ID)
		must(t, err)
		if want := "The workspace's processes ended by themselves. It is started again."; ws.ErrorMessage != want || ws.Shortage != told {
			t.Errorf("%q, %+v, want %q", ws.ErrorMessage, ws.Shortage, want)
		}
	})
}

// TestShortage_unseen: a workspace that the kernel ended says so also when the
// runtime did not see why, because the group with the count was gone, and when its
// end is learned of late; one that something else killed does not, also soon after
// another was starved.
func TestShortage_unseen(t *testing.T) {
	for name, tt := range map[string]struct {
		before bool          // a process of it was ended a while before
		late   time.Duration // until the end is learned of
	}{
		"at once":                {},
		"late":                   {late: 30 * time.Second},
		"after a process":        {before: true},
		"after a process, late":  {before: true, late: 30 * time.Second},
		"very late, by the look": {before: true, late: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				one := p.created("one")
				time.Sleep(time.Minute)
				if tt.before {
					p.rt.Starve(one.ID, stub.Starvation{})
					time.Sleep(memoryLong)
				}
				learned := time.Now().Add(tt.late)
				w.hooks.set(func(ctx context.Context, c stub.Call) error {
					if c.Op == stub.OpList && time.Now().Before(learned) {
						return errors.New("the runtime is busy")
					}
					return ctx.Err()
				})
				p.rt.Starve(one.ID, stub.Starvation{Whole: true, Unseen: true})
				const want = "The workspace ended because it used more than its 4.0 GiB of memory."
				eventually(t, "it is told", func() bool { return p.shortage(one.ID).Message == want })
				p.wait(one.ID, agent.StatusRunning)
			})
		})
	}

	t.Run("killed by another hand", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			p := w.live(t)
			one, two := p.created("one"), p.created("two")
			time.Sleep(time.Minute)
			p.rt.Starve(two.ID, stub.Starvation{})
			eventually(t, "the other is told", func() bool { return p.shortage(two.ID).Message != "" })
			w.hooks.set(slowStarts)
			p.rt.Murder(one.ID)
			eventually(t, "it is started again", func() bool { return p.status(one.ID) == agent.StatusCreating })
			if got := p.shortage(one.ID); got != (agent.Shortage{}) {
				t.Errorf("it says %+v", got)
			}
		})
	})
}

// memoryLong is longer than the end of a process says something of the end of its
// workspace.
const memoryLong = 30 * time.Second
