package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Preferences implements [agent.PreferenceRows].
func (r *rows) Preferences() ([]agent.Preference, error) {
	return all(r, "list preferences", func(s scanner) (p agent.Preference, err error) {
		var blob []byte
		var updated int64
		err = s.Scan(&p.Name, &blob, &updated, &p.Seen)
		p.Blob, p.UpdatedAt = string(blob), unstamp(updated)
		return p, err
	}, "SELECT name, blob, updated_at, seen FROM preference ORDER BY name")
}

// PreferenceTimes implements [agent.PreferenceRows].
func (r *rows) PreferenceTimes() (map[string]time.Time, error) {
	times := map[string]time.Time{}
	_, err := all(r, "list the times of preferences", func(s scanner) (name string, err error) {
		var updated int64
		err = s.Scan(&name, &updated)
		times[name] = unstamp(updated)
		return name, err
	}, "SELECT name, updated_at FROM preference")
	return times, err
}

// PutPreference implements [agent.PreferenceRows].
func (r *rows) PutPreference(p agent.Preference) error {
	_, err := r.exec("store preference", "INSERT OR REPLACE INTO preference (name, blob, updated_at, seen) VALUES (?, ?, ?, ?)",
		p.Name, append([]byte{}, p.Blob...), stamp(p.UpdatedAt), p.Seen)
	return err
}

// DeletePreference implements [agent.PreferenceRows].
func (r *rows) DeletePreference(name string) (bool, error) {
	n, err := r.exec("delete preference", "DELETE FROM preference WHERE name = ?", name)
	return n > 0, err
}

// stored is a file as it is stored: NULL when there is none.
func stored(f agent.File) any {
	if !f.Exists {
		return nil
	}
	return append([]byte{}, f.Content...)
}

// unstored is the file that is stored so. The driver returns an empty blob as a
// slice that is not nil.
func unstored(b []byte) agent.File {
	if b == nil {
		return agent.File{}
	}
	return agent.FileOf(string(b))
}

// PreferenceCopy implements [agent.PreferenceCopyRows].
func (r *rows) PreferenceCopy(workspaceID, name string) (agent.PreferenceCopy, error) {
	c := agent.PreferenceCopy{WorkspaceID: workspaceID, Name: name}
	var base, found []byte
	var noted int64
	err := r.tx.QueryRowContext(r.ctx, "SELECT base, note, message, found, noted_at FROM preference_copy WHERE workspace_id = ? AND name = ?", workspaceID, name).
		Scan(&base, &c.Kind, &c.Message, &found, &noted)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return agent.PreferenceCopy{}, fmt.Errorf("read preference copy: %w", err)
	}
	c.Base, c.Found, c.NotedAt = unstored(base), unstored(found), unstamp(noted)
	return c, nil
}

// PutPreferenceCopy implements [agent.PreferenceCopyRows].
func (r *rows) PutPreferenceCopy(c agent.PreferenceCopy) error {
	_, err := r.exec("store preference copy", "INSERT OR REPLACE INTO preference_copy (workspace_id, name, base, note, message, found, noted_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		c.WorkspaceID, c.Name, stored(c.Base), c.Kind, c.Message, stored(c.Found), stamp(c.NotedAt))
	return err
}

// NotedCopies implements [agent.PreferenceCopyRows].
func (r *rows) NotedCopies(workspaceID string) ([]agent.PreferenceCopy, error) {
	return all(r, "list noted preference copies", func(s scanner) (c agent.PreferenceCopy, err error) {
		var noted int64
		err = s.Scan(&c.WorkspaceID, &c.Name, &c.Kind, &c.Message, &noted)
		c.NotedAt = unstamp(noted)
		return c, err
	}, "SELECT workspace_id, name, note, message, noted_at FROM preference_copy WHERE note <> '' AND (?1 = '' OR workspace_id = ?1) ORDER BY workspace_id, name", workspaceID)
}

// ForgetPreferenceCopies implements [agent.PreferenceCopyRows].
func (r *rows) ForgetPreferenceCopies(workspaceID string) error {
	_, err := r.exec("forget preference copies", "DELETE FROM preference_copy WHERE workspace_id = ?", workspaceID)
	return err
}
