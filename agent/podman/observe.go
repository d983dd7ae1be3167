//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/bindings/volumes"

	"github.com/rockpool/rootvm/agent"
)

// cpuSample is how much processor time a container had used at a time.
type cpuSample struct {
	used time.Duration
	at   time.Time
}

// Usage implements [agent.Observer]. The figures are the kernel's: those that
// Podman's API gives differ between its versions.
func (e *Engine) Usage(ctx context.Context, id string) (agent.Usage, error) {
	var dir string
	var since time.Time
	err := e.call(ctx, "usage", func(ctx context.Context) error {
		c, err := running(ctx, id)
		if err == nil {
			dir, since = strings.Trim(c.State.CgroupPath, "/"), c.State.StartedAt
		}
		return err
	})
	if err != nil {
		return agent.Usage{}, err
	}

	u, used, err := readCgroup(e.Cgroups, dir)
	if errors.Is(err, fs.ErrNotExist) { // it has just ended
		return agent.Usage{}, agent.Errorf(agent.CodeConflict, "The workspace does not run. Start it first.")
	}
	if err != nil {
		return agent.Usage{}, fmt.Errorf("podman: usage: %w", err)
	}
	u.CPU = e.cpu(id, cpuSample{used, e.Now()}, since)
	return u, nil
}

// cpu is the share of a processor that was used since the last look, or since
// the container started.
func (e *Engine) cpu(id string, now cpuSample, started time.Time) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := e.cpus[id]
	if last.at.Before(started) {
		last = cpuSample{at: started}
	}
	if e.cpus == nil {
		e.cpus = map[string]cpuSample{}
	}
	e.cpus[id] = now
	elapsed := now.at.Sub(last.at)
	if elapsed <= 0 || now.used < last.used {
		return 0
	}
	return float64(now.used-last.used) / float64(elapsed)
}

// readCgroup reads a group of the unified hierarchy. Memory that only caches
// files is not counted.
func readCgroup(cgroups fs.FS, dir string) (agent.Usage, time.Duration, error) {
	var u agent.Usage
	var errs []error
	read := func(name, key string) int64 {
		b, err := fs.ReadFile(cgroups, path.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			return 0
		}
		n, err := field(string(b), key)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}

	u.Memory = max(0, read("memory.current", "")-read("memory.stat", "inactive_file"))
	u.MemoryLimit = read("memory.max", "")
	if u.MemoryLimit == 0 { // the crun of bookworm limits a group below, its own
		if b, err := fs.ReadFile(cgroups, path.Join(dir, "container", "memory.max")); err == nil {
			u.MemoryLimit, err = field(string(b), "")
			errs = append(errs, err)
		}
	}

	u.Pids = int(read("pids.current", ""))
	used := time.Duration(read("cpu.stat", "usage_usec")) * time.Microsecond
	return u, used, errors.Join(errs...)
}

// field returns the number behind a key, or the only number of a file without
// keys; "max" is 0, none.
func field(text, key string) (int64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.TrimSpace(line), true
		if key != "" {
			value, ok = strings.CutPrefix(value, key+" ")
		}
		if !ok {
			continue
		}
		if value == "max" {
			return 0, nil
		}
		return strconv.ParseInt(value, 10, 64)
	}
	return 0, fmt.Errorf("no %q in it", key)
}

// Logs implements [agent.Observer].
func (e *Engine) Logs(ctx context.Context, id string, tail int, follow bool, w io.Writer) error {
	return e.call(ctx, "logs", func(ctx context.Context) error {
		if _, err := inspect(ctx, id); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		lines, ended := make(chan string), make(chan error, 1)
		go func() {
			options := new(containers.LogOptions).WithStdout(true).WithStderr(true).WithFollow(follow).WithTail(strconv.Itoa(tail))
			ended <- containers.Logs(ctx, containerName(id), options, lines, lines)
			close(lines)
		}()

		var writeErr error
		for line := range lines { // to the end: the sender waits for us
			if writeErr == nil {
				if _, writeErr = io.WriteString(w, line); writeErr != nil {
					cancel()
				}
			}
		}

		if writeErr != nil {
			return fmt.Errorf("write logs: %w", writeErr)
		}
		return <-ended
	})
}

// List implements [agent.Inventory].
func (e *Engine) List(ctx context.Context) ([]agent.ContainerRef, error) {
	u, err := e.Storage.Usage(ctx)
	if err != nil {
		return nil, err
	}
	var refs []agent.ContainerRef
	err = e.call(ctx, "list", func(ctx context.Context) error {
		labelled := map[string][]string{"label": {labelID}}
		cs, err := containers.List(ctx, new(containers.ListOptions).WithAll(true).WithFilters(labelled))
		if err != nil {
			return err
		}
		vs, err := volumes.List(ctx, new(volumes.ListOptions).WithFilters(labelled))
		if err != nil {
			return err
		}

		byID := map[string]int{}
		entry := func(labels map[string]string) *agent.ContainerRef {
			id := labels[labelID]
			if _, ok := byID[id]; !ok {
				byID[id] = len(refs)
				slot, err := strconv.Atoi(labels[labelSlot])
				if err != nil {
					slot = -1
				}
				refs = append(refs, agent.ContainerRef{ID: id, Name: labels[labelName], Slot: slot, Status: agent.ContainerNotFound})
			}
			return &refs[byID[id]]
		}

		for _, c := range cs {
			if len(c.Names) > 0 && c.Names[0] == containerName(c.Labels[labelID]) {
				entry(c.Labels).Status = status(c.State, c.Pid)
			}
		}
		for _, v := range vs {
			if v.Name == volumeName(v.Labels[labelID]) {
				entry(v.Labels).HasHome = true
			}
		}
		for _, f := range u.Files {
			ref := entry(map[string]string{labelID: f.ID, labelSlot: strconv.Itoa(f.Slot)})
			ref.Slot, ref.HasHome = f.Slot, true
		}
		return nil
	})
	return refs, err
}
