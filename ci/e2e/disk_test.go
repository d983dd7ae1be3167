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

// disk is who takes what, by the API.
func (i *instance) disk(t *testing.T) (d api.Disk) {
	t.Helper()
	status, body := i.ask(t, http.MethodGet, "/api/disk", nil)
	if err := json.Unmarshal([]byte(body), &d); err != nil || status != http.StatusOK {
		t.Fatalf("disk: %d %s, %v", status, body, err)
	}
	return d
}

// diskTest writes into home directory and own layer of a workspace, and looks for
// it everywhere where it is told.
func diskTest(t *testing.T, i *instance, w remote) {
	const written = 200 << 20
	share := func() (s api.DiskShare) {
		for _, s := range i.disk(t).Workspaces {
			if s.ID == w.ID {
				return s
			}
		}
		t.Fatalf("%s takes nothing", w.Name)
		return s
	}
	before := share()
	i.inside(t, w, `for f in ~/ballast /var/tmp/ballast; do dd if=/dev/urandom of=$f bs=1M count=100 status=none conv=fsync; done`)
	eventually(t, time.Minute, "what was written is counted", func() bool { return share().Used >= before.Used+written })

	d, now := i.disk(t), share()
	if sum := d.Rest + d.Free; sum > d.Size || now.Used > d.Size-d.Free || now.Limit <= 0 || now.Limit > d.Size {
		t.Errorf("%+v of %+v", now, d)
	}
	if got := i.mage(t, "ws:disk"); !strings.Contains(got, w.Name) {
		t.Errorf("ws disk: %s", got)
	}
	eventually(t, 3*time.Minute, "vm status says so", func() bool {
		told := i.status(t).Disk
		return told != nil && slices.ContainsFunc(told.Workspaces, func(s guest.WorkspaceDisk) bool { return s.Name == w.Name && s.Used >= written })
	})
	if got := i.inside(t, w, "cat /etc/motd"); !strings.Contains(got, "df tells") {
		t.Errorf("inside it is not said what df tells: %q", got)
	}

	// What is deleted is free again.
	i.inside(t, w, "rm ~/ballast /var/tmp/ballast; sync")
	eventually(t, time.Minute, "what was deleted is not counted", func() bool { return share().Used < before.Used+written/2 })

	var image api.Image
	status, body := i.ask(t, http.MethodGet, "/api/workspaces/"+w.ID+"/image", nil)
	if err := json.Unmarshal([]byte(body), &image); err != nil || status != http.StatusOK || image.Digest == "" || image.Digest != image.Newest || image.Newer {
		t.Errorf("image: %d %s, %v", status, body, err)
	}
}
