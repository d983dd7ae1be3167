package controlplane_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/sqlite"
	"github.com/rockpool/rootvm/agent/stub"
)

var preferenceSeed = flag.Uint64("preferences.seed", 0, "play the one sequence of this seed")

// The number of sequences, and how many steps each has.
const (
	manySequences = 10_000
	fewSequences  = 500 // with -short
	sequenceSteps = 24
)

// TestPreferences_loseNothing: whatever people and faults do to three
// workspaces, every content that a user wrote is in some workspace's file, or
// stored, or the user replaced it.
func TestPreferences_loseNothing(t *testing.T) {
	first, n := uint64(1), uint64(manySequences)
	if testing.Short() {
		n = fewSequences
	}
	if *preferenceSeed != 0 {
		first, n = *preferenceSeed, 1
	}
	losses, met := play(t, first, n, func(*controlplane.ControlPlane) {})
	for _, loss := range losses {
		t.Errorf("%s\nagain with -preferences.seed", loss)
	}
	t.Logf("met: %+v", met)
	if n > 1 && (met.kills < int(n) || met.restores < int(n/4) || met.conflicts < int(n/20) || met.unseen < int(n/20) || met.interferences < int(n/20)) {
		t.Errorf("too little was met in %d sequences: %+v", n, met)
	}
}

// TestPreferences_lastWriteWins: the same check finds losses when the last
// write wins.
func TestPreferences_lastWriteWins(t *testing.T) {
	losses, _ := play(t, 1, fewSequences, (*controlplane.ControlPlane).LastWriteWins)
	if len(losses) == 0 {
		t.Error("nothing was found to be lost")
	}
	t.Logf("%d of %d sequences lose an edit, such as %s", len(losses), fewSequences, strings.Join(losses[:min(1, len(losses))], ""))
}

// tally counts what the sequences came to.
type tally struct{ kills, restores, conflicts, unseen, interferences int }

// play plays the sequences of n seeds and returns what was lost.
func play(t *testing.T, first, n uint64, policy func(*controlplane.ControlPlane)) (losses []string, met tally) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	workers := uint64(runtime.GOMAXPROCS(0))
	for i := range workers {
		s := newScene(t, policy)
		wg.Go(func() {
			for seed := first + i; seed < first+n; seed += workers {
				if loss := s.play(seed); loss != "" {
					mu.Lock()
					losses = append(losses, loss)
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			met.kills += s.met.kills
			met.restores += s.met.restores
			met.conflicts += s.met.conflicts
			met.unseen += s.met.unseen
			met.interferences += s.met.interferences
		})
	}
	wg.Wait()
	return losses, met
}

// scene is three workspaces, a database and the agent's life of the moment.
type scene struct {
	db     *sqlite.DB
	policy func(*controlplane.ControlPlane)

	rng   *rand.Rand
	seed  uint64
	rt    *stub.Runtime
	plane *controlplane.ControlPlane
	fuse  int // steps until the agent is killed; 0 is never
	ids   []string
	runs  map[string]bool
	saved *snapshot // a backup of the database, nil before the first
	trace []string
	met   tally

	interferes bool // a user writes a file, not the agent

	written  []string        // by users, in order
	replaced map[string]bool // by users
}

// snapshot is what a backup of the database has of preferences.
type snapshot struct {
	stored []agent.Preference
	copies []agent.PreferenceCopy
}

// newScene opens a database, in memory where the machine has such a file
// system: what counts here is the order of commits.
func newScene(t *testing.T, policy func(*controlplane.ControlPlane)) *scene {
	t.Helper()
	dir := t.TempDir()
	if fast, err := os.MkdirTemp("/dev/shm", "rockpool-preferences"); err == nil {
		dir = fast
		t.Cleanup(func() { must(t, os.RemoveAll(fast)) })
	}
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "rockpool.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	s := &scene{db: db, policy: policy, ids: []string{strings.Repeat("a", 25), strings.Repeat("b", 25), strings.Repeat("c", 25)}}
	must(t, db.Update(t.Context(), func(tx agent.Tx) error {
		for _, id := range s.ids {
			if _, err := tx.InsertWorkspace(agent.Workspace{ID: id, Name: id, Status: agent.StatusStopped}, nil); err != nil {
				return err
			}
		}
		return nil
	}))
	return s
}

const playedPreference = agent.PreferenceGit

var playedPath = agent.PreferencePath(playedPreference)

// play plays one sequence from an empty beginning, and returns what was lost
// and how.
func (s *scene) play(seed uint64) string {
	s.rng, s.seed, s.trace, s.saved = rand.New(rand.NewPCG(seed, 7)), seed, nil, nil
	s.written, s.replaced, s.runs = nil, map[string]bool{}, map[string]bool{}
	s.rt = stub.New(stub.Options{Hook: func(_ context.Context, c stub.Call) error {
		s.burn()
		s.interfere(c)
		return nil
	}})
	s.fuse, s.interferes = 0, false
	for i, id := range s.ids {
		s.check(s.rt.Create(context.Background(), agent.Container{ID: id, Name: id, Slot: i, Port: 20000 + i}))
		s.check(s.rt.Start(context.Background(), id))
	}
	s.restore(&snapshot{})
	s.live()

	for range sequenceSteps {
		s.step()
	}
	for _, content := range s.written {
		if !s.replaced[content] && !s.kept(content) {
			return fmt.Sprintf("seed %d: %q is lost:\n  %s", seed, content, strings.Join(s.trace, "\n  "))
		}
	}
	return ""
}

func (s *scene) check(err error) {
	if err != nil {
		panic(fmt.Sprintf("seed %d: %v\n%s", s.seed, err, strings.Join(s.trace, "\n")))
	}
}

// kept reports whether a content is somewhere.
func (s *scene) kept(content string) bool {
	return s.stored() == agent.FileOf(content) || slices.ContainsFunc(s.ids, func(id string) bool { return s.file(id) == agent.FileOf(content) })
}

func (s *scene) file(id string) agent.File {
	b, err := s.rt.ReadFile(context.Background(), id, playedPath)
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return agent.File{}
	}
	s.check(err)
	return agent.FileOf(string(b))
}

