package dashboard

import (
	"context"
	"net/http"
	"net/url"

	"github.com/rockpool/rootvm/agent"
)

type listView struct {
	layout
	Rows  []row
	Older string // address of the next page, "" on the last
	First bool   // the newest are on this page

	DiskUsed string // of the whole disk, "" while there is room
}

type row struct {
	agent.Workspace
	IDE string // address, "" while there is none
	Ago string

	Disk string // what there is to say of its part of the disk, "" while it has room
}

// listPage reads one page of the list.
func (d *Dashboard) listPage(ctx context.Context, r *http.Request) (listView, error) {
	cursor := r.URL.Query().Get("cursor")
	after, err := agent.DecodeCursor(cursor)
	if err != nil {
		return listView{}, err
	}
	workspaces, next, err := d.ControlPlane.ListWorkspaces(ctx, after, agent.DefaultPageSize)
	if err != nil {
		return listView{}, err
	}

	v := listView{layout: d.layout("Workspaces", listPath), First: cursor == ""}
	v.Still = r.URL.Query().Has("still")
	v.Live = "/app/workspaces/live"
	if cursor != "" {
		v.Live += "?cursor=" + url.QueryEscape(cursor)
	}
	if s := next.Encode(); s != "" {
		v.Older = listPath + "?cursor=" + url.QueryEscape(s)
	}

	for _, w := range workspaces {
		x := row{Workspace: w, Ago: ago(v.Now, w.CreatedAt)}
		if w.Status == agent.StatusRunning {
			x.IDE = d.ide(r, w.Name)
		}
		v.Rows = append(v.Rows, x)
		v.Busy = v.Busy || moving(w.Status)
	}

	d.readDisk(ctx, &v)
	v.Regions, err = regions(v, "list")
	return v, err
}

// ide is the address of a workspace's IDE.
func (d *Dashboard) ide(r *http.Request, name string) string {
	return origin(r, d.Ports.IDE) + "/workspace/" + name + "/"
}

func (d *Dashboard) list(w http.ResponseWriter, r *http.Request) error {
	v, err := d.listPage(r.Context(), r)
	if err != nil {
		return err
	}
	return d.render(w, http.StatusOK, "list.html", v)
}

func (d *Dashboard) listLive(w http.ResponseWriter, r *http.Request) error {
	return d.live(w, r, follow{
		wants: func(e agent.Event) bool {
			return e.Kind == agent.EventWorkspace || e.Kind == agent.EventDeleted
		},
		render: func(ctx context.Context) (map[string]region, error) {
			v, err := d.listPage(ctx, r)
			return v.Regions, err
		},
	})
}
