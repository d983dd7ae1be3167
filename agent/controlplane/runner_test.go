package controlplane

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/sqlite"
)

// script is what attempts do in a test, and what the runner told them.
type script struct {
	w    *writer
	work func(ctx context.Context, job agent.Job) error // nil error: the job's row goes
	mean func(error) failure

	mu   sync.Mutex
	ran  []string // ids of jobs
	done []string
	ends []attemptEnd

	abandoned []string // ids of jobs
}

// scripted is one attempt of a script.
type scripted struct {
	*script
	job agent.Job
}

func (s scripted) run(ctx context.Context) error {
	s.note(func() { s.ran = append(s.ran, s.job.ID) })
	if err := s.work(ctx, s.job); err != nil {
		return err
	}
	return s.w.update(ctx, func(ch *change) error {
		if _, err := ch.leased(s.job); err != nil {
			return err
		}
		return ch.DeleteJob(s.job.ID)
	})
}

func (s scripted) done(context.Context) {
	s.note(func() { s.script.done = append(s.script.done, s.job.ID) })
}

func (s scripted) abandon(context.Context) {
	s.note(func() { s.abandoned = append(s.abandoned, s.job.ID) })
}

func (s scripted) explain(err error) failure {
	if s.mean == nil {
		return failure{text: err.Error()}
	}
	return s.mean(err)
}

func (s scripted) settle(_ *change, _ failure, end attemptEnd) error {
	s.note(func() { s.ends = append(s.ends, end) })
	return nil
}

func (s *script) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// told is what the runner told so far: which jobs ran and were done, and how
// failed attempts ended.
func (s *script) told() (ran, done []string, ends []attemptEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ran), slices.Clone(s.done), slices.Clone(s.ends)
}

