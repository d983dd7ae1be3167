package vm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rockpool/rootvm/guest"
)

// Uptime is how long the machine has been on, or 0.
func (s State) Uptime(now time.Time) time.Duration {
	if !s.On() {
		return 0
	}
	return now.Sub(s.StartedAt).Round(time.Second)
}

// Table is the state as a short table for people.
func (s State) Table(now time.Time) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}

	row("instance", "%s", s.Name)
	row("state", "%s", s.sentence(now))
	if s.On() {
		row("machine", "%d cpus, %s, %s, boot by %s (pid %d)", s.CPUs, Bytes(s.Memory), s.Accel, s.Boot, s.Processes[0].PID)
		row("share", "%s", s.Share)
		switch {
		case s.FileEvents != nil:
			row("file events", "%s", fileEventsLine(*s.FileEvents))
		case s.Share == Share9P:
			row("file events", "none by 9p: have virtiofsd installed (SHARE=virtiofs), or let watchers poll")
		}
		if s.Disk != nil {
			diskRows(row, *s.Disk)
		}
		row("ports", "%s", s.Ports)
		if len(s.EcosystemPorts) > 0 {
			row("ecosystem", "%s", guest.ForwardList(s.EcosystemPorts))
		}
		row("image", "%.12s", s.ImageSHA256)
		if len(s.Phases) > 0 {
			row("phases", "%s", phaseLine(s.Phases))
		}
	}

	for _, t := range s.Troubles {
		row("trouble", "%s: %s; cure: %s", t.Part, t.Message, t.Cure)
	}
	if s.Failure != nil {
		row("failure", "%s (%s)", s.Failure.Error(), s.Failure.Time.Format(time.DateTime))
		for _, line := range s.Failure.Log {
			row("", "%s", line)
		}
	}
	w.Flush()
	return b.String()
}

// sentence tells the status with what belongs to it.
func (s State) sentence(now time.Time) string {
	switch {
	case s.Status == Ready:
		return fmt.Sprintf("ready after %.1f s, on for %s", s.ReadyAfter, s.Uptime(now))
	case s.On():
		return fmt.Sprintf("%s, on for %s", s.Status, s.Uptime(now))
	case s.Status == Stopped && s.LastStop != "":
		return fmt.Sprintf("stopped (%s)", s.LastStop)
	}
	return string(s.Status)
}

func phaseLine(phases []Phase) string {
	var list []string
	for _, p := range phases {
		list = append(list, fmt.Sprintf("%s %.1f", p.Name, p.Seconds))
	}
	return strings.Join(list, " · ") + " s since the kernel started"
}

func fileEventsLine(r FileEvents) string {
	line := fmt.Sprintf("%d files in %d directories; sent %d, replayed %d, waiting %d, scans %d",
		r.Files, r.Directories, r.Sent, r.Replayed, r.Waiting, r.Scans)
	if r.Lag > 0 {
		line += fmt.Sprintf("; %.0f ms (95 %%: %.0f ms)", r.Lag, r.Lag95)
	}
	for _, trouble := range []string{r.Trouble, r.Fault} {
		if trouble != "" {
			line += "; " + trouble
		}
	}
	return line
}

// diskRowsAtMost is how many workspaces a table names.
const diskRowsAtMost = 10

// diskRows tell who takes what of the guest's disk: all together, and the
// workspaces that take the most.
func diskRows(row func(name, format string, args ...any), r guest.DiskReport) {
	var files int64
	for _, w := range r.Workspaces {
		files += w.Used
	}
	row("disk", "%s of %s used; workspaces %s, images %s, the rest %s", gibibytes(r.Size-r.Free), gibibytes(r.Size), gibibytes(files), gibibytes(r.Images), gibibytes(r.Rest))

	most := slices.Clone(r.Workspaces)
	slices.SortStableFunc(most, func(a, b guest.WorkspaceDisk) int { return cmp.Compare(b.Used, a.Used) })
	for i, w := range most {
		if i == diskRowsAtMost {
			row("", "and %d more: --json has all", len(most)-i)
			break
		}
		row("", "%s: %s of %s", w.Name, gibibytes(w.Used), gibibytes(w.Limit))
	}
}

func gibibytes(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/float64(GiB)) }
