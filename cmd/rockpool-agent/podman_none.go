//go:build !remote

package main

import (
	"errors"
	"log/slog"
)

// openPodman says that Podman's bindings are not in this build.
func openPodman(engineOptions, *slog.Logger) (engine, func(), error) {
	return nil, nil, configError{errors.New("this build has no podman runtime: build it with -tags remote, or set RUNTIME=stub")}
}
