package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// ListPreferences implements [agent.Preferences].
func (c *ControlPlane) ListPreferences(ctx context.Context) (list []agent.Preference, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		list, err = tx.Preferences()
		return err
	})
	return list, err
}

// PreferenceTimes implements [agent.Preferences].
func (c *ControlPlane) PreferenceTimes(ctx context.Context) (times map[string]time.Time, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		times, err = tx.PreferenceTimes()
		return err
	})
	return times, err
}

// Preference implements [agent.Preferences].
func (c *ControlPlane) Preference(ctx context.Context, name string) (p agent.Preference, err error) {
	if err := checkPreference(name); err != nil {
		return agent.Preference{}, err
	}
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		stored, err := storedPreference(tx, name)
		if err == nil && stored == nil {
			return noPreference(name)
		}
		if err == nil {
			p = *stored
		}
		return err
	})
	return p, err
}

func noPreference(name string) error {
	return agent.Errorf(agent.CodeNotFound, "Setting %q not found", name)
}

// storedPreference is nil for one that is not stored.
func storedPreference(tx agent.Tx, name string) (*agent.Preference, error) {
	list, err := tx.Preferences()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(p agent.Preference) bool { return p.Name == name })
	if i < 0 {
		return nil, nil
	}
	return &list[i], nil
}

func checkPreference(name string) error {
	if agent.PreferencePath(name) != "" {
		return nil
	}
	text := "must be one of " + strings.Join(agent.PreferenceNames(), ", ")
	return &agent.Error{Code: agent.CodeValidation, Message: "name " + text, Fields: []agent.Field{{Path: "name", Message: text}}}
}

// RemovePreference implements [agent.Preferences]. The files of workspaces, and
// what they have in common with one that is stored later, stay.
func (c *ControlPlane) RemovePreference(ctx context.Context, name string) error {
	if err := checkPreference(name); err != nil {
		return err
	}
	return c.update(ctx, func(ch *change) error {
		was, err := ch.DeletePreference(name)
		if err == nil && !was {
			return noPreference(name)
		}
		ch.preferenceChanged(name)
		return err
	})
}

// preferenceChanged announces a preference, or a note on a copy of it.
func (ch *change) preferenceChanged(name string) {
	ch.events = append(ch.events, agent.Event{Kind: agent.EventPreference, Name: name})
}

// preferenceCopy is a preference beside one workspace's file of it.
type preferenceCopy struct {
	stored *agent.Preference // nil when there is none
	copy   agent.PreferenceCopy
}

func readCopy(tx agent.Tx, workspaceID, name string) (p preferenceCopy, err error) {
	if p.stored, err = storedPreference(tx, name); err != nil {
		return p, err
	}
	p.copy, err = tx.PreferenceCopy(workspaceID, name)
	return p, err
}

// file is the stored preference as a file.
func (p preferenceCopy) file() agent.File {
	if p.stored == nil {
		return agent.File{}
	}
	return agent.FileOf(p.stored.Blob)
}

// sameStored reports whether the same is stored in both.
func (p preferenceCopy) sameStored(other preferenceCopy) bool {
	if p.stored == nil || other.stored == nil {
		return p.stored == other.stored
	}
	return p.file() == other.file() && p.stored.Seen == other.stored.Seen
}

// sameCopy reports whether both know the same of the workspace's file.
func (p preferenceCopy) sameCopy(other preferenceCopy) bool {
	a, b := p.copy, other.copy
	return a.Base == b.Base && a.Kind == b.Kind && a.Message == b.Message && a.Found == b.Found
}

// unseen lists what in the workspace's file can run a program and was not
// agreed to with the stored preference.
func (c *ControlPlane) unseen(p preferenceCopy, found agent.File) []string {
	lines := c.programs(p.copy.Name, found)
	if p.stored == nil || !p.stored.Seen || lines == nil {
		return lines
	}
	seen := c.programs(p.copy.Name, p.file())
	return slices.DeleteFunc(lines, func(l string) bool { return slices.Contains(seen, l) })
}

func (c *ControlPlane) programs(name string, f agent.File) []string {
	if !f.Exists {
		return nil
	}
	return c.cfg.Review.Programs(name, f.Content)
}

// store stores the workspace's file as the preference, and that both are the
// same now. Whoever calls it has seen to what can run a program.
func (c *ControlPlane) store(ch *change, p preferenceCopy, found agent.File) (agent.Preference, error) {
	stored := agent.Preference{Name: p.copy.Name, Blob: found.Content, UpdatedAt: ch.now, Seen: len(c.programs(p.copy.Name, found)) > 0}
	if err := ch.PutPreference(stored); err != nil {
		return agent.Preference{}, err
	}
	return stored, ch.settleCopy(p.copy, found)
}

