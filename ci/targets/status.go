package targets

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// writeStatus prints a state for people.
func writeStatus(w io.Writer, s vm.State, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row(s.Name, "%s", s.Status)
	if s.On() {
		row("running", "since %s, pid %d", now.Sub(s.StartedAt).Round(time.Second), s.Processes[0].PID)
		row("machine", "%d cpus, %s, acceleration %s, boot %s, share %s", s.CPUs, vm.Bytes(s.Memory), s.Accel, s.Boot, s.Share)
		row("ports", "ssh %d, dashboard %d, IDE %d, previews %d, on 127.0.0.1", s.Ports.SSH, s.Ports.Dashboard, s.Ports.IDE, s.Ports.Preview)
	} else if s.LastStop != "" {
		row("last stop", "%s", s.LastStop)
	}
	if len(s.ImageSHA256) >= 12 {
		row("image", "%s", s.ImageSHA256[:12])
	}
	for _, p := range s.Phases {
		row("phase", "%6.1f s  %s", p.Seconds, p.Name)
	}
	if s.ReadyAfter > 0 {
		row("ready", "%6.1f s after power-on", s.ReadyAfter)
	}
	for _, p := range s.Troubles {
		row("trouble", "%s: %s: %s", p.Part, p.Message, p.Cure)
	}
	if f := s.Failure; f != nil {
		row("failure", "%s %s", f.Unit, f.Message)
		for _, line := range f.Log {
			row("", "%s", line)
		}
	}
	return t.Flush()
}
