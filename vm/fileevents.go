package vm

import (
	"context"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm/watch"
)

// filesInterval is how often the state tells what became of file events.
const filesInterval = 5 * time.Second

// FileEvents is what the state tells of the events of the shared directory.
type FileEvents = watch.Report

// watchFiles starts to tell the guest what changes in the shared directory, if
// there is one.
func (s *supervisor) watchFiles(ctx context.Context) {
	if !raisesFileEvents(s.inst.Config.ShareDir, s.state.Share) {
		s.state.FileEvents = nil
		return
	}
	s.files = watch.New(watch.Options{Dir: s.inst.Config.ShareDir, Log: s.log})
	s.guest.files = s.files.Stream()
	go s.files.Run(ctx)
}

// raisesFileEvents reports whether the guest raises events of what the host
// changes in a shared directory. By 9p a watch needs names to be held in the
// guest, and a name that is held keeps its size of before: a file that the host
// made shorter was read with zeros at its end (ADR 35). So there is none.
func raisesFileEvents(dir, share string) bool {
	return dir != "" && share != "" && share != ShareNone && share != Share9P
}

// countFiles brings the state up to date, and reports whether that changed it.
func (s *supervisor) countFiles() bool {
	if s.files == nil {
		return false
	}
	now := s.files.Report()
	if s.state.FileEvents != nil && *s.state.FileEvents == now {
		return false
	}
	s.state.FileEvents = &now
	return true
}

// sendFiles greets the guest and passes on what is to be sent, until the
// connection ends.
func (c *channel) sendFiles(ctx context.Context) {
	c.files.Connect()
	for {
		batch, err := c.files.Next(ctx)
		if err != nil {
			return
		}
		select {
		case c.batches <- batch:
		case <-ctx.Done():
			return
		}
	}
}

// takeFiles takes in what the guest says of file events.
func (c *channel) takeFiles(answer *guest.FileAnswer) {
	if c.files == nil || answer == nil {
		return
	}
	answer.Fault = cleanLine(answer.Fault)
	c.files.Answer(*answer)
}
