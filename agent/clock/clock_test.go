package clock_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent/clock"
)

// ran is how long the machines of these tests have been running.
const ran = 5 * time.Minute

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// machine is one whose clock can be looked at.
type machine struct {
	time  time.Time
	fault error
	log   []string
}

func (m *machine) setter() clock.Setter {
	return clock.Setter{
		Now:     func() time.Time { return m.time },
		Running: func() time.Duration { return ran },
		Set: func(t time.Time) error {
			if m.fault == nil {
				m.time = t
			}
			return m.fault
		},
		Log: func(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) },
	}
}

// TestSetter_Answer: jumps in either direction are followed and said, a clock
// that is as good as right stays, and what is no time of a host is refused.
func TestSetter_Answer(t *testing.T) {
	after := func(t time.Time, running time.Duration) string {
		return fmt.Sprintln(t.UnixNano(), running.Nanoseconds())
	}
	at := func(t time.Time) string { return after(t, ran) }
	for name, tt := range map[string]struct {
		request string
		want    time.Time
		answer  string
	}{
		"slept":          {at(now.Add(8 * time.Hour)), now.Add(8 * time.Hour), "ok"},
		"set back":       {at(now.Add(-24 * time.Hour)), now.Add(-24 * time.Hour), "ok"},
		"slept, busy":    {after(now.Add(8*time.Hour), ran-7*time.Second), now.Add(8*time.Hour + 7*time.Second), "ok"},
		"right, busy":    {after(now.Add(-7*time.Second), ran-7*time.Second), now, "ok"},
		"too old":        {after(now.Add(8*time.Hour), ran-time.Minute), now, "error: the request is 1m0s old"},
		"of tomorrow":    {after(now.Add(8*time.Hour), ran+time.Minute), now, "error: the request is -1m0s old"},
		"alone":          {fmt.Sprintln(now.Add(8 * time.Hour).UnixNano()), now, "error: the request is no time"},
		"right":          {at(now.Add(1900 * time.Millisecond)), now, "ok"},
		"right, behind":  {at(now.Add(-1900 * time.Millisecond)), now, "ok"},
		"before us":      {at(time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)), now, "error: "},
		"far away":       {at(time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC)), now, "error: "},
		"no number":      {"tomorrow\n", now, "error: the request is no time"},
		"too large":      {"99999999999999999999\n", now, "error: the request is no time"},
		"not ended":      {"1795867200000000000", now, "error: the request is no time"},
		"without an end": {strings.Repeat("1", 10_000), now, "error: the request is no time"},
		"nothing":        {"", now, "error: the request is no time"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{time: now}
			var out bytes.Buffer
			err := m.setter().Answer(strings.NewReader(tt.request), &out)
			if !m.time.Equal(tt.want) || !strings.HasPrefix(out.String(), tt.answer) || !strings.HasSuffix(out.String(), "\n") {
				t.Errorf("the clock says %s, answer %q, want %s and %q", m.time, &out, tt.want, tt.answer)
			}
			if (err == nil) != (tt.answer == "ok") {
				t.Errorf("error %v", err)
			}
			if said := len(m.log) == 1; said != !tt.want.Equal(now) {
				t.Errorf("said %q", m.log)
			}
		})
	}
}

// TestClient_Follow asks root's end over a socket.
func TestClient_Follow(t *testing.T) {
	m := &machine{time: now}
	socket := filepath.Join(t.TempDir(), "clock.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s := m.setter()
			s.Running = clock.System(nil).Running // the client runs on this machine
			_ = s.Answer(conn, conn)              // the answer says it
			_ = conn.Close()
		}
	}()

	c := clock.Client{Socket: socket}
	if err := c.Follow(t.Context(), now.Add(time.Hour)); err != nil || m.time.Sub(now.Add(time.Hour)).Abs() > time.Minute {
		t.Errorf("error %v, the clock says %s", err, m.time)
	}
	m.fault = errors.New("set the clock: operation not permitted")
	if err := c.Follow(t.Context(), now); err == nil || !strings.Contains(err.Error(), "follow the host's clock: set the clock: operation not permitted") {
		t.Errorf("error %v", err)
	}
	if err := (clock.Client{Socket: socket + "-none"}).Follow(t.Context(), now); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}
