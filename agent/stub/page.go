package stub

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// listen serves the workspace's page when the stub was asked to.
func (r *Runtime) listen(c *container) error {
	if !r.serve {
		return nil
	}
	l, err := net.Listen("tcp", addressOf(c.Spec))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r.page(c.Spec), ReadHeaderTimeout: 10 * time.Second}
	r.servers[c.Spec.ID] = server{srv, l}
	go func() { _ = srv.Serve(l) }() // until it is closed
	return nil
}

// server is a page that is served. The server knows its listener only from
// the moment it serves; the port must be free when the page is gone.
type server struct {
	*http.Server
	listener net.Listener
}

// hangUp ends what listen began.
func (r *Runtime) hangUp(id string) {
	if srv, ok := r.servers[id]; ok {
		_, _ = srv.Close(), srv.listener.Close()
		delete(r.servers, id)
	}
}

// Close ends the pages. The containers' state is kept.
func (r *Runtime) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.servers {
		r.hangUp(id)
	}
}

// page stands in for an IDE: /healthz, /echo, which tells the request as it
// arrived, PUT /files/…, which writes a file of the home directory as its user
// does in an editor, PUT /listening, which says what listens in the workspace as
// JSON, PUT /used, which says in bytes what its files take beside those that the
// stub has, PUT /installed, which says which packages it installed, PUT /carried,
// which gives the VM another image, and a page that names the workspace at every
// other path.
func (r *Runtime) page(c agent.Container) http.Handler {
	name := c.Name
	mux := http.NewServeMux()

	mux.HandleFunc("PUT /files/{path...}", func(w http.ResponseWriter, req *http.Request) {
		content, err := io.ReadAll(http.MaxBytesReader(w, req.Body, agent.MaxFileSize))
		if err == nil {
			err = r.WriteFile(req.Context(), c.ID, req.PathValue("path"), content)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})

	mux.HandleFunc("PUT /listening", func(w http.ResponseWriter, req *http.Request) {
		var all []agent.Listener
		err := json.NewDecoder(http.MaxBytesReader(w, req.Body, agent.MaxFileSize)).Decode(&all)
		if err == nil {
			err = r.Listen(c.ID, all...)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})

	told(mux, "PUT /used", func(bytes int64) { r.Fill(c.ID, bytes) })
	told(mux, "PUT /installed", func(names []string) { r.Install(c.ID, names...) })
	told(mux, "PUT /carried", func(digest string) {
		_ = r.Storage().KeepImage(context.Background()) // the images that files need stay
		r.Carry(digest)
	})

	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":"alive"}`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/echo") {
			echo(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		n := html.EscapeString(name)
		fmt.Fprintf(w, "<!doctype html><html lang=en><title>%s</title><h1>%s</h1><p>Stub of the IDE at %s.", n, n, html.EscapeString(r.URL.Path))
	})
	return mux
}

// told hands what a test says, as JSON, to the stub.
func told[T any](mux *http.ServeMux, pattern string, take func(T)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
		var said T
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, agent.MaxFileSize)).Decode(&said); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		take(said)
	})
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	var lines []string
	for k, values := range r.Header {
		for _, v := range values {
			lines = append(lines, k+": "+v)
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}
