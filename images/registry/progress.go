package registry

import (
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"
)

// Progress adds up what there is of the blobs at the other end, over several
// tries.
type Progress struct {
	say   func(line string)
	sizes map[digest.Digest]int64
	total int64

	mu     sync.Mutex
	sent   map[digest.Digest]int64 // of those that are on their way
	done   map[digest.Digest]bool
	tenths int64 // of the total that were said
}

// NewProgress is the progress of blobs, of which it has the sizes. say is told
// each tenth.
func NewProgress(blobs map[digest.Digest]int64, say func(string)) *Progress {
	p := &Progress{say: say, sizes: blobs, sent: map[digest.Digest]int64{}, done: map[digest.Digest]bool{}}
	for _, size := range blobs {
		p.total += size
	}
	return p
}

// complete is how many blobs are there.
func (p *Progress) complete() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

// Follow returns where one try tells its events. stop is called after it.
func (p *Progress) Follow() (events chan types.ProgressProperties, stop func()) {
	events = make(chan types.ProgressProperties)
	over, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		for {
			select {
			case e := <-events:
				p.Add(e)
			case <-over:
				return
			}
		}
	}()
	return events, func() {
		close(over)
		<-followed
	}
}

// Add takes an event, and says each tenth of the whole that is there.
func (p *Progress) Add(e types.ProgressProperties) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := e.Artifact.Digest
	switch e.Event {
	case types.ProgressEventNewArtifact:
		p.sent[name] = 0
	case types.ProgressEventRead:
		p.sent[name] = int64(e.Offset)
	case types.ProgressEventDone, types.ProgressEventSkipped:
		// Done is said of a blob that failed too: then it was not read to its end.
		if e.Event == types.ProgressEventSkipped || int64(e.Offset) >= p.sizes[name] {
			p.done[name] = true
		}
	}

	var there int64
	for name, size := range p.sizes {
		if p.done[name] {
			there += size
		} else {
			there += min(p.sent[name], size)
		}
	}
	if tenths := there * 10 / max(p.total, 1); tenths > p.tenths {
		p.tenths = tenths
		p.say(fmt.Sprintf("%d %%: %.1f of %.1f MB", tenths*10, float64(there)/1e6, float64(p.total)/1e6))
	}
}
