package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/relay"
)

// listenFD is the socket that systemd listens at (sd_listen_fds(3)).
const listenFD = 3

// relayCommand leads to applications in workspaces.
func (p *program) relayCommand() *cobra.Command {
	var entered bool
	c := &cobra.Command{
		Use:   "relay",
		Short: "for rockpool-relay.socket: lead previews to applications in workspaces",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := p.socketOfSystemd("rockpool-relay.socket")
			if err != nil {
				return err
			}
			defer context.AfterFunc(c.Context(), func() { _ = l.Close() })()
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			r := &relay.Relay{
				Inside:  []string{self, "relay", "--entered"},
				Entered: entered,
				Log:     slog.New(slog.NewJSONHandler(p.err, nil)),
			}
			return r.Serve(l)
		},
	}

	c.Flags().BoolVar(&entered, "entered", false, "it runs in Podman's user namespace already: it starts itself so")
	return c
}

// socketOfSystemd is the socket that systemd listens at by a unit. Its descriptor stays
// open, for the program that this one may start.
func (p *program) socketOfSystemd(unit string) (*net.UnixListener, error) {
	advice := "systemd starts this by " + unit
	if p.env("LISTEN_FDS") != "1" {
		return nil, usageError{errors.New("there is no socket: " + advice)}
	}
	fd, err := unix.FcntlInt(listenFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, usageError{fmt.Errorf("there is no socket: %w: %s", err, advice)}
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, usageError{fmt.Errorf("there is no socket: %w: %s", err, advice)}
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(usageError{errors.New("the socket is not a unix socket: " + advice)}, l.Close())
	}
	u.SetUnlinkOnClose(false) // it is systemd's
	return u, nil
}
