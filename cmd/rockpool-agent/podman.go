//go:build remote

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	nethttp "net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/podman"
	"github.com/rockpool/rootvm/agent/relay"
	"github.com/rockpool/rootvm/agent/storage"
	"github.com/rockpool/rootvm/guest"
)

// podmanEngine is Podman with the look at an IDE and the way to applications,
// which go past it.
type podmanEngine struct {
	*podman.Engine
	podman.Health
	*relay.Previews
}

// Storage is where its workspaces have their files.
func (e podmanEngine) Storage() agent.Storage { return e.Engine.Storage }

// maxHealthHeader bounds the header of an IDE's answer, in bytes: workspaces
// are not trusted, and Go would read 10 MiB.
const maxHealthHeader = 64 << 10

// openPodman returns the user's Podman service. It is asked nothing yet: the
// agent serves also while Podman is away.
func openPodman(o engineOptions, log *slog.Logger) (engine, func(), error) {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, nil, fmt.Errorf("read the size of the memory: %w", err)
	}
	total, err := guest.MemTotal(bytes.NewReader(meminfo))
	if err != nil {
		return nil, nil, err
	}
	e := &podman.Engine{
		Socket:  o.podman,
		Storage: storage.Client{Socket: guest.StorageSocket},
		Carried: podman.Carried{FS: os.DirFS(podman.CarriedDir)},
		Catalog: podman.Catalog{Dir: filepath.Join(guest.StateDir, "images")},
		Cgroups: os.DirFS("/sys/fs/cgroup"),
		Memory:  guest.WorkspaceMemory(total),
		Now:     time.Now,
		Log:     log,
	}
	previews := &relay.Previews{Dir: guest.PreviewsDir, Relay: relay.Client{Socket: guest.RelaySocket}, Processes: e, Log: log}
	health := podman.Health{Client: &nethttp.Client{Transport: &nethttp.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHealthHeader}}}
	return podmanEngine{e, health, previews}, previews.Close, nil
}
