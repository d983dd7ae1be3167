// Command rockpool-release gives what was built to others. It is a program of
// its own, so that nobody else compiles the clients of registries.
//
//	rockpool-release push [--plain-http] [--tart] LAYOUT REFERENCE
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}
