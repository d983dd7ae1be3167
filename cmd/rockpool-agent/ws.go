package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/agent/client"
	"github.com/rockpool/rootvm/agent/setup"
	"github.com/rockpool/rootvm/guest"
)

// wsCommand is one of the commands on workspaces.
type wsCommand struct {
	name, arguments, usage string
	run                    func(w *ws, ctx context.Context, args []string) error
}

func wsCommands() []wsCommand {
	return []wsCommand{
		{"list", "", "list the workspaces, newest first", (*ws).list},
		{"create", "NAME", "create a workspace and wait until it runs", (*ws).create},
		{"start", "NAME", "start a workspace and wait until it runs", (*ws).start},
		{"stop", "NAME", "stop a workspace and wait until it is stopped", (*ws).stop},
		{"rm", "NAME", "delete a workspace with its files, and wait until they are gone", (*ws).remove},
		{"logs", "NAME", "print what a workspace's processes wrote", (*ws).logs},
		{"open", "NAME", "print the address of a workspace's IDE", (*ws).open},
	}
}

// ws is a command on workspaces: it speaks to the agent as everybody does, by
// its API.
type ws struct {
	streams
	env    func(string) string
	client *client.Client
	fs     settings
	json   bool
	runDir string
}

// workspaces runs a command on workspaces.
func workspaces(ctx context.Context, args []string, s streams, env func(string) string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		wsUsage(s.out)
		if len(args) == 0 {
			return usageError{errors.New("a command is missing: see rockpool-agent ws help")}
		}
		return nil
	}
	for _, c := range wsCommands() {
		if c.name == args[0] {
			return c.run(&ws{streams: s, env: env, fs: newSettings("ws "+c.name, env)}, ctx, args[1:])
		}
	}
	return usageError{fmt.Errorf("unknown command %q: see rockpool-agent ws help", args[0])}
}

func wsUsage(w io.Writer) {
	fmt.Fprint(w, "Usage: rockpool-agent ws <command> [flags]\n\n")
	for _, c := range wsCommands() {
		fmt.Fprintf(w, "  %-14s %s\n", strings.TrimSpace(c.name+" "+c.arguments), c.usage)
	}
	fmt.Fprintf(w, "\nExit codes: %d done, %d failed, %d wrong usage, %d no such workspace, %d its state does not allow it, %d the agent does not answer.\n",
		exitOK, exitFailure, exitUsage, exitNotFound, exitConflict, exitUnavailable)
}

// parse reads flags and exactly n words, in any order, and connects to the
// agent.
func (w *ws) parse(args []string, n int) ([]string, error) {
	var socket string
	w.fs.text(&socket, "socket", "ROCKPOOL_SOCKET", defaultSocket, "unix socket of the agent")
	w.fs.text(&w.runDir, "setup", "ROCKPOOL_SETUP_DIR", guest.SetupRunDir, "directory that rockpool-agent setup filled")
	words, err := parseMixed(w.fs.FlagSet, args, w.streams)
	if err != nil {
		return nil, err
	}
	switch {
	case len(words) < n:
		return nil, usageError{errors.New("the name of a workspace is missing")}
	case len(words) > n:
		return nil, usageError{fmt.Errorf("unexpected argument %q", words[n])}
	}
	w.client = client.Unix(socket)
	return words, nil
}

// find returns the workspace with this name.
func (w *ws) find(ctx context.Context, name string) (agent.Workspace, error) {
	return w.client.WorkspaceByName(ctx, name)
}

