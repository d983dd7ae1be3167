package buildah

import (
	"bytes"
	"fmt"
	"io"
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

func (p *progress) line(line string) {
	switch {
	case strings.HasPrefix(line, "STEP ") || strings.Contains(line, "] STEP ") || strings.HasPrefix(line, "["):
		p.steps++
	case strings.HasPrefix(line, "--> Using cache "):
		p.cached++
	}
	fmt.Fprintf(p.out, "%7.1f s  %s\n", p.now().Sub(p.start).Seconds(), line)
}
