// Command rockpool-queue is the queue of the development stack: it serves the API
// of Amazon SQS, at the sockets that systemd gives it, or leads to the user's
// ElasticMQ. Queues are kept in memory and end with it.
package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := program{err: os.Stderr, lookPath: exec.LookPath, inherited: func() ([]net.Listener, error) { return activation.Listeners() }}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// program is what the command takes from its surroundings.
type program struct {
	err       io.Writer
	lookPath  func(string) (string, error)
	inherited func() ([]net.Listener, error) // the sockets of systemd; none when it was started otherwise
}
