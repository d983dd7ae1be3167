package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

const diskPath = "/app/disk"

// diskEvery is how often a page of the disk that is open is looked at anew.
const diskEvery = 5 * time.Second

// diskOld is how old what is known of the disk may be before the page says so.
const diskOld = time.Minute

// diskMeter is a bar of what is used of what there is, with words.
type diskMeter struct {
	Label       string // for those who do not see the bar
	Used, Limit int64  // bytes
	Fill        agent.DiskFill
}

// Low and High are where the bar shows that it becomes tight, and that it is as
// good as full, in bytes.
func (m diskMeter) Low() int64  { return m.Limit / 5 * 4 }
func (m diskMeter) High() int64 { return m.Limit / 100 * 99 }

func meterOf(label string, used, limit int64) diskMeter {
	return diskMeter{Label: label, Used: used, Limit: limit, Fill: agent.FillOf(used, limit)}
}

// share is a part of a whole in per cent.
func share(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}

type diskView struct {
	layout
	Disk  agent.DiskState
	Whole diskMeter
	Rows  []diskRow
	Old   bool // the disk does not answer now
}

// diskRow is what one workspace takes.
type diskRow struct {
	agent.DiskShare
	Meter diskMeter
}

// diskPage reads who takes what.
func (d *Dashboard) diskPage(ctx context.Context) (diskView, error) {
	v := diskView{layout: d.layout("Disk", diskPath)}
	v.Live = diskPath + "/live"
	var err error
	if v.Disk, err = d.ControlPlane.Disk(ctx); err != nil {
		return v, err
	}
	v.Old = v.Now.Sub(v.Disk.At) > diskOld
	v.Whole = meterOf("The whole disk", v.Disk.Size-v.Disk.Free, v.Disk.Size)
	for _, s := range v.Disk.Workspaces {
		v.Rows = append(v.Rows, diskRow{s, meterOf("Disk of "+s.Name, s.Used, s.Limit)})
	}
	v.Regions, err = regions(v, "disk")
	return v, err
}

func (d *Dashboard) disk(w http.ResponseWriter, r *http.Request) error {
	v, err := d.diskPage(r.Context())
	if err != nil {
		return err
	}
	return d.render(w, http.StatusOK, "disk.html", v)
}

func (d *Dashboard) diskLive(w http.ResponseWriter, r *http.Request) error {
	return d.live(w, r, follow{
		wants: func(e agent.Event) bool {
			return e.Kind == agent.EventWorkspace || e.Kind == agent.EventDeleted
		},
		render: func(ctx context.Context) (map[string]region, error) {
			v, err := d.diskPage(ctx)
			return v.Regions, err
		},
		every: diskEvery,
	})
}

// readDisk fills what the list says of the disk: nothing while there is room,
// and while that is not known.
func (d *Dashboard) readDisk(ctx context.Context, v *listView) {
	state, err := d.ControlPlane.Disk(ctx)
	if err != nil {
		d.Log.Debug("who takes what of the disk is not known", "err", err)
		return
	}
	if state.Fill() >= agent.DiskTight {
		v.DiskUsed = share(state.Size-state.Free, state.Size)
	}
	tight := map[string]string{}
	for _, s := range state.Workspaces {
		switch agent.FillOf(s.Used, s.Limit) {
		case agent.DiskTight:
			tight[s.ID] = share(s.Used, s.Limit) + " of its disk used"
		case agent.DiskFull, agent.DiskOver:
			tight[s.ID] = "Its disk is full"
		}
	}
	for i := range v.Rows {
		v.Rows[i].Disk = tight[v.Rows[i].ID]
	}
}
