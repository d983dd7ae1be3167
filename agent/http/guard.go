package http

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

// guard holds what is true for every request: no one without credentials who
// came through Caddy, no path that means another one after cleaning, no state change asked for by another origin, no endless
// body, no panic that takes the agent down, and one line in the log.
func (s *Server) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, api.CrossOrigin())
	}))

	protected := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		start := time.Now()
		defer func() {
			v := recover()
			if v != nil && v != http.ErrAbortHandler {
				s.fail(rec, r, fmt.Errorf("panic: %v", v))
			}
			s.record(rec, r, time.Since(start))
			if v == http.ErrAbortHandler || rec.cut {
				panic(http.ErrAbortHandler)
			}
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if err := s.letIn(rec, r); err != nil {
			s.turnAway(rec, r, err)
			return
		}
		if !plainPath(r) {
			s.notFound(rec, r)
			return
		}
		r.Body = http.MaxBytesReader(rec, r.Body, MaxBody)
		protected.ServeHTTP(rec, r)
	})
}

// letIn checks the credentials of a request that came through Caddy, and notes
// whose they are. What came by the socket itself came from inside; the socket is
// only for the agent's own user.
func (s *Server) letIn(w http.ResponseWriter, r *http.Request) error {
	server := r.Header.Get(api.HeaderServer)
	if server == "" || server == api.ServerDashboard && r.URL.Path == api.HealthPath && r.URL.RawPath == "" {
		return nil
	}
	name, err := s.Login.Enter(w, r)
	r.Header.Del(api.HeaderDevice)
	r.Header.Set(api.HeaderUser, name)
	return err
}

// turnAway answers who was not let in: a program in JSON, a browser with a
// sentence, or with nothing while it asks its user for a password.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	code := agent.ErrorCode(err)
	if api.ToDashboard(r) && strings.HasPrefix(r.URL.Path, "/api/") || statuses[code] == 0 {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(statuses[code])
	if code != agent.CodeUnauthorized {
		_, _ = io.WriteString(w, err.Error()+"\n")
	}
}

// recorder remembers what became of a request.
type recorder struct {
	http.ResponseWriter
	route  string // pattern that matched
	status int    // 0 before the answer began
	size   int64
	err    error // internal: for the log alone
	cut    bool  // failed after the answer had begun
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write continues the answer.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.size += int64(n)
	return n, err
}

// record counts and logs a request that is over. The query is left out: it
// may hold what is nobody's business.
func (s *Server) record(w *recorder, r *http.Request, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	route := w.route
	if route == "" {
		route = "none"
	}
	s.Metrics.Request(route, r.Method, status, took)

	level := slog.LevelDebug
	switch {
	case w.err != nil || status == http.StatusInternalServerError:
		level = slog.LevelError
	case status >= http.StatusBadRequest, r.Method != http.MethodGet && r.Method != http.MethodHead:
		level = slog.LevelInfo
	}

	if !s.Log.Enabled(r.Context(), level) {
		return
	}

	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", status),
		slog.Int64("bytes", w.size),
		slog.Duration("took", took),
	}

	if id := r.PathValue("id"); agent.ValidID(id) {
		attrs = append(attrs, slog.String("workspace", id))
	}
	if w.err != nil {
		attrs = append(attrs, slog.Any("err", w.err))
	}
	s.Log.LogAttrs(r.Context(), level, "request", attrs...)
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
