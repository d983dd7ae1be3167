// Package http serves the agent's HTTP API, and what others answer beside it,
// on a unix socket behind Caddy. It keeps no
// state and imports only the domain and agent/api, where the shapes and paths
// are. openapi.json describes every route under /api.
package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// MaxBody bounds a request's body, in bytes.
const MaxBody = 1 << 20

// healthTimeout bounds how long the database may take to answer.
const healthTimeout = 2 * time.Second

// Database is what health asks.
type Database interface {
	// Ping returns nil when the database answers a query.
	Ping(ctx context.Context) error
}

// Work is what health asks beside the database.
type Work interface {
	// Accepting returns nil while what is asked for will be done, and else an
	// [agent.Error] that says what to do.
	Accepting() error
}

// Metrics counts requests and serves what was counted.
type Metrics interface {
	http.Handler
	// Request counts one request. route is the pattern it matched.
	Request(route, method string, status int, took time.Duration)
}

// Gateway answers what is neither the API nor the dashboard. An error is a
// fault of the agent's own, and nothing was written.
type Gateway interface {
	// Decide answers at [api.RoutePath] where a request goes.
	Decide(w http.ResponseWriter, r *http.Request) error
	// NoWorkspace answers for an IDE or a preview that is not there.
	NoWorkspace(w http.ResponseWriter, r *http.Request) error
	// NotFound answers for a page that is not there.
	NotFound(w http.ResponseWriter, r *http.Request) error
	// ToIDE sends a browser from the dashboard's server to that of the IDEs.
	ToIDE(w http.ResponseWriter, r *http.Request) error
}

// Login checks the credentials of what came through Caddy.
type Login interface {
	// Enter returns the user's name and takes the credentials off r. An error is
	// for the user; w has the headers that belong to it.
	Enter(w http.ResponseWriter, r *http.Request) (name string, err error)
}

// Server has what the handlers need. All fields but Dashboard and Heartbeat
// must be set.
type Server struct {
	Database     Database
	Work         Work
	ControlPlane agent.ControlPlane
	Runtime      agent.Runtime
	Repositories agent.Repositories
	Metrics      Metrics
	Gateway      Gateway
	Login        Login
	// Dashboard answers what is below /app/, with the path as the browser
	// asked for it. Without one there is a page that says that nothing is
	// there.
	Dashboard http.Handler
	Username  string // of requests that came by the socket itself
	Version   string
	Heartbeat time.Duration // between two signs of life on a quiet stream; 0 is 15 seconds
	Log       *slog.Logger
}

// Handler returns the whole surface: /api/… as JSON and /app/… as pages for
// the dashboard's server; for the other two servers what the gateway answers.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, p := range endpoints(s.routes()) {
		s.register(mux, p)
	}
	mux.HandleFunc("/", s.notFound)
	return s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case api.ToDashboard(r):
			mux.ServeHTTP(w, r)
		case r.URL.Path == api.RoutePath:
			if rec, ok := w.(*recorder); ok {
				rec.route = api.RoutePath
			}
			s.orFail(w, r, s.Gateway.Decide(w, r))
		default:
			s.orFail(w, r, s.Gateway.NoWorkspace(w, r))
		}
	}))
}

// Listen makes the unix socket at path, for the owner and the group. A socket
// that a killed agent left is replaced; a socket that answers, or a file that
// is no socket, is not touched. The caller makes sure that no second agent
// starts at the same moment.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w: the directory must exist and belong to the agent's user", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is not a socket: move it away")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return errors.New("another process serves this socket: stop it first")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Serve serves on l until ctx ends, then lets requests under way finish for
// at most drain; streams end at once. It always closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
		},
	}

	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}

	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		s.Log.Warn("requests cut off at shutdown", "err", err)
		return srv.Close()
	}
	return nil
}

// servingKey is the key of the context that ends when serving ends, in the
// context of every request.
type servingKey struct{}

// streamContext returns r's context, which also ends with serving: a stream
// has no end of its own to wait for.
func streamContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	serving, ok := ctx.Value(servingKey{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	stop := context.AfterFunc(serving, cancel)
	return ctx, func() { stop(); cancel() }
}
