package main

import (
	"context"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/firewall"
	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/guest"
)

// firewallCommand loads the packet filter.
func (p *program) firewallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "firewall",
		Short: "as root, for rockpool-firewall.service: load what workspaces may reach",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return packetFilter(os.DirFS("/"), textLog(p.streams)).Load(c.Context())
		},
	}
}

// networksCommand answers one request of the agent, on stdin and stdout.
func (p *program) networksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "networks",
		Short: "as root, for rockpool-networks.socket: keep workspaces from the host's networks",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return packetFilter(os.DirFS("/"), slog.New(slog.DiscardHandler)).Answer(c.Context(), p.in, p.out)
		},
	}
}

// packetFilter is this machine's, whose root directory is root. Without the
// networks of the configuration disk it still refuses all that is private.
func packetFilter(root fs.FS, log *slog.Logger) *firewall.Filter {
	config, err := setup.ReadConfig(root, strings.TrimPrefix(guest.SetupRunDir, "/"))
	if err != nil {
		log.Error("the host's networks of the configuration disk are not known", "err", err)
	}
	return &firewall.Filter{Root: "/", Boot: config.HostNetworks, BootFault: err, Log: log}
}

// networksRetry is the time between two tries to have networks refused.
const networksRetry = 3 * time.Second

// keepNetworks starts what passes the host's networks on to root, and returns
// what takes a new list.
func keepNetworks(ctx context.Context, wg *sync.WaitGroup, log *slog.Logger) func([]netip.Prefix) {
	lists := make(chan []netip.Prefix, 1)
	wg.Go(func() { firewall.Client{Socket: guest.NetworksSocket}.Keep(ctx, lists, networksRetry, log) })
	return func(list []netip.Prefix) {
		select {
		case <-lists: // only the newest counts
		default:
		}
		select {
		case lists <- list:
		case <-ctx.Done():
		}
	}
}
