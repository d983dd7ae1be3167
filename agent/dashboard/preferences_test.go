package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// differing is a control plane with a conflict in the newest workspace, and a
// file that could not be written in another.
func differing() *plane {
	p := busy()
	p.saved[agent.PreferenceGit] = agent.Preference{Name: agent.PreferenceGit, Blob: "[user]\n\tname = Stored\n# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n# 7\n# 8\n", UpdatedAt: start}
	p.files[agent.PreferenceGit] = "[user]\n\tname = Found\n# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n# 7\n# 8\n[alias]\n\tx = !id\n"
	p.notes = []agent.PreferenceCopy{
		{WorkspaceID: id(3), Name: agent.PreferenceGit, PreferenceNote: agent.PreferenceNote{Kind: agent.NoteConflict, Message: "It was changed here and in another workspace."}},
		{WorkspaceID: id(1), Name: agent.IDEConfiguration, PreferenceNote: agent.PreferenceNote{Kind: agent.NoteFault, Message: "config.yaml is a directory."}},
	}
	return p
}

const differenceOf3 = "/app/workspaces/0000000000000000000000003/preferences/GitConfig"

// TestNotes: what is to be looked at stands on the page of its workspace and on
// the settings' page, with a way to the difference where there is a choice.
func TestNotes(t *testing.T) {
	p := differing()
	get(t, p, "/app/settings").want(t, 200, "Git Config", "It was changed here and in another workspace.", `href="`+differenceOf3+`"`, "IDE configuration", "config.yaml is a directory.", `href="/app/workspaces/`+id(1)+`"`, `href="/app/settings/GitConfig"`)
	get(t, p, "/app/workspaces/"+id(3)).want(t, 200, "It was changed here and in another workspace.", `href="`+differenceOf3+`"`)
	if a := get(t, p, "/app/workspaces/"+id(2)); strings.Contains(a.body, "It was changed here") {
		t.Error("the note stands on another workspace's page")
	}
	p.notes[0].WorkspaceID = id(9) // deleted meanwhile
	get(t, p, "/app/settings").want(t, 200, "config.yaml is a directory.")
}

// TestDifference: both sides, what can run programs, and a choice on exactly
// what was seen.
func TestDifference(t *testing.T) {
	p := differing()
	get(t, p, differenceOf3).want(t, 200, "<del>\tname = Stored</del>", "<ins>\tname = Found</ins>", "<ins>\tx = !id</ins>", "<code>x = !id</code>", "2 more that are the same", "Keep this", "Use the stored one")
	seen := p.difference(id(3), agent.PreferenceGit).Digest()
	p.files[agent.PreferenceGit] += "# newer\n"
	now := p.difference(id(3), agent.PreferenceGit).Digest()
	post(t, p, differenceOf3, "choice", "found", "confirm", seen).want(t, 409, "It was changed since it was shown.", "# newer", `value="`+now+`"`)
	if p.choices != nil {
		t.Errorf("choices: %q", p.choices)
	}
	post(t, p, differenceOf3, "choice", "stored", "confirm", now).wantRedirect(t, "/app/workspaces/"+id(3))
	if len(p.choices) != 1 || p.choices[0] != agent.ChooseStored {
		t.Errorf("choices: %q", p.choices)
	}

	p.files[agent.PreferenceGit] = p.saved[agent.PreferenceGit].Blob
	if a := get(t, p, differenceOf3); strings.Contains(a.body, "Keep this") || !strings.Contains(a.body, "Both are the same.") {
		t.Errorf("a difference that is none:\n%s", a.body)
	}
	p.files[agent.PreferenceGit] = "[alias]\n\tx = !id\n" // stored before anybody was asked
	p.saved[agent.PreferenceGit] = agent.Preference{Name: agent.PreferenceGit, Blob: p.files[agent.PreferenceGit]}
	if a := get(t, p, differenceOf3); !strings.Contains(a.body, "Keep this") || strings.Contains(a.body, "Use the stored one") || !strings.Contains(a.body, "<td>[alias]</td>") {
		t.Errorf("the same that nobody has seen:\n%s", a.body)
	}
	delete(p.files, agent.PreferenceGit)
	if a := get(t, p, differenceOf3); strings.Contains(a.body, "Keep this") || !strings.Contains(a.body, "No file in three") {
		t.Errorf("a file that is not there:\n%s", a.body)
	}
}

