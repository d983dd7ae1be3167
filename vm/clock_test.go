package vm

import (
	"bufio"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// TestWallClock_Jumped: only what the wall clock does apart from going on counts.
func TestWallClock_Jumped(t *testing.T) {
	begin := wallClock{wall: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	for name, tt := range map[string]struct {
		wall, running time.Duration
		want          bool
	}{
		"goes on":             {5 * time.Second, 5 * time.Second, false},
		"a busy host":         {time.Hour, time.Hour, false},
		"is slewed":           {5*time.Second + 500*time.Millisecond, 5 * time.Second, false},
		"the host slept":      {8 * time.Hour, 5 * time.Second, true},
		"slept for seconds":   {7 * time.Second, 5 * time.Second, true},
		"was set back":        {-24 * time.Hour, 5 * time.Second, true},
		"set back by seconds": {3 * time.Second, 5 * time.Second, true},
	} {
		now := wallClock{wall: begin.wall.Add(tt.wall), running: begin.running + tt.running}
		if got := now.jumped(begin); got != tt.want {
			t.Errorf("%s: jumped = %t", name, got)
		}
	}
	read := hostClock()
	if before, now := read(), read(); now.jumped(before) || now.running < before.running {
		t.Errorf("this host's clock: %+v, then %+v", before, now)
	}
}

// TestChannel_Clock: the guest is told of each jump, and the host's time once it
// has asked, as it is then. A jump after which it has not asked is said again
// when the stack is ready, and to the next connection.
func TestChannel_Clock(t *testing.T) {
	machine := fakeTransport{conns: make(chan net.Conn)}
	c := newChannel(machine)
	c.retry = time.Millisecond
	go c.run(t.Context())

	moments := make(chan wallClock)
	tick := make(chan time.Time)
	go c.watchClock(t.Context(), func() wallClock { return <-moments }, tick)
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	moment := func(wall time.Duration) wallClock {
		at = at.Add(wall)
		return wallClock{wall: at}
	}
	moments <- moment(0)

	var ours net.Conn
	var lines *bufio.Scanner
	expect := func(want guest.Request) guest.Call {
		t.Helper()
		var call guest.Call
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &call) != nil || call.Request != want {
			t.Fatalf("called %q, %v, want %s", lines.Text(), lines.Err(), want)
		}
		return call
	}
	connect := func() {
		t.Helper()
		var theirs net.Conn
		ours, theirs = net.Pipe()
		machine.conns <- theirs
		lines = bufio.NewScanner(ours)
		expect(guest.RequestStatus)
	}
	say := func(e guest.Event) {
		t.Helper()
		if err := json.NewEncoder(ours).Encode(guest.Message{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	connect()
	defer func() { _ = ours.Close() }()

	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		tick <- time.Now()
		moments <- moment(jump)
		if jump == 0 {
			continue // nothing is to be told
		}
		if call := expect(guest.RequestClock); call.HostClock != 0 {
			t.Errorf("told %d before the guest can be known to listen", call.HostClock)
		}
		say(guest.EventReady)
		if e := <-c.events; e.Event != guest.EventReady {
			t.Errorf("event %+v", e)
		}
		expect(guest.RequestClock) // again

		_ = ours.Close()
		connect()
		if call := expect(guest.RequestClock); call.HostClock != 0 { // and again
			t.Errorf("told %d before the guest has asked", call.HostClock)
		}
		asked := time.Now()
		say(guest.EventClock)
		call := expect(guest.RequestClock)
		if got := time.Unix(0, call.HostClock); got.Before(asked.Round(0)) || got.After(time.Now()) {
			t.Errorf("told %s, asked at %s", got, asked)
		}

		say(guest.EventReady)
		<-c.events
	}
	c.send <- guest.RequestShutdown
	expect(guest.RequestShutdown)
}
