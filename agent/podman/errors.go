//go:build remote

package podman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/errorhandling"
	"golang.org/x/sys/unix"

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
	if isFull(err) {
		return agent.Errorf(agent.CodeNoSpace, "The disk of the VM is full. Delete workspaces or files, or give the VM a larger data disk.")
	}
	code, codeErr := bindings.CheckResponseCode(err)
	if codeErr != nil && isTransport(err) {
		return fmt.Errorf("%w (%s: %w)", agent.Errorf(agent.CodeUnavailable, "Podman does not answer. The work goes on when it does."), op, err)
	}

	if hasCause(err, define.ErrOCIRuntimeNotFound) {
		return fmt.Errorf("%w (%s: %w)", agent.Errorf(agent.CodeValidation, "The image's program cannot be started: the image does not have it"), op, err)
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

// hasCause reports whether one of Podman's own errors is the cause of an answer.
// Over the wire it is that error's text, whole.
func hasCause(err, cause error) bool {
	m, ok := errors.AsType[*errorhandling.ErrorModel](err)
	return errors.Is(err, cause) || ok && m.Because == cause.Error()
}

// isFull tells that a disk, or what an account may take of it, is full: the
// kernel's words or SQLite's, at the end of a line of the answer.
func isFull(err error) bool {
	if hasCause(err, unix.ENOSPC) || hasCause(err, unix.EDQUOT) {
		return true
	}
	return slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool {
		return full.MatchString(line) || strings.HasSuffix(line, ": database or disk is full")
	})
}

// refusals are what a registry, or Podman before it asks one, says of an image
// that cannot be had: codes of the distribution specification, which stand
// between colons, and Podman's own words for a reference that is none.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
var refusals = regexp.MustCompile(`(?i)^(manifest unknown|name unknown|name invalid|repository name not known to registry|unauthorized|denied|authentication required|` +
	`requested access to the resource is denied|access to the requested resource is not authorized|` +
	`invalid status code from registry 40[134] \(.*\)|invalid reference format|short-name ".*|` +
	`no image found in (manifest list|image index) for architecture .*|unsupported manifest .*)$`)

// imageFault tells an image that cannot be had, whose reference the user has to
// change, from a registry that cannot be reached now.
func imageFault(ctx context.Context, reference string, err error) error {
	code, codeErr := bindings.CheckResponseCode(err)
	if ctx.Err() != nil || isFull(err) || codeErr != nil && isTransport(err) {
		return err
	}
	parts := strings.FieldsFunc(strings.ReplaceAll(err.Error(), ": ", "\n"), func(r rune) bool { return r == '\n' })
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if codeErr == nil && code == http.StatusBadRequest || slices.ContainsFunc(parts, refusals.MatchString) {
		return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeValidation, "The image %q cannot be used. Check its name, and that it can be pulled without a login.", reference), err)
	}
	reason := "nothing is known of why"
	if len(parts) > 0 {
		reason = withoutSecrets(parts[len(parts)-1], "")
	}
	return fmt.Errorf("%w (%w)", agent.Errorf(agent.CodeInternal, "The image %q could not be pulled: %.200s.", reference, reason), err)
}
