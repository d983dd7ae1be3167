package http

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
)

// SPA serves a built single-page application below /app/ instead of the
// dashboard. What is a file is served, what is below assets/ has a hash in its
// name and may be kept for ever, and everything else is a page of the
// application: index.html.
func SPA(files fs.FS) (http.Handler, error) {
	if _, err := fs.Stat(files, "index.html"); err != nil {
		return nil, fmt.Errorf("single-page application: %w: build it first", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Clean(strings.TrimPrefix(r.URL.Path, "/app/"))
		asset := strings.HasPrefix(name, "assets/")
		if st, err := fs.Stat(files, name); err != nil || !st.Mode().IsRegular() {
			if asset {
				http.Error(w, "There is no such file.", http.StatusNotFound)
				return
			}
			name = "index.html"
		}
		w.Header().Set("Cache-Control", "no-cache")
		if asset {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(w, indexRequest(r, name), files, name)
	}), nil
}

// indexRequest is r for a path that does not end in index.html, from which
// the standard library redirects away.
func indexRequest(r *http.Request, name string) *http.Request {
	if name != "index.html" {
		return r
	}
	clone := *r
	clone.URL = &url.URL{Path: "/app/"}
	return &clone
}

// devPolicy lets a development server's page run its own inline scripts and
// keep a WebSocket open.
const devPolicy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"

// SPAProxy passes what is below /app/ on to a development server, WebSockets
// included, without credentials.
func SPAProxy(target *url.URL, log *slog.Logger) (http.Handler, error) {
	if target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, errors.New("development server: the address must begin with http:// or https://")
	}
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Header.Del("Authorization")
			p.Out.Header.Del("Cookie")
			for name := range p.Out.Header {
				if strings.HasPrefix(name, "X-Rockpool-") {
					p.Out.Header.Del(name)
				}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Content-Security-Policy", devPolicy)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Warn("development server does not answer", "err", err)
			http.Error(w, "The development server at "+target.Host+" does not answer: is it running?", http.StatusBadGateway)
		},
	}, nil
}
