package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/host"
	"github.com/rockpool/rootvm/vm"
)

func (c *command) dev() *cobra.Command {
	return c.group("dev", "Processes of the shared project, run by PM2 in the VM", c.devStart(), c.devStop(), c.devLogs(), c.devStatus())
}

func (c *command) devStart() *cobra.Command {
	var o host.DevOptions
	cmd := c.verb(cobra.Command{
		Use:   "start",
		Short: "Run a PM2 ecosystem file of the shared project in the VM",
		Long: `Runs the processes that an ecosystem file of PM2 describes, as admin in the VM,
and starts the VM if it is off. Files are named relative to the shared project
(ROCKPOOL_PROJECT). Ports are forwarded from 127.0.0.1 of this host, also to
programs that listen on the VM's own loopback only. What runs already as it is
asked for is left alone; another ecosystem is stopped first.`,
	}, func(ctx context.Context, _ []string) error { return c.app.DevStart(ctx, o) }, host.Starting)
	flags := cmd.Flags()
	flags.StringVar(&o.Ecosystem.File, "ecosystem", "", "PM2's file; by default ecosystem.config.js, or another of its usual names")
	flags.StringVar(&o.Ecosystem.EnvFile, "env-file", "", "file of variables for the processes, as Node's --env-file reads it")
	flags.StringArrayVar(&o.Ports, "port", nil, "port to forward: [NAME=]PORT, [NAME=]HOST:GUEST or FIRST-LAST; may be repeated")
	flags.BoolVar(&o.Ecosystem.TakePorts, "take-ports", false, "give the ecosystem the VM's web ports until it stops; the dashboard does not serve then")
	flags.BoolVar(&o.Ecosystem.Restore, "restore", false, "run it again when the VM has restarted, as PM2 dumped it")
	return cmd
}

func (c *command) devStop() *cobra.Command {
	return c.verb(cobra.Command{Use: "stop", Short: "End these processes, PM2 and the forwarding of their ports"},
		func(ctx context.Context, _ []string) error { return c.app.DevStop(ctx) })
}

func (c *command) devLogs() *cobra.Command {
	var o vm.LogOptions
	cmd := c.verb(cobra.Command{
		Use:   "logs [process]",
		Short: "Print what these processes wrote, or one of them",
		Args:  c.atMost(1),
	}, func(ctx context.Context, args []string) error {
		process := ""
		if len(args) > 0 {
			process = args[0]
		}
		return c.app.DevLogs(ctx, process, o)
	})
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "keep printing what is added")
	cmd.Flags().IntVarP(&o.Lines, "lines", "n", 50, "print this many of the last lines of each process")
	return cmd
}

func (c *command) devStatus() *cobra.Command {
	var asJSON bool
	cmd := c.verb(cobra.Command{Use: "status", Short: "Print these processes, their restarts and ports"},
		func(ctx context.Context, _ []string) error { return c.app.DevStatus(ctx, asJSON) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
