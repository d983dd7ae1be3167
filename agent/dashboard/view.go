package dashboard

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"html/template"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates of whole pages by file name; each has layout.html
// and the regions beside it.
var pages = parsePages("list.html", "new.html", "repo.html", "configure.html", "detail.html", "disk.html", "image.html", "settings.html", "stored.html", "difference.html", "failure.html")

// regionTemplates render one region each.
var regionTemplates = template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/regions.html"))

var functions = template.FuncMap{
	"asset":      func(file string) string { return "/app/assets/" + assetNames[file] },
	"shown":      shown,
	"statusText": statusText,
	"stepTitle":  stepTitle,
	"took":       took,
	"rfc":        func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"millis":     func(t time.Time) int64 { return t.UnixMilli() },
	"date":       func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
	"size":       agent.Size,
	"ago":        ago,
	"gib":        gibibytes,
	"percent":    func(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) },
	"share":      share,
	"digest":     shortDigest,
	"decimal":    func(f float64) string { return fmt.Sprintf("%.2f", f) },
}

func parsePages(names ...string) map[string]*template.Template {
	m := map[string]*template.Template{}
	for _, name := range names {
		m[name] = template.Must(template.New(name).Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/"+name))
	}
	return m
}

// layout is what every page has.
type layout struct {
	Title   string
	Current string // address of the page's place in the navigation
	Live    string // address of the page's events, "" for none
	Busy    bool   // without the script, the page loads itself again until it is not
	Still   bool   // unless its reader asked it not to
	Now     time.Time
	Version string
	Regions map[string]region
}

func (d *Dashboard) layout(title, current string) layout {
	return layout{Title: title, Current: current, Now: d.Now(), Version: d.Version}
}

// region is a part of a page that is replaced as a whole when it changes.
type region struct {
	Name string        `json:"name"`
	Hash string        `json:"hash"`
	HTML template.HTML `json:"html"`
}

// regions renders templates of regions.html by their names, on one view.
func regions(view any, names ...string) (map[string]region, error) {
	m := map[string]region{}
	for _, name := range names {
		var b bytes.Buffer
		if err := regionTemplates.ExecuteTemplate(&b, name, view); err != nil {
			return nil, fmt.Errorf("render region %s: %w", name, err)
		}
		html := strings.TrimSpace(b.String())
		h := fnv.New64a()
		_, _ = h.Write([]byte(html))
		m[name] = region{Name: name, Hash: hex.EncodeToString(h.Sum(nil)), HTML: template.HTML(html)} // rendered and escaped above
	}
	return m, nil
}

// faults are the messages of a form, by field.
type faults map[string]string

// of takes the faults of e, each with the field's own name before it left
// out, and puts the message as a whole at field when e names none.
func faultsOf(e *agent.Error, field string) faults {
	f := faults{}
	for _, x := range e.Fields {
		f[x.Path] = sentence(x.Message)
	}
	if len(f) == 0 {
		f[field] = e.Message
	}
	return f
}

// sentence makes "must be x" fit to stand alone below a field.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

type failureView struct {
	layout
	Message string
	Again   string // address to try again, "" when that is no use
}

// statusText is the word people read for a state.
func statusText(s agent.Status) string {
	switch s {
	case agent.StatusCreating:
		return "Creating"
	case agent.StatusRunning:
		return "Running"
	case agent.StatusStopping:
		return "Stopping"
	case agent.StatusStopped:
		return "Stopped"
	case agent.StatusError:
		return "Error"
	}
	return string(s)
}

// stepTitle is what people read for a step. The words of states are left to
// the state, which is beside it on the page.
func stepTitle(s agent.Step) string {
	switch s.Name {
	case agent.StepImage:
		return "Moving on to the newer image"
	case agent.StepContainer:
		return "Preparing the container"
	case agent.StepStart:
		return "Starting the container"
	case agent.StepConfigure:
		return "Configuring the IDE"
	case agent.StepClone:
		return "Cloning the repository"
	case agent.StepHealth:
		return "Waiting for the IDE to answer"
	case agent.StepPreferences:
		if s.Job == agent.JobStop {
			return "Keeping your editor’s settings"
		}
		return "Bringing your editor’s settings"
	case agent.StepStop:
		return "Ending its processes"
	case agent.StepRemove:
		return "Removing the container and its files"
	}

	return s.Title
}

// took writes a duration as people say it.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
}

// ago writes how long before now t was. The script says the same as time
// passes.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	unit := func(n time.Duration, name string) string {
		if n == 1 {
			return "1 " + name + " ago"
		}
		return fmt.Sprintf("%d %ss ago", n, name)
	}
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return unit(d/time.Minute, "minute")
	case d < 24*time.Hour:
		return unit(d/time.Hour, "hour")
	}
	return unit(d/(24*time.Hour), "day")
}

// moving reports whether a state ends by itself.
func moving(s agent.Status) bool {
	return s == agent.StatusCreating || s == agent.StatusStopping
}
