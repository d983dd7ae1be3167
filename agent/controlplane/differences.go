package controlplane

import (
	"context"

	"github.com/rockpool/rootvm/agent"
)

// PreferenceNotes implements [agent.Preferences].
func (c *ControlPlane) PreferenceNotes(ctx context.Context, workspaceID string) (notes []agent.PreferenceCopy, err error) {
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		if workspaceID != "" {
			if _, err := tx.Workspace(workspaceID); err != nil {
				return err
			}
		}
		notes, err = tx.NotedCopies(workspaceID)
		return err
	})
	return notes, err
}

// SavePreference implements [agent.Preferences].
func (c *ControlPlane) SavePreference(ctx context.Context, name, workspaceID, confirm string) (agent.Preference, error) {
	if err := checkPreference(name); err != nil {
		return agent.Preference{}, err
	}
	rec, err := c.record(ctx, workspaceID)
	if err != nil {
		return agent.Preference{}, err
	}
	if rec.Status != agent.StatusRunning {
		return agent.Preference{}, notRunning(rec.Name, rec.Status)
	}
	found, err := c.readPreference(ctx, workspaceID, name)
	if err == nil && !found.Exists {
		err = noFile(rec, name)
	}
	if err != nil {
		return agent.Preference{}, err
	}
	if confirm == "" {
		return c.saveFound(ctx, rec, name, found)
	}
	return c.storeFound(ctx, rec, name, found, confirm)
}

func noFile(rec agent.Record, name string) error {
	return agent.Errorf(agent.CodeNotFound, "Workspace %q has no file ~/%s", rec.Name, agent.PreferencePath(name))
}

// saveFound stores a workspace's file because a person asked for it without a
// look at what it replaces. So it replaces only what the file came from: a file
// that was not changed here leaves a newer stored preference as it is, and two
// changes, as well as what can run a program, are shown first.
func (c *ControlPlane) saveFound(ctx context.Context, rec agent.Record, name string, found agent.File) (stored agent.Preference, err error) {
	err = c.update(ctx, func(ch *change) error {
		p, err := readCopy(ch, rec.ID, name)
		if err != nil {
			return err
		}

		d := c.difference(p, found)
		if p.stored != nil {
			switch c.policy.take(p.file(), p.copy.Base, found) {
			case conflict:
				d.Kind, d.Message = agent.NoteConflict, textConflict
				return differs(d, "~/%s of workspace %q was changed here and in another workspace: look at the difference and confirm it.", agent.PreferencePath(name), rec.Name)
			case leave:
				if found != p.file() {
					stored = *p.stored
					return ch.noteCopy(p.copy, agent.NoteNone, "", agent.File{})
				}
			}
		}
		if len(d.Programs) > 0 {
			return differs(d, "~/%s of workspace %q can run programs in every workspace: look at the difference and confirm it.", agent.PreferencePath(name), rec.Name)
		}
		stored, err = c.store(ch, p, found)
		return err
	})
	return stored, err
}

// storeFound stores a workspace's file because a person chose it. confirm is the
// digest of the difference as it is now. A digest of anything else was meant for
// something else.
func (c *ControlPlane) storeFound(ctx context.Context, rec agent.Record, name string, found agent.File, confirm string) (stored agent.Preference, err error) {
	err = c.update(ctx, func(ch *change) error {
		p, err := readCopy(ch, rec.ID, name)
		if err != nil {
			return err
		}
		if d := c.difference(p, found); confirm != d.Digest() {
			return changedMeanwhile(d)
		}
		stored, err = c.store(ch, p, found)
		return err
	})
	return stored, err
}

// differs is a conflict that shows its difference.
func differs(d agent.PreferenceDifference, format string, args ...any) error {
	e := agent.Errorf(agent.CodeConflict, format, args...)
	e.Difference = &d
	return e
}

func changedMeanwhile(d agent.PreferenceDifference) error {
	return differs(d, "It was changed since it was shown: look at the difference as it is now.")
}

// difference is a stored preference beside a workspace's file.
func (c *ControlPlane) difference(p preferenceCopy, found agent.File) agent.PreferenceDifference {
	return agent.PreferenceDifference{
		WorkspaceID: p.copy.WorkspaceID, Name: p.copy.Name, Stored: p.file(), Found: found,
		Kind: p.copy.Kind, Message: p.copy.Message, Programs: c.unseen(p, found),
	}
}

