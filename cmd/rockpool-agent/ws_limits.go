package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// sizeFlag is a flag for bytes: a number with a unit, or "default".
type sizeFlag struct {
	bytes int64
	given bool
}

// sizeText is a number with a unit, as users write it: 512M, 6G, 6GiB, 20GB.
var sizeText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([KMGT])(i?B)?$`)

// sizeUnits are powers of 1024, as those of other programs for memory; with "B"
// alone they are powers of 1000.
var sizeUnits = map[string][2]float64{"K": {1 << 10, 1e3}, "M": {1 << 20, 1e6}, "G": {1 << 30, 1e9}, "T": {1 << 40, 1e12}}

// Set reads a value.
func (f *sizeFlag) Set(text string) error {
	if text == "default" {
		*f = sizeFlag{given: true}
		return nil
	}
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is no size: write a number with a unit, such as 512M or 6G, or default", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	unit := sizeUnits[m[2]][0]
	if m[3] == "B" {
		unit = sizeUnits[m[2]][1]
	}
	if err != nil || n*unit >= 1<<62 {
		return fmt.Errorf("%q is too large", text)
	}
	*f = sizeFlag{bytes: int64(n * unit), given: true}
	return nil
}

// String is the value that is shown as the default of the flag: none.
func (f *sizeFlag) String() string { return "" }

// Type names the flag's value in the help.
func (f *sizeFlag) Type() string { return "SIZE" }

func (w *ws) limitsCommand() *cobra.Command {
	var memory, disk sizeFlag
	c := w.prints(w.named("limits", "print what a workspace may use, or set it", func(ctx context.Context, name string) error {
		return w.limits(ctx, name, memory, disk)
	}))
	c.Flags().Var(&memory, "memory", "of all its processes, such as 6G; default follows the VM's size")
	c.Flags().Var(&disk, "disk", "of its home directory and all that it installed, such as 40G; default follows the disk's size")
	return c
}

func (w *ws) limits(ctx context.Context, name string, memory, disk sizeFlag) error {
	found, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	state, err := w.client.Limits(ctx, found.ID)
	if err != nil {
		return err
	}
	if memory.given || disk.given {
		set := state.Set
		if memory.given {
			set.Memory = memory.bytes
		}
		if disk.given {
			set.Disk = disk.bytes
		}
		if state, err = w.client.SetLimits(ctx, found.ID, set); err != nil {
			return err
		}
	}
	if w.json {
		return writeJSON(w.out, api.FromLimits(state))
	}
	return w.printLimits(ctx, found, state)
}

func (w *ws) printLimits(ctx context.Context, found agent.Workspace, state agent.LimitState) error {
	t := tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
	used, err := w.client.Usage(ctx, found.ID)
	runs := err == nil
	usedText := map[string]string{}
	if runs {
		usedText["memory"] = agent.Size(used.Memory)
	}
	if state.DiskUsed != nil {
		usedText["disk"] = agent.Size(*state.DiskUsed)
	}

	fmt.Fprintln(t, "LIMIT\tNOW\tUSED\tDEFAULT\tAT MOST")
	for _, l := range []struct {
		name string
		agent.LimitRange
	}{{"memory", state.Memory}, {"disk", state.Disk}} {
		most := agent.Size(l.Max)
		if l.Max == 0 {
			most = "not known"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.name, agent.Size(l.Limit), cmp.Or(usedText[l.name], "-"), agent.Size(l.Default), most)
	}
	if err := t.Flush(); err != nil {
		return err
	}

	if warning := state.DiskWarning(); warning != "" {
		if _, err := fmt.Fprintln(w.out, warning); err != nil {
			return err
		}
	}
	if !runs || used.MemoryLimit == state.Memory.Limit {
		return nil // all holds
	}
	_, err = fmt.Fprintf(w.out, "Until its next start %s may use %s of memory.\n", found.Name, agent.Size(used.MemoryLimit))
	return err
}
