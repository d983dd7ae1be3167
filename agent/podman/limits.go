//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	entities "github.com/containers/podman/v5/pkg/domain/entities/types"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
	// Only those of its own limit: each workspace has its own.
	shortages, err := read("memory.events.local", "oom")
	if err != nil {
		return s, fmt.Errorf("podman: memory of all workspaces: %w", err)
	}
	// Those of every group below it, also of groups that are gone.
	kills, err := read("memory.events", "oom_kill")
	if err != nil {
		return s, fmt.Errorf("podman: memory of all workspaces: %w", err)
	}
	s.Used, s.Shortages, s.Kills = max(0, used-cache), int(shortages), int(kills)
	return s, nil
}

// life is a container's present life: when it began, and its control group.
type life struct {
	began time.Time
	group string
}

// exitKilled is the exit code of what was ended by SIGKILL, as shells have it and
// as the first process of a container says of what it waited for.
const exitKilled = 128 + int32(unix.SIGKILL)

// MemoryKills implements [agent.Observer]. Podman is asked once for each life
// of a container, and when it has ended; then it is waited for until it knows of
// the end, for before it does not say why. Its monitor reads the kernel's counter
// when the group may be gone already, so what it did not see may be so all the
// same: Killed says that.
func (e *Engine) MemoryKills(ctx context.Context, id string) (agent.MemoryKills, error) {
	e.mu.Lock()
	known, ok := e.lives[id]
	e.mu.Unlock()
	if ok {
		k, err := e.readKills(known)
		if !errors.Is(err, fs.ErrNotExist) {
			return k, err
		}
	}

	var now life
	var ended agent.MemoryKills
	err := e.call(ctx, "memory", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err == nil && takenForRunning(c.State.Status) && hasGone(c.State.Pid) {
			e.awaitMonitor(ctx, id)
			c, err = inspect(ctx, id)
		}
		if err != nil {
			return err
		}
		if status(c.State.Status, c.State.Pid) == agent.ContainerRunning {
			now = life{c.State.StartedAt, strings.Trim(c.State.CgroupPath, "/")}
			return nil
		}
		ended = agent.MemoryKills{
			Since: c.State.StartedAt, Ended: c.State.FinishedAt,
			Whole: c.State.OOMKilled && c.State.ExitCode != 0, Killed: c.State.ExitCode == exitKilled,
		}
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || now.group == "" {
		delete(e.lives, id)
		return ended, err
	}
	if e.lives == nil {
		e.lives = map[string]life{}
	}
	e.lives[id] = now
	return e.readKills(now)
}

// readKills reads what the kernel counted in a life. The counters of a group
// have those of the groups below it.
func (e *Engine) readKills(l life) (agent.MemoryKills, error) {
	k := agent.MemoryKills{Since: l.began}
	b, err := fs.ReadFile(e.Cgroups, path.Join(l.group, "memory.events"))
	if err != nil {
		return k, fmt.Errorf("podman: memory: %w", err)
	}
	processes, err := field(string(b), "oom_kill")
	own, ownErr := field(string(b), "oom")
	if err := errors.Join(err, ownErr); err != nil {
		return k, fmt.Errorf("podman: memory: %w", err)
	}
	k.Processes, k.Own = int(processes), int(own)
	return k, nil
}
