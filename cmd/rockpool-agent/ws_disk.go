package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

func (w *ws) diskCommand() *cobra.Command {
	return w.prints(w.command("disk", "print who takes what of the disk that workspaces share", noArguments, w.disk))
}

func (w *ws) disk(ctx context.Context, _ []string) error {
	d, err := w.client.Disk(ctx)
	if err != nil {
		return err
	}
	if w.json {
		return writeJSON(w.out, api.FromDisk(d))
	}

	t := tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tUSED\tALLOWED\tNOTE")
	for _, s := range d.Workspaces {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, agent.Size(s.Used), agent.Size(s.Limit), fillNote(s.Used, s.Limit))
	}
	for _, s := range d.Orphans {
		fmt.Fprintf(t, "%s\t%s\t%s\tfiles without a workspace\n", s.ID, agent.Size(s.Used), agent.Size(s.Limit))
	}
	for _, i := range d.Images {
		fmt.Fprintf(t, "%.19s\t%s\t\timage\n", i.Digest, agent.Size(i.Size))
	}
	fmt.Fprintf(t, "the rest\t%s\t\tof the file system's own\n", agent.Size(d.Rest))
	fmt.Fprintf(t, "in all\t%s\t%s\t%s\n", agent.Size(d.Size-d.Free), agent.Size(d.Size), fillNote(d.Size-d.Free, d.Size))
	return t.Flush()
}

// fillNote is what is said of something that is almost full, "" while there is
// room.
func fillNote(used, limit int64) string {
	switch fill := agent.FillOf(used, limit); {
	case fill >= agent.DiskFull:
		return "full"
	case fill == agent.DiskTight:
		return fmt.Sprintf("%d %% used", used*100/limit)
	}
	return ""
}
