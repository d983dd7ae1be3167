//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	entities "github.com/containers/podman/v5/pkg/domain/entities/types"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/guest"
)

// sliceGroup is the group of [guest.WorkspaceSlice], below the user's manager.
var sliceGroup = fmt.Sprintf("user.slice/user-%d.slice/user@%d.service/%s", guest.ServiceID, guest.ServiceID, guest.WorkspaceSlice)

// SetMemory implements [agent.MemoryLimiter].
func (e *Engine) SetMemory(ctx context.Context, id string, limit int64) error {
	return e.call(ctx, "set memory", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if isNotFound(err) {
			return nil
		}
		if err != nil || status(c.State.Status, c.State.Pid) != agent.ContainerRunning {
			return err
		}

		_, err = containers.Update(ctx, &entities.ContainerUpdateOptions{
			NameOrID:  containerName(id),
			Resources: &runtimespec.LinuxResources{Memory: memoryLimit(limit)},
		})
		if err != nil {
			return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeConflict, "The memory of a workspace that runs cannot be changed"), err)
		}
		return nil
	})
}

// SharedMemory implements [agent.MemoryLimiter]. Memory that only caches files
// is not counted.
func (e *Engine) SharedMemory(context.Context) (agent.SharedMemory, error) {
	s := agent.SharedMemory{Limit: e.Memory}
	read := func(name, key string) (int64, error) {
		b, err := fs.ReadFile(e.Cgroups, path.Join(sliceGroup, name))
		if err != nil {
			return 0, err
		}
		return field(string(b), key)
	}

	used, err := read("memory.current", "")
	if errors.Is(err, fs.ErrNotExist) { // no workspace has run since the boot
		return s, nil
	}
	cache, cacheErr := read("memory.stat", "inactive_file")
	if err := errors.Join(err, cacheErr); err != nil {
		return s, fmt.Errorf("podman: memory of all workspaces: %w", err)
	}
	s.Used = max(0, used-cache)
	return s, nil
}