func (s *scene) stored() (f agent.File) {
	s.check(s.db.View(context.Background(), func(tx agent.Tx) error {
		list, err := tx.Preferences()
		if len(list) > 0 {
			f = agent.FileOf(list[0].Blob)
		}
		return err
	}))
	return f
}

// live begins a life of the agent.
func (s *scene) live() {
	c, err := controlplane.New(context.Background(), controlplane.Config{
		Store: burning{s}, Runtime: s.rt, Files: s.rt, Inventory: s.rt, Observer: s.rt, Memory: s.rt, Storage: s.rt.Storage(), Images: s.rt, Terminator: s.rt, Health: s.rt, Previews: s.rt, Review: lines{}, Log: discard,
	})
	s.check(err)
	s.policy(c)
	s.plane = c
}

// killed is what an agent panics with that is killed.
type killed struct{}

// burn is a step of the agent's, in front of which it may be killed.
func (s *scene) burn() {
	if s.fuse--; s.fuse == 0 {
		panic(killed{})
	}
}

// burning is the database of an agent that may be killed before and after each
// transaction.
type burning struct{ s *scene }

func (b burning) Update(ctx context.Context, f func(agent.Tx) error) error {
	b.s.burn()
	err := b.s.db.Update(ctx, f)
	b.s.burn()
	return err
}

func (b burning) View(ctx context.Context, f func(agent.Tx) error) error {
	b.s.burn()
	return b.s.db.View(ctx, f)
}

// act lets the agent do something, in one of four cases with an end in the
// middle of it. It reports whether it lived.
func (s *scene) act(what string, f func() error) (lived bool) {
	s.trace = append(s.trace, what)
	if s.rng.IntN(4) == 0 {
		s.fuse = 1 + s.rng.IntN(8)
	}
	defer func() {
		s.fuse = 0
		if r := recover(); r != nil {
			if _, was := r.(killed); !was {
				panic(r)
			}
			s.met.kills++
			s.trace = append(s.trace, "  the agent was killed meanwhile")
			s.live()
		}
	}()
	err := f()
	if code := agent.ErrorCode(err); code != "" && code != agent.CodeNotFound && code != agent.CodeConflict {
		s.fuse = 0
		s.check(err)
	}
	return true
}

