package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/buildah"
)

// run is main without the process. Progress goes to stderr, the answer to
// stdout.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) != 1 || args[0] != "build" {
		fmt.Fprintln(stderr, "usage: workspace-image build <request.json")
		return 2
	}
	if err := build(ctx, stdin, stdout, stderr); err != nil {
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
