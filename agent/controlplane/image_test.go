package controlplane_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/controlplane"
	"github.com/rockpool/rootvm/agent/stub"
)

// newer is the digest of the image that comes after [stub.Digest].
var newer = "sha256:" + strings.Repeat("2", 64)

// update has the VM carry another image, with the one before kept.
func (w *world) update(t *testing.T) {
	t.Helper()
	must(t, w.rt.Storage().KeepImage(t.Context()))
	w.rt.Carry(newer)
}

func (p *plane) image(id string) agent.ImageState {
	p.t.Helper()
	s, err := p.Image(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// TestImage_stays: a workspace stays on the image that it was made from, whatever
// the VM carries, over restarts of it and of the agent; a new one is made from
// the new image.
func TestImage_stays(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		ws := p.created("old")
		if got := p.image(ws.ID); got != (agent.ImageState{Reference: agent.DefaultImage, Digest: stub.Digest, Newest: stub.Digest}) || got.Newer() {
			t.Errorf("at first: %+v", got)
		}
		w.rt.Install(ws.ID, "postgresql")
		w.update(t)
		p.restart(ws.ID)
		p.end()
		p = w.live(t, func(c *controlplane.Config) { c.Rebooted = true })
		p.wait(ws.ID, agent.StatusRunning)
		if got := p.image(ws.ID); got.Digest != stub.Digest || got.Newest != newer || !got.Newer() {
			t.Errorf("after an update: %+v", got)
		}
		if f := p.files(ws.ID); f.Image != stub.Digest {
			t.Errorf("files: %+v", f)
		}
		if names, err := w.rt.Packages(t.Context(), ws.ID); err != nil || !slices.Equal(names, []string{"postgresql"}) {
			t.Errorf("packages: %q, %v", names, err)
		}
		if got := p.image(p.created("new").ID); got.Digest != newer || got.Newer() {
			t.Errorf("a new one: %+v", got)
		}
	})
}

// TestChangeImage: moving on deletes what lies outside the home directory and
// nothing else, when its owner asks for it and was told what goes.
func TestChangeImage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		ws := p.created("one")
		must(t, p.rt.WriteFile(ctx, ws.ID, "notes", []byte("mine")))
		w.rt.Install(ws.ID, "postgresql", "redis")
		w.rt.Fill(ws.ID, 1<<30)
		_, err := p.ChangeImage(ctx, ws.ID, stub.Digest)
		wantError(t, err, agent.CodeConflict, `There is no other image that workspace "one" can move on to`)

		w.update(t)
		change, err := p.ImageChange(ctx, ws.ID)
		if err != nil || !slices.Equal(change.Packages, []string{"postgresql", "redis"}) || change.Unknown || !change.Newer() {
			t.Errorf("what it changes: %+v, %v", change, err)
		}
		_, err = p.ChangeImage(ctx, ws.ID, newer)
		wantError(t, err, agent.CodeConflict, `Cannot transition from "running" to "creating"`)
		_, err = p.StopWorkspace(ctx, ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		_, err = p.ChangeImage(ctx, ws.ID, "sha256:seen-before")
		wantError(t, err, agent.CodeConflict, "There is another image since it was shown: look at what moving on changes as it is now")
		if f := p.files(ws.ID); f.Image != stub.Digest || f.Used < 1<<30 {
			t.Fatalf("refused: %+v", f)
		}

		_, err = p.ChangeImage(ctx, ws.ID, newer)
		must(t, err)
		p.wait(ws.ID, agent.StatusRunning)
		if f := p.files(ws.ID); f.Image != newer || f.Used >= 1<<30 {
			t.Errorf("files: %+v", f)
		}
		if got := p.image(ws.ID); got.Digest != newer || got.Newer() {
			t.Errorf("afterwards: %+v", got)
		}
		if got := p.file(ws.ID, "notes"); got != "mine" {
			t.Errorf("the home directory has %q", got)
		}
		steps, err := p.Steps(ctx, ws.ID)
		if names := stepNames(steps); err != nil || !strings.HasPrefix(names, "image:done container:done") {
			t.Errorf("steps: %s, %v", names, err)
		}
		p.restart(ws.ID) // and not once more
		if steps, _ := p.Steps(ctx, ws.ID); strings.Contains(stepNames(steps), "image") {
			t.Errorf("steps of the next start: %s", stepNames(steps))
		}
	})
}

