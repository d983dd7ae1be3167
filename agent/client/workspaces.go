package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// The client offers the control plane's use cases with their own signatures.
var (
	_ agent.Workspaces  = (*Client)(nil)
	_ agent.Ports       = (*Client)(nil)
	_ agent.Preferences = (*Client)(nil)
)

// workspace is a workspace on the wire.
type workspace struct {
	ID            string       `json:"id"`
	Name          string       `json:"name"`
	Status        agent.Status `json:"status"`
	Image         string       `json:"image"`
	Description   string       `json:"description"`
	RepositoryID  string       `json:"repositoryId"`
	VMIP          string       `json:"vmIp"`
	ErrorMessage  string       `json:"errorMessage"`
	AutoSyncPrefs bool         `json:"autoSyncPrefs"`
	CreatedAt     time.Time    `json:"createdAt"`
	UpdatedAt     time.Time    `json:"updatedAt"`
}

func (w workspace) domain() agent.Workspace {
	return agent.Workspace{
		ID: w.ID, Name: w.Name, Status: w.Status, Image: w.Image, Description: w.Description,
		RepositoryID: w.RepositoryID, AutoSyncPrefs: w.AutoSyncPrefs, Address: w.VMIP,
		ErrorMessage: w.ErrorMessage, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
	}
}

// one asks for one workspace.
func (c *Client) one(ctx context.Context, q request, in any) (agent.Workspace, error) {
	var w workspace
	if err := c.call(ctx, q, in, &w); err != nil {
		return agent.Workspace{}, err
	}
	return w.domain(), nil
}

// CreateWorkspace asks for a workspace. It returns as soon as that is stored.
func (c *Client) CreateWorkspace(ctx context.Context, n agent.NewWorkspace) (agent.Workspace, error) {
	return c.one(ctx, request{method: http.MethodPost, path: path("workspaces")}, struct {
		Name          string `json:"name"`
		Image         string `json:"image"`
		Description   string `json:"description,omitempty"`
		RepositoryID  string `json:"repositoryId,omitempty"`
		AutoSyncPrefs bool   `json:"autoSyncPrefs,omitempty"`
		Token         string `json:"token,omitempty"`
	}(n))
}

// Workspace returns the workspace with this id.
func (c *Client) Workspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, request{method: http.MethodGet, path: path("workspaces", id)}, nil)
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
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if after.ID != "" {
		query.Set("cursor", after.Encode())
	}
	var page struct {
		Items      []workspace `json:"items"`
		NextCursor string      `json:"nextCursor"`
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: path("workspaces"), query: query}, nil, &page); err != nil {
		return nil, agent.Cursor{}, err
	}
	next, err := agent.DecodeCursor(page.NextCursor)
	if err != nil {
		return nil, agent.Cursor{}, err
	}
	items := make([]agent.Workspace, len(page.Items))
	for i, w := range page.Items {
		items[i] = w.domain()
	}
	return items, next, nil
}

// StartWorkspace asks for a start. It returns as soon as that is stored.
func (c *Client) StartWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, request{method: http.MethodPost, path: path("workspaces", id, "start")}, nil)
}

// StopWorkspace asks for a stop. It returns as soon as that is stored.
func (c *Client) StopWorkspace(ctx context.Context, id string) (agent.Workspace, error) {
	return c.one(ctx, request{method: http.MethodPost, path: path("workspaces", id, "stop")}, nil)
}

// DeleteWorkspace asks for a deletion. It returns as soon as that is stored.
func (c *Client) DeleteWorkspace(ctx context.Context, id string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: path("workspaces", id)}, nil, nil)
}

// step is a step on the wire.
type step struct {
	WorkspaceID string          `json:"workspaceId"`
	Job         agent.JobKind   `json:"job"`
	Name        string          `json:"name"`
	Title       string          `json:"title"`
	State       agent.StepState `json:"state"`
	StartedAt   time.Time       `json:"startedAt"`
	EndedAt     time.Time       `json:"endedAt"`
	Message     string          `json:"message"`
}