// TestDifference_tricks: nothing in a file can look like something else.
func TestDifference_tricks(t *testing.T) {
	p := differing()
	p.files[agent.PreferenceGit] = "name = \u202eevil\u200b\x1b[8m<script>\r\n"
	a := get(t, p, differenceOf3)
	a.want(t, 200, "⟨U&#43;202E⟩evil⟨U&#43;200B⟩⟨U&#43;001B⟩[8m&lt;script&gt;⟨U&#43;000D⟩")
	p.files[agent.PreferenceGit] = "\u202e!\n"
	get(t, p, differenceOf3).want(t, 200, "<code>⟨U&#43;202E⟩!</code>")
	p.saved[agent.PreferenceGit] = agent.Preference{Name: agent.PreferenceGit, Blob: "\u202e<b>", UpdatedAt: start}
	get(t, p, "/app/settings/GitConfig").want(t, 200, "⟨U&#43;202E⟩&lt;b&gt;")
}

// TestSave_looksFirst: what has to be seen before it is stored is not saved
// with all.
func TestSave_looksFirst(t *testing.T) {
	p := differing()
	before := p.saved[agent.PreferenceGit]
	for _, target := range []string{"/app/settings", "/app/workspaces/" + id(3) + "/preferences"} {
		post(t, p, target, "workspace", id(3)).want(t, 409, "Not everything was saved.", "Changed in another workspace, too.", `href="`+differenceOf3+`"`)
	}
	p.notes = nil
	post(t, p, "/app/settings", "workspace", id(3)).want(t, 409, "Can run programs, so you have to see it first.", `href="`+differenceOf3+`"`)
	if p.saved[agent.PreferenceGit] != before {
		t.Errorf("saved: %+v", p.saved)
	}
}

// TestSave_untouched: what the workspace did not change is not said to be saved.
func TestSave_untouched(t *testing.T) {
	p := differing()
	p.notes, p.untouched = nil, map[string]bool{agent.PreferenceGit: true}
	before := p.saved[agent.PreferenceGit]
	for _, target := range []string{"/app/settings", "/app/workspaces/" + id(3) + "/preferences"} {
		post(t, p, target, "workspace", id(3)).want(t, 200, "Nothing to save: what is stored is newer", "Git Config: Not changed here, so the stored one stays.")
	}
	if p.saved[agent.PreferenceGit] != before {
		t.Errorf("saved: %+v", p.saved)
	}
}

func TestStored(t *testing.T) {
	p := differing()
	get(t, p, "/app/settings/GitConfig").want(t, 200, "name = Stored", "1 minute ago", "Workspaces keep the files that they have.")
	for range 2 {
		post(t, p, "/app/settings/GitConfig/remove").wantRedirect(t, "/app/settings")
	}
	if len(p.saved) != 0 {
		t.Errorf("left: %+v", p.saved)
	}
	get(t, p, "/app/settings/GitConfig").want(t, 404, "not found")
	post(t, p, "/app/settings/Bashrc/remove").want(t, 404)
}

// TestPages_readTimesOnly: pages that are rendered every two seconds do not
// read what is stored.
func TestPages_readTimesOnly(t *testing.T) {
	p := differing()
	for _, target := range []string{"/app/workspaces/" + id(3), "/app/settings"} {
		get(t, p, target).want(t, http.StatusOK, "1 minute ago")
	}
	if p.read != 0 {
		t.Errorf("stored preferences were read %d times", p.read)
	}
}
