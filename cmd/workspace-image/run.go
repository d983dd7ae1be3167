package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/rockpool/rootvm/images"
	"github.com/rockpool/rootvm/images/buildah"
	"github.com/rockpool/rootvm/images/oci"
	"github.com/rockpool/rootvm/images/rootfs"
	"github.com/rockpool/rootvm/images/spdx"
)

// run is main without the process. Progress goes to stderr, the answer to
// stdout.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == "build":
		err = build(ctx, stdin, stdout, stderr)
	case len(args) == 5 && args[0] == "rootfs":
		err = writeRootfs(args[1], args[2], args[3], args[4])
	case len(args) == 1 && args[0] == "bill":
		err = writeBill(stdin, stdout)
	default:
		fmt.Fprintln(stderr, "usage: workspace-image build <request.json | workspace-image rootfs LAYOUT ARCHITECTURE DIRECTORY FILE | workspace-image bill <bill.json")
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
	if err := readRequest(stdin, &request); err != nil {
		return err
	}
	builder := buildah.Builder{Out: stderr, Now: time.Now}
	result, err := builder.Build(ctx, request)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// readRequest reads what is asked for, as JSON of the same release.
func readRequest(r io.Reader, request any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

// writeRootfs writes the root file system of a layout's image to file, at the
// directory dir.
func writeRootfs(layout, architecture, dir, file string) error {
	img, err := rootfs.Open(oci.Layout{Dir: layout}, architecture)
	if err != nil {
		return err
	}
	return img.Write(file, dir)
}

// writeBill writes a bill of materials as SPDX.
func writeBill(stdin io.Reader, stdout io.Writer) error {
	var bill images.Bill
	if err := readRequest(stdin, &bill); err != nil {
		return err
	}
	return spdx.Write(stdout, bill)
}
