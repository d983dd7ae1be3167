//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings"

	"github.com/rockpool/rootvm/agent"
)

// fault turns what the bindings return into what [agent.Runtime] promises.
func fault(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*agent.Error](err); ours {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("podman: %s: %w", op, cause)
	}
	text := err.Error()
	isFull := func(words string) bool { return strings.Contains(text, words) } // the last words are SQLite's
	if slices.ContainsFunc([]string{"no space left on device", "disk quota exceeded", "database or disk is full"}, isFull) {
		return agent.Errorf(agent.CodeNoSpace, "The disk of the VM is full. Delete workspaces or files, or give the VM a larger data disk.")
	}
	code, codeErr := bindings.CheckResponseCode(err)
	if codeErr != nil && isTransport(err) {
		return fmt.Errorf("%w (%s: %w)", agent.Errorf(agent.CodeUnavailable, "Podman does not answer. The work goes on when it does."), op, err)
	}

	if code == http.StatusNotFound {
		return agent.Errorf(agent.CodeNotFound, "The workspace's container does not exist")
	}
	return fmt.Errorf("podman: %s: %w", op, err)
}

// isTransport tells whether the service was not reached, or went away before
// it had answered.
func isTransport(err error) bool {
	if _, ok := errors.AsType[bindings.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

func isNotFound(err error) bool {
	if agent.ErrorCode(err) == agent.CodeNotFound {
		return true
	}
	code, codeErr := bindings.CheckResponseCode(err)
	return codeErr == nil && code == http.StatusNotFound
}

// isLinkLoop tells that a path of the container leads to itself.
func isLinkLoop(err error) bool {
	return err != nil && strings.Contains(err.Error(), "too many levels of symbolic links")
}

// isPortBusy tells the one failure of a start that ends by itself: the
// container's former life still holds its port for a moment.
func isPortBusy(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "address already in use")
}

// isNameTaken tells that a container exists: an earlier attempt whose answer
// was lost made it.
func isNameTaken(err error) bool {
	return strings.Contains(err.Error(), "already in use") || strings.Contains(err.Error(), "already exists")
}

// imageFault tells a reference that leads nowhere, which the user has to
// change, from a registry that cannot be reached now.
func imageFault(reference string, err error) error {
	text := strings.ToLower(err.Error())
	for _, s := range []string{"manifest unknown", "not found", "unauthorized", "denied", "invalid reference", "short-name", "no such image", "unsupported", "name unknown"} {
		if strings.Contains(text, s) {
			return agent.Errorf(agent.CodeValidation, "The image %q cannot be used. Check its name, and that it can be pulled without a login.", reference)
		}
	}
	return fmt.Errorf("pull %s: %w", reference, err)
}
