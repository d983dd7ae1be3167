package slots

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Client asks the machine's root for views.
type Client struct{ Socket string }

// View returns the path of the view of a slot, made now unless it is there.
func (c Client) View(ctx context.Context, slot int) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return "", fmt.Errorf("ask for the view of slot %d: %w", slot, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := fmt.Fprintln(conn, slot); err != nil {
		return "", fmt.Errorf("ask for the view of slot %d: %w", slot, err)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxLine)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("ask for the view of slot %d: %w", slot, errors.Join(err, context.Cause(ctx)))
	}
	line = strings.TrimSuffix(line, "\n")
	if reason, bad := strings.CutPrefix(line, "error: "); bad {
		return "", fmt.Errorf("view of slot %d: %s", slot, reason)
	}
	return line, nil
}
