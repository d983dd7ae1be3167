//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent/api"
	"github.com/rockpool/rootvm/guest"
)

// imageOf is which image a workspace is made from, by the API.
func (i *instance) imageOf(t *testing.T, w remote) (image api.Image) {
	t.Helper()
	status, body := i.ask(t, http.MethodGet, "/api/workspaces/"+w.ID+"/image", nil)
	if err := json.Unmarshal([]byte(body), &image); err != nil || status != http.StatusOK {
		t.Fatalf("image: %d %s, %v", status, body, err)
	}
	return image
}

// keepsImage tells whether the data disk has an image.
func (i *instance) keepsImage(t *testing.T, digest string) bool {
	t.Helper()
	return slices.ContainsFunc(i.disk(t).Images, func(k api.DiskImage) bool { return k.Digest == digest })
}

// install puts a package and a file outside the home directory into a workspace,
// and a file into that.
const install = `mkdir -p /tmp/p/DEBIAN /tmp/p/opt && echo mine >/tmp/p/opt/of-the-package && echo mine >~/notes
	printf '%s\n' 'Package: e2e-of-the-owner' 'Version: 1' 'Architecture: all' 'Maintainer: x <x@localhost>' 'Description: x' >/tmp/p/DEBIAN/control
	dpkg-deb --root-owner-group --build /tmp/p /tmp/p.deb >/dev/null && sudo dpkg -i /tmp/p.deb >/dev/null && echo mine | sudo tee /var/lib/of-the-owner`

// TestUpdate_Workspaces gives the VM another image, by the name that it goes by:
// a workspace stays on the one before with all that was installed in it, until it
// is moved on.
func TestUpdate_Workspaces(t *testing.T) {
	takesLong(t)
	i := primary.up(t)
	w := i.create(t, "stays")
	i.reach(t, w.ID, "running")
	i.inside(t, w, install)
	before := i.imageOf(t, w)
	if before.Digest == "" || before.Newer {
		t.Fatalf("at first: %+v", before)
	}
	eventually(t, 30*time.Minute, "the image is kept on the data disk", func() bool { return i.keepsImage(t, string(before.Digest)) })

	next := "sha256:" + strings.Repeat("2", 64)
	digest := guest.WorkspaceDir + "/digest"
	rename := func(to string) {
		i.sh(t, "echo "+to+" | sudo tee "+digest+" >/dev/null; sudo systemctl restart rockpool-agent")
		eventually(t, readyLimit, "the agent answers", func() bool {
			status, _ := i.ask(t, http.MethodGet, "/api/workspaces/"+w.ID, nil)
			return status == http.StatusOK
		})
	}
	rename(next)
	t.Cleanup(func() { rename(string(before.Digest)) })

	const look = "cat ~/notes /opt/of-the-package /var/lib/of-the-owner 2>/dev/null; true"
	i.stop(t, w)
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/start", nil, http.StatusOK)
	i.reach(t, w.ID, "running")
	if got := i.inside(t, w, look); strings.Count(got, "mine") != 3 {
		t.Errorf("after the update it has %q", got)
	}
	if got := i.imageOf(t, w); got.Digest != before.Digest || string(got.Newest) != next || !got.Newer || !slices.Equal(got.Packages, []string{"e2e-of-the-owner"}) {
		t.Errorf("after the update: %+v", got)
	}
	young := i.create(t, "young")
	i.reach(t, young.ID, "running")
	if got := i.imageOf(t, young); string(got.Digest) != next || got.Newer {
		t.Errorf("a new workspace: %+v", got)
	}

	i.api(t, "POST", "/api/workspaces/"+w.ID+"/image", map[string]string{"digest": next}, http.StatusConflict) // it runs
	i.stop(t, w)
	if got := i.imageOf(t, w); !slices.Equal(got.Packages, []string{"e2e-of-the-owner"}) {
		t.Errorf("stopped: %+v", got)
	}
	i.api(t, "POST", "/api/workspaces/"+w.ID+"/image", map[string]string{"digest": next}, http.StatusOK)
	i.reach(t, w.ID, "running")
	if got := i.inside(t, w, look); strings.TrimSpace(got) != "mine" {
		t.Errorf("moved on, it has %q", got)
	}
	if got := i.imageOf(t, w); string(got.Digest) != next || got.Newer {
		t.Errorf("moved on: %+v", got)
	}
	eventually(t, 30*time.Minute, "the image that no workspace needs is removed", func() bool { return !i.keepsImage(t, string(before.Digest)) })
	i.stopAndDelete(t, w)
	i.stopAndDelete(t, young)
}
