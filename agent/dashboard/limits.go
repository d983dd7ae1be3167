package dashboard

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// limitsView is what a workspace may use, and the form that changes it.
type limitsView struct {
	State   agent.LimitState
	Pending bool // another limit of the memory holds until the next start

	Disk    *diskMeter // nil while there are no files, and while that is not known
	Warning string     // of the disk, "" while there is room
	Full    bool       // nothing, or next to nothing, can be written

	// What the fields of the form have: "" is the default.
	Memory   string
	DiskText string
}

// readLimits fills the view's limits. What a form that was refused had in its
// fields stays there.
func (d *Dashboard) readLimits(ctx context.Context, v *detailView) error {
	state, err := d.ControlPlane.Limits(ctx, v.W.ID)
	if err != nil {
		return err
	}
	v.Limits.State, v.Limits.Warning, v.Limits.Full = state, state.DiskWarning(), state.DiskFill() >= agent.DiskFull
	if state.DiskUsed != nil {
		m := meterOf("Disk", *state.DiskUsed, state.Disk.Limit)
		v.Limits.Disk = &m
	}
	if v.Faults["memoryBytes"] == "" && v.Faults["diskBytes"] == "" {
		v.Limits.Memory, v.Limits.DiskText = fieldOf(state.Set.Memory), fieldOf(state.Set.Disk)
	}
	return nil
}

func fieldOf(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return gibibytes(bytes)
}

// gibibytes writes bytes as a number of GiB that a field takes, rounded down so
// that what is allowed stays so.
func gibibytes(n int64) string {
	const places = 1000
	return strconv.FormatFloat(math.Floor(float64(n)/(1<<30)*places)/places, 'f', -1, 64)
}

// bytesOf reads a field: what is no number is -1, which no limit may be. What
// the field was filled with is the value that it was filled from.
func bytesOf(field string, was int64) int64 {
	if field == fieldOf(was) {
		return was
	}
	if field == "" {
		return 0
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(field, ",", "."), 64)
	if err != nil || !(f > 0 && f < 1<<20) {
		return -1
	}
	return int64(f * (1 << 30))
}

func (d *Dashboard) setLimits(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	id := r.PathValue("id")
	was, err := d.ControlPlane.Limits(r.Context(), id)
	if err != nil {
		return err
	}

	v := detailView{Limits: limitsView{Memory: strings.TrimSpace(r.PostForm.Get("memory")), DiskText: strings.TrimSpace(r.PostForm.Get("disk"))}}
	l := agent.Limits{Memory: bytesOf(v.Limits.Memory, was.Set.Memory), Disk: was.Set.Disk}
	if r.PostForm.Has("disk") {
		l.Disk = bytesOf(v.Limits.DiskText, was.Set.Disk)
	}
	if _, err = d.ControlPlane.SetLimits(r.Context(), id, l); err == nil {
		return back(w, r)
	}
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return err
	}
	status, e := d.explain(r, err)
	if e.Code != agent.CodeValidation {
		return d.refused(w, r, err)
	}
	v.Faults = faultsOf(e, "memoryBytes")
	return d.showDetail(w, r, status, v)
}
