// Package http is the agent's HTTP API and the few pages it answers itself,
// served on a unix socket behind Caddy, which has checked the credentials.
// It keeps no state and imports only the domain.
package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/agent"
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

// Server has what the handlers need. All fields must be set.
type Server struct {
	Database Database
	Ports    agent.GuestPorts // on the host, to build addresses a browser can use
	Username string           // of requests that came past Caddy
	Version  string
	Log      *slog.Logger
}

// Headers that Caddy sets and that it removes from what clients send.
const (
	serverHeader = "X-Rockpool-Server" // which of Caddy's servers was asked
	userHeader   = "X-Rockpool-User"   // whom Caddy let in
)

// serverDashboard is the one of Caddy's three servers that has the API. The
// others are origins of their own, so that neither an IDE nor an application
// in a preview can speak to the API as the user.
const serverDashboard = "srv0"

// Handler returns the whole surface: /api/… as JSON and /app/… as pages for
// the dashboard's server, and nothing but pages for the other two. A request
// without a server's name came from inside, by the socket, and is treated as
// one to the dashboard.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.api(mux)
	s.pages(mux)
	return s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !toDashboard(r) {
			s.noWorkspace(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// toDashboard reports whether r is for the server that has the API.
func toDashboard(r *http.Request) bool {
	name := r.Header.Get(serverHeader)
	return name == "" || name == serverDashboard
}

// guard holds what is true for every request: no path that means another one
// after cleaning, no state change asked for by another origin, no endless
// body, and no panic that takes the agent down.
func (s *Server) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, agent.Errorf(agent.CodeForbidden, "Requests from other sites are refused"))
	}))
	protected := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				s.fail(w, r, fmt.Errorf("panic: %v", v))
			}
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if !plainPath(r) {
			s.notFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		protected.ServeHTTP(w, r)
	})
}

// plainPath reports whether the path names what it says: no empty, "." or
// ".." segment, no encoded slash, no control character.
func plainPath(r *http.Request) bool {
	p := r.URL.Path
	if !strings.HasPrefix(p, "/") || strings.Contains(p, "\\") {
		return false
	}
	if strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return false
	}
	if raw := strings.ToLower(r.URL.EscapedPath()); strings.Contains(raw, "%2f") || strings.Contains(raw, "%2e") {
		return false
	}
	segments := strings.Split(p[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		if s == "." || s == ".." || s == "" && !last {
			return false
		}
	}
	return true
}

// Listen makes the unix socket at path, for the owner and the group. A socket
// that a killed agent left is replaced; one that answers, or a file that is
// no socket, is not touched. The caller makes sure that no second agent
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
// at most drain. It always closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
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
		return errors.Join(srv.Close())
	}
	return nil
}
