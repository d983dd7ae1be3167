package controlplane_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

const gitFile = ".gitconfig"

// synced makes a workspace that keeps its preferences in step.
func (p *plane) synced(name string) agent.Workspace {
	p.t.Helper()
	return p.wait(p.create(agent.NewWorkspace{Name: name, AutoSyncPrefs: true}).ID, agent.StatusRunning)
}

func (p *plane) write(id, content string) {
	p.t.Helper()
	must(p.t, p.rt.WriteFile(p.t.Context(), id, gitFile, []byte(content)))
}

func (p *plane) stopped(id string) {
	p.t.Helper()
	if _, err := p.StopWorkspace(p.t.Context(), id); err != nil {
		p.t.Fatal(err)
	}
	p.wait(id, agent.StatusStopped)
}

func (p *plane) started(id string) {
	p.t.Helper()
	if _, err := p.StartWorkspace(p.t.Context(), id); err != nil {
		p.t.Fatal(err)
	}
	p.wait(id, agent.StatusRunning)
}

func (p *plane) wantStored(want string) {
	p.t.Helper()
	got, err := p.Preference(p.t.Context(), agent.PreferenceGit)
	if err != nil || got.Blob != want {
		p.t.Errorf("stored: %q, %v, want %q", got.Blob, err, want)
	}
}

func (p *plane) wantFile(id, want string) {
	p.t.Helper()
	if got := p.file(id, gitFile); got != want {
		p.t.Errorf("file: %q, want %q", got, want)
	}
}

// note is the note on a workspace's Git configuration.
func (p *plane) note(id string) agent.PreferenceNote {
	p.t.Helper()
	return p.noteOf(id, agent.PreferenceGit)
}

func (p *plane) noteOf(id, name string) (note agent.PreferenceNote) {
	p.t.Helper()
	notes, err := p.PreferenceNotes(p.t.Context(), id)
	must(p.t, err)
	for _, n := range notes {
		if n.Name == name {
			return n.PreferenceNote
		}
	}
	return note
}

func (p *plane) difference(id string) agent.PreferenceDifference {
	p.t.Helper()
	d, err := p.PreferenceDifference(p.t.Context(), id, agent.PreferenceGit)
	must(p.t, err)
	return d
}

// TestPreferences_untouched: what a workspace did not change is neither taken
// from it nor brought over what it did change.
func TestPreferences_untouched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		a := p.synced("aaa")
		p.write(a.ID, "v1")
		p.restart(a.ID)
		b := p.synced("bbb")
		p.wantFile(b.ID, "v1")

		p.write(a.ID, "v2")
		p.stopped(a.ID)
		p.wantStored("v2")
		p.stopped(b.ID) // its v1 is only old
		p.wantStored("v2")
		p.started(a.ID)
		p.wantFile(a.ID, "v2")
		p.started(b.ID)
		p.wantFile(b.ID, "v2")
		if n := p.note(b.ID); n.Kind != agent.NoteNone {
			t.Errorf("note: %+v", n)
		}
	})
}

// save saves a workspace's Git configuration without a look at what it replaces,
// and returns the difference that a refusal shows.
func (p *plane) save(id string) (agent.Preference, *agent.PreferenceDifference) {
	p.t.Helper()
	stored, err := p.SavePreference(p.t.Context(), agent.PreferenceGit, id, "")
	if e, ok := errors.AsType[*agent.Error](err); ok && e.Code == agent.CodeConflict && e.Difference != nil {
		return stored, e.Difference
	}
	must(p.t, err)
	return stored, nil
}

// TestPreferences_saveUntouched: a file that a workspace did not change does not
// replace the newer one of another, whoever asks for it.
func TestPreferences_saveUntouched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		a := p.synced("aaa")
		p.write(a.ID, "v1")
		p.restart(a.ID)
		b := p.synced("bbb")
		p.write(b.ID, "v2")
		if stored, d := p.save(b.ID); d != nil || stored.Blob != "v2" { // what is stored is what it came from
			t.Errorf("an edit: %+v, %+v", stored, d)
		}
		time.Sleep(time.Minute)
		stored, d := p.save(a.ID)
		if times, err := p.PreferenceTimes(t.Context()); d != nil || stored.Blob != "v2" || err != nil || !times[agent.PreferenceGit].Equal(stored.UpdatedAt) || time.Since(stored.UpdatedAt) < time.Minute {
			t.Errorf("an untouched file: %+v, %+v, %v", stored, d, err)
		}
		p.wantStored("v2")
		p.wantFile(a.ID, "v1")
		p.restart(a.ID)
		p.wantFile(a.ID, "v2")

		p.write(a.ID, "v1")
		p.restart(a.ID)
		must(t, p.RemovePreference(t.Context(), agent.PreferenceGit))
		if stored, d := p.save(a.ID); d != nil || stored.Blob != "v1" { // it replaces nothing
			t.Errorf("with nothing stored: %+v, %+v", stored, d)
		}
	})
}

