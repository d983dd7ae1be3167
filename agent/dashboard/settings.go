package dashboard

import (
	"context"
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// preferencesView is the table of preferences, on two pages.
type preferencesView struct {
	Preferences []preference
	Choices     []agent.Workspace // to save from
	Chosen      string            // id
	Saved       string            // what saving came to, "" when nothing was saved
	Notes       []preferenceNote  // what is to be looked at
}

type preference struct {
	Name  string
	Title string
	Path  string
	Saved time.Time // zero: never
	Ago   string
	Note  string // of the attempt just made
	Bad   bool   // the note is of a fault
	Look  string // address of the difference that the note is about, "" for none
}

// preferenceNote is a note on a preference in a workspace.
type preferenceNote struct {
	Title     string
	Workspace string // its name, "" on its own page
	ID        string // of the workspace
	Message   string
	Look      string // address of the difference, "" when there is nothing to choose
}

type settingsView struct {
	layout
	preferencesView
}

func preferenceTitle(name string) string {
	switch name {
	case agent.PreferenceSettings:
		return "Editor Settings"
	case agent.PreferenceKeybindings:
		return "Keybindings"
	case agent.PreferenceGit:
		return "Git Config"
	case agent.IDEConfiguration:
		return "IDE configuration"
	}
	return name
}

// readPreferences fills in when each preference was saved, and what is to be
// looked at in one workspace, or in all with "". Notes of an attempt that are
// there already stay. What is stored is not read: a page does this every two
// seconds.
func (d *Dashboard) readPreferences(ctx context.Context, v *preferencesView, workspaceID string, now time.Time) error {
	saved, err := d.ControlPlane.PreferenceTimes(ctx)
	if err != nil {
		return err
	}
	if v.Preferences == nil {
		v.Preferences = make([]preference, len(agent.PreferenceNames()))
	}
	for i, name := range agent.PreferenceNames() {
		p := &v.Preferences[i]
		p.Name, p.Title, p.Path, p.Saved = name, preferenceTitle(name), "~/"+agent.PreferencePath(name), saved[name]
		if !p.Saved.IsZero() {
			p.Ago = ago(now, p.Saved)
		}
	}

	notes, err := d.ControlPlane.PreferenceNotes(ctx, workspaceID)
	if err != nil {
		return err
	}
	for _, n := range notes {
		note := preferenceNote{Title: preferenceTitle(n.Name), ID: n.WorkspaceID, Message: n.Message}
		if n.Kind != agent.NoteFault {
			note.Look = differencePath(n.WorkspaceID, n.Name)
		}
		if workspaceID == "" {
			w, err := d.ControlPlane.Workspace(ctx, n.WorkspaceID)
			if agent.ErrorCode(err) == agent.CodeNotFound {
				continue // it was deleted meanwhile
			}
			if err != nil {
				return err
			}
			note.Workspace = w.Name
		}
		v.Notes = append(v.Notes, note)
	}
	return nil
}

// differencePath is the address of a preference's difference in a workspace.
func differencePath(workspaceID, name string) string {
	return listPath + "/" + workspaceID + "/preferences/" + name
}

// readSettings fills the view with what is true now.
func (d *Dashboard) readSettings(ctx context.Context, v *settingsView) error {
	v.layout = d.layout("Settings", "/app/settings")
	v.Live = "/app/settings/live"
	if err := d.readPreferences(ctx, &v.preferencesView, "", v.Now); err != nil {
		return err
	}
	for after := (agent.Cursor{}); ; {
		workspaces, next, err := d.ControlPlane.ListWorkspaces(ctx, after, agent.MaxPageSize)
		if err != nil {
			return err
		}
		for _, w := range workspaces {
			if w.Status == agent.StatusRunning {
				v.Choices = append(v.Choices, w)
			}
		}
		if next == (agent.Cursor{}) {
			return nil
		}
		after = next
	}
}

func (d *Dashboard) showSettings(w http.ResponseWriter, r *http.Request, status int, v settingsView) error {
	err := d.readSettings(r.Context(), &v)
	if err == nil {
		v.Regions, err = regions(v, "preferences", "notes", "choices", "saved")
	}
	if err != nil {
		return err
	}
	return d.render(w, status, "settings.html", v)
}

func (d *Dashboard) settings(w http.ResponseWriter, r *http.Request) error {
	return d.showSettings(w, r, http.StatusOK, settingsView{})
}

func (d *Dashboard) settingsLive(w http.ResponseWriter, r *http.Request) error {
	return d.live(w, r, follow{
		wants: func(e agent.Event) bool { return e.Kind != agent.EventStep && e.Kind != agent.EventPort },
		render: func(ctx context.Context) (map[string]region, error) {
			var v settingsView
			if err := d.readSettings(ctx, &v); err != nil {
				return nil, err
			}
			return regions(v, "preferences", "notes", "choices")
		},
	})
}

// save reads every preference from a workspace. A file that is not there is
// no fault: what was saved before stays, as it does where the workspace did not
// change what is older there. What has to be looked at first is not saved: a
// conflict, and what can run programs.
func (d *Dashboard) save(r *http.Request, workspaceID string) (preferencesView, int, error) {
	v := preferencesView{Preferences: make([]preference, len(agent.PreferenceNames())), Chosen: workspaceID}
	before, err := d.ControlPlane.PreferenceTimes(r.Context())
	if err != nil {
		return v, 0, err
	}

	status, saved, unchanged := http.StatusOK, 0, 0
	for i, name := range agent.PreferenceNames() {
		p := &v.Preferences[i]
		stored, err := d.ControlPlane.SavePreference(r.Context(), name, workspaceID, "")
		if was, ok := before[name]; err == nil && ok && was.Equal(stored.UpdatedAt) {
			p.Note = "Not changed here, so the stored one stays."
			unchanged++
			continue
		}
		if err == nil {
			saved++
			continue
		}

		code, e := d.explain(r, err)
		if p.Note = e.Message; code == http.StatusNotFound {
			p.Note = "No such file there yet"
			continue
		}
		if e.Difference != nil {
			p.Note, p.Look = "Can run programs, so you have to see it first.", differencePath(workspaceID, name)
			if e.Difference.Kind == agent.NoteConflict {
				p.Note = "Changed in another workspace, too."
			}
		}
		p.Bad, status = true, code
	}

	v.Saved = "Nothing to save: the workspace has none of these files yet."
	switch {
	case status != http.StatusOK:
		v.Saved = "Not everything was saved."
	case saved > 0:
		v.Saved = "Saved. Every workspace gets these when it starts, unless its own were changed."
	case unchanged > 0:
		v.Saved = "Nothing to save: what is stored is newer than what the workspace has."
	}

	return v, status, nil
}

func (d *Dashboard) saveFromSettings(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	id := r.PostForm.Get("workspace")
	if _, err := d.ControlPlane.Workspace(r.Context(), id); err != nil {
		status, e := d.explain(r, err)
		return d.showSettings(w, r, status, settingsView{preferencesView: preferencesView{Saved: e.Message}})
	}
	v, status, err := d.save(r, id)
	if err != nil {
		return err
	}
	return d.showSettings(w, r, status, settingsView{preferencesView: v})
}

func (d *Dashboard) saveFromDetail(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, err := d.ControlPlane.Workspace(r.Context(), id); err != nil {
		return err
	}
	v, status, err := d.save(r, id)
	if err != nil {
		return err
	}
	return d.showDetail(w, r, status, detailView{preferencesView: v})
}
