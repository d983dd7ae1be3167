package vm

import (
	"context"
	"math"
	"os/exec"
	"slices"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// takeMessage takes in a line of the guest.
func (s *supervisor) takeMessage(e guest.Message) {
	s.guestSpoke = true
	switch e.Event {
	case guest.EventPhase:
		if s.state.phase(e.Phase, seconds(e)) {
			s.log.Info("phase", "phase", e.Phase, "seconds", seconds(e))
		}
	case guest.EventReady:
		s.ready(e)
	case guest.EventFailed:
		known := s.state.Failure != nil && s.state.Failure.Unit == e.Unit
		if !known { // what a guest repeats must not fill this host's disk
			s.log.Error("guest failed", "unit", e.Unit, "message", e.Message)
		}
		s.fail(e.Unit, cleanLine(e.Message))
	case guest.EventDisk:
		s.state.Disk = e.Disk
	case guest.EventStopping:
		closeOnce(s.shutdownHeard)
	case guest.EventStopped:
		closeOnce(s.shutdownHeard)
		closeOnce(s.stopped)
	}
}

func (s *supervisor) ready(e guest.Message) {
	if s.stopping {
		return
	}
	if s.state.ReadyAfter == 0 {
		s.state.ReadyAfter = round(max(seconds(e), min(time.Since(s.state.StartedAt).Seconds(), seconds(e)+30)))
		s.log.Info("ready", "seconds", s.state.ReadyAfter)
	}
	s.state.AgentVersion = cleanLine(e.Version)
	s.state.Status, s.state.Failure = Ready, nil
}

// seconds is the time that a message tells, since the guest's kernel started.
func seconds(m guest.Message) float64 {
	if m.Seconds == nil {
		return 0
	}
	return *m.Seconds
}

func round(seconds float64) float64 { return math.Round(seconds*100) / 100 }

// fail records why the instance does not work.
func (s *supervisor) fail(unit, message string) {
	s.state.Status = Failed
	s.state.Failure = &Failure{Time: time.Now(), Unit: unit, Message: message, Log: lastLines(s.inst.Path(SerialLog), 15)}
}

// recordCrash records the end of the guest's kernel. A panic is final; after an
// Oops the guest may still come up, and then says so.
func (s *supervisor) recordCrash(line string) {
	if kernelStall.MatchString(line) {
		if s.guestSpoke {
			return
		}
		s.log.Error("guest kernel", "line", line)
		s.fail("", "the guest's kernel hangs: "+line)
		return
	}
	s.log.Error("guest kernel", "line", line)
	s.fail("", "the guest's kernel crashed: "+line)
}

// takeEvent takes in an event of the machine, which is still on.
func (s *supervisor) takeEvent(ctx context.Context, e Event) {
	s.log.Info("machine", "event", e.Kind, "part", e.Part, "message", e.Message)
	s.state.Troubles = slices.DeleteFunc(s.state.Troubles, func(t Trouble) bool { return t.Part == e.Part })
	switch e.Kind {
	case Panicked:
		s.fail("", "the guest's kernel crashed: "+e.Message)
	case Degraded:
		s.state.Troubles = append(s.state.Troubles, Trouble{e.Part, time.Now(), e.Message, e.Cure})
	case Recovered:
		if e.Part == "share" {
			go s.remount(ctx)
		}
	case Rebooted:
		if s.stopping {
			return
		}
		s.state.Status, s.state.Phases, s.state.ReadyAfter, s.state.Failure = Starting, nil, 0, nil
		s.state.StartedAt = time.Now()
	}
}

// remountLine mounts the share afresh in the guest, whose old mount has lost
// its device.
const remountLine = "sudo umount -l " + guest.ShareDir + "; sudo systemctl restart " + guest.ShareUnit

// remount has the guest mount the share again after its device was replaced.
// It goes by SSH because the agent may not mount.
func (s *supervisor) remount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", SSHArgs(s.inst, []string{remountLine})...).CombinedOutput()
	if err != nil {
		s.log.Error("the guest did not mount the share again", "err", err, "output", string(out))
		s.report(ctx, Event{Kind: Degraded, Part: "share", Message: "the share was replaced, but the guest did not mount it again",
			Cure: "in the guest: " + remountLine})
	}
}

// report makes an event of the supervisor's own.
func (s *supervisor) report(ctx context.Context, e Event) {
	select {
	case s.ownEvents <- e:
	case <-ctx.Done():
	}
}

// recordEnd records the end of the machine and says goodbye.
func (s *supervisor) recordEnd(e Event) {
	close(s.exited)
	s.closeForwards() // the next start may want the ports as soon as it is told
	s.closeEcosystem()
	s.state.EcosystemPorts = nil

	for len(s.rungs) > 0 { // the last of what was not heard of yet
		s.state.LastStop = <-s.rungs
	}
	s.state.StoppedAt = time.Now()
	switch {
	case s.stopping:
		s.state.Status, s.state.Failure = Stopped, nil
	case e.Message == "":
		s.state.Status, s.state.LastStop = Stopped, "the guest switched itself off"
	default:
		s.fail("", e.Message)
	}
	s.state.Troubles = nil
	s.log.Info("off", "how", s.state.LastStop, "message", e.Message)
	s.state.Supervisor = Process{}
	s.publish()
}