// settleCopy stores what preference and file have in common now. There is
// nothing to look at any more.
func (ch *change) settleCopy(old agent.PreferenceCopy, common agent.File) error {
	ch.preferenceChanged(old.Name)
	return ch.PutPreferenceCopy(agent.PreferenceCopy{WorkspaceID: old.WorkspaceID, Name: old.Name, Base: common})
}

// noteCopy stores what a person should look at, or with [agent.NoteNone] that
// there is nothing. A note that says the same keeps its time.
func (ch *change) noteCopy(old agent.PreferenceCopy, kind agent.PreferenceNoteKind, message string, found agent.File) error {
	note := agent.PreferenceNote{Kind: kind, Message: message, Found: found, NotedAt: old.NotedAt}
	if old.PreferenceNote == note || kind == agent.NoteNone && old.Kind == agent.NoteNone {
		return nil
	}
	if note.NotedAt = ch.now; kind == agent.NoteNone {
		note = agent.PreferenceNote{}
	}
	old.PreferenceNote = note
	ch.preferenceChanged(old.Name)
	return ch.PutPreferenceCopy(old)
}

// The texts of notes.
const (
	textConflict = "It was changed here and in another workspace. This workspace keeps its own until you choose."
	textUnseen   = "It was changed here and can run programs, so it was not stored. Look at it and choose."
	textStored   = "The stored one can run programs, and an older release stored it without asking, so it was not brought here. Save it again from a workspace, or remove it."
)

// fileTimeout bounds how long one file of a workspace is read or written.
const fileTimeout = 5 * time.Second

// readPreference reads a preference's file. One that is not there is no fault.
func (c *ControlPlane) readPreference(ctx context.Context, workspaceID, name string) (agent.File, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	b, err := c.cfg.Runtime.ReadFile(ctx, workspaceID, agent.PreferencePath(name))
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return agent.File{}, nil
	}
	if err != nil {
		return agent.File{}, fmt.Errorf("read ~/%s of %s: %w", agent.PreferencePath(name), workspaceID, err)
	}
	return agent.FileOf(string(b)), nil
}

// replaceTimeout bounds how long one file of a workspace is replaced, for which a
// program runs in it.
const replaceTimeout = 30 * time.Second

// replacePreference replaces a preference's file that is what was found before,
// and reports whether it still was: what the user changed meanwhile stays.
func (c *ControlPlane) replacePreference(ctx context.Context, workspaceID, name string, found agent.File, content string) (replaced bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, replaceTimeout)
	defer cancel()
	replaced, err = c.cfg.Files.ReplaceFile(ctx, workspaceID, agent.PreferencePath(name), found, []byte(content))
	if err != nil {
		return false, fmt.Errorf("replace ~/%s of %s: %w", agent.PreferencePath(name), workspaceID, err)
	}
	return replaced, nil
}

// pushPreferences brings the stored preferences to a workspace that starts,
// where the user's own file is not newer. It is a courtesy: what cannot be
// brought is noted. Only what will be tried again anyway is an error.
func (a *attempt) pushPreferences(ctx context.Context) error {
	for _, name := range agent.PreferenceNames() {
		if err := a.c.courtesy(ctx, a.rec.ID, name, a.log, a.c.pushPreference); err != nil {
			return err
		}
	}
	return nil
}

// takePreferences stores the preferences of a workspace that is about to stop,
// where the stored one is not newer.
func (c *ControlPlane) takePreferences(ctx context.Context, rec agent.Record, log *slog.Logger) error {
	for _, name := range agent.PreferenceNames() {
		if err := c.courtesy(ctx, rec.ID, name, log, c.takePreference); err != nil {
			return err
		}
	}
	return nil
}

// courtesyAttempts is how often a preference is tried: once more, in case an
// answer was lost.
const courtesyAttempts = 2

// courtesy does what brings or takes one preference. A fault of the file is
// noted; the error is that the runtime is silent, or ctx's end.
func (c *ControlPlane) courtesy(ctx context.Context, workspaceID, name string, log *slog.Logger, do func(ctx context.Context, workspaceID, name string) error) (err error) {
	for range courtesyAttempts {
		err = do(ctx, workspaceID, name)
		if agent.ErrorCode(err) != agent.CodeInternal || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case agent.ErrorCode(err) == agent.CodeUnavailable:
		return err
	}
	log.Warn("preference is not synchronised", "name", name, "err", err)
	return c.noteFault(ctx, workspaceID, name, err)
}

