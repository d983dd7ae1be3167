// Command application is all that the end-to-end tests' own image has: what
// testdata/preview.js is in the default image, and the health check of an IDE.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

func main() {
	ended := make(chan error)
	go func() {
		ended <- http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"status":"alive"}`)
		}))
	}()
	for port, a := range map[string]struct{ network, host string }{
		"3001": {"tcp4", "127.0.0.1"}, "3002": {"tcp6", "::1"}, "3003": {"tcp4", "0.0.0.0"}, "3004": {"tcp6", "::"},
	} {
		l, err := net.Listen(a.network, net.JoinHostPort(a.host, port))
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			ended <- http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, a.host) }))
		}()
	}
	log.Fatal(<-ended)
}

// answer answers with the path that was asked for, and a WebSocket with what it
// says.
func answer(w http.ResponseWriter, r *http.Request, host string) {
	if r.Header.Get("Upgrade") == "" {
		headers, _ := json.Marshal(r.Header)
		w.Header().Set("X-Listens", host)
		fmt.Fprintf(w, "preview %s %s", r.RequestURI, headers)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}