// Steps returns what the workspace's last job did.
func (c *Client) Steps(ctx context.Context, id string) ([]agent.Step, error) {
	var list []step
	if err := c.call(ctx, request{method: http.MethodGet, path: path("workspaces", id, "steps")}, nil, &list); err != nil {
		return nil, err
	}
	steps := make([]agent.Step, len(list))
	for i, s := range list {
		steps[i] = agent.Step(s)
	}
	return steps, nil
}

// Usage returns what a running workspace uses.
func (c *Client) Usage(ctx context.Context, id string) (agent.Usage, error) {
	var u struct {
		CPU         float64 `json:"cpu"`
		Memory      int64   `json:"memory"`
		MemoryLimit int64   `json:"memoryLimit"`
		Pids        int     `json:"pids"`
	}
	err := c.call(ctx, request{method: http.MethodGet, path: path("workspaces", id, "usage")}, nil, &u)
	return agent.Usage(u), err
}

// Logs copies what the workspace's processes wrote to w.
func (c *Client) Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	return c.copyLog(ctx, id, "container", tail, follow, w)
}

// StepLog copies what the workspace's jobs did to w, a line for each change.
func (c *Client) StepLog(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	return c.copyLog(ctx, id, "steps", tail, follow, w)
}

func (c *Client) copyLog(ctx context.Context, id, source string, tail int, follow bool, w io.Writer) error {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: path("workspaces", id, "logs"), query: url.Values{
		"source": {source}, "tail": {strconv.Itoa(tail)}, "follow": {strconv.FormatBool(follow)},
	}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// port is a port on the wire.
type port struct {
	WorkspaceID string    `json:"workspaceId"`
	Port        int       `json:"port"`
	Label       string    `json:"label"`
	CreatedAt   time.Time `json:"createdAt"`
}

// ListPorts returns the ports of a workspace.
func (c *Client) ListPorts(ctx context.Context, id string) ([]agent.Port, error) {
	var list []port
	if err := c.call(ctx, request{method: http.MethodGet, path: path("workspaces", id, "ports")}, nil, &list); err != nil {
		return nil, err
	}
	ports := make([]agent.Port, len(list))
	for i, p := range list {
		ports[i] = agent.Port(p)
	}
	return ports, nil
}

// AddPort registers a port.
func (c *Client) AddPort(ctx context.Context, id string, n agent.NewPort) (agent.Port, error) {
	var p port
	err := c.call(ctx, request{method: http.MethodPost, path: path("workspaces", id, "ports")}, struct {
		Port  int    `json:"port"`
		Label string `json:"label,omitempty"`
	}(n), &p)
	return agent.Port(p), err
}

// RemovePort takes a port back.
func (c *Client) RemovePort(ctx context.Context, id string, port int) error {
	return c.call(ctx, request{method: http.MethodDelete, path: path("workspaces", id, "ports", strconv.Itoa(port))}, nil, nil)
}

// preference is a preference on the wire.
type preference struct {
	Name      string    `json:"name"`
	Blob      string    `json:"blob"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// ListPreferences returns those that are stored.
func (c *Client) ListPreferences(ctx context.Context) ([]agent.Preference, error) {
	var list []preference
	if err := c.call(ctx, request{method: http.MethodGet, path: path("settings")}, nil, &list); err != nil {
		return nil, err
	}
	prefs := make([]agent.Preference, len(list))
	for i, p := range list {
		prefs[i] = agent.Preference(p)
	}
	return prefs, nil
}

// Preference returns one preference.
func (c *Client) Preference(ctx context.Context, name string) (agent.Preference, error) {
	var p preference
	err := c.call(ctx, request{method: http.MethodGet, path: path("settings", name)}, nil, &p)
	return agent.Preference(p), err
}

// SavePreference stores the preference's file of a running workspace.
func (c *Client) SavePreference(ctx context.Context, name, workspaceID string) (agent.Preference, error) {
	var p preference
	err := c.call(ctx, request{method: http.MethodPut, path: path("settings", name), query: url.Values{"workspaceId": {workspaceID}}}, nil, &p)
	return agent.Preference(p), err
}
