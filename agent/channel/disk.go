package channel

import (
	"context"
	"reflect"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Disk knows who takes what of the disk that workspaces share.
type Disk interface {
	// Report is false while that is not known.
	Report(ctx context.Context) (guest.DiskReport, bool)
}

const (
	// diskEvery is how often the disk is looked at for the host: people look at
	// it, programs do not decide by it.
	diskEvery = time.Minute
	// diskRetry is how often until something is known.
	diskRetry = 5 * time.Second
)

// pushDisk says who takes what of the disk when that has changed, and when the
// host asks for everything again, until ctx ends.
func (p *Port) pushDisk(ctx context.Context, w *writer) {
	var said *guest.DiskReport
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.again:
			said = nil
		case <-wait.C:
		}

		now, known := p.Disk.Report(ctx)
		if !known {
			wait.Reset(diskRetry)
			continue
		}
		if said == nil || !reflect.DeepEqual(*said, now) {
			if err := w.say(guest.Message{Event: guest.EventDisk, Disk: &now}); err != nil {
				return
			}
			said = &now
		}
		wait.Reset(diskEvery)
	}
}
