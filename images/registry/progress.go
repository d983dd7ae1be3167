package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"
)

// blobsOf are the sizes of the configs and layers of a layout, by their digests.
func blobsOf(dir string) (map[digest.Digest]int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	blobs := map[digest.Digest]int64{}
	return blobs, addBlobs(dir, b, blobs)
}

// addBlobs adds those of an index or of an image's manifest.
func addBlobs(dir string, document []byte, blobs map[digest.Digest]int64) error {
	var d struct {
		Manifests []v1.Descriptor
		Config    *v1.Descriptor
		Layers    []v1.Descriptor
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return fmt.Errorf("the layout %s: %w", dir, err)
	}

	if d.Config != nil {
		blobs[d.Config.Digest] = d.Config.Size
	}
	for _, layer := range d.Layers {
		blobs[layer.Digest] = layer.Size
	}
	for _, m := range d.Manifests {
		if err := m.Digest.Validate(); err != nil {
			return fmt.Errorf("the layout %s: %w", dir, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, v1.ImageBlobsDir, m.Digest.Algorithm().String(), m.Digest.Encoded()))
		if err != nil {
			return err
		}
		if err := addBlobs(dir, b, blobs); err != nil {
			return err
		}
	}
	return nil
}

// progress adds up what the registry has of the blobs, over several tries.
type progress struct {
	say   func(line string)
	sizes map[digest.Digest]int64
	total int64

	mu     sync.Mutex
	sent   map[digest.Digest]int64 // of those that are on their way
	done   map[digest.Digest]bool
	tenths int64 // of the total that were said
}

func newProgress(blobs map[digest.Digest]int64, say func(string)) *progress {
	p := &progress{say: say, sizes: blobs, sent: map[digest.Digest]int64{}, done: map[digest.Digest]bool{}}
	for _, size := range blobs {
		p.total += size
	}
	return p
}

// complete is how many blobs the registry has.
func (p *progress) complete() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

// follow returns where one try tells its events. stop is called after it.
func (p *progress) follow() (events chan types.ProgressProperties, stop func()) {
	events = make(chan types.ProgressProperties)
	over, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		for {
			select {
			case e := <-events:
				p.add(e)
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

// add takes an event, and says each tenth of the whole that is there.
func (p *progress) add(e types.ProgressProperties) {
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
