package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent/ecosystem"
	"github.com/rockpool/rootvm/guest"
)

// devCommand is what `rockpool dev` of the host calls, as the SSH user.
func (p *program) devCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dev",
		Short: "run the processes of the shared project by PM2, as the SSH user",
	}
	c.AddCommand(p.devStartCommand(), p.devStopCommand(), p.devStatusCommand(), p.devLogsCommand(), p.devWantedCommand(), p.devLaunchCommand())
	return c
}

func (p *program) devStartCommand() *cobra.Command {
	var want guest.Ecosystem
	c := &cobra.Command{
		Use:   "start",
		Short: "start the ecosystem of a file, in the place of another one",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return ecosystem.New().Start(c.Context(), want)
		},
	}
	c.Flags().StringVar(&want.File, "ecosystem", "", "PM2's file, relative to the shared project; default is its usual name there")
	c.Flags().StringVar(&want.EnvFile, "env-file", "", "variables for the processes, relative to the shared project")
	c.Flags().BoolVar(&want.TakePorts, "take-ports", false, "give it the web ports, on which the dashboard does not serve then")
	c.Flags().BoolVar(&want.Restore, "restore", false, "run it again after the VM was started anew")
	return c
}

func (p *program) devStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "end all processes of the ecosystem, and PM2",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return ecosystem.New().Stop(c.Context()) },
	}
}

func (p *program) devStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "print what runs, as JSON",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			status, err := ecosystem.New().Status(c.Context())
			if err != nil {
				return err
			}
			return json.NewEncoder(p.out).Encode(status)
		},
	}
}

func (p *program) devLogsCommand() *cobra.Command {
	var o ecosystem.LogOptions
	var attached bool
	c := &cobra.Command{
		Use:   "logs [process]",
		Short: "print what the processes wrote",
		Args: func(_ *cobra.Command, words []string) error {
			if len(words) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q", words[1])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, words []string) error {
			if len(words) > 0 {
				o.Process = words[0]
			}
			o.Gone = p.readerGone(attached)
			return ecosystem.New().Logs(c.Context(), p.out, o)
		},
	}
	c.Flags().BoolVarP(&o.Follow, "follow", "f", false, "keep printing what is added")
	c.Flags().IntVarP(&o.Lines, "lines", "n", 50, "print this many of the last lines of each file")
	c.Flags().BoolVar(&attached, "attached", false, "end with standard input, when following: with who asked, however that one ends")
	c.Flags().BoolVar(&o.Color, "color", false, "print the name of each process in a colour of its own")
	return c
}

// readerGone reports whether nobody reads any more what is followed. The client
// of SSH on the host may outlive the program that started it; the end of its
// standard input tells that program's.
func (p *program) readerGone(attached bool) func() bool {
	ended := make(chan struct{})
	if attached {
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, p.in)
		}()
	}
	return func() bool {
		select {
		case <-ended:
			return true
		default:
			return hungUp(p.streams)
		}
	}
}

// hungUp reports whether nobody reads what is printed any more: an SSH
// connection that ended closes its side and sends no signal.
func hungUp(s streams) bool {
	f, ok := s.out.(*os.File)
	if !ok {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// devWantedCommand is the condition of rockpool-ecosystem.service.
func (p *program) devWantedCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wanted",
		Short: "for rockpool-ecosystem.service: end with 1 unless an ecosystem is to run",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			wanted, err := ecosystem.New().Wanted()
			if err == nil && !wanted {
				err = exitCode(exitFailure)
			}
			return err
		},
	}
}

// devLaunchCommand is rockpool-ecosystem.service.
func (p *program) devLaunchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "launch",
		Short: "for rockpool-ecosystem.service: become PM2, which starts the ecosystem",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return launchEcosystem(c.Context()) },
	}
}

func launchEcosystem(ctx context.Context) error {
	e := ecosystem.New()
	argv, now, err := e.Launch()
	if err != nil {
		return err
	}
	if now.TakePorts { // the unit gives them back
		if out, err := exec.CommandContext(ctx, "sudo", "-n", "systemctl", "stop", guest.CaddyUnit).CombinedOutput(); err != nil {
			return fmt.Errorf("take the web ports: %w: %s", err, out)
		}
	}
	if err := os.Chdir(e.Share); err != nil {
		return err
	}
	err = syscall.Exec(argv[0], argv, e.Environment(os.Environ()))
	return errors.Join(errors.New("run PM2"), err)
}