// noteFault notes why a file was left alone.
func (c *ControlPlane) noteFault(ctx context.Context, workspaceID, name string, fault error) error {
	text := "It could not be read or written. The agent's log has the details."
	if e, ok := errors.AsType[*agent.Error](fault); ok {
		text = e.Message
	} else if errors.Is(fault, context.DeadlineExceeded) {
		text = "The workspace did not answer in time, so it was left alone."
	}
	return c.update(ctx, func(ch *change) error {
		old, err := ch.PreferenceCopy(workspaceID, name)
		if err != nil {
			return err
		}
		return ch.noteCopy(old, agent.NoteFault, text, agent.File{})
	})
}

// clearNote takes a note back, where there is one.
func (c *ControlPlane) clearNote(ctx context.Context, workspaceID, name string) error {
	var noted bool
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		old, err := tx.PreferenceCopy(workspaceID, name)
		noted = old.Kind != agent.NoteNone
		return err
	})
	if err != nil || !noted {
		return err
	}
	return c.update(ctx, func(ch *change) error {
		old, err := ch.PreferenceCopy(workspaceID, name)
		if err != nil {
			return err
		}
		return ch.noteCopy(old, agent.NoteNone, "", agent.File{})
	})
}

// pushAttempts is how often it is decided what becomes of a preference. Nobody
// edits or chooses that often while a workspace starts; a program could.
const pushAttempts = 20

// pushPreference brings one preference, and decides anew when it was changed, or
// chosen, while it did.
func (c *ControlPlane) pushPreference(ctx context.Context, workspaceID, name string) error {
	for range pushAttempts {
		again, err := c.tryPush(ctx, workspaceID, name)
		if err != nil || !again {
			return err
		}
	}
	return agent.Errorf(agent.CodeUnusableFile, "It changed each time that it was looked at, so it was left alone.")
}

// tryPush decides once what becomes of a preference at a start. The file is
// written before what is in common is stored: after a crash in between both are
// found to be the same. It reports whether what it decided on, the file or what
// is stored, is another by now.
func (c *ControlPlane) tryPush(ctx context.Context, workspaceID, name string) (again bool, err error) {
	found, err := c.readPreference(ctx, workspaceID, name)
	if err != nil {
		return false, err
	}
	var p preferenceCopy
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		p, err = readCopy(tx, workspaceID, name)
		return err
	})
	if err != nil {
		return false, err
	}

	v := c.policy.push(p.file(), p.copy.Base, found)
	hidden := p.stored != nil && !p.stored.Seen && len(c.programs(name, p.file())) > 0
	written := v == apply && !hidden
	if written {
		replaced, err := c.replacePreference(ctx, workspaceID, name, found, p.stored.Blob)
		if err != nil || !replaced {
			return true, err
		}
	}

	err = c.update(ctx, func(ch *change) error {
		now, err := readCopy(ch, workspaceID, name)
		if err != nil {
			return err
		}
		again = !now.sameStored(p) || !now.sameCopy(p)

		switch {
		case written: // whatever was chosen meanwhile: this is in the file now
			return ch.settleCopy(now.copy, p.file())
		case again:
			return nil
		case v == apply:
			return ch.noteCopy(now.copy, agent.NoteFault, textStored, agent.File{})
		case v == settle:
			return ch.settleCopy(now.copy, p.file())
		case v == conflict:
			return ch.noteCopy(now.copy, agent.NoteConflict, textConflict, found)
		case now.copy.Kind == agent.NoteUnseen && now.copy.Found == found:
			return nil // it waits still
		}
		return ch.noteCopy(now.copy, agent.NoteNone, "", agent.File{})
	})
	return again, err
}

// takePreference takes one preference. What is stored is looked at in the
// transaction that replaces it, for another workspace may stop at the same time.
func (c *ControlPlane) takePreference(ctx context.Context, workspaceID, name string) error {
	found, err := c.readPreference(ctx, workspaceID, name)
	if err != nil {
		return err
	}

	return c.update(ctx, func(ch *change) error {
		p, err := readCopy(ch, workspaceID, name)
		if err != nil {
			return err
		}

		switch c.policy.take(p.file(), p.copy.Base, found) {
		case settle:
			return ch.settleCopy(p.copy, found)
		case conflict:
			return ch.noteCopy(p.copy, agent.NoteConflict, textConflict, found)
		case apply:
			if len(c.unseen(p, found)) > 0 {
				return ch.noteCopy(p.copy, agent.NoteUnseen, textUnseen, found)
			}
			_, err := c.store(ch, p, found)
			return err
		}
		if p.copy.Kind == agent.NoteFault || found == p.copy.Base {
			return ch.noteCopy(p.copy, agent.NoteNone, "", agent.File{})
		}
		return nil
	})
}
