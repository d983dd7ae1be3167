package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// lookInterval is how often the watcher sees whether its directory is still the
// same, and the least time between two looks at what the kernel does not watch.
const lookInterval = time.Second

// lookShare is how much longer than a look the pause after it is, so that
// looking takes at most a twentieth of a processor.
const lookShare = 20

// Options are what a [Watcher] is made of.
type Options struct {
	Dir  string // the shared directory, absolute
	Log  *slog.Logger
	Poll bool // look again and again, also where the kernel tells

	source func() (source, error) // nil: the platform's
}

// Report is what there is to say of a watcher.
type Report struct {
	Directories int    `json:"directories"`       // that are watched or looked at
	Files       int    `json:"files"`             // and everything else in them
	Polled      int    `json:"polled,omitempty"`  // directories that are looked at again and again
	Scans       int    `json:"scans"`             // how often everything was looked at
	Trouble     string `json:"trouble,omitempty"` // what is not as it should be, a sentence with its cure
	Counters
}

// Watcher watches one directory.
type Watcher struct {
	o      Options
	stream *Stream
	since  chan time.Time

	// Of Run's goroutine.
	source  source
	root    *os.Root
	folders map[string]*folder
	behind  bool // the snapshot lacks something, so everything has to be looked at
	quiet   bool // what is found is not told
	pollAt  time.Time

	mu     sync.Mutex
	report Report
	fault  string // why the kernel does not tell at all
	absent string // why the directory cannot be looked at
}

// New makes a watcher, which does nothing before [Watcher.Run].
func New(o Options) *Watcher {
	w := &Watcher{o: o, since: make(chan time.Time, 1), folders: map[string]*folder{}}
	w.stream = newStream(time.Now, func(t time.Time) { w.since <- t })
	return w
}

// Stream is what the guest is to be told.
func (w *Watcher) Stream() *Stream { return w.stream }

// Report is what there is to say now.
func (w *Watcher) Report() Report {
	counters := w.stream.Counters()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	r.Counters = counters
	switch {
	case w.absent != "":
		r.Trouble = w.absent
	case w.fault != "":
		r.Trouble = w.fault + ": the directory is looked at every few seconds instead"
	case r.Polled > 0:
		r.Trouble = fmt.Sprintf("the kernel watches no more directories for this user: %d are looked at every few seconds instead; %s", r.Polled, limitCure())
	}
	return r
}

// Run watches until ctx ends. A directory that is not there is waited for.
func (w *Watcher) Run(ctx context.Context) {
	w.openSource()
	defer w.close()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	w.quiet = true
	w.checkRoot()
	w.quiet = false
	w.count()

	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-w.hints():
			w.takeHints()
		case <-w.stream.room:
		case t := <-w.since:
			w.tellSince(t)
		case <-tick.C:
			w.checkRoot()
			w.poll(time.Now())
			w.count()
		}
		if w.behind && w.root != nil && w.stream.hasRoom() {
			w.rescan()
		}
	}
}

// hasRoom reports whether a look at everything could tell something.
func (s *Stream) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unsent) <= maxPending/2
}

func (w *Watcher) openSource() {
	open := w.o.source
	if open == nil {
		open = newSource
	}
	if w.o.Poll {
		return
	}
	var err error
	if w.source, err = open(); err != nil {
		w.source = nil
		w.mu.Lock()
		w.fault = err.Error()
		w.mu.Unlock()
		w.o.Log.Warn("the shared directory is looked at every few seconds, because the kernel does not tell of changes", "err", err)
	}
}

func (w *Watcher) close() {
	if w.source != nil {
		w.source.close()
	}
	if w.root != nil {
		_ = w.root.Close()
	}
}

// hints is ready when the source has something to tell.
func (w *Watcher) hints() <-chan struct{} {
	if w.source == nil {
		return nil
	}
	return w.source.ready()
}

// takeHints looks where something may have happened.
func (w *Watcher) takeHints() {
	hints, lost := w.source.take()
	if lost {
		w.behind = true
	}
	if w.root == nil {
		return
	}
	for at, what := range hints {
		if f := w.folders[at.dir]; f != nil && what&ended != 0 {
			f.watched = false
		}
		switch {
		case what&(below|ended) != 0:
			w.scan(at.dir, true)
		case at.name == "":
			w.scan(at.dir, false)
		default:
			w.look(at.dir, at.name, what)
		}
	}
}

// checkRoot sees whether the directory is there and the one that it was.
func (w *Watcher) checkRoot() {
	now, err := os.Stat(w.o.Dir)
	if err == nil && !now.IsDir() {
		err = errors.New("it is not a directory")
	}
	if err == nil && w.root != nil {
		was, werr := w.root.Stat(".")
		if werr == nil && os.SameFile(was, now) {
			w.setAbsent(nil)
			return
		}
	}
	if err != nil {
		w.setAbsent(err)
		return
	}

	root, err := os.OpenRoot(w.o.Dir)
	if err != nil {
		w.setAbsent(err)
		return
	}
	w.setAbsent(nil)
	if w.root != nil {
		_ = w.root.Close()
		for dir, f := range w.folders { // the watches are on another directory's
			w.unwatch(dir, f)
		}
	}
	w.root = root
	w.rescan()
}

// setAbsent notes why the directory cannot be looked at.
func (w *Watcher) setAbsent(err error) {
	said := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		said = w.o.Dir + " is gone: the guest is told of changes again once it is back"
	case err != nil:
		said = fmt.Sprintf("%s cannot be watched: %v", w.o.Dir, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if said != "" && said != w.absent {
		w.o.Log.Warn("the shared directory is not watched", "err", err)
	}
	w.absent = said
}

// poll looks at the directories that the kernel does not watch, if it is time.
func (w *Watcher) poll(now time.Time) {
	if w.root == nil || now.Before(w.pollAt) {
		return
	}
	looked := false
	for dir, f := range w.folders {
		if !f.watched {
			looked = true
			w.scan(dir, false)
		}
	}
	if looked {
		took := time.Since(now)
		w.pollAt = now.Add(took + max(lookInterval-took, lookShare*took))
	}
}

// count brings the report up to date.
func (w *Watcher) count() {
	files, polled := 0, 0
	for _, f := range w.folders {
		files += len(f.entries)
		if !f.watched {
			polled++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if polled > 0 && w.report.Polled == 0 && w.source != nil {
		w.o.Log.Warn("the kernel watches no more directories for this user: the others are looked at every few seconds", "directories", polled, "cure", limitCure())
	}
	w.report.Directories, w.report.Files, w.report.Polled = len(w.folders), max(files-len(w.folders)+1, 0), polled
	if len(w.folders) == 0 {
		w.report.Files = 0
	}
}

// absolute is a path of the host, for messages.
func (w *Watcher) absolute(path string) string {
	return filepath.Join(w.o.Dir, filepath.FromSlash(path))
}
