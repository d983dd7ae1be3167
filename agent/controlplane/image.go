package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// startPayload are the arguments of a start.
type startPayload struct {
	Image string `json:"image,omitempty"` // digest of the image that the workspace moves on to
}

// Image implements [agent.Workspaces].
func (c *ControlPlane) Image(ctx context.Context, id string) (agent.ImageState, error) {
	rec, err := c.record(ctx, id)
	if err != nil {
		return agent.ImageState{}, err
	}
	return c.imageState(ctx, rec), nil
}

// imageState compares a workspace with the image that the VM carries. Of one from
// a registry nothing newer is known.
func (c *ControlPlane) imageState(ctx context.Context, rec agent.Record) agent.ImageState {
	s := agent.ImageState{Reference: rec.Image, Digest: rec.ImageDigest}
	if rec.Image != agent.DefaultImage {
		return s
	}
	newest, err := c.cfg.Images.DefaultDigest(ctx)
	if err != nil {
		c.cfg.Log.Debug("the newest image is not known", "err", err)
		return s
	}
	s.Newest = newest
	return s
}

// ImageChange implements [agent.Workspaces].
func (c *ControlPlane) ImageChange(ctx context.Context, id string) (agent.ImageChange, error) {
	state, err := c.Image(ctx, id)
	if err != nil || !state.Newer() {
		return agent.ImageChange{ImageState: state}, err
	}
	packages, err := c.cfg.Images.Packages(ctx, id)
	if err != nil {
		c.cfg.Log.Warn("which packages a workspace has is not known", "workspace", id, "err", err)
		return agent.ImageChange{ImageState: state, Unknown: true}, nil
	}
	return agent.ImageChange{ImageState: state, Packages: packages}, nil
}

// ChangeImage implements [agent.Workspaces]. The move is the first step of a
// start, so that it is done, or said why not, whatever happens meanwhile.
func (c *ControlPlane) ChangeImage(ctx context.Context, id, digest string) (agent.Workspace, error) {
	rec, err := c.record(ctx, id)
	if err != nil {
		return agent.Workspace{}, err
	}
	state := c.imageState(ctx, rec)
	switch {
	case !state.Newer():
		return agent.Workspace{}, agent.Errorf(agent.CodeConflict, "There is no other image that workspace %q can move on to", rec.Name)
	case digest != state.Newest:
		return agent.Workspace{}, agent.Errorf(agent.CodeConflict, "There is another image since it was shown: look at what moving on changes as it is now")
	}
	payload, err := json.Marshal(startPayload{Image: digest})
	if err != nil {
		return agent.Workspace{}, fmt.Errorf("change image: %w", err)
	}
	return c.request(ctx, id, agent.Job{Kind: agent.JobStart, Payload: string(payload)})
}

// imageStep moves the workspace on to another image, if its owner asked for
// that; ok is false otherwise. Only the own layer goes.
func (a *attempt) imageStep() (s jobStep, ok bool) {
	var p startPayload
	if a.job.Payload == "" || json.Unmarshal([]byte(a.job.Payload), &p) != nil || p.Image == "" {
		return s, false
	}
	return jobStep{name: agent.StepImage, title: "Moving on to the newer image", limit: 15 * time.Minute, do: func(ctx context.Context) error {
		// A container that runs, as one that could not be stopped, is on the files.
		err := a.c.cfg.Runtime.Stop(ctx, a.rec.ID, a.c.cfg.StopGrace)
		if err != nil && agent.ErrorCode(err) != agent.CodeNotFound {
			return err
		}
		return a.c.cfg.Storage.ChangeImage(ctx, a.rec.ID, p.Image)
	}, done: func(rec *agent.Record) {
		rec.ImageDigest = p.Image
	}}, true
}

// noteImage finds out to which image the workspace's files belong, for its row. It
// waits for the disk, whose files the start needs anyway.
func (a *attempt) noteImage(ctx context.Context) {
	usage, err := a.c.cfg.Storage.Usage(ctx)
	if err != nil {
		a.log.Warn("the image that the workspace is made from is not known until its next start", "err", err)
		return
	}
	if i := slices.IndexFunc(usage.Files, func(f agent.FilesUsage) bool { return f.ID == a.rec.ID }); i >= 0 {
		a.image = usage.Files[i].Image
	}
}
