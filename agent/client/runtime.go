package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// Runtime is the agent's runtime, over HTTP. It implements [agent.Runtime].
type Runtime struct{ c *Client }

var _ agent.Runtime = Runtime{}

// Runtime returns the agent's runtime.
func (c *Client) Runtime() Runtime { return Runtime{c} }

// Create implements [agent.Runtime].
func (r Runtime) Create(ctx context.Context, c agent.Container) error {
	body := api.NewContainer{Name: c.Name, Image: c.Image, Port: c.Port, Slot: c.Slot, MemoryBytes: c.Memory, DiskBytes: c.Quota}
	return r.c.call(ctx, ask(api.CreateContainer, c.ID), body, nil)
}

// Start implements [agent.Runtime].
func (r Runtime) Start(ctx context.Context, id string) error {
	return r.c.call(ctx, ask(api.StartContainer, id), nil, nil)
}

// Stop implements [agent.Runtime].
func (r Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	return r.c.call(ctx, ask(api.StopContainer, id), api.Stop{GraceSeconds: grace.Seconds()}, nil)
}

// Remove implements [agent.Runtime].
func (r Runtime) Remove(ctx context.Context, id string) error {
	return r.c.call(ctx, ask(api.RemoveContainer, id), nil, nil)
}

// Status implements [agent.Runtime].
func (r Runtime) Status(ctx context.Context, id string) (agent.ContainerStatus, error) {
	var out api.ContainerStatus
	err := r.c.call(ctx, ask(api.GetContainerStatus, id), nil, &out)
	return out.Status, err
}

// Address implements [agent.Runtime].
func (r Runtime) Address(ctx context.Context, id string) (string, error) {
	var out api.Address
	err := r.c.call(ctx, ask(api.GetAddress, id), nil, &out)
	return out.Address, err
}

// Configure implements [agent.Runtime].
func (r Runtime) Configure(ctx context.Context, id string, c agent.IDEConfig) error {
	return r.c.call(ctx, ask(api.ConfigureIDE, id), api.IDEConfig(c), nil)
}

// Clone implements [agent.Runtime].
func (r Runtime) Clone(ctx context.Context, id string, c agent.Clone) error {
	return r.c.call(ctx, ask(api.CloneRepository, id), api.Clone(c), nil)
}

// ReadFile implements [agent.Runtime].
func (r Runtime) ReadFile(ctx context.Context, id, file string) ([]byte, error) {
	resp, err := r.c.send(ctx, ask(api.ReadFile, id).with(url.Values{api.QueryPath: {file}}))
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
	q := ask(api.WriteFile, id).with(url.Values{api.QueryPath: {file}})
	q.kind, q.body = api.TypeBytes, bytes.NewReader(content)
	return r.c.call(ctx, q, nil, nil)
}