// step is one thing that happens.
func (s *scene) step() {
	id := s.ids[s.rng.IntN(len(s.ids))]
	switch n := s.rng.IntN(24); {
	case n < 8:
		s.edit(id)
	case n < 16:
		s.turn(id)
	case n < 17:
		s.cut()
	case n < 19:
		s.backup()
	case n < 20:
		s.save(id)
	case n < 23:
		s.resolve(id)
	default:
		s.remove(id)
	}
}

// edit is a user's, in a workspace that runs: one of five can run programs.
func (s *scene) edit(id string) {
	if !s.runs[id] {
		return
	}
	defer func(was bool) { s.interferes = was }(s.interferes)
	s.interferes = true // this write is not the agent's
	before := s.file(id)
	s.replaced[before.Content] = true
	content := fmt.Sprintf("%d", len(s.written))
	if s.rng.IntN(5) == 0 {
		content += "!"
	}
	s.written = append(s.written, content)
	s.trace = append(s.trace, fmt.Sprintf("%s: %q → %q", id[:1], before.Content, content))
	s.check(s.rt.WriteFile(context.Background(), id, playedPath, []byte(content)))
}

// interfere is an edit of the user's at the moment at which the agent is about to
// write the file.
func (s *scene) interfere(c stub.Call) {
	if c.Op != stub.OpWriteFile || c.After || s.interferes || s.rng.IntN(4) > 0 {
		return
	}
	fuse, runs := s.fuse, s.runs[c.ID]
	s.fuse, s.interferes, s.runs[c.ID] = 0, true, true
	s.edit(c.ID)
	s.fuse, s.interferes, s.runs[c.ID] = fuse, false, runs
	s.met.interferences++
}

// turn starts or stops a workspace. Who was killed meanwhile does it again when
// it lives again.
func (s *scene) turn(id string) {
	if !s.runs[id] {
		for !s.act("start "+id[:1], func() error { return s.plane.PushPreference(context.Background(), id, playedPreference) }) {
		}
		s.mark(id, true)
		return
	}
	if s.rng.IntN(4) > 0 { // one of four is not asked to be kept in step
		for !s.act("stop "+id[:1], func() error { return s.plane.TakePreference(context.Background(), id, playedPreference) }) {
		}
	}
	s.mark(id, false)
}

// mark stores whether a workspace runs.
func (s *scene) mark(id string, runs bool) {
	s.runs[id] = runs
	s.check(s.db.Update(context.Background(), func(tx agent.Tx) error {
		rec, err := tx.Workspace(id)
		if rec.Status = agent.StatusStopped; runs {
			rec.Status = agent.StatusRunning
		}
		return errors.Join(err, tx.UpdateWorkspace(rec))
	}))
}

// cut is a reboot: what ran is started again.
func (s *scene) cut() {
	s.trace = append(s.trace, "the power is cut")
	s.live()
	for _, id := range s.ids {
		if s.runs[id] {
			for !s.act("recover "+id[:1], func() error { return s.plane.PushPreference(context.Background(), id, playedPreference) }) {
			}
		}
	}
}

// backup makes a backup of the database, or goes back to the last one.
func (s *scene) backup() {
	if s.saved != nil && s.rng.IntN(2) == 0 {
		s.trace = append(s.trace, "the database is restored")
		s.met.restores++
		s.restore(s.saved)
		s.live()
		return
	}
	s.trace = append(s.trace, "the database is backed up")
	s.saved = &snapshot{}
	s.check(s.db.View(context.Background(), func(tx agent.Tx) (err error) {
		s.saved.stored, err = tx.Preferences()
		for _, id := range s.ids {
			c, err2 := tx.PreferenceCopy(id, playedPreference)
			s.saved.copies, err = append(s.saved.copies, c), errors.Join(err, err2)
		}
		return err
	}))
}

