package api

import (
	"net/http"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// The operations on ports.
var (
	ListPorts  = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/ports"}
	AddPort    = Operation{Method: http.MethodPost, Pattern: "/api/workspaces/{id}/ports"}
	Listening  = Operation{Method: http.MethodGet, Pattern: "/api/workspaces/{id}/listening"}
	RemovePort = Operation{Method: http.MethodDelete, Pattern: "/api/workspaces/{id}/ports/{port}"}
)

// Port is an [agent.Port].
type Port struct {
	WorkspaceID string `json:"workspaceId"`
	Port        int    `json:"port"`
	Label       Text   `json:"label"`
	CreatedAt   Time   `json:"createdAt"`
}

// FromPort is p on the wire.
func FromPort(p agent.Port) Port {
	return Port{WorkspaceID: p.WorkspaceID, Port: p.Port, Label: Text(p.Label), CreatedAt: Time(p.CreatedAt)}
}

// Domain is the port that p stands for.
func (p Port) Domain() agent.Port {
	return agent.Port{WorkspaceID: p.WorkspaceID, Port: p.Port, Label: string(p.Label), CreatedAt: time.Time(p.CreatedAt)}
}

// NewPort is the body of [AddPort].
type NewPort struct {
	Port  int    `json:"port"`
	Label string `json:"label,omitempty"`
}

// ReadOnly are the members of a [Port] that nobody may send.
func (NewPort) ReadOnly() []string { return []string{"workspaceId", "createdAt"} }

// Listener is an [agent.Listener].
type Listener struct {
	Port      int      `json:"port"`
	Program   Text     `json:"program"`
	Addresses []string `json:"addresses"`
}

// FromListener is l on the wire.
func FromListener(l agent.Listener) Listener {
	return Listener{Port: l.Port, Program: Text(l.Program), Addresses: append([]string{}, l.Addresses...)}
}

// Domain is the listener that l stands for.
func (l Listener) Domain() agent.Listener {
	return agent.Listener{Port: l.Port, Program: string(l.Program), Addresses: l.Addresses}
}