func (w *ws) list(ctx context.Context, args []string) error {
	w.fs.BoolVar(&w.json, "json", false, "print JSON")
	if _, err := w.parse(args, 0); err != nil {
		return err
	}
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
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", found.Name, found.Status, found.CreatedAt.Format(time.DateTime), found.Image, oneLine(found.ErrorMessage))
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

func (w *ws) create(ctx context.Context, args []string) error {
	var n agent.NewWorkspace
	var token, noWait bool
	w.fs.StringVar(&n.Image, "image", "", "reference of an image; default is the one that the VM carries")
	w.fs.StringVar(&n.Description, "description", "", "what it is for")
	w.fs.StringVar(&n.RepositoryID, "repository", "", "owner/repository of GitHub, or an https address, to clone")
	w.fs.BoolVar(&n.AutoSyncPrefs, "sync-preferences", false, "store its preferences when it stops")
	w.fs.BoolVar(&token, "token-stdin", false, "read a secret for the clone from standard input; it is kept nowhere")
	w.fs.BoolVar(&noWait, "no-wait", false, "return as soon as the agent knows")
	w.fs.BoolVar(&w.json, "json", false, "print JSON")
	words, err := w.parse(args, 1)
	if err != nil {
		return err
	}
	n.Name = words[0]
	if token {
		if n.Token, err = readToken(w.in); err != nil {
			return err
		}
	}
	created, err := w.client.CreateWorkspace(ctx, n)
	if err != nil {
		return err
	}
	return w.finish(ctx, created, noWait)
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

func (w *ws) start(ctx context.Context, args []string) error {
	return w.change(ctx, args, w.clientStart)
}

func (w *ws) stop(ctx context.Context, args []string) error {
	return w.change(ctx, args, w.clientStop)
}

func (w *ws) clientStart(ctx context.Context, id string) (agent.Workspace, error) {
	return w.client.StartWorkspace(ctx, id)
}

func (w *ws) clientStop(ctx context.Context, id string) (agent.Workspace, error) {
	return w.client.StopWorkspace(ctx, id)
}

// change asks for a change of one workspace and waits for its end.
func (w *ws) change(ctx context.Context, args []string, ask func(context.Context, string) (agent.Workspace, error)) error {
	var noWait bool
	w.fs.BoolVar(&noWait, "no-wait", false, "return as soon as the agent knows")
	w.fs.BoolVar(&w.json, "json", false, "print JSON")
	words, err := w.parse(args, 1)
	if err != nil {
		return err
	}
	found, err := w.find(ctx, words[0])
	if err != nil {
		return err
	}
	changed, err := ask(ctx, found.ID)
	if err != nil {
		return err
	}
	return w.finish(ctx, changed, noWait)
}

// finish waits until a workspace has come to rest, unless it need not, and
// prints it.
func (w *ws) finish(ctx context.Context, found agent.Workspace, noWait bool) error {
	if !noWait {
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

func (w *ws) remove(ctx context.Context, args []string) error {
	var noWait bool
	w.fs.BoolVar(&noWait, "no-wait", false, "return as soon as the agent knows")
	words, err := w.parse(args, 1)
	if err != nil {
		return err
	}
	found, err := w.find(ctx, words[0])
	if err != nil {
		return err
	}
	if err := w.client.DeleteWorkspace(ctx, found.ID); err != nil {
		return err
	}
	if noWait {
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

func (w *ws) logs(ctx context.Context, args []string) error {
	var follow, steps bool
	var lines int
	w.fs.BoolVar(&follow, "f", false, "keep printing what is added")
	w.fs.IntVar(&lines, "n", 200, "print this many of the last lines")
	w.fs.BoolVar(&steps, "steps", false, "what the agent did for the workspace, instead of what its processes wrote")
	words, err := w.parse(args, 1)
	if err != nil {
		return err
	}
	found, err := w.find(ctx, words[0])
	if err != nil {
		return err
	}
	if steps {
		return w.client.StepLog(ctx, found.ID, lines, follow, w.out)
	}
	return w.client.Logs(ctx, found.ID, lines, follow, w.out)
}

func (w *ws) open(ctx context.Context, args []string) error {
	words, err := w.parse(args, 1)
	if err != nil {
		return err
	}
	found, err := w.find(ctx, words[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w.out, w.url(found.Name))
	return err
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
