package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/guest"
)

func (p *program) consoleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "console",
		Short: "as root, once the dashboard serves: say on the consoles where it is and how to get in",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return showConsole(c.Context()) },
	}
}

// showConsole tells this machine's consoles.
func showConsole(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it writes to the machine's consoles")
	}
	config, err := setup.ReadConfig(os.DirFS("/"), strings.TrimPrefix(guest.SetupRunDir, "/"))
	if err != nil {
		return err
	}
	health := fmt.Sprintf("http://127.0.0.1:%d/api/health", guest.PortDashboard)
	return (&setup.Console{
		Root:      "/",
		Ports:     config.Ports,
		Serves:    func(ctx context.Context) bool { return answers(ctx, health) },
		Addresses: machineAddresses,
		Open:      setup.OpenConsole,
		Wait:      wait,
		Now:       time.Now,
		Patience:  2 * time.Minute,
	}).Show(ctx)
}

// answers reports whether a URL gives 200.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// machineAddresses returns those by which others reach this machine: of the
// fourth version where there are any, since they are what people type.
func machineAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	return reachable(all), nil
}

func reachable(all []net.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		switch addr := prefix.Addr().Unmap(); {
		case err != nil || !addr.IsGlobalUnicast():
		case addr.Is4():
			four = append(four, addr)
		default:
			six = append(six, addr)
		}
	}
	if four != nil {
		return four
	}
	return six
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
