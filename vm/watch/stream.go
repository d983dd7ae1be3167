package watch

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// The times of the stream.
const (
	// pace is the least time between two batches.
	pace = 25 * time.Millisecond
	// openPatience is how long a file that is being written may stay open before
	// the guest is told all the same.
	openPatience = 50 * time.Millisecond
	// settle is how long a path that was told a moment ago has to be quiet before
	// it is told again, and busyInterval how long that may take.
	settle       = 40 * time.Millisecond
	busyInterval = 1500 * time.Millisecond
	// memory is how long a path that was told counts as told a moment ago.
	memory = 2 * time.Second
	// replayGrace is how long after its answer a replay may still be seen here.
	replayGrace = 250 * time.Millisecond
	// answerPatience is how long an answer may take before the host greets again.
	answerPatience = 30 * time.Second
)

// throughSlack is how old a change may be that the watcher has not seen yet.
const throughSlack = 2 * time.Second

// maxPending bounds the paths that wait. What does not fit stays out of the
// snapshot and is found again once there is room.
const maxPending = 32 << 10

// changeOverhead is about what a change takes on the wire beside its path.
const changeOverhead = 140

// item is a path that is to be told.
type item struct {
	change guest.FileChange
	first  time.Time // of what is not told yet
	last   time.Time
	open   bool // it is being written
}

// tell is a path that was told a moment ago.
type tell struct {
	at       time.Time
	answered time.Time // zero: not yet
	open     bool      // it was being written when it was told
	written  bool      // it was written to since, and not closed
	mtime    int64     // that was told, the only one that the guest may set
}

// sentBatch is one that is not answered.
type sentBatch struct {
	seq   uint64
	items []*item
	at    time.Time
}

// Counters are of one stream since it began.
type Counters struct {
	Sent     int `json:"sent"`     // changes
	Replayed int `json:"replayed"` // by the guest
	Skipped  int `json:"skipped"`  // by the guest: made there, or newer there
	Waiting  int `json:"waiting"`  // changes that are not answered

	// Lag is the median, and Lag95 the 95th percentile, of the time from seeing
	// a change to the guest's answer, over the last ones, in milliseconds.
	Lag   float64 `json:"lag,omitempty"`
	Lag95 float64 `json:"lag95,omitempty"`

	Fault string `json:"fault,omitempty"` // why the guest did not replay all of the last batch
}

// Stream is what the guest is to be told. Its methods may be called from
// several goroutines.
type Stream struct {
	now  func() time.Time
	wake chan struct{} // holds one when Next should look again
	room chan struct{} // holds one when there is room again

	mu       sync.Mutex
	epoch    string
	greet    bool // a greeting is to be sent
	greeted  time.Time
	agreed   bool // the guest has answered it
	caughtUp bool // since the watcher began
	seq      uint64
	unsent   map[string]*item
	queue    []*item // of unsent, the first one goes first; others in it are not waiting any more
	sent     []sentBatch
	tells    map[string]tell
	forgetAt time.Time
	next     time.Time // when the next batch may go
	through  int64
	counters Counters
	lags     []time.Duration // the last ones, a ring
	lagAt    int
	since    func(time.Time) // called once with the time before which all was told, by the guest's word
}

func newStream(now func() time.Time, since func(time.Time)) *Stream {
	return &Stream{
		now: now, since: since, epoch: rand.Text(),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		unsent: map[string]*item{}, tells: map[string]tell{},
	}
}

// Connect greets the guest, over a new connection or because it asks: nothing
// is sent until it has answered, and then what it does not know.
func (s *Stream) Connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greet, s.agreed = true, false
	signal(s.wake)
}

