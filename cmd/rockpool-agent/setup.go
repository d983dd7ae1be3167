package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/guest"
)

// hashCost is bcrypt's for the generated dashboard password. That has 140
// random bits, so the cost adds nothing against guessing; it is what one
// check costs, a quarter of a second under emulation.
const hashCost = 8

// textLog writes lines for a person who reads the journal, which knows the
// time itself.
func textLog(s streams) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.out, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func (p *program) setupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "setup",
		Short: "as root, early on each boot: disks, accounts, keys, credentials",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return setUp(c.Context(), p.streams) },
	}
}

// setUp runs the set-up of this machine.
func setUp(ctx context.Context, s streams) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it mounts disks")
	}
	return (&setup.Setup{
		Root:     "/",
		Kernel:   setup.Linux{},
		Commands: setup.Exec{},
		Random:   rand.Reader,
		Now:      time.Now,
		HashCost: hashCost,
		Log:      textLog(s),
	}).Run(ctx)
}

func (p *program) mountShareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mount-share",
		Short: "as root: mount the host's directory at /mnt/rockpool",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return mountShare(c.Context(), p.streams) },
	}
}

// mountShare mounts the host's directory.
func mountShare(ctx context.Context, s streams) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it mounts a file system")
	}
	// The data disk has no say here.
	config, err := setup.ReadConfig(os.DirFS("/"), strings.TrimPrefix(guest.SetupRunDir, "/"))
	if err != nil {
		return err
	}
	start := time.Now()
	did, err := (&setup.Share{Root: "/", Kernel: setup.Linux{}, Tag: config.Share, Timeout: 5 * time.Second}).Mount(ctx)
	if err != nil {
		return err
	}
	textLog(s).Info(did, "share", config.Share, "seconds", time.Since(start).Seconds())
	return nil
}
