package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/guest"
)

// ws is what the commands on workspaces share: they speak to the agent as
// everybody does, by its API.
type ws struct {
	*program
	socket string
	runDir string // what setup left
	json   bool
	noWait bool

	client *client.Client
}

func (p *program) wsCommand() *cobra.Command {
	w := &ws{program: p}
	c := &cobra.Command{
		Use:   "ws",
		Short: "list, create, start, stop and delete workspaces, set what they may use, read their logs",
		Long: fmt.Sprintf("List, create, start, stop and delete workspaces, set what they may use, read their logs.\n\n"+
			"Exit codes: %d done, %d failed, %d wrong usage, %d no such workspace, %d its state does not allow it, %d the agent does not answer.",
			exitOK, exitFailure, exitUsage, exitNotFound, exitConflict, exitUnavailable),
	}
	flags := envFlags{c.PersistentFlags(), p.env}
	flags.text(&w.socket, "socket", "ROCKPOOL_SOCKET", defaultSocket, "unix socket of the agent")
	flags.text(&w.runDir, "setup", "ROCKPOOL_SETUP_DIR", guest.SetupRunDir, "directory that rockpool-agent setup filled")
	c.AddCommand(w.listCommand(), w.createCommand(), w.startCommand(), w.stopCommand(), w.removeCommand(), w.limitsCommand(), w.diskCommand(), w.imageCommand(), w.logsCommand(), w.openCommand())
	return c
}

// command is a command on workspaces. It is run as the agent's user when the
// socket is not this user's to use.
func (w *ws) command(use, usage string, arguments cobra.PositionalArgs, run func(ctx context.Context, words []string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: usage,
		Args:  arguments,
		RunE: func(c *cobra.Command, words []string) error {
			if os.Geteuid() != 0 && needsAgentUser(w.socket) {
				return asAgentUser(c.Context(), w.streams, w.args...)
			}
			w.client = client.Unix(w.socket)
			return run(c.Context(), words)
		},
	}
}

// named is a command on one workspace.
func (w *ws) named(verb, usage string, run func(ctx context.Context, name string) error) *cobra.Command {
	arguments := func(_ *cobra.Command, words []string) error {
		switch {
		case len(words) == 0:
			return usageError{errors.New("the name of a workspace is missing")}
		case len(words) > 1:
			return usageError{fmt.Errorf("unexpected argument %q", words[1])}
		}
		return nil
	}
	return w.command(verb+" NAME", usage, arguments, func(ctx context.Context, words []string) error { return run(ctx, words[0]) })
}

// waits adds the flag of commands that wait for the end of what they ask for.
func (w *ws) waits(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&w.noWait, "no-wait", false, "return as soon as the agent knows")
	return c
}

// prints adds the flag of commands whose output programs may read.
func (w *ws) prints(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&w.json, "json", false, "print JSON")
	return c
}

// find returns the workspace with this name.
func (w *ws) find(ctx context.Context, name string) (agent.Workspace, error) {
	return w.client.WorkspaceByName(ctx, name)
}

func (w *ws) listCommand() *cobra.Command {
	return w.prints(w.command("list", "list the workspaces, newest first", noArguments, w.list))
}

func (w *ws) list(ctx context.Context, _ []string) error {
	all, err := everyWorkspace(ctx, w.client)
	if err != nil {
		return err
	}
	if w.json {
		return writeJSON(w.out, api.List(all, w.line))
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(w.out, "no workspaces yet: rockpool-agent ws create NAME")
		return err
	}
	t := tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATUS\tCREATED\tIMAGE\tNOTE")
	for _, found := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", found.Name, found.Status, found.CreatedAt.Format(time.DateTime), found.Image, oneLine(cmp.Or(found.ErrorMessage, found.Shortage.Message)))
	}
	return t.Flush()
}

// everyWorkspace reads all pages.
func everyWorkspace(ctx context.Context, c *client.Client) ([]agent.Workspace, error) {
	var all []agent.Workspace
	for after := (agent.Cursor{}); ; {
		page, next, err := c.ListWorkspaces(ctx, after, agent.MaxPageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next.ID == "" {
			return all, nil
		}
		after = next
	}
}

func (w *ws) createCommand() *cobra.Command {
	var n agent.NewWorkspace
	var token bool
	c := w.named("create", "create a workspace and wait until it runs", func(ctx context.Context, name string) error {
		n.Name = name
		return w.create(ctx, n, token)
	})
	c.Flags().StringVar(&n.Image, "image", "", "reference of an image; default is the one that the VM carries")
	c.Flags().StringVar(&n.Description, "description", "", "what it is for")
	c.Flags().StringVar(&n.RepositoryID, "repository", "", "owner/repository of GitHub, or an https address, to clone")
	c.Flags().BoolVar(&n.AutoSyncPrefs, "sync-preferences", false, "store its preferences when it stops")
	c.Flags().BoolVar(&token, "token-stdin", false, "read a secret for the clone from standard input; it is kept nowhere")
	return w.waits(w.prints(c))
}

func (w *ws) create(ctx context.Context, n agent.NewWorkspace, token bool) (err error) {
	if token {
		if n.Token, err = readToken(w.in); err != nil {
			return err
		}
	}
	created, err := w.client.CreateWorkspace(ctx, n)
	if err != nil {
		return err
	}
	return w.finish(ctx, created)
}

// maxSecret bounds what is read as a secret, in bytes.
const maxSecret = 4 << 10

func readToken(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", usageError{errors.New("no token on standard input")}
	}
	return token, nil
}

