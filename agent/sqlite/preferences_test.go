package sqlite

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
)

func TestStore_PreferenceCopies(t *testing.T) {
	db := newDB(t)
	insert(t, db, 1)
	insert(t, db, 2)
	note := agent.PreferenceNote{Kind: agent.NoteConflict, Message: "m", Found: agent.FileOf("\x00\xff"), NotedAt: at(7)}
	for _, want := range []agent.PreferenceCopy{
		{WorkspaceID: wsID(1), Name: agent.PreferenceGit},
		{WorkspaceID: wsID(1), Name: agent.PreferenceGit, Base: agent.FileOf("")},
		{WorkspaceID: wsID(1), Name: agent.PreferenceGit, Base: agent.FileOf("a\r\n\xff"), PreferenceNote: note},
		{WorkspaceID: wsID(2), Name: agent.PreferenceGit, PreferenceNote: agent.PreferenceNote{Kind: agent.NoteFault, Message: "n", NotedAt: at(8)}},
	} {
		update(t, db, func(tx agent.Tx) error {
			before, err := tx.PreferenceCopy(wsID(1), agent.PreferenceSettings)
			if empty := (agent.PreferenceCopy{WorkspaceID: wsID(1), Name: agent.PreferenceSettings}); before != empty {
				t.Errorf("a copy that was never stored: %+v", before)
			}
			return errors.Join(err, tx.PutPreferenceCopy(want))
		})
		if got := copyOf(t, db, want.WorkspaceID); got != want {
			t.Errorf("copy: %+v, want %+v", got, want)
		}
	}

	noted := func(id string) (list []string) {
		t.Helper()
		update(t, db, func(tx agent.Tx) error {
			copies, err := tx.NotedCopies(id)
			for _, c := range copies {
				if c.Base.Exists || c.Found.Exists || c.Message == "" || c.NotedAt.IsZero() {
					t.Errorf("noted copy: %+v", c)
				}
				list = append(list, c.WorkspaceID)
			}
			return err
		})
		return list
	}
	if all, one := noted(""), noted(wsID(2)); !slices.Equal(all, []string{wsID(1), wsID(2)}) || !slices.Equal(one, []string{wsID(2)}) {
		t.Errorf("noted: %q and %q", all, one)
	}

	update(t, db, func(tx agent.Tx) error {
		return errors.Join(tx.ForgetPreferenceCopies(wsID(1)), tx.DeleteWorkspace(wsID(2)))
	})
	if left := noted(""); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// copyOf is the copy of the Git configuration in a workspace.
func copyOf(t *testing.T, db *DB, id string) (c agent.PreferenceCopy) {
	t.Helper()
	err := db.View(t.Context(), func(tx agent.Tx) (err error) {
		c, err = tx.PreferenceCopy(id, agent.PreferenceGit)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStore_DeletePreference(t *testing.T) {
	db := newDB(t)
	update(t, db, func(tx agent.Tx) error {
		err := tx.PutPreference(agent.Preference{Name: agent.PreferenceGit, Blob: "a", UpdatedAt: at(3), Seen: true})
		times, err2 := tx.PreferenceTimes()
		if want := map[string]time.Time{agent.PreferenceGit: at(3)}; !maps.Equal(times, want) {
			t.Errorf("times: %v", times)
		}
		list, err3 := tx.Preferences()
		if len(list) != 1 || !list[0].Seen {
			t.Errorf("preferences: %+v", list)
		}

		was, err4 := tx.DeletePreference(agent.PreferenceGit)
		again, err5 := tx.DeletePreference(agent.PreferenceGit)
		if !was || again {
			t.Errorf("deleted %v, again %v", was, again)
		}
		return errors.Join(err, err2, err3, err4, err5)
	})
}

// TestMigrations/preferenceCopies: what an older release stored stays, and
// nobody is said to have seen it.
func TestMigrations_preferenceCopies(t *testing.T) {
	db := mustOpen(t, oldDatabase(t, 3, "INSERT INTO preference (name, blob, updated_at) VALUES ('GitConfig', x'61ff', 5)"), embedded(t))
	err := db.View(t.Context(), func(tx agent.Tx) error {
		list, err := tx.Preferences()
		if want := (agent.Preference{Name: agent.PreferenceGit, Blob: "a\xff", UpdatedAt: unstamp(5)}); len(list) != 1 || list[0] != want {
			t.Errorf("preferences: %+v", list)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
