// Package client speaks the agent's HTTP API, typed: workspaces, ports,
// preferences, events, logs and the runtime API. It keeps no state but idle
// connections, and imports only the domain and agent/api, where shapes and
// paths are.
//
// What the agent refuses comes back as the [agent.Error] that it was there. An
// agent that cannot be reached is an error with [ErrUnreachable] in its chain.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// ErrUnreachable is in the chain of errors of requests that did not get an
// answer.
var ErrUnreachable = errors.New("the agent does not answer")

// maxAnswer bounds an answer that is read whole, in bytes.
const maxAnswer = 16 << 20

// Client speaks to one agent. Make one with [New] or [Unix]. It is safe for
// concurrent use.
type Client struct {
	base     string
	http     *http.Client
	username string
	password string
}

// New makes a client of the API at base, such as http://localhost:8080. h is
// how requests are sent; it must not have a timeout if logs and events are to
// be followed. username and password are those of the dashboard, and "" where
// none are asked for.
func New(base string, h *http.Client, username, password string) *Client {
	return &Client{base: strings.TrimRight(base, "/"), http: h, username: username, password: password}
}

// Unix makes a client of the agent behind a unix socket.
func Unix(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return New("http://agent", &http.Client{Transport: &http.Transport{DialContext: dial}}, "", "")
}

// request is one request to be sent.
type request struct {
	api.Operation
	parts  []string // what the operation's pattern leaves open
	query  url.Values
	kind   string // of body
	body   io.Reader
	header http.Header
}

// ask is a request for an operation.
func ask(o api.Operation, parts ...string) request { return request{Operation: o, parts: parts} }

// with adds query parameters.
func (q request) with(query url.Values) request {
	q.query = query
	return q
}

// send sends q and returns the answer, which is a success. The caller closes
// its body.
func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	path := q.Path(q.parts...)
	target := c.base + path
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, target, q.body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.Method, path, err)
	}

	for name, values := range q.header {
		r.Header[name] = values
	}
	if q.kind != "" {
		r.Header.Set("Content-Type", q.kind)
	}
	if c.username != "" {
		r.SetBasicAuth(c.username, c.password)
	}
	resp, err := c.http.Do(r)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%s %s: %w", q.Method, path, ctx.Err())
	}
	if err != nil {
		return nil, unreachable{err}
	}
	if resp.StatusCode >= 300 {
		return nil, errors.Join(fault(resp), resp.Body.Close())
	}
	return resp, nil
}

// unreachable says that a request got no answer, and why.
type unreachable struct{ err error }

// Error leaves the address out, which for a unix socket is made up.
func (u unreachable) Error() string {
	cause := u.err
	if e, ok := errors.AsType[*url.Error](cause); ok {
		cause = e.Err
	}
	return fmt.Sprintf("%v: %v", ErrUnreachable, cause)
}

func (u unreachable) Unwrap() error        { return u.err }
func (u unreachable) Is(target error) bool { return target == ErrUnreachable }

// fault reads an answer that is no success.
func fault(resp *http.Response) error {
	var body api.Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&body); err != nil || body.Error.Code == "" {
		if resp.StatusCode == http.StatusUnauthorized {
			return agent.Errorf(agent.CodeUnauthorized, "The user name or the password is wrong")
		}
		return agent.Errorf(agent.CodeInternal, "The agent answers with status %d, which this client does not understand", resp.StatusCode)
	}
	return body.Domain()
}

// call sends in as JSON, unless it is nil, and reads the answer into out,
// unless that is nil.
func (c *Client) call(ctx context.Context, q request, in, out any) error {
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", q.Method, q.Pattern, err)
		}
		q.kind, q.body = api.TypeJSON, bytes.NewReader(b)
	}
	resp, err := c.send(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", q.Method, q.Pattern, err)
	}
	return nil
}

// Healthy returns nil when the agent says that it serves.
func (c *Client) Healthy(ctx context.Context) error {
	resp, err := c.send(ctx, ask(api.Health))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
