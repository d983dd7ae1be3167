package client

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// The client offers the control plane's use cases with their own signatures.
var (
	_ agent.Workspaces  = (*Client)(nil)
	_ agent.Ports       = (*Client)(nil)
	_ agent.Preferences = (*Client)(nil)
)

// one asks for one workspace.
func (c *Client) one(ctx context.Context, q request, in any) (agent.Workspace, error) {
	var w api.Workspace
	if err := c.call(ctx, q, in, &w); err != nil {
		return agent.Workspace{}, err
	}
	return w.Domain(), nil
}

// CreateWorkspace asks for a workspace. It returns as soon as that is stored.
func (c *Client) CreateWorkspace(ctx context.Context, n agent.NewWorkspace) (agent.Workspace, error) {
	return c.one(ctx, ask(api.CreateWorkspace), api.NewWorkspace(n))
}

// Workspace returns the workspace with this id.
func (c *Client) Workspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, ask(api.GetWorkspace, id), nil)
}

// WorkspaceByName looks through the list.
func (c *Client) WorkspaceByName(ctx context.Context, name string) (agent.Workspace, error) {
	after := agent.Cursor{}
	for {
		page, next, err := c.ListWorkspaces(ctx, after, agent.MaxPageSize)
		if err != nil {
			return agent.Workspace{}, err
		}
		for _, w := range page {
			if w.Name == name {
				return w, nil
			}
		}
		if next.ID == "" {
			return agent.Workspace{}, agent.Errorf(agent.CodeNotFound, "Workspace %q not found", name)
		}
		after = next
	}
}

// ListWorkspaces returns a page, newest first, and the place of the next one.
func (c *Client) ListWorkspaces(ctx context.Context, after agent.Cursor, limit int) ([]agent.Workspace, agent.Cursor, error) {
	query := url.Values{api.QueryLimit: {strconv.Itoa(limit)}}
	if after.ID != "" {
		query.Set(api.QueryCursor, after.Encode())
	}
	var page api.WorkspaceList
	if err := c.call(ctx, ask(api.ListWorkspaces).with(query), nil, &page); err != nil {
		return nil, agent.Cursor{}, err
	}
	next, err := agent.DecodeCursor(page.NextCursor)
	if err != nil {
		return nil, agent.Cursor{}, err
	}
	return api.List(page.Items, api.Workspace.Domain), next, nil
}

// StartWorkspace asks for a start. It returns as soon as that is stored.
func (c *Client) StartWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, ask(api.StartWorkspace, id), nil)
}

// StopWorkspace asks for a stop. It returns as soon as that is stored.
func (c *Client) StopWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, ask(api.StopWorkspace, id), nil)
}

// DeleteWorkspace asks for a deletion. It returns as soon as that is stored.
func (c *Client) DeleteWorkspace(ctx context.Context, id string) error {
	return c.call(ctx, ask(api.DeleteWorkspace, id), nil, nil)
}

// Steps returns what the workspace's last job did.
func (c *Client) Steps(ctx context.Context, id string) ([]agent.Step, error) {
	var list []api.Step
	if err := c.call(ctx, ask(api.ListSteps, id), nil, &list); err != nil {
		return nil, err
	}
	return api.List(list, api.Step.Domain), nil
}

// Usage returns what a running workspace uses.
func (c *Client) Usage(ctx context.Context, id string) (agent.Usage, error) {
	var u api.Usage
	err := c.call(ctx, ask(api.GetUsage, id), nil, &u)
	return agent.Usage(u), err
}

// Limits returns what the workspace may use, and what it may be given.
func (c *Client) Limits(ctx context.Context, id string) (agent.LimitState, error) {
	var l api.Limits
	err := c.call(ctx, ask(api.GetLimits, id), nil, &l)
	return l.Domain(), err
}

// SetLimits stores both limits and gives them to a workspace that runs.
func (c *Client) SetLimits(ctx context.Context, id string, n agent.Limits) (agent.LimitState, error) {
	var l api.Limits
	err := c.call(ctx, ask(api.SetLimits, id), api.NewLimits{MemoryBytes: n.Memory, DiskBytes: n.Disk}, &l)
	return l.Domain(), err
}

// Image tells which image the workspace is made from.
func (c *Client) Image(ctx context.Context, id string) (agent.ImageState, error) {
	change, err := c.ImageChange(ctx, id)
	return change.ImageState, err
}

// ImageChange tells, beside that, what moving on to the newest image changes.
func (c *Client) ImageChange(ctx context.Context, id string) (agent.ImageChange, error) {
	var i api.Image
	err := c.call(ctx, ask(api.GetImage, id), nil, &i)
	return i.Domain(), err
}

// ChangeImage moves a workspace on to the newest image, and starts it.
func (c *Client) ChangeImage(ctx context.Context, id, digest string) (agent.Workspace, error) {
	return c.one(ctx, ask(api.ChangeImage, id), api.NewImage{Digest: digest})
}

