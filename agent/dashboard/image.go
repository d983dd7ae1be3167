package dashboard

import (
	"net/http"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// shortDigest is enough of a digest for people to tell two images apart.
func shortDigest(digest string) string {
	const digits = 12
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(digits, len(hex))]
}

type imageView struct {
	layout
	W      agent.Workspace
	Change agent.ImageChange
	May    bool // its state allows moving on
	Notice string
}

// image shows what moving on to the newer image changes.
func (d *Dashboard) image(w http.ResponseWriter, r *http.Request) error {
	return d.showImage(w, r, http.StatusOK, "")
}

func (d *Dashboard) showImage(w http.ResponseWriter, r *http.Request, status int, notice string) error {
	found, err := d.ControlPlane.Workspace(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	v := imageView{layout: d.layout("Image of "+found.Name, listPath), W: found, May: offered(found.Status).Start, Notice: notice}
	if v.Change, err = d.ControlPlane.ImageChange(r.Context(), found.ID); err != nil {
		return err
	}
	return d.render(w, status, "image.html", v)
}

func (d *Dashboard) changeImage(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	_, err := d.ControlPlane.ChangeImage(r.Context(), r.PathValue("id"), r.PostForm.Get("digest"))
	if err == nil {
		return back(w, r)
	}
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return err
	}
	status, e := d.explain(r, err)
	return d.showImage(w, r, status, e.Message)
}
