//go:build remote

package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/images"
	"github.com/containers/podman/v5/pkg/bindings/volumes"
	entities "github.com/containers/podman/v5/pkg/domain/entities/types"

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

	return e.call(ctx, "create", func(ctx context.Context) error {
		i, err := e.image(ctx, c)
		if err != nil {
			return err
		}
		n := pasta
		if bindings.ServiceVersion(ctx).Major < 5 {
			n = slirp
		}
		spec, err := newSpec(c, i, n)
		if err != nil {
			return err
		}
		there, err := removeOther(ctx, c.ID, spec.Labels[labelSpec])
		if err != nil || there {
			return err
		}
		if err := ensureVolume(ctx, c); err != nil {
			return err
		}
		_, err = containers.CreateWithSpec(ctx, spec, nil)
		if err != nil && isNameTaken(err) {
			if made, inspectErr := inspect(ctx, c.ID); inspectErr == nil && made.Config.Labels[labelSpec] == spec.Labels[labelSpec] {
				return nil
			}
		}
		return err
	})
}

// image finds what c asks for: a view of the carried image, or an image in the
// user's store, pulled unless it is there.
func (e *Engine) image(ctx context.Context, c agent.Container) (image, error) {
	i := image{reference: c.Image}
	if c.Image == "" || c.Image == agent.DefaultImage {
		var err error
		if i.config, i.digest, err = e.Carried.read(); err != nil {
			return i, err
		}
		i.view, err = e.Views.View(ctx, c.Slot)
		return i, err
	}
	there, err := images.Exists(ctx, c.Image, nil)
	if err != nil || there {
		return i, err
	}
	e.Log.Info("pulling an image", "workspace", c.ID, "image", c.Image)
	if _, err := images.Pull(ctx, c.Image, new(images.PullOptions).WithQuiet(true).WithPolicy("missing")); err != nil {
		return i, imageFault(ctx, c.Image, err)
	}
	return i, nil
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

// ensureVolume makes the volume of c. Files in it belong to the ids of its
// slot: a container of another one could not read them, and one of another
// workspace must not.
func ensureVolume(ctx context.Context, c agent.Container) error {
	labels := map[string]string{labelID: c.ID, labelName: c.Name, labelSlot: strconv.Itoa(c.Slot)}
	same := map[string][]string{"label": {labelSlot + "=" + labels[labelSlot]}}
	others, err := volumes.List(ctx, new(volumes.ListOptions).WithFilters(same))
	if err != nil {
		return err
	}

	for _, other := range others {
		if other.Labels[labelID] != c.ID {
			return agent.Errorf(agent.CodeConflict, "The ids of this workspace are those of the volume %s, which belongs to no workspace. Delete the workspace and create it again, or remove the volume.", other.Name)
		}
	}

	v, err := volumes.Create(ctx, entities.VolumeCreateOptions{
		Name: volumeName(c.ID), Label: labels, Labels: labels, IgnoreIfExists: true,
	}, nil)
	if err != nil && isNameTaken(err) { // Podman 4 does not know how to ignore it
		v, err = volumes.Inspect(ctx, volumeName(c.ID), nil)
	}
	if err != nil {
		return err
	}
	if v.Labels[labelID] != c.ID || v.Labels[labelSlot] != labels[labelSlot] {
		return agent.Errorf(agent.CodeConflict, "The volume %s exists and was not made for this workspace", volumeName(c.ID))
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

		if image := c.Config.Labels[labelImage]; image == "" || image == agent.DefaultImage {
			slot, err := strconv.Atoi(c.Config.Labels[labelSlot])
			if err != nil {
				return fmt.Errorf("label %s: %w", labelSlot, err)
			}
			if _, err := e.Views.View(ctx, slot); err != nil {
				return err
			}
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
	return e.call(ctx, "stop", func(ctx context.Context) error {
		c, err := inspect(ctx, id)
		if err != nil || !takenForRunning(c.State.Status) {
			return err
		}
		return stopContainer(ctx, id, uint((grace+time.Second-1)/time.Second))
	})
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
	return e.call(ctx, "remove", func(ctx context.Context) error {
		if _, err := inspect(ctx, id); err == nil {
			if err := removeContainer(ctx, id); err != nil {
				return err
			}
		} else if !isNotFound(err) {
			return err
		}

		v, err := volumes.Inspect(ctx, volumeName(id), nil)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if v.Labels[labelID] != id {
			return agent.Errorf(agent.CodeConflict, "The volume %s is not this workspace's", volumeName(id))
		}
		if err := volumes.Remove(ctx, volumeName(id), nil); !isNotFound(err) {
			return err
		}
		return nil
	})
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
