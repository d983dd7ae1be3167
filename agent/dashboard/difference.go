package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/aymanbagabas/go-udiff"

	"github.com/rockpool/rootvm/agent"
)

// differenceView is a stored preference beside a workspace's file.
type differenceView struct {
	layout
	agent.PreferenceDifference
	W      agent.Workspace
	Path   string
	Equal  bool // both are the same; there may be something in it to agree to
	Lines  []diffLine
	Notice string // of a choice that was refused
}

// diffLine is a line of a difference: what is stored beside what the workspace
// has.
type diffLine struct {
	Old, New       string
	HasOld, HasNew bool
	Changed        bool
	Skipped        int // this many lines that are the same stand here; then nothing else is set
}

// contextLines is how many lines that are the same are shown around others.
const contextLines = 3

// sideBySide lays two texts beside each other, line by line. All lines that
// differ are there.
func sideBySide(old, now string) []diffLine {
	var list []diffLine
	at := 0
	for _, e := range udiff.Lines(old, now) {
		list = append(list, sameLines(old[at:e.Start], at > 0, true)...)
		removed, added := split(old[e.Start:e.End]), split(e.New)
		for i := range max(len(removed), len(added)) {
			l := diffLine{Changed: true, HasOld: i < len(removed), HasNew: i < len(added)}
			if l.HasOld {
				l.Old = removed[i]
			}
			if l.HasNew {
				l.New = added[i]
			}
			list = append(list, l)
		}
		at = e.End
	}
	return append(list, sameLines(old[at:], at > 0, false)...)
}

// sameLines are lines that are the same on both sides, without those that are
// far from a change before or after them.
func sameLines(text string, before, after bool) []diffLine {
	lines := split(text)
	head, tail := 0, 0
	if before {
		head = contextLines
	}
	if after {
		tail = contextLines
	}
	var list []diffLine
	for i, l := range lines {
		switch {
		case i < head || i >= len(lines)-tail:
			list = append(list, diffLine{Old: l, New: l, HasOld: true, HasNew: true})
		case i == head:
			list = append(list, diffLine{Skipped: len(lines) - head - tail})
		}
	}
	return list
}

// split returns the lines of a text as they can be shown.
func split(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, shown(strings.TrimSuffix(line, "\n")))
	}
	return lines
}

// shown is a line in which what has no width, or changes the direction of what
// is beside it, is written out.
func shown(line string) string {
	var b strings.Builder
	for _, c := range line {
		if c != '\t' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c)) {
			fmt.Fprintf(&b, "⟨U+%04X⟩", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// preferenceOf returns the preference that the path names.
func preferenceOf(r *http.Request) (string, error) {
	name := r.PathValue("name")
	if agent.PreferencePath(name) == "" {
		return "", agent.Errorf(agent.CodeNotFound, "There is no such preference.")
	}
	return name, nil
}

func (d *Dashboard) difference(w http.ResponseWriter, r *http.Request) error {
	name, err := preferenceOf(r)
	if err != nil {
		return err
	}
	diff, err := d.ControlPlane.PreferenceDifference(r.Context(), r.PathValue("id"), name)
	if err != nil {
		return err
	}
	return d.showDifference(w, r, http.StatusOK, differenceView{PreferenceDifference: diff})
}

func (d *Dashboard) showDifference(w http.ResponseWriter, r *http.Request, status int, v differenceView) error {
	var err error
	if v.W, err = d.ControlPlane.Workspace(r.Context(), v.WorkspaceID); err != nil {
		return err
	}
	v.layout = d.layout(preferenceTitle(v.Name), "/app/settings")
	v.Path = "~/" + agent.PreferencePath(v.Name)
	if v.Equal = v.Stored == v.Found; !v.Equal {
		v.Lines = sideBySide(v.Stored.Content, v.Found.Content)
	}
	if v.Equal && len(v.Programs) > 0 { // stored before anybody was asked
		for _, l := range split(v.Found.Content) {
			v.Lines = append(v.Lines, diffLine{Old: l, New: l, HasOld: true, HasNew: true})
		}
	}
	return d.render(w, status, "difference.html", v)
}

// resolve is a person's choice on the page of a difference.
func (d *Dashboard) resolve(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	name, err := preferenceOf(r)
	if err != nil {
		return err
	}
	choice := agent.PreferenceChoice(r.PostForm.Get("choice"))
	err = d.ControlPlane.ResolvePreference(r.Context(), r.PathValue("id"), name, choice, r.PostForm.Get("confirm"))
	if e, ok := errors.AsType[*agent.Error](err); ok && e.Difference != nil {
		status, e := d.explain(r, err)
		return d.showDifference(w, r, status, differenceView{PreferenceDifference: *e.Difference, Notice: e.Message})
	}
	if err != nil {
		return err
	}
	return back(w, r)
}

// storedView is one stored preference.
type storedView struct {
	layout
	agent.Preference
	Path  string
	Ago   string
	Lines []string
}

// stored shows what is stored of a preference.
func (d *Dashboard) stored(w http.ResponseWriter, r *http.Request) error {
	name, err := preferenceOf(r)
	if err != nil {
		return err
	}
	p, err := d.ControlPlane.Preference(r.Context(), name)
	if err != nil {
		return err
	}
	v := storedView{layout: d.layout(preferenceTitle(name), "/app/settings"), Preference: p, Path: "~/" + agent.PreferencePath(name), Lines: split(p.Blob)}
	v.Ago = ago(v.Now, p.UpdatedAt)
	return d.render(w, http.StatusOK, "stored.html", v)
}

// forget removes a stored preference. One that is gone is what was asked for.
func (d *Dashboard) forget(w http.ResponseWriter, r *http.Request) error {
	name, err := preferenceOf(r)
	if err != nil {
		return err
	}
	if err := d.ControlPlane.RemovePreference(r.Context(), name); err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
		return err
	}
	http.Redirect(w, r, "/app/settings", http.StatusSeeOther)
	return nil
}
