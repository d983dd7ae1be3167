//go:build remote

package podman_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/podman"
	"github.com/rockpool/rootvm/agent/runtimetest"
	"github.com/rockpool/rootvm/agent/storage"
	"github.com/rockpool/rootvm/guest"
)

func setting(name, value string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return value
}

// engine is the Podman service of the user who runs the test.
func engine(t *testing.T) *podman.Engine {
	t.Helper()
	socket := setting("ROCKPOOL_PODMAN_SOCKET", filepath.Join("/run/user", strconv.Itoa(os.Getuid()), "podman/podman.sock"))
	if _, err := os.Stat(socket); err != nil {
		t.Skip("no rootless Podman: install podman and run systemctl --user start podman.socket, or name a socket in ROCKPOOL_PODMAN_SOCKET")
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &podman.Engine{
		Memory:  16 << 30,
		Socket:  socket,
		Storage: storage.Client{Socket: setting("ROCKPOOL_STORAGE_SOCKET", guest.StorageSocket)},
		Carried: podman.Carried{FS: os.DirFS(setting("ROCKPOOL_CARRIED", podman.CarriedDir))},
		Catalog: podman.Catalog{Dir: t.TempDir()},
		Cgroups: os.DirFS("/sys/fs/cgroup"),
		Now:     time.Now,
		Log:     log,
	}
}

// TestEngine_Contract needs a rootless Podman, an image (the one the VM
// carries, or ROCKPOOL_TEST_IMAGE) and a repository that a workspace can
// reach.
func TestEngine_Contract(t *testing.T) {
	e := engine(t)
	image, repository := os.Getenv("ROCKPOOL_TEST_IMAGE"), os.Getenv("ROCKPOOL_TEST_REPOSITORY")
	if _, err := os.Stat(filepath.Join(podman.CarriedDir, "digest")); err != nil && image == "" {
		t.Skip("no workspace image: run it in the VM, or name one of the contract's kind in ROCKPOOL_TEST_IMAGE")
	}
	if repository == "" {
		t.Skip("no repository: name one that a workspace can reach in ROCKPOOL_TEST_REPOSITORY")
	}
	runtimetest.Run(t, runtimetest.Subject{
		Runtime:    e,
		Files:      e,
		Inventory:  e,
		Observer:   e,
		Memory:     e,
		Terminator: e,
		Health:     podman.Health{Client: http.DefaultClient},
		Image:      image,
		Ports:      [2]int{29990, 29991},
		Slots:      [2]int{agent.ContainerSlots - 2, agent.ContainerSlots - 1},
		Repository: repository,
		Missing:    repository + "-that-is-not-there",
		Patience:   2 * time.Minute,
	})
}
