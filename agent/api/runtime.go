package api

import (
	"net/http"

	"github.com/rockpool/rootvm/agent"
)

// The runtime API is [agent.Runtime], method by method. The workspace's id is
// in the path. A method without a result answers 204.
var (
	CreateContainer    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/create"}
	StartContainer     = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/start"}
	StopContainer      = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/stop"}
	RemoveContainer    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/remove"}
	GetContainerStatus = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/status"}
	GetAddress         = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/address"}
	ConfigureIDE       = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/configure"}
	CloneRepository    = Operation{Method: http.MethodPost, Pattern: "/api/runtime/{id}/clone"}
	ReadFile           = Operation{Method: http.MethodGet, Pattern: "/api/runtime/{id}/readFile", Query: []string{QueryPath}}
	WriteFile          = Operation{Method: http.MethodPut, Pattern: "/api/runtime/{id}/writeFile", Query: []string{QueryPath}}
)

// NewContainer is the body of [CreateContainer].
type NewContainer struct {
	Name  string `json:"name"`
	Image string `json:"image,omitempty"`
	Port  int    `json:"port"`
	Slot  int    `json:"slot"`

	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	DiskBytes   int64 `json:"diskBytes,omitempty"`
}

// Stop is the body of [StopContainer].
type Stop struct {
	GraceSeconds float64 `json:"graceSeconds"`
}

// IDEConfig is the body of [ConfigureIDE].
type IDEConfig struct {
	Name   string `json:"name"`
	Folder string `json:"folder,omitempty"`
}

// Clone is the body of [CloneRepository].
type Clone struct {
	URL    string `json:"url"`
	Folder string `json:"folder"`
	Token  string `json:"token,omitempty"`
}

// ContainerStatus is the answer of [GetContainerStatus].
type ContainerStatus struct {
	Status agent.ContainerStatus `json:"status"`
}

// Address is the answer of [GetAddress].
type Address struct {
	Address string `json:"address"`
}
