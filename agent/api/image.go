package api

import (
	"net/http"

	"github.com/rockpool/rootvm/agent"
)

// The operations on the image that a workspace is made from.
var (
	GetImage    = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/image"}
	ChangeImage = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/image"}
)

// Image is an [agent.ImageChange].
type Image struct {
	Image           string   `json:"image"`
	Digest          Text     `json:"digest"`
	Newest          Text     `json:"newest"`
	Newer           bool     `json:"newer"`
	Packages        []string `json:"packages"`
	PackagesUnknown bool     `json:"packagesUnknown"`
}

// FromImage is c on the wire.
func FromImage(c agent.ImageChange) Image {
	return Image{
		Image:           c.Reference,
		Digest:          Text(c.Digest),
		Newest:          Text(c.Newest),
		Newer:           c.Newer(),
		Packages:        List(c.Packages, func(name string) string { return name }),
		PackagesUnknown: c.Unknown,
	}
}

// Domain is the change that i stands for.
func (i Image) Domain() agent.ImageChange {
	return agent.ImageChange{
		ImageState: agent.ImageState{Reference: i.Image, Digest: string(i.Digest), Newest: string(i.Newest)},
		Packages:   i.Packages,
		Unknown:    i.PackagesUnknown,
	}
}

// NewImage is the body of [ChangeImage].
type NewImage struct {
	Digest string `json:"digest"` // of the newest image, as it was shown
}
