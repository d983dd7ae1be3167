package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/queue"
	"github.com/rockpool/rootvm/queue/elasticmq"
	"github.com/rockpool/rootvm/queue/sqs"
)

// run serves until the context ends, and returns the exit code.
func (p program) run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("rockpool-queue", flag.ContinueOnError)
	flags.SetOutput(p.err)
	listen := flags.String("listen", fmt.Sprintf("127.0.0.1:%d", guest.PortQueue), "where to listen, when systemd has given no sockets")
	dir := flags.String("elasticmq", "", "directory of the user's elasticmq.jar and, if wanted, elasticmq.conf: with the jar, and a Java, ElasticMQ is the queue")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}

	if err := p.serve(ctx, *listen, *dir); err != nil {
		fmt.Fprintf(p.err, "rockpool-queue: %v\n", err)
		return 1
	}
	return 0
}

// serve serves at the sockets of systemd, or at listen.
func (p program) serve(ctx context.Context, listen, dir string) error {
	listeners, err := p.inherited()
	if err != nil {
		return fmt.Errorf("take the sockets of systemd: %w", err)
	}
	if len(listeners) == 0 {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}

	log := p.log()
	if mq := p.elasticMQ(dir, listeners[0], log); mq != nil {
		return mq.Serve(ctx, listeners)
	}
	return serve(ctx, &sqs.Handler{Broker: new(queue.Broker), Log: log}, listeners)
}

func (p program) log() *slog.Logger { return slog.New(slog.NewTextHandler(p.err, nil)) }

// elasticMQ is the user's ElasticMQ, and nil when there is none or no Java to run
// it by.
func (p program) elasticMQ(dir string, l net.Listener, log *slog.Logger) *elasticmq.Server {
	if dir == "" {
		return nil
	}
	jar := filepath.Join(dir, "elasticmq.jar")
	if _, err := os.Stat(jar); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			log.Warn("ElasticMQ is not used: its jar cannot be read", "err", err)
		}
		return nil
	}
	java, err := p.lookPath("java")
	if err != nil {
		log.Warn("ElasticMQ is not used, for there is no Java: install one, for example with `sudo apt-get install default-jre-headless`, and restart this unit", "jar", jar)
		return nil
	}

	config := filepath.Join(dir, "elasticmq.conf")
	if _, err := os.Stat(config); err != nil {
		config = ""
	}
	log.Info("the queue is ElasticMQ", "jar", jar, "config", config)
	return &elasticmq.Server{Java: java, Jar: jar, Config: config, Port: l.Addr().(*net.TCPAddr).Port, Out: p.err}
}

// serve serves HTTP at listeners until the context ends. Receivers that wait for
// a message then are cut off.
func serve(ctx context.Context, handler http.Handler, listeners []net.Listener) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()

	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	err := <-ended
	_ = server.Close()
	for range len(listeners) - 1 {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