// signal leaves word in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Next waits for what is to be sent now. A batch that was returned counts as
// sent. The error is ctx's.
func (s *Stream) Next(ctx context.Context) (guest.FileBatch, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batch, wait := s.take()
		if batch != nil {
			return *batch, nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return guest.FileBatch{}, ctx.Err()
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// take returns what may be sent, or how long to wait.
func (s *Stream) take() (*guest.FileBatch, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.forget(now)

	unanswered := len(s.sent) > 0 && now.Sub(s.sent[0].at) > answerPatience && now.Sub(s.greeted) > answerPatience
	if s.greet || s.agreed && unanswered {
		s.greet, s.agreed, s.greeted = false, false, now
		return &guest.FileBatch{Epoch: s.epoch, Clock: now.UnixNano()}, 0
	}

	if !s.agreed || len(s.sent) >= guest.MaxFileBatches || len(s.unsent) == 0 {
		return nil, answerPatience
	}
	if wait := s.next.Sub(now); wait > 0 {
		return nil, wait
	}
	items, wait := s.due(now)
	if len(items) == 0 {
		return nil, wait
	}
	return s.send(items, now), 0
}

// due returns what a batch can take of what is due, or when something will be.
func (s *Stream) due(now time.Time) ([]*item, time.Duration) {
	var list []*item
	wait, size := answerPatience, 0
	kept := s.queue[:0]
	for i, it := range s.queue {
		if s.unsent[it.change.Path] != it { // it was sent
			continue
		}
		kept = append(kept, it)
		at, busy := s.dueAt(it, now)
		if after := at.Sub(now); after > 0 {
			wait = min(wait, after)
			continue
		}
		size += changeOverhead + jsonLength(it.change.Path)
		if size > guest.MaxFileBatchBytes && len(list) > 0 { // the rest is for the next batch
			kept = append(kept, s.queue[i+1:]...)
			break
		}
		it.change.Busy = busy
		list = append(list, it)
	}
	clear(s.queue[len(kept):])
	s.queue = kept
	return list, wait
}

// jsonLength bounds the length of a text in JSON.
func jsonLength(s string) int {
	n := len(s)
	for _, c := range []byte(s) {
		if c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= 0x80 {
			n += 5
		}
	}
	return n
}

// dueAt says when a path is to be told. A change after quiet goes at once,
// those that follow wait for the next quiet, but not for ever.
func (s *Stream) dueAt(it *item, now time.Time) (at time.Time, busy bool) {
	t, told := s.tells[it.change.Path]
	if told && t.answered.IsZero() { // the answer wakes who waits
		return now.Add(answerPatience), false
	}
	if !told || now.Sub(t.at) > memory {
		if it.open {
			return it.first.Add(openPatience), false
		}
		return it.first, false
	}

	quiet, limit := it.last.Add(settle), t.at.Add(busyInterval)
	if quiet.After(limit) {
		return limit, !it.change.Dir && it.change.Op == guest.FileModified
	}
	return quiet, false
}

// send makes a batch of items.
func (s *Stream) send(items []*item, now time.Time) *guest.FileBatch {
	before := len(s.unsent)
	s.seq++
	batch := &guest.FileBatch{Epoch: s.epoch, Seq: s.seq, Clock: now.UnixNano()}
	for _, it := range items {
		batch.Changes = append(batch.Changes, it.change)
		s.tells[it.change.Path] = tell{at: now, open: it.open, mtime: it.change.ModTime}
		if it.change.Busy { // what its file has at the end is told once more
			again := *it
			again.change.Busy = false
			s.wait(&again)
			continue
		}
		delete(s.unsent, it.change.Path)
	}

	if len(s.unsent) == 0 {
		s.through = now.Add(-throughSlack).UnixNano()
	}
	batch.Through = s.through
	s.sent = append(s.sent, sentBatch{s.seq, items, now})
	s.next = now.Add(pace)
	s.counters.Sent += len(items)
	if before > maxPending/2 && len(s.unsent) <= maxPending/2 {
		signal(s.room)
	}
	return batch
}

// forget drops what was told longer ago than a moment.
func (s *Stream) forget(now time.Time) {
	if now.Before(s.forgetAt) {
		return
	}
	s.forgetAt = now.Add(memory / 2)
	for path, t := range s.tells {
		if now.Sub(t.at) > memory && now.Sub(t.answered) > memory && !t.answered.IsZero() {
			delete(s.tells, path)
		}
	}
}

// Answer takes in what the guest says.
func (s *Stream) Answer(a guest.FileAnswer) {
	if a.Epoch == "" {
		s.Connect()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Epoch != s.epoch {
		return
	}
	s.answered(a.Seq)
	switch {
	case a.Greeting:
		s.resume(a)
	case s.agreed:
		s.counters.Replayed += max(a.Replayed, 0)
		s.counters.Skipped += max(a.Skipped, 0)
		s.counters.Fault = a.Fault
	}
	signal(s.wake)
}

// answered drops the batches up to seq.
func (s *Stream) answered(seq uint64) {
	now := s.now()
	for len(s.sent) > 0 && s.sent[0].seq <= seq {
		for _, it := range s.sent[0].items {
			s.lag(now.Sub(it.first))
			if t, ok := s.tells[it.change.Path]; ok {
				t.answered = now
				s.tells[it.change.Path] = t
			}
		}
		s.sent = s.sent[1:]
	}
}

// lagSamples is over how many changes the lag is counted.
const lagSamples = 512

func (s *Stream) lag(d time.Duration) {
	if len(s.lags) < lagSamples {
		s.lags = append(s.lags, d)
		return
	}
	s.lags[s.lagAt] = d
	s.lagAt = (s.lagAt + 1) % lagSamples
}

// resume goes on after a greeting with what the guest does not know.
func (s *Stream) resume(a guest.FileAnswer) {
	if s.greet { // a newer greeting is on its way
		return
	}
	waiting, now := s.queue, s.now()
	s.queue = nil
	for _, b := range s.sent {
		for _, it := range b.items {
			// The guest may not have been told, so it is told at once. But it may
			// have been, just as the connection broke, and be about to set the time.
			if t, told := s.tells[it.change.Path]; told {
				t.at, t.answered = time.Time{}, now
				s.tells[it.change.Path] = t
			}
			if _, newer := s.unsent[it.change.Path]; !newer {
				again := *it
				s.wait(&again)
			}
		}
	}
	s.queue = append(s.queue, waiting...)
	s.sent, s.seq, s.agreed = nil, a.Seq, true

	if !s.caughtUp && a.Through > 0 {
		s.since(time.Unix(0, a.Through))
	}
	s.caughtUp = true
}

// add has a change told; false when there is no room for it. open says that the
// file is being written.
func (s *Stream) add(c guest.FileChange, open bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	it := s.unsent[c.Path]
	if it == nil {
		if len(s.unsent) >= maxPending {
			return false
		}
		it = &item{change: c, first: now}
		s.wait(it)
	} else if it.change.Op == guest.FileCreated && c.Op == guest.FileModified {
		c.Op = guest.FileCreated
	}
	if it.change.Was != 0 { // the guest has not heard of what was there meanwhile
		c.Was = it.change.Was
	}
	it.change, it.last, it.open = c, now, open
	signal(s.wake)
	return true
}

// wait has an item wait to be sent.
func (s *Stream) wait(it *item) {
	s.unsent[it.change.Path] = it
	s.queue = append(s.queue, it)
}

// touched hears what happened to a file that looks as it was told. Nothing is
// wrong with that: it is the guest that raises the event, or somebody closed the
// file late. But one that was written to and closed meanwhile is another, and
// the guest has set its time back to what it was, which is reported as true.
func (s *Stream) touched(path string, what happened) (setBack bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, told := s.tells[path]
	if it := s.unsent[path]; it != nil {
		if what&closedWrite != 0 {
			it.open = false
			signal(s.wake)
		}
		told = told && it.change.ModTime == t.mtime // else it is told for what the guest did not set
	}
	if !told {
		return false
	}

	if what&closedWrite != 0 {
		setBack = !t.open && (what&saved != 0 || t.written) && s.replaying(t, replayGrace)
		t.open = false
	}
	t.written = what&isOpen != 0 || t.written && what&closedWrite == 0
	s.tells[path] = t
	return setBack
}

// hasSet reports whether the guest may have given a file the time that it has:
// it was told it a moment ago.
func (s *Stream) hasSet(path string, mtime int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, told := s.tells[path]
	return told && t.mtime == mtime && s.replaying(t, memory)
}

// replaying reports whether what the guest does about a tell may be seen now,
// some time after its answer at the latest.
func (s *Stream) replaying(t tell, grace time.Duration) bool {
	return t.answered.IsZero() || s.now().Sub(t.answered) < grace
}

// Counters are the stream's until now.
func (s *Stream) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters
	c.Waiting = len(s.unsent)
	for _, b := range s.sent {
		c.Waiting += len(b.items)
	}
	if len(s.lags) > 0 {
		sorted := slices.Sorted(slices.Values(s.lags))
		at := func(p int) float64 { return float64(sorted[(len(sorted)-1)*p/100].Microseconds()) / 1000 }
		c.Lag, c.Lag95 = at(50), at(95)
	}
	return c
}
