package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// usageEvery is how often a running workspace's use of resources and what
// listens in it are looked at, and usageLimit how long each may take.
const (
	usageEvery = 2 * time.Second
	usageLimit = time.Second
)

type detailView struct {
	layout
	W        agent.Workspace
	May      offers
	IDE      string
	Steps    []agent.Step
	Total    time.Duration // of the last job, 0 while it lasts
	Ports    []preview
	MaxPorts int
	Unknown  bool // what listens is not known now
	Listens  []listener
	Usage    *agent.Usage
	Limits   limitsView
	Image    agent.ImageState
	CPUs     int

	preferencesView

	// Of a form that was refused.
	Notice string
	Faults faults
	Port   string
	Label  string
}

// offers are the ways out of a workspace's state that its page has a button
// for: all that the control plane takes in it.
type offers struct{ Start, Stop, Delete bool }

func offered(s agent.Status) offers {
	return offers{
		Start:  agent.Transition(s, agent.StatusCreating) == nil,
		Stop:   agent.Transition(s, agent.StatusStopping) == nil,
		Delete: s.Deletable() == nil,
	}
}

type preview struct {
	agent.Port
	Address string
	Program string // what listens there; "" when nothing does
}

// listener is a port that listens and is not registered.
type listener struct {
	Port      int
	Program   string
	Label     string // that it is registered with
	Addresses string
	Low       bool // no such port can be registered
}

// detailRegions are the parts of the page that change by themselves.
var detailRegions = []string{"status", "message", "actions", "steps", "usage", "ports", "listening", "port-form", "log", "preferences", "notes", "save-all", "limits", "disk-warning", "image"}

// read fills the view of one workspace with what is true now.
func (d *Dashboard) read(ctx context.Context, r *http.Request, v *detailView) error {
	id := r.PathValue("id")
	w, err := d.ControlPlane.Workspace(ctx, id)
	if err != nil {
		return err
	}
	v.layout, v.W, v.MaxPorts, v.CPUs = d.layout(w.Name, listPath), w, agent.MaxPorts, agent.ContainerCPUs
	v.May = offered(w.Status)
	v.Live = listPath + "/" + w.ID + "/live"
	v.Busy = moving(w.Status)
	v.Still = r.URL.Query().Has("still")
	if v.Steps, err = d.ControlPlane.Steps(ctx, id); err != nil {
		return err
	}
	v.Steps = slices.DeleteFunc(v.Steps, func(s agent.Step) bool { return s.Name == agent.StepCommit })
	v.Total = total(v.Steps)
	if err := d.readPreferences(ctx, &v.preferencesView, id, v.Now); err != nil {
		return err
	}
	if err := d.readLimits(ctx, v); err != nil {
		return err
	}
	if v.Image, err = d.ControlPlane.Image(ctx, id); err != nil {
		return err
	}
	if w.Status != agent.StatusRunning {
		return nil
	}
	v.IDE = d.ide(r, w.Name)
	ports, err := d.ControlPlane.ListPorts(ctx, id)
	if err != nil {
		return err
	}

	for _, p := range ports {
		address := fmt.Sprintf("%s/workspace/%s/port/%d/", origin(r, d.Ports.Preview), w.Name, p.Port)
		v.Ports = append(v.Ports, preview{Port: p, Address: address})
	}

	d.readListening(ctx, v)
	v.Usage = d.usage(ctx, id)
	v.Limits.Pending = v.Usage != nil && v.Usage.MemoryLimit != v.Limits.State.Memory.Limit
	return nil
}

// usage is nil while it is not known: the page does without.
func (d *Dashboard) usage(ctx context.Context, id string) *agent.Usage {
	ctx, cancel := context.WithTimeout(ctx, usageLimit)
	defer cancel()
	u, err := d.ControlPlane.Usage(ctx, id)
	if err != nil {
		d.Log.Debug("usage is not known", "workspace", id, "err", err)
		return nil
	}
	return &u
}

// readListening fills the view with what listens: beside the ports that are
// registered, and apart what is not. While it is not known, the page says so.
func (d *Dashboard) readListening(ctx context.Context, v *detailView) {
	ctx, cancel := context.WithTimeout(ctx, usageLimit)
	defer cancel()
	all, err := d.ControlPlane.Listening(ctx, v.W.ID)
	if err != nil {
		d.Log.Debug("what listens is not known", "workspace", v.W.ID, "err", err)
		v.Unknown = true
		return
	}

	for _, l := range all {
		program, addresses := cmp.Or(l.Program, "unknown program"), strings.Join(l.Addresses, ", ")
		if i := slices.IndexFunc(v.Ports, func(p preview) bool { return p.Port.Port == l.Port }); i >= 0 {
			v.Ports[i].Program = joined(v.Ports[i].Program, program)
			continue
		}
		if i := len(v.Listens) - 1; i >= 0 && v.Listens[i].Port == l.Port { // two programs, an address each
			v.Listens[i].Program, v.Listens[i].Addresses = joined(v.Listens[i].Program, program), joined(v.Listens[i].Addresses, addresses)
			continue
		}
		v.Listens = append(v.Listens, listener{Port: l.Port, Program: program, Label: l.Program, Addresses: addresses, Low: agent.NewPort{Port: l.Port}.Validate() != nil})
	}
}