// TestPreferences_saveConflict: of two edits neither replaces the other until a
// person saw both.
func TestPreferences_saveConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		a := p.synced("aaa")
		p.write(a.ID, "v1")
		p.restart(a.ID)
		b := p.synced("bbb")
		p.write(a.ID, "of a")
		p.write(b.ID, "of b")
		p.save(a.ID)
		_, d := p.save(b.ID)
		if d == nil || d.Stored != agent.FileOf("of a") || d.Found != agent.FileOf("of b") || d.Kind != agent.NoteConflict || d.Message == "" {
			t.Fatalf("difference: %+v", d)
		}
		p.wantStored("of a")
		err := p.ResolvePreference(t.Context(), b.ID, agent.PreferenceGit, agent.ChooseFound, "")
		if agent.ErrorCode(err) != agent.CodeConflict {
			t.Errorf("a choice on nothing that was seen: %v", err)
		}
		p.wantStored("of a")
		_, err = p.SavePreference(t.Context(), agent.PreferenceGit, b.ID, d.Digest())
		must(t, err)
		p.wantStored("of b")
	})
}

// TestPreferences_notSynced: without syncing, and after a crash, a start leaves
// what the workspace has.
func TestPreferences_notSynced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("demo")
		p.write(ws.ID, "v1")
		if _, err := p.SavePreference(t.Context(), agent.PreferenceGit, ws.ID, ""); err != nil {
			t.Fatal(err)
		}
		p.write(ws.ID, "mine")
		p.restart(ws.ID)
		p.wantFile(ws.ID, "mine")
		w.rt.Kill(ws.ID)
		time.Sleep(time.Minute)
		p.wait(ws.ID, agent.StatusRunning)
		p.wantFile(ws.ID, "mine")
		p.end()
		w.rt.Kill(ws.ID)
		p = w.live(t, func(c *controlplane.Config) { c.Rebooted = true })
		p.wait(ws.ID, agent.StatusRunning)
		p.wantFile(ws.ID, "mine")
		p.wantStored("v1")

		w.rt.DeleteFile(ws.ID, gitFile) // deleting is an edit, too
		p.restart(ws.ID)
		p.wantFile(ws.ID, "The workspace has no file .gitconfig")
	})
}

// conflicting makes two workspaces that changed the same preference: the
// second one's edit was not stored.
func conflicting(t *testing.T, w *world) (p *plane, second string) {
	t.Helper()
	p = w.live(t)
	a := p.synced("aaa")
	p.write(a.ID, "v1")
	p.restart(a.ID)
	b := p.synced("bbb")
	p.write(a.ID, "of a")
	p.write(b.ID, "of b")
	p.stopped(a.ID)
	p.stopped(b.ID)
	p.wantStored("of a")
	if n := p.note(b.ID); n.Kind != agent.NoteConflict || n.Message == "" || n.NotedAt.IsZero() {
		t.Errorf("note: %+v", n)
	}
	return p, b.ID
}