// Disk tells who takes what of the disk that workspaces share.
func (c *Client) Disk(ctx context.Context) (agent.DiskState, error) {
	var d api.Disk
	err := c.call(ctx, ask(api.GetDisk), nil, &d)
	return d.Domain(), err
}

// Logs copies what the workspace's processes wrote to w.
func (c *Client) Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	return c.copyLog(ctx, id, api.LogContainer, tail, follow, w)
}

// StepLog copies what the workspace's jobs did to w, a line for each change.
func (c *Client) StepLog(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	return c.copyLog(ctx, id, api.LogSteps, tail, follow, w)
}

func (c *Client) copyLog(ctx context.Context, id, source string, tail int, follow bool, w io.Writer) error {
	resp, err := c.send(ctx, ask(api.GetLogs, id).with(url.Values{
		api.QuerySource: {source}, api.QueryTail: {strconv.Itoa(tail)}, api.QueryFollow: {strconv.FormatBool(follow)},
	}))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// ListPorts returns the ports of a workspace.
func (c *Client) ListPorts(ctx context.Context, id string) ([]agent.Port, error) {
	var list []api.Port
	if err := c.call(ctx, ask(api.ListPorts, id), nil, &list); err != nil {
		return nil, err
	}
	return api.List(list, api.Port.Domain), nil
}

// AddPort registers a port.
func (c *Client) AddPort(ctx context.Context, id string, n agent.NewPort) (agent.Port, error) {
	var p api.Port
	err := c.call(ctx, ask(api.AddPort, id), api.NewPort(n), &p)
	return p.Domain(), err
}

// RemovePort takes a port back.
func (c *Client) RemovePort(ctx context.Context, id string, port int) error {
	return c.call(ctx, ask(api.RemovePort, id, strconv.Itoa(port)), nil, nil)
}

// Listening returns what listens in a running workspace.
func (c *Client) Listening(ctx context.Context, id string) ([]agent.Listener, error) {
	var list []api.Listener
	if err := c.call(ctx, ask(api.Listening, id), nil, &list); err != nil {
		return nil, err
	}
	return api.List(list, api.Listener.Domain), nil
}

// ListPreferences returns those that are stored.
func (c *Client) ListPreferences(ctx context.Context) ([]agent.Preference, error) {
	var list []api.Preference
	if err := c.call(ctx, ask(api.ListPreferences), nil, &list); err != nil {
		return nil, err
	}
	return api.List(list, api.Preference.Domain), nil
}

// Preference returns one preference.
func (c *Client) Preference(ctx context.Context, name string) (agent.Preference, error) {
	var p api.Preference
	err := c.call(ctx, ask(api.GetPreference, name), nil, &p)
	return p.Domain(), err
}

// PreferenceTimes tells when each preference was stored, by name.
func (c *Client) PreferenceTimes(ctx context.Context) (map[string]time.Time, error) {
	stored, err := c.ListPreferences(ctx)
	times := map[string]time.Time{}
	for _, p := range stored {
		times[p.Name] = p.UpdatedAt
	}
	return times, err
}

// SavePreference stores the preference's file of a running workspace.
func (c *Client) SavePreference(ctx context.Context, name, workspaceID, confirm string) (agent.Preference, error) {
	query := url.Values{api.QueryWorkspaceID: {workspaceID}}
	if confirm != "" {
		query.Set(api.QueryConfirm, confirm)
	}
	var p api.Preference
	err := c.call(ctx, ask(api.SavePreference, name).with(query), nil, &p)
	return p.Domain(), err
}

// RemovePreference forgets a stored preference.
func (c *Client) RemovePreference(ctx context.Context, name string) error {
	return c.call(ctx, ask(api.RemovePreference, name), nil, nil)
}

// PreferenceNotes returns what is to be looked at, in all workspaces with "".
func (c *Client) PreferenceNotes(ctx context.Context, workspaceID string) ([]agent.PreferenceCopy, error) {
	q := ask(api.ListPreferenceNotes)
	if workspaceID != "" {
		q = q.with(url.Values{api.QueryWorkspaceID: {workspaceID}})
	}
	var list []api.PreferenceNote
	if err := c.call(ctx, q, nil, &list); err != nil {
		return nil, err
	}
	return api.List(list, api.PreferenceNote.Domain), nil
}

// PreferenceDifference returns a stored preference beside a workspace's file.
func (c *Client) PreferenceDifference(ctx context.Context, workspaceID, name string) (agent.PreferenceDifference, error) {
	var d api.PreferenceDifference
	err := c.call(ctx, ask(api.GetPreferenceDifference, workspaceID, name), nil, &d)
	return d.Domain(), err
}

// ResolvePreference ends a difference.
func (c *Client) ResolvePreference(ctx context.Context, workspaceID, name string, choice agent.PreferenceChoice, confirm string) error {
	return c.call(ctx, ask(api.ResolvePreference, workspaceID, name), api.PreferenceResolution{Choice: string(choice), Confirm: confirm}, nil)
}
