package watch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// paths are those of the next batch, or nil when none is due within a moment.
func paths(s *Stream) (list []string, batch guest.FileBatch) {
	deadline := time.Now().Add(100 * time.Millisecond)
	for time.Now().Before(deadline) {
		b, wait := s.take()
		if b != nil {
			for _, c := range b.Changes {
				list = append(list, c.Path)
			}
			return list, *b
		}
		time.Sleep(min(wait, time.Until(deadline)))
	}
	return nil, guest.FileBatch{}
}

// greeted is a stream whose guest has answered the greeting.
func greeted(t *testing.T) *Stream {
	t.Helper()
	s := newStream(time.Now, func(time.Time) {})
	s.Connect()
	_, b := paths(s)
	if b.Epoch == "" || b.Seq != 0 || b.Clock == 0 {
		t.Fatalf("greeting %+v", b)
	}
	s.Answer(guest.FileAnswer{Epoch: b.Epoch, Greeting: true})
	return s
}

func modified(path string) guest.FileChange {
	return guest.FileChange{Op: guest.FileModified, Path: path}
}

// TestStream_Stalled: a guest that stands still gets four batches and no more;
// what comes meanwhile is kept, once for each path; and after it was started
// anew it hears of all that it has not answered.
func TestStream_Stalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		for i := range 6 {
			s.add(modified(fmt.Sprint("f", i)), false)
			got, b := paths(s)
			if i < guest.MaxFileBatches && (len(got) != 1 || b.Seq != uint64(i+1)) {
				t.Errorf("batch %d: %q, %+v", i, got, b)
			}
			if i >= guest.MaxFileBatches && got != nil {
				t.Errorf("a fifth batch is sent: %q", got)
			}
		}
		for range 1000 {
			s.add(modified("f5"), false)
		}
		if c := s.Counters(); c.Waiting != 6 {
			t.Errorf("%+v", c)
		}
		time.Sleep(20 * time.Second)
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: 1})
		if got, _ := paths(s); len(got) != 2 {
			t.Errorf("after an answer: %q", got)
		}

		s.Answer(guest.FileAnswer{}) // it has started anew
		got, b := paths(s)
		if b.Seq != 0 || got != nil {
			t.Fatalf("no greeting: %+v", b)
		}
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: 3}) // of a batch before, still on its way
		if got, _ := paths(s); got != nil {
			t.Errorf("before it answered the greeting: %q", got)
		}
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Greeting: true})
		if got, b := paths(s); fmt.Sprint(got) != "[f3 f4 f5]" || b.Seq != 1 {
			t.Errorf("again: %q, %+v", got, b)
		}
	})
}

// TestStream_Silent: a guest that does not answer is greeted again, once.
func TestStream_Silent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		s.add(modified("f"), false)
		paths(s)
		time.Sleep(answerPatience + time.Second)
		if _, b := paths(s); b.Epoch == "" || b.Seq != 0 {
			t.Errorf("no greeting: %+v", b)
		}
		time.Sleep(time.Hour)
		if _, b := paths(s); b.Epoch != "" {
			t.Errorf("sent to a guest that stands still: %+v", b)
		}
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Greeting: true, Seq: 1})
		if got, _ := paths(s); got != nil {
			t.Errorf("told twice: %q", got)
		}
	})
}

// TestStream_Pace: the first change goes at once, fifty saves within a second
// are two in the end, and a file that never rests is told from time to time,
// without its time.
func TestStream_Pace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		run := func(saves int, apart time.Duration) (told, busy int) {
			for i := 0; i < saves || told == 0; i++ {
				if i < saves {
					s.add(modified("f"), false)
				}
				for end := time.Now().Add(apart); ; {
					b, wait := s.take()
					if b != nil {
						s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: b.Seq})
						told++
						if b.Changes[0].Busy {
							busy++
						}
						continue
					}
					if wait = min(wait, time.Until(end)); wait <= 0 {
						break
					}
					time.Sleep(wait)
				}
			}
			time.Sleep(settle + pace)
			if got, b := paths(s); got != nil {
				told++
				s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: b.Seq})
			}
			time.Sleep(time.Minute)
			return told, busy
		}
		if told, busy := run(50, 3*time.Second); told != 50 || busy != 0 {
			t.Errorf("50 saves 3 s apart are told %d times, %d busy", told, busy)
		}
		if told, busy := run(50, 20*time.Millisecond); told != 2 || busy != 0 {
			t.Errorf("50 saves within a second are told %d times, %d busy", told, busy)
		}
		if told, busy := run(5000, time.Millisecond); told != 5 || busy != 3 {
			t.Errorf("a file that changes 1000 times a second for 5 s is told %d times, %d busy", told, busy)
		}
	})
}

