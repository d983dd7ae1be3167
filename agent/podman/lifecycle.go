//go:build remote

package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/volumes"
	"github.com/containers/podman/v5/pkg/specgen"

	"github.com/rockpool/rootvm/agent"
)

// portPatience is how long a start waits for a port, and portRetry how often
// it looks.
const (
	portPatience = 20 * time.Second
	portRetry    = 250 * time.Millisecond
)

// Create implements [agent.Runtime].
func (e *Engine) Create(ctx context.Context, c agent.Container) error {
	if !agent.ValidID(c.ID) || !agent.ValidSlot(c.Slot) || c.Port <= 0 || c.Port > 65535 {
		return fmt.Errorf("podman: create: not a workspace: %+v", c)
	}

	release, err := e.turns.take(ctx, c.ID)
	if err != nil {
		return err
	}
	defer release()
	u, err := e.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	if err := ownSlot(c, u); err != nil {
		return err
	}
	if indexOf(u.Files, c.ID) < 0 {
		if err := e.endEarlier(ctx, c); err != nil {
			return err
		}
	}

	i, view, err := e.prepare(ctx, c, u)
	if err != nil {
		return err
	}
	return e.call(ctx, "create", func(ctx context.Context) error {
		n := pasta
		if bindings.ServiceVersion(ctx).Major < 5 {
			n = slirp
		}
		spec, err := newSpec(c, i, view, n)
		if err != nil {
			return err
		}
		if err := create(ctx, c.ID, spec); err != nil || isDefault(c.Image) {
			return err
		}
		return e.dropCopy(ctx, i)
	})
}

// ownSlot refuses the ids of another's files: two containers of one slot could
// reach each other's processes.
func ownSlot(c agent.Container, u agent.StorageUsage) error {
	n := slices.IndexFunc(u.Files, func(f agent.FilesUsage) bool { return f.Slot == c.Slot && f.ID != c.ID })
	if n < 0 {
		return nil
	}
	return agent.Errorf(agent.CodeConflict, "The ids of this workspace are those of the files of %s, which belong to no workspace. Delete the workspace and create it again.", u.Files[n].ID)
}

// prepare shows the files of c with the image that they belong to. Those of an
// earlier release are taken over.
func (e *Engine) prepare(ctx context.Context, c agent.Container, u agent.StorageUsage) (image, agent.FilesView, error) {
	e.making.RLock()
	defer e.making.RUnlock()
	i, err := e.image(ctx, c, u)
	if err != nil {
		return i, agent.FilesView{}, err
	}
	view, err := e.Storage.Open(ctx, agent.Files{ID: c.ID, Slot: c.Slot, Image: i.Digest, Quota: c.Quota}, agent.Progress(ctx))
	if err != nil {
		return i, view, err
	}
	if n := indexOf(u.Files, c.ID); n >= 0 && u.Files[n].Quota != c.Quota {
		err = e.Storage.SetQuota(ctx, c.ID, c.Quota)
	}
	return i, view, err
}

// create makes the container, and leaves nothing of what earlier values or an
// earlier release made, whose files are taken over by now.
func create(ctx context.Context, id string, spec *specgen.SpecGenerator) error {
	there, err := removeOther(ctx, id, spec.Labels[labelSpec])
	if err != nil {
		return err
	}
	if err := removeVolume(ctx, id); err != nil {
		return err
	}
	if there {
		return nil
	}
	_, err = containers.CreateWithSpec(ctx, spec, nil)
	if err != nil && isNameTaken(err) {
		if made, inspectErr := inspect(ctx, id); inspectErr == nil && made.Config.Labels[labelSpec] == spec.Labels[labelSpec] {
			return nil
		}
	}
	return err
}

// endEarlier ends the processes of a container of an earlier release, whose
// files are about to be taken over, and refuses the ids of a volume of another's.
func (e *Engine) endEarlier(ctx context.Context, c agent.Container) error {
	return e.call(ctx, "create", func(ctx context.Context) error {
		same := map[string][]string{"label": {labelSlot + "=" + strconv.Itoa(c.Slot)}}
		others, err := volumes.List(ctx, new(volumes.ListOptions).WithFilters(same))
		if err != nil {
			return err
		}
		for _, other := range others {
			if other.Labels[labelID] != c.ID {
				return agent.Errorf(agent.CodeConflict, "The ids of this workspace are those of the volume %s, which belongs to no workspace. Delete the workspace and create it again, or remove the volume.", other.Name)
			}
		}

		old, err := inspect(ctx, c.ID)
		if isNotFound(err) {
			return nil
		}
		if err != nil || !takenForRunning(old.State.Status) {
			return err
		}
		return stopContainer(ctx, c.ID, 0)
	})
}

// removeOther reports whether the container is there as wanted, and removes
// one that was made for other values.
func removeOther(ctx context.Context, id, hash string) (there bool, err error) {
	old, err := inspect(ctx, id)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if old.Config.Labels[labelSpec] == hash {
		return true, nil
	}
	return false, removeContainer(ctx, id)
}

