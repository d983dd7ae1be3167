//go:build remote

package podman

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// healthTime bounds one look at an IDE, and healthSize what is read of the
// answer, in bytes.
const (
	healthTime = 5 * time.Second
	healthSize = 4 << 10
)

// Health implements [agent.IDEHealth] with a request of its own: looking by
// exec would leave a process for each look.
type Health struct{ Client *http.Client }

// Healthy implements [agent.IDEHealth]. A redirect is not followed: the agent
// may reach what workspaces may not, and is not to be sent there by one.
func (h Health) Healthy(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("health of the IDE: %w", err)
	}
	client := *h.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health of the IDE: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, healthSize)); err != nil {
		return fmt.Errorf("health of the IDE: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health of the IDE: it answers %s", res.Status)
	}
	return nil
}