func (w *ws) startCommand() *cobra.Command {
	return w.waits(w.prints(w.named("start", "start a workspace and wait until it runs", func(ctx context.Context, name string) error {
		return w.change(ctx, name, w.client.StartWorkspace)
	})))
}

func (w *ws) stopCommand() *cobra.Command {
	return w.waits(w.prints(w.named("stop", "stop a workspace and wait until it is stopped", func(ctx context.Context, name string) error {
		return w.change(ctx, name, w.client.StopWorkspace)
	})))
}

// change asks for a change of one workspace and waits for its end.
func (w *ws) change(ctx context.Context, name string, ask func(context.Context, string) (agent.Workspace, error)) error {
	found, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	changed, err := ask(ctx, found.ID)
	if err != nil {
		return err
	}
	return w.finish(ctx, changed)
}

// finish waits until a workspace has come to rest, unless it need not, and
// prints it.
func (w *ws) finish(ctx context.Context, found agent.Workspace) error {
	if !w.noWait {
		rested, err := await(ctx, w.client, found.ID, w.progress)
		if err != nil {
			return err
		}
		if rested == nil {
			return agent.Errorf(agent.CodeNotFound, "Workspace %q was deleted meanwhile", found.Name)
		}
		found = *rested
	}

	if found.Status == agent.StatusError {
		return fmt.Errorf("workspace %s: %s", found.Name, found.ErrorMessage)
	}
	if w.json {
		return writeJSON(w.out, w.line(found))
	}
	line := fmt.Sprintf("%s is %s", found.Name, found.Status)
	if found.Status == agent.StatusRunning {
		line += "  " + w.url(found.Name)
	}
	_, err := fmt.Fprintln(w.out, line)
	return err
}

// progress prints a step that is over, for people: programs read JSON.
func (w *ws) progress(step agent.Step) {
	if w.json || step.State == agent.StepRunning {
		return
	}
	fmt.Fprintf(w.out, "  %6.1f s  %s\n", step.EndedAt.Sub(step.StartedAt).Seconds(), oneLine(step.Title+" "+step.Message))
}

func (w *ws) removeCommand() *cobra.Command {
	return w.waits(w.named("rm", "delete a workspace with its files, and wait until they are gone", w.remove))
}

func (w *ws) remove(ctx context.Context, name string) error {
	found, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	if err := w.client.DeleteWorkspace(ctx, found.ID); err != nil {
		return err
	}
	if w.noWait {
		return nil
	}

	left, err := awaitGone(ctx, w.client, found, w.progress)
	if err != nil {
		return err
	}
	if left != nil {
		return fmt.Errorf("workspace %s could not be deleted: %s", found.Name, left.ErrorMessage)
	}
	_, err = fmt.Fprintf(w.out, "%s is deleted\n", found.Name)
	return err
}

func (w *ws) logsCommand() *cobra.Command {
	var follow, steps bool
	var lines int
	c := w.named("logs", "print what a workspace's processes wrote", func(ctx context.Context, name string) error {
		found, err := w.find(ctx, name)
		if err != nil {
			return err
		}
		if steps {
			return w.client.StepLog(ctx, found.ID, lines, follow, w.out)
		}
		return w.client.Logs(ctx, found.ID, lines, follow, w.out)
	})
	c.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing what is added")
	c.Flags().IntVarP(&lines, "lines", "n", 200, "print this many of the last lines")
	c.Flags().BoolVar(&steps, "steps", false, "what the agent did for the workspace, instead of what its processes wrote")
	return c
}

func (w *ws) openCommand() *cobra.Command {
	return w.named("open", "print the address of a workspace's IDE", func(ctx context.Context, name string) error {
		found, err := w.find(ctx, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w.out, w.url(found.Name))
		return err
	})
}

// url is the address of an IDE on the host.
func (w *ws) url(name string) string {
	config, err := setup.ReadConfig(os.DirFS("/"), strings.TrimPrefix(w.runDir, "/"))
	if err != nil {
		config.FillDefaults()
	}
	return fmt.Sprintf("http://localhost:%d/workspace/%s/", config.Ports.IDE, name)
}

// line is a workspace as programs read it.
func (w *ws) line(found agent.Workspace) api.WorkspaceLine {
	return api.LineOf(found, w.url(found.Name))
}

func writeJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