// TestStream_Open: a file that is being written is told once it is closed, or
// after a while.
func TestStream_Open(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		start := time.Now()
		s.add(modified("closed"), true)
		s.touched("closed", closedWrite)
		got, b := paths(s)
		if got == nil || time.Since(start) != 0 {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: b.Seq})
		time.Sleep(time.Minute)
		start = time.Now()
		s.add(modified("open"), true)
		if got, _ := paths(s); got == nil || time.Since(start) != openPatience {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		if s.touched("open", written|closedWrite|saved) {
			t.Error("closing it now is what was to come")
		}
	})
}

// TestStream_SetBack: a file that was written and closed while the guest raises
// the event of an earlier change is another, though it does not look so.
func TestStream_SetBack(t *testing.T) {
	for name, tt := range map[string]struct {
		seen []happened
		want bool
	}{
		"replay":                 {[]happened{written | isOpen}, false},
		"closed late":            {[]happened{closedWrite, written | isOpen}, false},
		"closed late, together":  {[]happened{closedWrite | written | isOpen}, false},
		"written":                {[]happened{written | closedWrite | saved}, true},
		"written, then replay":   {[]happened{written | closedWrite | saved | isOpen}, true},
		"written in two":         {[]happened{written | isOpen, closedWrite}, true},
		"written in two, replay": {[]happened{written | isOpen, closedWrite | written | isOpen}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := greeted(t)
			touched := func() (setBack bool) {
				for _, what := range tt.seen {
					setBack = s.touched("f", what) || setBack
				}
				return setBack
			}
			s.add(modified("f"), false)
			_, b := paths(s)
			if got := touched(); got != tt.want {
				t.Errorf("%s, before the answer: %v", name, got)
			}
			s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: b.Seq})
			time.Sleep(replayGrace + time.Millisecond)
			if touched() {
				t.Errorf("%s: some time after the answer", name)
			}
			s.add(modified("f"), true)
			time.Sleep(openPatience)
			paths(s)
			if s.touched("f", closedWrite) || s.touched("other", written|closedWrite|saved) {
				t.Errorf("%s: a file that was told while it was open is closed", name)
			}
		})
	}
}

// TestStream_SetBack_broken: the guest raises the event of an earlier change
// though the connection broke before it could answer.
func TestStream_SetBack_broken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		s.add(modified("f"), false)
		paths(s)
		s.Connect()
		paths(s)
		s.Answer(guest.FileAnswer{Epoch: s.epoch, Greeting: true})
		if !s.hasSet("f", 0) {
			t.Error("the time that the guest was told is not known again")
		}
		if !s.touched("f", written|closedWrite|saved) {
			t.Error("a file that was written and looks as it was told before is not noticed")
		}
		if got, _ := paths(s); !slices.Equal(got, []string{"f"}) {
			t.Errorf("told again: %q", got)
		}
	})
}

// TestStream_Bounds: paths that wait are bounded, and so is a line.
func TestStream_Bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := greeted(t)
		for i := range maxPending {
			if !s.add(modified(fmt.Sprint(strings.Repeat("<ü\n", i%40), i)), false) {
				t.Fatalf("no room for %d", i)
			}
		}
		if s.add(modified("one more"), false) {
			t.Error("there is room for one more")
		}
		sent := 0
		for sent < maxPending {
			got, b := paths(s)
			if got == nil {
				t.Fatalf("%d of %d are sent", sent, maxPending)
			}
			sent += len(got)
			s.Answer(guest.FileAnswer{Epoch: s.epoch, Seq: b.Seq})
			line, err := json.Marshal(guest.Call{Request: guest.RequestFiles, Files: &b})
			if err != nil || len(line) > guest.MaxFileBatchBytes+1024 || b.Validate() != nil {
				t.Fatalf("%d bytes, %v, %v", len(line), err, b.Validate())
			}
		}
		select {
		case <-s.room:
		default:
			t.Error("nobody is told that there is room again")
		}
		long := strings.Repeat(strings.Repeat("\n", 200)+"/", 20) + "x"
		s.add(modified(long), false)
		_, b := paths(s)
		if line, err := json.Marshal(guest.Call{Request: guest.RequestFiles, Files: &b}); err != nil || len(line) > guest.MaxLine {
			t.Errorf("%d bytes, %v", len(line), err)
		}
	})
}

// TestStream_Since: a new supervisor hears from the guest until when it was told.
func TestStream_Since(t *testing.T) {
	var since []time.Time
	s := newStream(time.Now, func(t time.Time) { since = append(since, t) })
	for range 2 {
		s.Connect()
		_, b := paths(s)
		s.Answer(guest.FileAnswer{Epoch: b.Epoch, Greeting: true, Through: 7e9})
	}
	if len(since) != 1 || !since[0].Equal(time.Unix(7, 0)) {
		t.Errorf("%v", since)
	}
}
