package buildah

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// progress passes on lines with the time since the start before each, and
// counts the steps by Buildah's own words.
type progress struct {
	out   io.Writer
	now   func() time.Time
	start time.Time

	mu     sync.Mutex
	rest   []byte // a line that has not ended
	steps  int
	cached int
	used   map[string]bool // images that steps were taken from
	busy   bool            // a step did not begin: see memfdBusy
}

// memfdBusy is what the start of a step says when the kernel does not seal the
// copy of this program that is to run in the new namespaces, because somebody
// (compaction, a monitor of memory) looks at its pages just then: fcntl(2),
// F_ADD_SEALS, EBUSY. The words are those of containers/storage.
const memfdBusy = "sealing memfd copy: Device or resource busy"

// again reports whether a step did not begin for want of luck alone, and
// forgets what was counted since before.
func (p *progress) again(steps, cached int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.busy {
		return false
	}
	p.busy, p.steps, p.cached = false, steps, cached
	return true
}

// counted returns the steps so far, and how many of them were cached.
func (p *progress) counted() (steps, cached int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps, p.cached
}

func (p *progress) printLine(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// Write takes what Buildah and the commands it runs print.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		p.line(strings.TrimRight(string(p.rest[:i]), "\r"))
		p.rest = p.rest[i+1:]
	}
}

// stepLine is how Buildah begins a step: "STEP 2/5: RUN …" or, in one of
// several stages, "[1/3] STEP 2/5: RUN …".
var stepLine = regexp.MustCompile(`^(\[\d+/\d+\] )?STEP \d+/\d+: (\w+)`)

// line takes one line. Every step but FROM is either run or taken from the
// cache, which Buildah says after it.
func (p *progress) line(line string) {
	if m := stepLine.FindStringSubmatch(line); m != nil && m[2] != "FROM" {
		p.steps++
	}
	if id, ok := strings.CutPrefix(line, "--> Using cache "); ok {
		p.cached++
		p.used[id] = true
	}
	p.busy = p.busy || strings.Contains(line, memfdBusy)
	fmt.Fprintf(p.out, "%7.1f s  %s\n", p.now().Sub(p.start).Seconds(), line)
}
