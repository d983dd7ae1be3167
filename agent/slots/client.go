package slots

import (
	"context"
	"fmt"

	"github.com/rockpool/rootvm/agent/oneline"
)

// Client asks the machine's root for views.
type Client struct{ Socket string }

// View returns the path of the view of a slot, made now unless it is there.
func (c Client) View(ctx context.Context, slot int) (string, error) {
	path, err := oneline.Ask(ctx, c.Socket, fmt.Sprintln(slot))
	if err != nil {
		return "", fmt.Errorf("ask for the view of slot %d: %w", slot, err)
	}
	return path, nil
}
