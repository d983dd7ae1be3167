//go:build e2e

package browser

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/client"
)

// bigAnswer is the body that throughput is measured with, in bytes.
const bigAnswer = 64 << 20

// BenchmarkProxy compares a workspace's server that is asked directly with the
// same behind Caddy and the agent's decision, and asks the API through Caddy.
func BenchmarkProxy(b *testing.B) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		b.Fatal(err)
	}
	s := newStack(b, root, "ROCKPOOL_STUB_PAGES=0")
	address := s.runWorkspace(b, "bench")
	l, err := net.Listen("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: benchPages()}
	go func() { _ = server.Serve(l) }() // until it is closed
	b.Cleanup(func() { _ = server.Close() })

	for _, way := range []struct{ name, url string }{
		{"direct", "http://" + address},
		{"proxied", s.address(1) + "/workspace/bench"},
	} {
		b.Run("latency/"+way.name, func(b *testing.B) {
			roundTrips(b, func() { get(b, way.url+"/small") })
		})
		b.Run("throughput/"+way.name, func(b *testing.B) {
			b.SetBytes(bigAnswer)
			for b.Loop() {
				if n := get(b, way.url+"/big"); n != bigAnswer {
					b.Fatalf("%d bytes", n)
				}
			}
		})
		b.Run("websocket/"+way.name, func(b *testing.B) {
			c, _, err := websocket.Dial(b.Context(), "ws"+strings.TrimPrefix(way.url, "http")+"/socket",
				&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {basicAuth}}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.CloseNow()
			roundTrips(b, func() {
				if err := c.Write(b.Context(), websocket.MessageText, []byte("word")); err != nil {
					b.Fatal(err)
				}
				if _, _, err := c.Read(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	b.Run("api/list", func(b *testing.B) {
		roundTrips(b, func() { get(b, s.address(0)+"/api/workspaces") })
	})
}

var basicAuth = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))

// benchPages answer shortly, at length, and word by word.
func benchPages() http.Handler {
	big := make([]byte, 1<<20)
	mux := http.NewServeMux()
	mux.HandleFunc("/small", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "small") })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		for range bigAnswer / len(big) {
			if _, err := w.Write(big); err != nil {
				return
			}
		}
	})

	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, word, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, word) != nil {
				return
			}
		}
	})
	return mux
}

// runWorkspace creates a workspace and returns its address when it runs.
func (s *stack) runWorkspace(b *testing.B, name string) (address string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	c := client.Unix(filepath.Join(s.dir, "agent.sock"))
	w, err := c.CreateWorkspace(ctx, agent.NewWorkspace{Name: name})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err == nil && w.Status != agent.StatusRunning {
		<-tick.C
		w, err = c.Workspace(ctx, w.ID)
	}
	if err != nil {
		b.Fatalf("the workspace is %s: %v", w.Status, err)
	}
	return w.Address
}

// get reads an answer to its end and returns its length.
func get(b *testing.B, url string) int64 {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", basicAuth)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s, %v", url, res.Status, err)
	}
	return n
}

// roundTrips reports the median and the 99th percentile of a call.
func roundTrips(b *testing.B, call func()) {
	call() // the first one opens the connection
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		call()
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}
