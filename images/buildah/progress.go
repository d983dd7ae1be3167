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
}

func (p *progress) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

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
	fmt.Fprintf(p.out, "%7.1f s  %s\n", p.now().Sub(p.start).Seconds(), line)
}