// PreferenceDifference implements [agent.Preferences].
func (c *ControlPlane) PreferenceDifference(ctx context.Context, workspaceID, name string) (d agent.PreferenceDifference, err error) {
	if err := checkPreference(name); err != nil {
		return d, err
	}
	rec, err := c.record(ctx, workspaceID)
	if err != nil {
		return d, err
	}
	found, err := c.foundFile(ctx, rec, name)
	if err != nil {
		return d, err
	}
	err = c.cfg.Store.View(ctx, func(tx agent.Tx) error {
		p, err := readCopy(tx, workspaceID, name)
		d = c.difference(p, found)
		return err
	})
	return d, err
}

// foundFile is a workspace's file of a preference: as it is while the workspace
// runs, and else as it was when a person was asked about it.
func (c *ControlPlane) foundFile(ctx context.Context, rec agent.Record, name string) (agent.File, error) {
	if rec.Status == agent.StatusRunning {
		return c.readPreference(ctx, rec.ID, name)
	}
	var noted agent.PreferenceCopy
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		noted, err = tx.PreferenceCopy(rec.ID, name)
		return err
	})
	if err == nil && noted.Kind != agent.NoteConflict && noted.Kind != agent.NoteUnseen {
		err = notRunning(rec.Name, rec.Status)
	}
	return noted.Found, err
}

// ResolvePreference implements [agent.Preferences].
func (c *ControlPlane) ResolvePreference(ctx context.Context, workspaceID, name string, choice agent.PreferenceChoice, confirm string) error {
	if err := checkPreference(name); err != nil {
		return err
	}
	rec, err := c.record(ctx, workspaceID)
	if err != nil {
		return err
	}
	found, err := c.foundFile(ctx, rec, name)
	if err != nil {
		return err
	}

	switch choice {
	case agent.ChooseFound:
		if !found.Exists {
			return noFile(rec, name)
		}
		_, err = c.storeFound(ctx, rec, name, found, confirm)
		return err
	case agent.ChooseStored:
		return c.useStored(ctx, rec, name, found, confirm)
	}
	const text = "must be found or stored"
	return &agent.Error{Code: agent.CodeValidation, Message: "choice " + text, Fields: []agent.Field{{Path: "choice", Message: text}}}
}

// editedMeanwhile is that a workspace's file is not the one that was confirmed to
// be replaced any more, with the difference as it is.
func (c *ControlPlane) editedMeanwhile(ctx context.Context, rec agent.Record, name string, p preferenceCopy) error {
	now, err := c.readPreference(ctx, rec.ID, name)
	if err != nil {
		return err
	}
	return changedMeanwhile(c.difference(p, now))
}

// useStored replaces a workspace's file by the stored preference: at once while
// it runs, else when it starts, for the file that the person saw is then what
// is in common.
func (c *ControlPlane) useStored(ctx context.Context, rec agent.Record, name string, found agent.File, confirm string) error {
	var p preferenceCopy
	err := c.cfg.Store.View(ctx, func(tx agent.Tx) (err error) {
		p, err = readCopy(tx, rec.ID, name)
		return err
	})
	if err != nil {
		return err
	}
	if p.stored == nil {
		return noPreference(name)
	}
	if d := c.difference(p, found); confirm != d.Digest() {
		return changedMeanwhile(d)
	}
	if !p.stored.Seen && len(c.programs(name, p.file())) > 0 {
		return agent.Errorf(agent.CodeConflict, "%s", textStored)
	}

	common := found
	if rec.Status == agent.StatusRunning {
		replaced, err := c.replacePreference(ctx, rec.ID, name, found, p.stored.Blob)
		if err != nil {
			return err
		}
		if !replaced {
			return c.editedMeanwhile(ctx, rec, name, p)
		}
		common = p.file()
	}
	return c.update(ctx, func(ch *change) error {
		now, err := readCopy(ch, rec.ID, name)
		if err != nil {
			return err
		}
		// What was written while the workspace runs stays in common with what was
		// stored then; else what was confirmed has to be so still.
		d := c.difference(now, common)
		if !now.sameCopy(p) || rec.Status != agent.StatusRunning && confirm != d.Digest() {
			return changedMeanwhile(d)
		}
		return ch.settleCopy(now.copy, common)
	})
}
