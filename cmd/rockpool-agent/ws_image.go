package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

func (w *ws) imageCommand() *cobra.Command {
	var moveOn bool
	c := w.waits(w.prints(w.named("image", "print which image a workspace is made from, and what moving on to a newer one changes", func(ctx context.Context, name string) error {
		return w.image(ctx, name, moveOn)
	})))
	c.Flags().BoolVar(&moveOn, "move-on", false, "move a workspace that is stopped on to the newer image and start it: all outside its home directory is deleted")
	return c
}

func (w *ws) image(ctx context.Context, name string, moveOn bool) error {
	found, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	change, err := w.client.ImageChange(ctx, found.ID)
	if err != nil {
		return err
	}
	if moveOn {
		changed, err := w.client.ChangeImage(ctx, found.ID, change.Newest)
		if err != nil {
			return err
		}
		return w.finish(ctx, changed)
	}
	if w.json {
		return writeJSON(w.out, api.FromImage(change))
	}
	return w.printImage(name, change)
}

func (w *ws) printImage(name string, c agent.ImageChange) error {
	var b strings.Builder
	fmt.Fprintf(&b, "image   %s\ndigest  %s\n", c.Reference, cmp.Or(c.Digest, "not known before it is made"))
	switch {
	case !c.Newer():
	case c.Unknown:
		fmt.Fprintf(&b, "newer   %s\nMoving on deletes all outside its home directory; which packages that are could not be read.\n", c.Newest)
	case len(c.Packages) == 0:
		fmt.Fprintf(&b, "newer   %s\nMoving on deletes all that was changed outside its home directory; no packages.\n", c.Newest)
	default:
		fmt.Fprintf(&b, "newer   %s\nMoving on deletes all outside its home directory, with these packages:\n  %s\n", c.Newest, strings.Join(c.Packages, "\n  "))
	}
	if c.Newer() {
		fmt.Fprintf(&b, "To do it: rockpool-agent ws image %s --move-on\n", name)
	}
	_, err := fmt.Fprint(w.out, b.String())
	return err
}
