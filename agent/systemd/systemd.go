// Package systemd is the agent's view of systemd, over the system bus: when
// the phases of the boot were over and which units failed. It needs no
// privilege and keeps no state but the connection.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// units names the units whose start ends a phase. The first of the units that
// became active counts.
var units = []struct {
	phase guest.Phase
	names []string
}{
	{guest.PhaseUserspace, []string{"basic.target"}},
	{guest.PhaseSetup, []string{"rockpool-setup.service"}},
	{guest.PhaseNetwork, []string{"network-online.target", "network.target"}},
	{guest.PhaseSSH, []string{"ssh.service", "ssh.socket"}},
	{guest.PhaseAgent, []string{"rockpool-agent.service"}},
	{guest.PhaseCaddy, []string{"rockpool-caddy.service"}},
}

// Bus implements [agent.Init]. It connects when it is first asked, and again
// after an error. The zero value is ready.
type Bus struct {
	mu    sync.Mutex
	conn  *dbus.Conn
	known map[guest.Phase]time.Duration
}

// Close ends the connection, if there is one.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
}

func (b *Bus) drop() {
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
}

func (b *Bus) connect(ctx context.Context) error {
	if b.conn != nil {
		return nil
	}
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	b.conn = conn
	return nil
}

// Phases implements [agent.Init]. What was learnt once is not asked again.
func (b *Bus) Phases(ctx context.Context) (map[guest.Phase]time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	if b.known == nil {
		b.known = map[guest.Phase]time.Duration{}
	}

	if _, ok := b.known[guest.PhaseKernel]; !ok {
		if err := b.managerPhases(); err != nil {
			b.drop()
			return nil, err
		}
	}

	for _, u := range units {
		if _, ok := b.known[u.phase]; ok {
			continue
		}
		at, err := b.activeAt(ctx, u.names)
		if err != nil {
			b.drop()
			return nil, err
		}
		if at > 0 {
			b.known[u.phase] = at
		}
	}

	phases := make(map[guest.Phase]time.Duration, len(b.known))
	for p, at := range b.known {
		phases[p] = at
	}
	return phases, nil
}

// managerPhases reads when the kernel and the initrd were done. Without an
// initrd the kernel starts user space itself.
func (b *Bus) managerPhases() error {
	initrd, err := b.managerTime("InitRDTimestampMonotonic")
	if err != nil {
		return err
	}
	userspace, err := b.managerTime("UserspaceTimestampMonotonic")
	if err != nil {
		return err
	}
	if initrd > 0 {
		b.known[guest.PhaseKernel] = initrd
		b.known[guest.PhaseInitrd] = userspace
	} else {
		b.known[guest.PhaseKernel] = userspace
	}
	return nil
}

// managerTime reads one of the manager's time stamps.
func (b *Bus) managerTime(name string) (time.Duration, error) {
	s, err := b.conn.GetManagerProperty(name)
	if err != nil {
		return 0, fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	at, err := parseStamp(s)
	if err != nil {
		return 0, fmt.Errorf("systemd's %s is %q: %w", name, s, err)
	}
	return at, nil
}

// parseStamp reads microseconds of CLOCK_MONOTONIC in the text form of a
// D-Bus variant of type t: "@t 1234".
func parseStamp(s string) (time.Duration, error) {
	us, err := strconv.ParseInt(strings.TrimPrefix(s, "@t "), 10, 64)
	if err != nil {
		return 0, err
	}
	if us < 0 || us > math.MaxInt64/int64(time.Microsecond) {
		return 0, errors.New("out of range")
	}
	return time.Duration(us) * time.Microsecond, nil
}

// activeAt returns when the first of the units that is or was active became
// so, 0 when none was.
func (b *Bus) activeAt(ctx context.Context, names []string) (time.Duration, error) {
	for _, name := range names {
		p, err := b.conn.GetUnitPropertyContext(ctx, name, "ActiveEnterTimestampMonotonic")
		if err != nil {
			return 0, fmt.Errorf("ask systemd for %s: %w", name, err)
		}
		if us, ok := p.Value.Value().(uint64); ok && us > 0 {
			return time.Duration(us) * time.Microsecond, nil
		}
	}
	return 0, nil
}

// FailedUnits implements [agent.Init].
func (b *Bus) FailedUnits(ctx context.Context) ([]agent.FailedUnit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	list, err := b.conn.ListUnitsFilteredContext(ctx, []string{"failed"})
	if err != nil {
		b.drop()
		return nil, fmt.Errorf("ask systemd for failed units: %w", err)
	}
	failed := make([]agent.FailedUnit, 0, len(list))
	for _, u := range list {
		failed = append(failed, agent.FailedUnit{Unit: u.Name, Message: b.reason(ctx, u.Name)})
	}
	return failed, nil
}

// reason says how a unit failed, as well as systemd knows.
func (b *Bus) reason(ctx context.Context, unit string) string {
	if !strings.HasSuffix(unit, ".service") {
		return "failed"
	}
	p, err := b.conn.GetUnitTypePropertyContext(ctx, unit, "Service", "Result")
	if err != nil {
		return "failed"
	}
	result, _ := p.Value.Value().(string)
	s, err := b.conn.GetUnitTypePropertyContext(ctx, unit, "Service", "ExecMainStatus")
	if err != nil {
		return result
	}
	return fmt.Sprintf("%s, status %v: see journalctl -u %s", result, s.Value.Value(), unit)
}