func (s *scene) restore(old *snapshot) {
	s.check(s.db.Update(context.Background(), func(tx agent.Tx) error {
		_, err := tx.DeletePreference(playedPreference)
		for _, id := range s.ids {
			err = errors.Join(err, tx.ForgetPreferenceCopies(id))
		}
		for _, p := range old.stored {
			err = errors.Join(err, tx.PutPreference(p))
		}
		for _, c := range old.copies {
			err = errors.Join(err, tx.PutPreferenceCopy(c))
		}
		return err
	}))
}

// chosen notes that a user replaced content.
func (s *scene) chosen(f agent.File) {
	if f.Exists {
		s.replaced[f.Content] = true
	}
}

// save is "Save all": a user stores what a workspace has, and confirms in half
// of the cases what has to be seen first. Only what was seen was replaced by the
// user.
func (s *scene) save(id string) {
	var confirmed *agent.PreferenceDifference
	s.act("save "+id[:1], func() error {
		_, err := s.plane.SavePreference(context.Background(), playedPreference, id, "")
		e, refused := errors.AsType[*agent.Error](err)
		if refused && e.Difference != nil && s.rng.IntN(2) == 0 {
			confirmed = e.Difference
			s.trace = append(s.trace, fmt.Sprintf("  over %q, which was seen", confirmed.Stored.Content))
			_, err = s.plane.SavePreference(context.Background(), playedPreference, id, confirmed.Digest())
		}
		return err
	})
	if confirmed != nil && s.stored() == confirmed.Found && confirmed.Found != confirmed.Stored {
		s.chosen(confirmed.Stored)
	}
}

// resolve is a user's choice on the page of a difference that has a note.
func (s *scene) resolve(id string) {
	notes, err := s.plane.PreferenceNotes(context.Background(), "")
	s.check(err)
	if len(notes) > 0 {
		id = notes[s.rng.IntN(len(notes))].WorkspaceID
	}
	d, err := s.plane.PreferenceDifference(context.Background(), id, playedPreference)
	if err != nil || d.Kind == agent.NoteNone {
		return
	}
	switch d.Kind {
	case agent.NoteConflict:
		s.met.conflicts++
	case agent.NoteUnseen:
		s.met.unseen++
	}
	choice, loser := agent.ChooseFound, d.Stored
	if s.rng.IntN(2) == 0 {
		choice, loser = agent.ChooseStored, d.Found
	}
	s.act(fmt.Sprintf("choose %s for %s over %q", choice, id[:1], loser.Content), func() error {
		return s.plane.ResolvePreference(context.Background(), id, playedPreference, choice, d.Digest())
	})
	if d.Stored != d.Found && s.came(choice, d) {
		s.chosen(loser)
	}
}

// came reports whether a choice came to be: it may have been refused, or the
// agent was killed before.
func (s *scene) came(choice agent.PreferenceChoice, d agent.PreferenceDifference) (did bool) {
	switch {
	case choice == agent.ChooseFound:
		return s.stored() == d.Found
	case s.runs[d.WorkspaceID]:
		return s.file(d.WorkspaceID) == d.Stored
	}
	s.check(s.db.View(context.Background(), func(tx agent.Tx) error { // at the next start
		known, err := tx.PreferenceCopy(d.WorkspaceID, playedPreference)
		did = known.Base == d.Found && known.Kind == agent.NoteNone
		return err
	}))
	return did
}

// remove removes the stored preference, or the file of a workspace.
func (s *scene) remove(id string) {
	if s.rng.IntN(2) == 0 || !s.runs[id] || !s.file(id).Exists {
		old := s.stored()
		s.act("remove the stored one", func() error { return s.plane.RemovePreference(context.Background(), playedPreference) })
		if !s.stored().Exists {
			s.chosen(old)
		}
		return
	}
	s.chosen(s.file(id))
	s.trace = append(s.trace, "rm in "+id[:1])
	s.rt.DeleteFile(id, playedPath)
}