// removeVolume removes the volume in which an earlier release kept the home
// directory, if it is there.
func removeVolume(ctx context.Context, id string) error {
	v, err := volumes.Inspect(ctx, volumeName(id), nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.Labels[labelID] != id {
		return agent.Errorf(agent.CodeConflict, "The volume %s is not this workspace's. Remove or rename it.", volumeName(id))
	}
	if err := volumes.Remove(ctx, volumeName(id), nil); !isNotFound(err) {
		return err
	}
	return nil
}

func removeContainer(ctx context.Context, id string) error {
	_, err := containers.Remove(ctx, containerName(id), new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithTimeout(0))
	if isNotFound(err) {
		return nil
	}
	return err
}

// Start implements [agent.Runtime].
func (e *Engine) Start(ctx context.Context, id string) error {
	release, err := e.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return e.call(ctx, "start", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case status(c.State.Status, c.State.Pid) == agent.ContainerRunning:
			return nil
		case takenForRunning(c.State.Status):
			if err := stopContainer(ctx, id, 0); err != nil {
				return err
			}
		}

		if err := e.open(ctx, id); err != nil {
			return err
		}
		if err := startWhenFree(ctx, containerName(id)); err != nil {
			return err
		}
		e.noteStart(ctx, id)
		return nil
	})
}

// startWhenFree starts a container as soon as nothing holds its port.
func startWhenFree(ctx context.Context, name string) error {
	limit := time.NewTimer(portPatience)
	defer limit.Stop()
	tick := time.NewTicker(portRetry)
	defer tick.Stop()
	for {
		err := containers.Start(ctx, name, nil)
		if err == nil || !isPortBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return fmt.Errorf("another program holds its port: %w", err)
		case <-tick.C:
		}
	}
}

// Stop implements [agent.Runtime].
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	release, err := e.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	err = e.call(ctx, "stop", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err != nil || !takenForRunning(c.State.Status) {
			return err
		}
		return stopContainer(ctx, id, uint((grace+time.Second-1)/time.Second))
	})
	if err == nil {
		e.close(ctx, id)
	}
	return err
}

// stopContainer stops a container that Podman takes for one that runs, and has
// it clean up after one that has ended unseen. Of a container without a monitor
// Podman says that it does not know the exit code, as an error; it is stopped.
func stopContainer(ctx context.Context, id string, seconds uint) error {
	err := containers.Stop(ctx, containerName(id), new(containers.StopOptions).WithTimeout(seconds))
	if err == nil {
		return nil
	}
	if c, lookErr := inspect(ctx, id); lookErr == nil && !takenForRunning(c.State.Status) {
		return nil
	}
	return err
}

// Terminate implements [agent.Terminator].
func (e *Engine) Terminate(ctx context.Context, id string) error {
	return e.call(ctx, "terminate", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if isNotFound(err) {
			return nil
		}
		if err != nil || status(c.State.Status, c.State.Pid) != agent.ContainerRunning {
			return err
		}

		signal := cmp.Or(c.Config.StopSignal, "SIGTERM")
		err = containers.Kill(ctx, containerName(id), new(containers.KillOptions).WithSignal(signal))
		if err == nil {
			return nil
		}
		if now, inspectErr := inspect(ctx, id); inspectErr == nil && status(now.State.Status, now.State.Pid) != agent.ContainerRunning {
			return nil // it has just ended
		}
		return err
	})
}

// Remove implements [agent.Runtime].
func (e *Engine) Remove(ctx context.Context, id string) error {
	release, err := e.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	err = e.call(ctx, "remove", func(ctx context.Context) error {
		if _, err := inspect(ctx, id); err == nil {
			if err := removeContainer(ctx, id); err != nil {
				return err
			}
		} else if !isNotFound(err) {
			return err
		}
		return removeVolume(ctx, id)
	})
	if err != nil {
		return err
	}
	if err := e.Storage.Close(ctx, id); err != nil {
		return err
	}
	return e.Storage.Remove(ctx, id)
}

// Status implements [agent.Runtime].
func (e *Engine) Status(ctx context.Context, id string) (agent.ContainerStatus, error) {
	s := agent.ContainerNotFound
	err := e.call(ctx, "status", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if isNotFound(err) {
			return nil
		}
		if err == nil {
			s = status(c.State.Status, c.State.Pid)
		}
		return err
	})
	return s, err
}

// Address implements [agent.Runtime].
func (e *Engine) Address(ctx context.Context, id string) (string, error) {
	var address string
	err := e.call(ctx, "address", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err != nil {
			return err
		}
		port := c.Config.Labels[labelPort]
		if port == "" {
			return errors.New("the container has no label " + labelPort)
		}
		address = net.JoinHostPort("127.0.0.1", port)
		return nil
	})
	return address, err
}
