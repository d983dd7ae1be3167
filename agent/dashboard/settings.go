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
}

type preference struct {
	Title string
	Path  string
	Saved time.Time // zero: never
	Ago   string
	Note  string // of the attempt just made
	Bad   bool   // the note is of a fault
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
	}
	return name
}

// readPreferences fills in when each preference was saved. Notes of an
// attempt that are there already stay.
func (d *Dashboard) readPreferences(ctx context.Context, v *preferencesView, now time.Time) error {
	stored, err := d.ControlPlane.ListPreferences(ctx)
	if err != nil {
		return err
	}
	saved := map[string]time.Time{}
	for _, p := range stored {
		saved[p.Name] = p.UpdatedAt
	}
	if v.Preferences == nil {
		v.Preferences = make([]preference, len(agent.PreferenceNames()))
	}
	for i, name := range agent.PreferenceNames() {
		p := &v.Preferences[i]
		p.Title, p.Path, p.Saved = preferenceTitle(name), "~/"+agent.PreferencePath(name), saved[name]
		if !p.Saved.IsZero() {
			p.Ago = ago(now, p.Saved)
		}
	}
	return nil
}

// readSettings fills the view with what is true now.
func (d *Dashboard) readSettings(ctx context.Context, v *settingsView) error {
	v.layout = d.layout("Settings", "/app/settings")
	v.Live = "/app/settings/live"
	if err := d.readPreferences(ctx, &v.preferencesView, v.Now); err != nil {
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
		v.Regions, err = regions(v, "preferences", "choices", "saved")
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
			return regions(v, "preferences", "choices")
		},
	})
}

// save reads every preference from a workspace. A file that is not there is
// no fault: what was saved before stays.
func (d *Dashboard) save(r *http.Request, workspaceID string) (preferencesView, int) {
	v := preferencesView{Preferences: make([]preference, len(agent.PreferenceNames())), Chosen: workspaceID}
	status, saved := http.StatusOK, 0
	for i, name := range agent.PreferenceNames() {
		_, err := d.ControlPlane.SavePreference(r.Context(), name, workspaceID, "")
		if err == nil {
			saved++
			continue
		}
		code, e := d.explain(r, err)
		p := &v.Preferences[i]
		if p.Note = e.Message; code == http.StatusNotFound {
			p.Note = "No such file there yet"
			continue
		}
		p.Bad, status = true, code
	}

	v.Saved = "Nothing to save: the workspace has none of these files yet."
	switch {
	case status != http.StatusOK:
		v.Saved = "Not everything was saved."
	case saved > 0:
		v.Saved = "Saved. New workspaces begin with these."
	}

	return v, status
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
	v, status := d.save(r, id)
	return d.showSettings(w, r, status, settingsView{preferencesView: v})
}

func (d *Dashboard) saveFromDetail(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, err := d.ControlPlane.Workspace(r.Context(), id); err != nil {
		return err
	}
	v, status := d.save(r, id)
	return d.showDetail(w, r, status, detailView{preferencesView: v})
}
