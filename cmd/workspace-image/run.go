package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/buildah"
)

// run is main without the process. Progress goes to stderr, the answer to
// stdout.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == "build":
		err = build(ctx, stdin, stdout, stderr)
	case len(args) > 0 && args[0] == "push":
		err = push(ctx, args[1:], stderr)
	default:
		fmt.Fprintln(stderr, "usage: workspace-image build <request.json | workspace-image push [--plain-http] LAYOUT REFERENCE")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "workspace-image:", err)
		return 1
	}
	return 0
}

func build(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	var request images.Request
	decoder := json.NewDecoder(stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	builder := buildah.Builder{Out: stderr, Now: time.Now}
	result, err := builder.Build(ctx, request)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

func push(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("push", flag.ContinueOnError)
	flags.SetOutput(stderr)
	plain := flags.Bool("plain-http", false, "the registry has no TLS, or a certificate nobody knows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("push needs a layout and a reference")
	}
	return buildah.Push(ctx, flags.Arg(0), buildah.Registry{
		Reference: flags.Arg(1), PlainHTTP: *plain, AuthFile: os.Getenv("REGISTRY_AUTH_FILE"),
	})
}
