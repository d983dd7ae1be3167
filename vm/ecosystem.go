package vm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// ForwardEcosystem has the supervisor forward ports of 127.0.0.1 to the guest's
// loopback, in the place of those that it forwarded there before, until the
// machine is off or other ports are asked for: none, with no ports. A port that
// cannot be had is an error that names its owner, and nothing has changed then.
func (h Host) ForwardEcosystem(ctx context.Context, name string, ports []guest.Forward) error {
	dir, err := h.dir(name)
	if err != nil {
		return err
	}

	answered := false
	err = askSupervisor(ctx, dir, request{Request: "forward", Ports: ports}, func(s State) bool {
		answered = slices.Equal(s.EcosystemPorts, ports)
		return false
	})
	if err == nil && !answered {
		err = errors.New("the VM's supervisor does not know how: it is of an earlier version, restart the VM: " + h.restart())
	}
	if err != nil {
		return fmt.Errorf("forward ports: %w", err)
	}
	return nil
}

// forwardEcosystem replaces the ports that are forwarded to the guest's
// loopback.
func (s *supervisor) forwardEcosystem(ctx context.Context, ports []guest.Forward) error {
	if s.stopping {
		return errors.New("the VM is stopping")
	}
	if slices.Equal(ports, s.state.EcosystemPorts) && s.ecosystem != nil {
		return nil
	}

	before := s.state.EcosystemPorts
	s.closeEcosystem()
	err := s.openEcosystem(ctx, ports)
	if err != nil {
		err = errors.Join(err, s.openEcosystem(ctx, before))
	}
	s.state.Troubles = slices.DeleteFunc(s.state.Troubles, func(t Trouble) bool { return t.Part == ecosystemPart })
	return err
}

// openEcosystem listens on ports, on all or on none of them.
func (s *supervisor) openEcosystem(ctx context.Context, ports []guest.Forward) error {
	s.state.EcosystemPorts = nil
	if len(ports) == 0 {
		return nil
	}
	f, err := listenForwards(ports, s.log)
	if err != nil {
		f.close()
		return err
	}
	s.ecosystem, s.tunnel = f, &tunnel{inst: s.inst, log: s.log}
	s.state.EcosystemPorts = ports
	f.serve(ctx, s.tunnel)
	return nil
}

// closeEcosystem frees the ports and ends the connections.
func (s *supervisor) closeEcosystem() {
	if s.ecosystem != nil {
		s.ecosystem.close()
		s.tunnel.close()
		s.ecosystem, s.tunnel = nil, nil
	}
}

// ecosystemPart names the ports of an ecosystem in a [Trouble].
const ecosystemPart = "ports of the ecosystem"

// resumeEcosystem forwards what a dead supervisor did. A port that somebody else
// took meanwhile is a trouble.
func (s *supervisor) resumeEcosystem(ctx context.Context) {
	if err := s.openEcosystem(ctx, s.state.EcosystemPorts); err != nil {
		message := strings.ReplaceAll(err.Error(), "\n", "; ")
		s.state.Troubles = append(s.state.Troubles, Trouble{ecosystemPart, time.Now(), message, "once it is free, run dev start again"})
	}
}