// TestPreferences_conflict: the user's file stays until the user chooses, also
// while the workspace does not run.
func TestPreferences_conflict(t *testing.T) {
	for name, choice := range map[string]agent.PreferenceChoice{"keep": agent.ChooseFound, "stored": agent.ChooseStored} {
		for when, running := range map[string]bool{"running": true, "stopped": false} {
			t.Run(name+"/"+when, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					p, id := conflicting(t, w)
					if running {
						p.started(id)
						p.wantFile(id, "of b")
					}
					d := p.difference(id)
					if d.Stored != agent.FileOf("of a") || d.Found != agent.FileOf("of b") || d.Kind != agent.NoteConflict {
						t.Errorf("difference: %+v", d)
					}
					err := p.ResolvePreference(t.Context(), id, agent.PreferenceGit, choice, "another digest")
					if e, ok := errors.AsType[*agent.Error](err); !ok || e.Code != agent.CodeConflict || e.Difference == nil || e.Difference.Digest() != d.Digest() {
						t.Errorf("a choice on something else: %+v", err)
					}
					must(t, p.ResolvePreference(t.Context(), id, agent.PreferenceGit, choice, d.Digest()))
					if n := p.note(id); n.Kind != agent.NoteNone {
						t.Errorf("note: %+v", n)
					}

					if !running {
						p.started(id)
					}
					want := map[agent.PreferenceChoice]string{agent.ChooseFound: "of b", agent.ChooseStored: "of a"}[choice]
					p.wantFile(id, want)
					p.wantStored(want)
				})
			})
		}
	}
}

// meddledStore does something once, in front of the next update.
type meddledStore struct {
	agent.Store
	next atomic.Pointer[func(agent.Tx) error]
}

func (s *meddledStore) Update(ctx context.Context, f func(agent.Tx) error) error {
	if meddle := s.next.Swap(nil); meddle != nil {
		if err := s.Store.Update(ctx, *meddle); err != nil {
			return err
		}
	}
	return s.Store.Update(ctx, f)
}

func (s *meddledStore) meddle(f func(agent.Tx) error) { s.next.Store(&f) }

// meddled is what [conflicting] makes, with such a store.
func meddled(t *testing.T, w *world) (*plane, *meddledStore, string) {
	t.Helper()
	p, id := conflicting(t, w)
	p.end()
	store := &meddledStore{}
	p = w.live(t, func(c *controlplane.Config) { store.Store, c.Store = c.Store, store })
	time.Sleep(time.Second) // it has settled
	return p, store, id
}

// TestPreferences_chosenMeanwhile: a choice is not undone by a start that read
// before what was known.
func TestPreferences_chosenMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p, store, id := meddled(t, w)
		p.write(id, "of b, too")
		store.meddle(func(tx agent.Tx) error { // "Keep this"
			return errors.Join(
				tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "of b", UpdatedAt: time.Now()}),
				tx.PutPreferenceCopy(agent.PreferenceCopy{WorkspaceID: id, Name: agent.PreferenceGit, Base: agent.FileOf("of b")}))
		})
		must(t, p.PushPreference(t.Context(), id, agent.PreferenceGit))
		p.wantStored("of b")
		p.wantFile(id, "of b, too")
		if n := p.note(id); n.Kind != agent.NoteNone {
			t.Errorf("note: %+v", n)
		}
	})
}

// TestPreferences_storedMeanwhile: a choice of the stored one is one of what was
// seen, and takes no other choice back.
func TestPreferences_storedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p, store, id := meddled(t, w)
		digest := p.difference(id).Digest()
		store.meddle(func(tx agent.Tx) error {
			return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "newer", UpdatedAt: time.Now()})
		})
		err := p.ResolvePreference(t.Context(), id, agent.PreferenceGit, agent.ChooseStored, digest)
		if agent.ErrorCode(err) != agent.CodeConflict {
			t.Errorf("a choice of what was not seen: %v", err)
		}
		p.started(id)
		p.wantFile(id, "of b")

		digest = p.difference(id).Digest()
		store.meddle(func(tx agent.Tx) error {
			return tx.PutPreferenceCopy(agent.PreferenceCopy{WorkspaceID: id, Name: agent.PreferenceGit, Base: agent.FileOf("of b")})
		})
		err = p.ResolvePreference(t.Context(), id, agent.PreferenceGit, agent.ChooseStored, digest)
		e, ok := errors.AsType[*agent.Error](err)
		if !ok || e.Difference == nil || e.Difference.Found != agent.FileOf("newer") {
			t.Errorf("what was known is another meanwhile: %+v", err)
		}
		must(t, p.db.View(t.Context(), func(tx agent.Tx) error {
			known, err := tx.PreferenceCopy(id, agent.PreferenceGit)
			if known.Base != agent.FileOf("of b") {
				t.Errorf("in common: %+v", known.Base)
			}
			return err
		}))
	})
}

