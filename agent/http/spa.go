package http

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"strings"
)

const indexFile = "index.html"

// SPA serves a built single-page application below /app/ instead of the
// dashboard. What is a file is served, what is below assets/ has a hash in its
// name and may be kept for ever, and everything else is a page of the
// application: index.html.
func SPA(files fs.FS) (http.Handler, error) {
	if _, err := fs.Stat(files, indexFile); err != nil {
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
			name = indexFile
		}
		w.Header().Set("Cache-Control", "no-cache")
		if name == indexFile {
			serveIndex(w, r, files)
			return
		}
		if asset {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(w, r, files, name)
	}), nil
}

// serveIndex sends the application's page as it is now: a build may replace it
// while the agent runs.
func serveIndex(w http.ResponseWriter, r *http.Request, files fs.FS) {
	page, err := fs.ReadFile(files, indexFile)
	st, statErr := fs.Stat(files, indexFile)
	if err := errors.Join(err, statErr); err != nil {
		http.Error(w, "The application is not there: build it.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Security-Policy", spaPolicy(page))
	http.ServeContent(w, r, indexFile, st.ModTime(), bytes.NewReader(page))
}

// inlineScript finds the scripts of a page and their attributes.
var inlineScript = regexp.MustCompile(`(?is)<script(\s[^>]*)?>(.*?)</script\s*>`)

var (
	scriptSource = regexp.MustCompile(`(?i)\ssrc\s*=`)
	newlines     = strings.NewReplacer("\r\n", "\n", "\r", "\n") // as the browser reads them
)

// spaPolicy lets a page run the scripts that were built into it, such as the
// one that chooses dark or light before anything is drawn, and no other inline
// script. Images may come from elsewhere, because the owners of repositories
// have theirs wherever GitHub keeps them.
func spaPolicy(page []byte) string {
	scripts := "'self'"
	for _, m := range inlineScript.FindAllSubmatch(page, -1) {
		if scriptSource.Match(m[1]) {
			continue
		}
		sum := sha256.Sum256([]byte(newlines.Replace(string(m[2]))))
		scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'self'; script-src " + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
}

// devPolicy lets a development server's page run its own inline scripts and
// keep a WebSocket open.
const devPolicy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; img-src 'self' data: blob: https:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"

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
