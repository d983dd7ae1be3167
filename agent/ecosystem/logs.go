package ecosystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// LogOptions selects what [Ecosystem.Logs] prints.
type LogOptions struct {
	Process string // empty: of all
	Lines   int    // last ones of each file
	Follow  bool   // go on with what is added
	Color   bool

	// Gone reports that nobody reads any more, which a process that writes
	// nothing would not notice. It may be nil.
	Gone func() bool
}

// How often files are looked at, and the directory that they are in.
const (
	logInterval  = 200 * time.Millisecond
	rescanRounds = 10
)

// logFile is one of a process's files.
type logFile struct {
	process string
	path    string
	offset  int64
	rest    []byte // a line without its end
}

// Logs prints what the processes wrote, each line after the process's name.
func (e Ecosystem) Logs(ctx context.Context, w io.Writer, o LogOptions) error {
	files, err := e.logFiles(ctx, o.Process)
	if err != nil {
		return err
	}
	out := &lineWriter{out: w, color: o.Color, colors: map[string]int{}}
	for _, f := range files {
		out.width = max(out.width, len(f.process))
	}
	for _, f := range files {
		if err := f.last(o.Lines, out); err != nil {
			return err
		}
	}
	if !o.Follow {
		return nil
	}

	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if o.Gone != nil && o.Gone() {
			return nil
		}
		if round%rescanRounds == 0 {
			files = e.joined(files, o.Process)
		}
		for _, f := range files {
			if err := f.more(out); err != nil {
				return err
			}
		}
	}
}

// logFiles lists the files of a process, or of all: PM2's own directory, and
// where the ecosystem puts them.
func (e Ecosystem) logFiles(ctx context.Context, process string) ([]*logFile, error) {
	files := e.joined(nil, "")
	if state, err := e.unit(ctx, "ActiveState"); err == nil && state == "active" {
		list, err := e.list(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			for _, path := range []string{p.Env.Out, p.Env.Err} {
				i := slices.IndexFunc(files, func(f *logFile) bool { return f.path == path })
				switch {
				case path == "" || path == os.DevNull:
				case i >= 0:
					files[i].process = p.Name // which its file's name may not spell exactly
				default:
					files = append(files, &logFile{process: p.Name, path: path})
				}
			}
		}
	}

	if process == "" {
		return files, nil
	}
	var names []string
	for _, f := range files {
		names = append(names, f.process)
	}
	files = slices.DeleteFunc(files, func(f *logFile) bool { return f.process != process })
	if len(files) == 0 {
		slices.Sort(names)
		return nil, agent.Errorf(agent.CodeNotFound, "Nothing called %q has run: there are %q", process, slices.Compact(names))
	}
	return files, nil
}

// logName is what PM2 calls a file in its own directory: the process, the
// stream, and its number unless it is the only one of that name.
var logName = regexp.MustCompile(`^(.+)-(?:out|error)(?:-\d+)?\.log$`)

// joined adds the files of PM2's own directory that are not among files, of a
// process or of all.
func (e Ecosystem) joined(files []*logFile, process string) []*logFile {
	entries, _ := os.ReadDir(filepath.Join(e.home(), "logs")) // none before anything ran
	for _, entry := range entries {
		m := logName.FindStringSubmatch(entry.Name())
		path := filepath.Join(e.home(), "logs", entry.Name())
		if m == nil || process != "" && m[1] != process || slices.ContainsFunc(files, func(f *logFile) bool { return f.path == path }) {
			continue
		}
		files = append(files, &logFile{process: m[1], path: path})
	}
	return files
}

// lastBytes bounds what is read of a file for its last lines.
const lastBytes = 1 << 20

// last prints the last lines of a file, and stands at its end then.
func (f *logFile) last(lines int, out *lineWriter) error {
	b, err := f.read(lastBytes)
	if err != nil {
		return err
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		i := bytes.LastIndexByte(b, '\n') + 1
		b, f.rest = b[:i], bytes.Clone(b[i:])
	}

	start := len(b)
	for ; lines > 0 && start > 0; lines-- {
		start = bytes.LastIndexByte(b[:start-1], '\n') + 1
	}
	return out.lines(f.process, b[start:])
}

// more prints the lines that were added.
func (f *logFile) more(out *lineWriter) error {
	b, err := f.read(1 << 40)
	if err != nil || len(b) == 0 {
		return err
	}
	b = append(f.rest, b...)
	i := bytes.LastIndexByte(b, '\n') + 1
	f.rest = bytes.Clone(b[i:])
	return out.lines(f.process, b[:i])
}

// read returns what was added since the last time, at most so many bytes of its
// end. A file that became shorter is read from its start.
func (f *logFile) read(most int64) ([]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.offset, f.rest = 0, nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < f.offset {
		f.offset, f.rest = 0, nil
	}

	f.offset = max(f.offset, info.Size()-most)
	b := make([]byte, info.Size()-f.offset)
	n, err := file.ReadAt(b, f.offset)
	f.offset += int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// lineWriter prints lines behind the name of their process.
type lineWriter struct {
	out    io.Writer
	width  int
	color  bool
	colors map[string]int
}

// palette are colours that are readable on black and on white (ECMA-48, SGR).
var palette = []int{36, 35, 32, 33, 34, 31}

func (w *lineWriter) lines(process string, b []byte) error {
	prefix := fmt.Sprintf("%-*s | ", w.width, process)
	if w.color {
		color, ok := w.colors[process]
		if !ok {
			color = palette[len(w.colors)%len(palette)]
			w.colors[process] = color
		}
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, prefix)
	}

	var text strings.Builder
	for line := range bytes.Lines(b) {
		text.WriteString(prefix)
		text.Write(line)
	}
	_, err := io.WriteString(w.out, text.String())
	return err
}