// TestPreferences_chosenTooLate: what was changed since it was shown is not
// replaced.
func TestPreferences_chosenTooLate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p, id := conflicting(t, w)
		p.started(id)
		d := p.difference(id)
		p.write(id, "newer")
		for _, choice := range []agent.PreferenceChoice{agent.ChooseFound, agent.ChooseStored} {
			if err := p.ResolvePreference(t.Context(), id, agent.PreferenceGit, choice, d.Digest()); agent.ErrorCode(err) != agent.CodeConflict {
				t.Errorf("%s: %v", choice, err)
			}
		}
		p.wantFile(id, "newer")
		p.wantStored("of a")
		err := p.ResolvePreference(t.Context(), id, agent.PreferenceGit, "both", p.difference(id).Digest())
		wantError(t, err, agent.CodeValidation, "choice must be found or stored")
	})
}

// TestPreferences_editedMeanwhile: an edit between the look at a file and its
// replacement stays, at a start and when a person chose the stored preference.
func TestPreferences_editedMeanwhile(t *testing.T) {
	// editAtWrite has the user edit the file when it is about to be written.
	editAtWrite := func(t *testing.T, w *world, id string) {
		edited := false
		w.hooks.set(func(ctx context.Context, c stub.Call) error {
			if c.Op != stub.OpWriteFile || c.After || c.ID != id || edited {
				return nil
			}
			edited = true
			return w.rt.WriteFile(ctx, id, gitFile, []byte("edit"))
		})
		t.Cleanup(func() {
			if !edited {
				t.Error("nothing was written: the test proves nothing")
			}
		})
	}

	t.Run("start", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			p := w.live(t)
			one, other := p.synced("one"), p.synced("other")
			p.write(one.ID, "v1")
			p.restart(one.ID)
			p.restart(other.ID) // has v1, too
			p.write(one.ID, "v2")
			p.stopped(one.ID) // v2 is stored
			p.stopped(other.ID)
			editAtWrite(t, w, other.ID)
			p.started(other.ID)
			p.wantFile(other.ID, "edit")
			p.wantStored("v2")
			if n := p.note(other.ID); n.Kind != agent.NoteConflict {
				t.Errorf("note: %+v", n)
			}
		})
	})

	t.Run("choice", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			p, id := conflicting(t, w)
			p.started(id)
			editAtWrite(t, w, id)
			err := p.ResolvePreference(t.Context(), id, agent.PreferenceGit, agent.ChooseStored, p.difference(id).Digest())
			e, ok := errors.AsType[*agent.Error](err)
			if !ok || e.Code != agent.CodeConflict || e.Difference == nil || e.Difference.Found != agent.FileOf("edit") {
				t.Errorf("error %+v, want the difference as it is", err)
			}
			p.wantFile(id, "edit")
			p.wantStored("of a")
		})
	})
}

// TestPreferences_unseen: what can run a program is stored by nobody but a
// person who saw it, and what was seen once is not asked for again.
func TestPreferences_unseen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ctx := t.Context()
		ws := p.synced("demo")
		p.write(ws.ID, "plain\n")
		p.restart(ws.ID)
		p.write(ws.ID, "plain\nrun!\n")
		p.restart(ws.ID)
		p.wantStored("plain\n")
		p.wantFile(ws.ID, "plain\nrun!\n")
		if n := p.note(ws.ID); n.Kind != agent.NoteUnseen {
			t.Errorf("note: %+v", n)
		}

		_, err := p.SavePreference(ctx, agent.PreferenceGit, ws.ID, "")
		e, ok := errors.AsType[*agent.Error](err)
		if !ok || e.Code != agent.CodeConflict || e.Difference == nil || strings.Join(e.Difference.Programs, "") != "run!\n" || e.Difference.Stored != agent.FileOf("plain\n") {
			t.Fatalf("save: %+v", err)
		}
		seen := e.Difference.Digest()
		p.write(ws.ID, "plain\nrun other!\n") // behind the person's back
		if _, err := p.SavePreference(ctx, agent.PreferenceGit, ws.ID, seen); agent.ErrorCode(err) != agent.CodeConflict {
			t.Errorf("confirmed something else: %v", err)
		}
		p.wantStored("plain\n")
		p.write(ws.ID, "plain\nrun!\n")
		if _, err := p.SavePreference(ctx, agent.PreferenceGit, ws.ID, seen); err != nil {
			t.Errorf("confirm: %v", err)
		}

		p.write(ws.ID, "other\nrun!\n")
		p.restart(ws.ID)
		p.wantStored("other\nrun!\n")
		p.write(ws.ID, "other\nrun!\nmore!\n")
		p.restart(ws.ID)
		p.wantStored("other\nrun!\n")
		if d := p.difference(ws.ID); strings.Join(d.Programs, "") != "more!\n" {
			t.Errorf("unseen: %q", d.Programs)
		}
		if next := p.created("next"); p.file(next.ID, gitFile) != "other\nrun!\n" {
			t.Errorf("what was agreed to did not arrive: %q", p.file(next.ID, gitFile))
		}
	})
}

