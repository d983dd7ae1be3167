//go:build remote

package main

import (
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/rockpool/rootvm/agent/podman"
	"github.com/rockpool/rootvm/agent/slots"
)

// openPodman is the user's Podman service. It need not answer yet.
func openPodman(o engineOptions, log *slog.Logger) (engine, error) {
	return podmanEngine{&podman.Engine{
		Socket:  o.podman,
		Views:   slots.Client{Socket: slots.Socket},
		Carried: podman.Carried{FS: os.DirFS(podman.CarriedDir)},
		Cgroups: os.DirFS("/sys/fs/cgroup"),
		Now:     time.Now,
		Log:     log,
	}, podman.Health{Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}}, nil
}

// podmanEngine is the service, and what asks the IDEs in its containers.
type podmanEngine struct {
	*podman.Engine
	podman.Health
}