// TestChangeImage_fails: a move that fails leaves the workspace on its image with
// all that it has, and it starts as before.
func TestChangeImage_fails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		ws := p.created("one")
		w.rt.Install(ws.ID, "postgresql")
		_, err := p.StopWorkspace(ctx, ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		w.update(t)
		w.hooks.set(fail(stub.OpChangeImage, agent.Errorf(agent.CodeNotFound, "There is no such image.")))
		_, err = p.ChangeImage(ctx, ws.ID, newer)
		must(t, err)
		if got := p.wait(ws.ID, agent.StatusError); got.ErrorMessage != "There is no such image." {
			t.Errorf("message: %q", got.ErrorMessage)
		}
		if got := p.image(ws.ID); got.Digest != stub.Digest {
			t.Errorf("image: %+v", got)
		}
		w.hooks.set(nil)
		_, err = p.StartWorkspace(ctx, ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusRunning)
		if names, err := w.rt.Packages(ctx, ws.ID); err != nil || len(names) != 1 || p.image(ws.ID).Digest != stub.Digest {
			t.Errorf("packages %q, %v, image %+v", names, err, p.image(ws.ID))
		}
	})
}

// TestChangeImage_killed: an agent that ends at the move, before its effect or
// after it, moves the workspace on all the same.
func TestChangeImage_killed(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := w.live(t)
				ws := p.created("one")
				_, err := p.StopWorkspace(t.Context(), ws.ID)
				must(t, err)
				p.wait(ws.ID, agent.StatusStopped)
				w.update(t)
				w.hooks.set(func(ctx context.Context, c stub.Call) error {
					if c.Op == stub.OpChangeImage && c.After == after {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				})
				_, err = p.ChangeImage(t.Context(), ws.ID, newer)
				must(t, err)
				time.Sleep(time.Minute)
				p.end()
				w.hooks.set(nil)
				p = w.live(t)
				p.wait(ws.ID, agent.StatusRunning)
				if got := p.image(ws.ID); got.Digest != newer || p.files(ws.ID).Image != newer {
					t.Errorf("image: %+v", got)
				}
			})
		})
	}
}

// TestImage_unknown: what is not known keeps nothing from being shown. Of an image
// from a registry nothing newer is said.
func TestImage_unknown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.live(t)
		own := p.wait(p.create(agent.NewWorkspace{Name: "own", Image: "registry.example/mine:1"}).ID, agent.StatusRunning)
		ws := p.created("one")
		w.update(t)
		if got := p.image(own.ID); got.Newest != "" || got.Newer() || got.Reference != "registry.example/mine:1" {
			t.Errorf("of a registry: %+v", got)
		}
		w.hooks.set(fail(stub.OpPackages, agent.Errorf(agent.CodeUnavailable, "Podman does not answer.")))
		change, err := p.ImageChange(t.Context(), ws.ID)
		if err != nil || !change.Unknown || !change.Newer() {
			t.Errorf("%+v, %v", change, err)
		}
	})
}

// TestImage_lost: a workspace whose image was not kept does not start on another
// one by itself; its owner can move it on, and it has its home directory.
func TestImage_lost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		p := w.live(t)
		ws := p.created("one")
		must(t, p.rt.WriteFile(ctx, ws.ID, "notes", []byte("mine")))
		_, err := p.StopWorkspace(ctx, ws.ID)
		must(t, err)
		p.wait(ws.ID, agent.StatusStopped)
		w.rt.Carry(newer)
		_, err = p.StartWorkspace(ctx, ws.ID)
		must(t, err)
		if got := p.wait(ws.ID, agent.StatusError); !strings.Contains(got.ErrorMessage, stub.Digest) {
			t.Errorf("message: %q", got.ErrorMessage)
		}
		if f := p.files(ws.ID); f.Image != stub.Digest || !p.image(ws.ID).Newer() {
			t.Errorf("files %+v, image %+v", f, p.image(ws.ID))
		}
		_, err = p.ChangeImage(ctx, ws.ID, newer)
		must(t, err)
		p.wait(ws.ID, agent.StatusRunning)
		if got := p.file(ws.ID, "notes"); got != "mine" || p.image(ws.ID).Digest != newer {
			t.Errorf("%q, %+v", got, p.image(ws.ID))
		}
	})
}