// TestPreferences_storedUnseen: what an older release stored without asking is
// not brought into workspaces.
func TestPreferences_storedUnseen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
			return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "run!", UpdatedAt: time.Now()})
		}))
		ws := p.created("demo")
		p.wantFile(ws.ID, "The workspace has no file .gitconfig")
		if n := p.note(ws.ID); n.Kind != agent.NoteFault || !strings.Contains(n.Message, "older release") {
			t.Errorf("note: %+v", n)
		}
		err := p.ResolvePreference(t.Context(), ws.ID, agent.PreferenceGit, agent.ChooseStored, p.difference(ws.ID).Digest())
		if agent.ErrorCode(err) != agent.CodeConflict {
			t.Errorf("use the stored one: %v", err)
		}
		p.write(ws.ID, "run!") // the same: it can be agreed to
		_, err = p.SavePreference(t.Context(), agent.PreferenceGit, ws.ID, "")
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Difference == nil || len(e.Difference.Programs) != 1 {
			t.Errorf("save it again: %+v", err)
		}
		if _, err := p.SavePreference(t.Context(), agent.PreferenceGit, ws.ID, p.difference(ws.ID).Digest()); err != nil {
			t.Errorf("agree: %v", err)
		}
		if next := p.created("next"); p.file(next.ID, gitFile) != "run!" {
			t.Errorf("what was agreed to did not arrive: %q", p.file(next.ID, gitFile))
		}

		must(t, p.RemovePreference(t.Context(), agent.PreferenceGit))
		p.restart(ws.ID)
		if n := p.note(ws.ID); n.Kind != agent.NoteNone {
			t.Errorf("note: %+v", n)
		}
	})
}

// TestPreferences_remove: a removed one leaves the files, and what is stored
// next reaches those that nobody changed.
func TestPreferences_remove(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		a := p.synced("aaa")
		p.write(a.ID, "v1")
		p.restart(a.ID)
		b := p.synced("bbb")
		must(t, p.RemovePreference(t.Context(), agent.PreferenceGit))
		wantError(t, p.RemovePreference(t.Context(), agent.PreferenceGit), agent.CodeNotFound, `Setting "GitConfig" not found`)
		p.restart(b.ID)
		p.wantFile(b.ID, "v1")
		if list, err := p.ListPreferences(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("it was stored again: %+v, %v", list, err)
		}
		p.write(a.ID, "v2")
		p.restart(a.ID)
		p.wantStored("v2")
		p.restart(b.ID)
		p.wantFile(b.ID, "v2")
	})
}

// TestPreferences_faultsAreNoted: whatever a user has where a preference
// belongs, the workspace starts, and the page can say what is wrong.
func TestPreferences_faultsAreNoted(t *testing.T) {
	const config = ".config/code-server/config.yaml"
	for name, tt := range map[string]struct{ file, of, message string }{
		"directory":                 {".gitconfig/x", agent.PreferenceGit, ".gitconfig in the workspace is not a file"},
		"a file for a directory":    {".local/share/code-server/User", agent.PreferenceSettings, ".local/share/code-server/User/settings.json in the workspace is not a file"},
		"configuration":             {config + "/x", agent.IDEConfiguration, "The IDE's configuration cannot be written: /home/admin/" + config + " is a directory"},
		"configuration's directory": {".config/code-server", agent.IDEConfiguration, "The IDE's configuration cannot be written: /home/admin/.config/code-server is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				ctx := t.Context()
				p := w.live(t)
				must(t, p.db.Update(ctx, func(tx agent.Tx) error {
					return errors.Join(tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "v1"}), tx.PutPreference(agent.Preference{Name: agent.PreferenceSettings, Blob: "{}"}))
				}))
				ws := p.synced("demo")
				for _, f := range []string{gitFile, ".local/share/code-server/User/settings.json", config} {
					p.rt.DeleteFile(ws.ID, f)
				}
				must(t, p.rt.WriteFile(ctx, ws.ID, tt.file, []byte("mine")))
				p.restart(ws.ID)
				if n := p.noteOf(ws.ID, tt.of); n.Kind != agent.NoteFault || n.Message != tt.message {
					t.Errorf("note: %+v", n)
				}
				if got := p.file(ws.ID, tt.file); got != "mine" {
					t.Errorf("the user's file: %q", got)
				}
				p.rt.DeleteFile(ws.ID, tt.file)
				p.restart(ws.ID)
				if n := p.noteOf(ws.ID, tt.of); n.Kind != agent.NoteNone {
					t.Errorf("note once it is mended: %+v", n)
				}
			})
		})
	}
}