// joined is a list with one more entry.
func joined(list, entry string) string {
	if list == "" || list == entry {
		return entry
	}
	return list + ", " + entry
}

// total is how long a job took whose steps are all over.
func total(steps []agent.Step) time.Duration {
	if len(steps) == 0 {
		return 0
	}
	last := steps[0].EndedAt
	for _, s := range steps {
		if s.EndedAt.IsZero() {
			return 0
		}
		if s.EndedAt.After(last) {
			last = s.EndedAt
		}
	}
	return last.Sub(steps[0].StartedAt)
}

func (d *Dashboard) detail(w http.ResponseWriter, r *http.Request) error {
	return d.showDetail(w, r, http.StatusOK, detailView{})
}

// showDetail renders the page with what v says of a form that was refused.
func (d *Dashboard) showDetail(w http.ResponseWriter, r *http.Request, status int, v detailView) error {
	err := d.read(r.Context(), r, &v)
	if err == nil {
		v.Regions, err = regions(v, append([]string{"notice", "saved", "limit-form"}, detailRegions...)...)
	}
	if err != nil {
		return err
	}
	return d.render(w, status, "detail.html", v)
}

func (d *Dashboard) detailLive(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	f := follow{
		every: usageEvery,
		gone:  listPath,
		wants: func(e agent.Event) bool {
			return e.WorkspaceID == id || e.Kind == agent.EventPreference
		},
		render: func(ctx context.Context) (map[string]region, error) {
			var v detailView
			if err := d.read(ctx, r, &v); err != nil {
				return nil, err
			}
			return regions(v, detailRegions...)
		},
	}
	return d.live(w, r, f)
}

// back sends the browser to the workspace's page.
func back(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, listPath+"/"+r.PathValue("id"), http.StatusSeeOther)
	return nil
}

// refused shows the workspace's page with why an action did not happen.
func (d *Dashboard) refused(w http.ResponseWriter, r *http.Request, err error) error {
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return err
	}
	status, e := d.explain(r, err)
	return d.showDetail(w, r, status, detailView{Notice: e.Message})
}

func (d *Dashboard) start(w http.ResponseWriter, r *http.Request) error {
	if _, err := d.ControlPlane.StartWorkspace(r.Context(), r.PathValue("id")); err != nil {
		return d.refused(w, r, err)
	}
	return back(w, r)
}

func (d *Dashboard) stop(w http.ResponseWriter, r *http.Request) error {
	if _, err := d.ControlPlane.StopWorkspace(r.Context(), r.PathValue("id")); err != nil {
		return d.refused(w, r, err)
	}
	return back(w, r)
}

func (d *Dashboard) delete(w http.ResponseWriter, r *http.Request) error {
	if err := d.ControlPlane.DeleteWorkspace(r.Context(), r.PathValue("id")); err != nil {
		return d.refused(w, r, err)
	}
	http.Redirect(w, r, listPath, http.StatusSeeOther)
	return nil
}

func (d *Dashboard) addPort(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	v := detailView{Port: strings.TrimSpace(r.PostForm.Get("port")), Label: strings.TrimSpace(r.PostForm.Get("label"))}
	number, err := strconv.Atoi(v.Port)
	if err != nil {
		number = 0 // no port has it: the same answer as for any other number out of range
	}
	if _, err = d.ControlPlane.AddPort(r.Context(), r.PathValue("id"), agent.NewPort{Port: number, Label: v.Label}); err == nil {
		return back(w, r)
	}
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return err
	}
	status, e := d.explain(r, err)
	v.Faults = faultsOf(e, "port")
	return d.showDetail(w, r, status, v)
}

func (d *Dashboard) removePort(w http.ResponseWriter, r *http.Request) error {
	number, err := strconv.Atoi(r.PathValue("port"))
	if err != nil {
		return agent.Errorf(agent.CodeNotFound, "There is no such port.")
	}
	err = d.ControlPlane.RemovePort(r.Context(), r.PathValue("id"), number)
	if e, ok := errors.AsType[*agent.Error](err); ok && e.Code == agent.CodeNotFound {
		return back(w, r) // it is gone, which was wanted; an unknown workspace is told there
	}
	if err != nil {
		return d.refused(w, r, err)
	}
	return back(w, r)
}
