package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// Runtime is the agent's runtime, over HTTP. It implements [agent.Runtime].
type Runtime struct{ c *Client }

var _ agent.Runtime = Runtime{}

// Runtime returns the agent's runtime.
func (c *Client) Runtime() Runtime { return Runtime{c} }

// post asks for one method's effect.
func (r Runtime) post(ctx context.Context, id, method string, in any) error {
	return r.c.call(ctx, request{method: http.MethodPost, path: path("runtime", id, method)}, in, nil)
}

// get asks for one method's result.
func (r Runtime) get(ctx context.Context, id, method string, out any) error {
	return r.c.call(ctx, request{method: http.MethodGet, path: path("runtime", id, method)}, nil, out)
}

// Create implements [agent.Runtime].
func (r Runtime) Create(ctx context.Context, c agent.Container) error {
	return r.post(ctx, c.ID, "create", struct {
		Name  string `json:"name"`
		Image string `json:"image"`
		Port  int    `json:"port"`
		Slot  int    `json:"slot"`
	}{c.Name, c.Image, c.Port, c.Slot})
}

// Start implements [agent.Runtime].
func (r Runtime) Start(ctx context.Context, id string) error { return r.post(ctx, id, "start", nil) }

// Stop implements [agent.Runtime].
func (r Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	return r.post(ctx, id, "stop", map[string]float64{"graceSeconds": grace.Seconds()})
}

// Remove implements [agent.Runtime].
func (r Runtime) Remove(ctx context.Context, id string) error { return r.post(ctx, id, "remove", nil) }

// Status implements [agent.Runtime].
func (r Runtime) Status(ctx context.Context, id string) (agent.ContainerStatus, error) {
	var out struct {
		Status agent.ContainerStatus `json:"status"`
	}
	err := r.get(ctx, id, "status", &out)
	return out.Status, err
}

// Address implements [agent.Runtime].
func (r Runtime) Address(ctx context.Context, id string) (string, error) {
	var out struct {
		Address string `json:"address"`
	}
	err := r.get(ctx, id, "address", &out)
	return out.Address, err
}

// Configure implements [agent.Runtime].
func (r Runtime) Configure(ctx context.Context, id string, c agent.IDEConfig) error {
	return r.post(ctx, id, "configure", struct {
		Name   string `json:"name"`
		Folder string `json:"folder,omitempty"`
	}(c))
}

// Clone implements [agent.Runtime].
func (r Runtime) Clone(ctx context.Context, id string, c agent.Clone) error {
	return r.post(ctx, id, "clone", struct {
		URL    string `json:"url"`
		Folder string `json:"folder"`
		Token  string `json:"token,omitempty"`
	}(c))
}

// ReadFile implements [agent.Runtime].
func (r Runtime) ReadFile(ctx context.Context, id, file string) ([]byte, error) {
	resp, err := r.c.send(ctx, request{method: http.MethodGet, path: path("runtime", id, "readFile"), query: url.Values{"path": {file}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, agent.MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return content, nil
}

// WriteFile implements [agent.Runtime].
func (r Runtime) WriteFile(ctx context.Context, id, file string, content []byte) error {
	return r.c.call(ctx, request{
		method: http.MethodPut, path: path("runtime", id, "writeFile"), query: url.Values{"path": {file}},
		kind: "application/octet-stream", body: bytes.NewReader(content),
	}, nil, nil)
}