// TestPreferences_runtimeFails: a file that cannot be read or written is noted,
// an answer that got lost is asked for again.
func TestPreferences_runtimeFails(t *testing.T) {
	hang := func(ctx context.Context, c stub.Call) error {
		if c.Op == stub.OpReadFile {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	lost := false
	for name, tt := range map[string]struct {
		hook stub.Hook
		want string
	}{
		"refused": {fail(stub.OpReadFile, agent.Errorf(agent.CodeTooLarge, "It is too large.")), "It is too large."},
		"fails":   {fail(stub.OpWriteFile, errors.New("secret")), "It could not be read or written. The agent's log has the details."},
		"hangs":   {hang, "The workspace did not answer in time, so it was left alone."},
		"lost": {func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpWriteFile && c.After && !lost {
				lost = true
				return errors.New("EOF")
			}
			return nil
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				must(t, p.db.Update(t.Context(), func(tx agent.Tx) error {
					return tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "v1"})
				}))
				w.hooks.set(tt.hook)
				ws := p.created("demo")
				if n := p.note(ws.ID); n.Message != tt.want {
					t.Errorf("note: %+v", n)
				}
				w.hooks.set(nil)
				p.restart(ws.ID)
				p.wantFile(ws.ID, "v1")
				if n := p.note(ws.ID); n.Kind != agent.NoteNone {
					t.Errorf("note once it is mended: %+v", n)
				}
			})
		})
	}
}

// TestPreferences_newHome: a home directory that is gone was not emptied by its
// user.
func TestPreferences_newHome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.synced("demo")
		p.write(ws.ID, "v1")
		p.restart(ws.ID)
		must(t, w.rt.Remove(t.Context(), ws.ID))
		eventually(t, "it is brought again", func() bool { return p.status(ws.ID) == agent.StatusRunning && p.file(ws.ID, gitFile) == "v1" })
	})
}

// TestControlPlane_newHome: a home directory that is gone has no work tree, also
// when the first attempt made a new home and failed before it cloned.
func TestControlPlane_newHome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.wait(p.create(agent.NewWorkspace{Name: "demo", RepositoryID: "a/b"}).ID, agent.StatusRunning)
		p.stopped(ws.ID)
		must(t, w.rt.Remove(t.Context(), ws.ID))
		var starts atomic.Int32
		w.hooks.set(func(_ context.Context, c stub.Call) error {
			if c.Op == stub.OpStart && !c.After && starts.Add(1) == 1 {
				return errors.New("the container does not start")
			}
			return nil
		})
		p.started(ws.ID)
		if starts.Load() != 2 {
			t.Errorf("it was started %d times, want twice", starts.Load())
		}
		if got := p.file(ws.ID, "b/README.md"); !strings.HasPrefix(got, "# ") {
			t.Errorf("the work tree is not there: %q", got)
		}
	})
}

// TestPreferences_databaseRestored: an older database brings nothing older over
// what users wrote since.
func TestPreferences_databaseRestored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.synced("demo")
		p.write(ws.ID, "v1")
		p.restart(ws.ID)
		backup := w.path + ".backup"
		must(t, p.db.Backup(t.Context(), backup))
		p.write(ws.ID, "v2")
		p.restart(ws.ID)
		p.wantStored("v2")
		p.end()
		w.path = backup
		p = w.live(t, func(c *controlplane.Config) { c.Rebooted = true })
		p.wait(ws.ID, agent.StatusRunning)
		p.wantFile(ws.ID, "v2")
		p.restart(ws.ID)
		p.wantStored("v2")
	})
}