// runs begins a runner of the script in a bubble. It ends with the test.
func (s *script) runs(t *testing.T, cfg Config) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store, cfg.Random, cfg.Log = db, rand.Reader, slog.New(slog.DiscardHandler)
	cfg.fillDefaults()
	s.w = newWriter(cfg, "life")
	r := newRunner(cfg, "life", s.w, func(j agent.Job) jobAttempt { return scripted{s, j} }, knownKinds().provisioning())

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if r.Reclaim(ctx) {
			r.Run(ctx)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// enqueue stores a workspace with jobs of kinds, and returns their ids.
func (s *script) enqueue(t *testing.T, name string, kinds ...agent.JobKind) (ids []string) {
	t.Helper()
	err := s.w.update(t.Context(), func(ch *change) error {
		if _, err := ch.InsertWorkspace(agent.Workspace{ID: name, Name: name, Status: agent.StatusCreating}, nil); err != nil {
			return err
		}
		for _, kind := range kinds {
			if err := ch.enqueue(agent.Job{Kind: kind, WorkspaceID: name, Payload: `{"of":"` + name + `"}`}); err != nil {
				return err
			}
		}
		jobs, err := ch.Jobs(name)
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func jobsOf(t *testing.T, db *sqlite.DB) (jobs []agent.Job) {
	t.Helper()
	err := db.View(t.Context(), func(tx agent.Tx) (err error) {
		jobs, err = tx.Jobs("")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// TestRunner_Done: a job that is done is told so, and had its arguments.
func TestRunner_Done(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{work: func(_ context.Context, j agent.Job) error {
			if j.Payload != `{"of":"w"}` || j.State != agent.JobLeased || j.Attempts != 1 || j.LeaseToken != "life" {
				t.Errorf("job: %+v", j)
			}
			return nil
		}}
		db := s.runs(t, Config{})
		ids := s.enqueue(t, "w", "of a later release", agent.JobStop)
		time.Sleep(time.Second)
		ran, done, ends := s.told()
		if !slices.Equal(ran, ids) || !slices.Equal(done, ids) || len(ends) != 0 || len(jobsOf(t, db)) != 0 {
			t.Errorf("ran %q, done %q, ended %v, want %q", ran, done, ends, ids)
		}
	})
}

// TestRunner_Ends: what becomes of a job whose first attempt fails.
func TestRunner_Ends(t *testing.T) {
	for name, tt := range map[string]struct {
		failure  failure
		attempts int  // that a job may have
		behind   bool // another job waits
		end      attemptEnd
		state    agent.JobState // "": the job is gone
		counted  int            // attempts
	}{
		"its own":                  {failure{text: "no"}, 2, false, endRetried, agent.JobQueued, 1},
		"the last one":             {failure{text: "no"}, 1, false, endParked, agent.JobParked, 1},
		"final":                    {failure{text: "no", final: true}, 9, false, endParked, agent.JobParked, 1},
		"elsewhere":                {failure{text: "no", outage: 1}, 1, false, endWaits, agent.JobQueued, 0},
		"another behind":           {failure{text: "no"}, 9, true, endCancelled, "", 0},
		"another behind, waits":    {failure{text: "no", outage: 3}, 9, true, endCancelled, "", 0},
		"another behind, is final": {failure{text: "no", final: true}, 1, true, endCancelled, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{mean: func(error) failure { return tt.failure }}
				s.work = func(_ context.Context, j agent.Job) error {
					if j.Kind == agent.JobCreate {
						return errors.New("fault")
					}
					return nil
				}
				db := s.runs(t, Config{Attempts: tt.attempts, Backoff: time.Minute, MaxBackoff: time.Minute})
				kinds := []agent.JobKind{agent.JobCreate}
				if tt.behind {
					kinds = append(kinds, agent.JobDelete)
				}
				begun := time.Now()
				s.enqueue(t, "w", kinds...)
				time.Sleep(10 * time.Second)

				_, done, ends := s.told()
				if !slices.Equal(ends, []attemptEnd{tt.end}) {
					t.Errorf("ends: %v, want %v", ends, tt.end)
				}
				jobs := jobsOf(t, db)
				if tt.state == "" {
					if len(jobs) != 0 || len(done) != 1 {
						t.Errorf("jobs: %+v, done: %q", jobs, done)
					}
					return
				}
				if len(jobs) != 1 || jobs[0].State != tt.state || jobs[0].Attempts != tt.counted || jobs[0].LastError != "no" || jobs[0].LeaseToken != "" {
					t.Fatalf("jobs: %+v", jobs)
				}
				if wait := jobs[0].RunAt.Sub(begun); tt.state == agent.JobQueued && (wait < 29*time.Second || wait > 61*time.Second) {
					t.Errorf("tried again after %s", wait)
				}
			})
		})
	}
}

// TestRunner_Turns: no more jobs of a lane at once than are allowed, and the
// jobs of a workspace are one after the other.
func TestRunner_Turns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		atWork, most := map[string]int{}, map[agent.JobKind]int{}
		kinds := map[agent.JobKind]int{}
		s := &script{work: func(_ context.Context, j agent.Job) error {
			mu.Lock()
			atWork[j.WorkspaceID]++
			if atWork[j.WorkspaceID] > 1 {
				t.Errorf("two jobs of workspace %s at once", j.WorkspaceID)
			}
			kinds[j.Kind]++
			most[j.Kind] = max(most[j.Kind], kinds[j.Kind])
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			delete(atWork, j.WorkspaceID)
			kinds[j.Kind]--
			mu.Unlock()
			return nil
		}}
		db := s.runs(t, Config{Concurrency: 2, Endings: 3})
		for _, name := range []string{"a", "b", "c", "d"} {
			s.enqueue(t, name, agent.JobCreate, agent.JobStop)
			s.enqueue(t, name+"2", agent.JobDelete)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if _, done, _ := s.told(); most[agent.JobCreate] != 2 || most[agent.JobDelete] != 3 || most[agent.JobStop] > 3 || len(jobsOf(t, db)) != 0 || len(done) != 12 {
			t.Errorf("%v at once, done %q", most, done)
		}
	})
}

// TestRunner_LeaseIsAnothers: an attempt whose lease is lost ends, and nothing
// is stored of it.
func TestRunner_LeaseIsAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.work = func(ctx context.Context, _ agent.Job) error {
			if ran, _, _ := s.told(); len(ran) > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		db := s.runs(t, Config{Lease: time.Minute})
		s.enqueue(t, "w", agent.JobCreate)
		time.Sleep(time.Second)
		err := s.w.update(t.Context(), func(ch *change) error {
			jobs, err := ch.Jobs("w")
			if err != nil {
				return err
			}
			jobs[0].LeaseToken = "another life"
			return ch.UpdateJob(jobs[0])
		})
		if err != nil {
			t.Fatal(err)
		}

		time.Sleep(30 * time.Second)
		_, done, ends := s.told()
		if jobs := jobsOf(t, db); len(ends) != 0 || len(done) != 0 || len(jobs) != 1 || jobs[0].LeaseToken != "another life" {
			t.Errorf("ends %v, done %q, jobs %+v", ends, done, jobs)
		}
		time.Sleep(5 * time.Minute) // the other one is silent
		if _, done, _ = s.told(); len(done) != 1 || len(jobsOf(t, db)) != 0 {
			t.Errorf("done %q", done)
		}
	})
}

func TestBackoff_After(t *testing.T) {
	b := backoff{time.Second, time.Minute, rand.Reader}
	for n, most := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 99: time.Minute} {
		for range 20 {
			if d := b.after(n); d < most/2 || d >= most {
				t.Errorf("after %d: %s, want from %s to %s", n, d, most/2, most)
			}
		}
	}
}
