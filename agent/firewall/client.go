package firewall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent/oneline"
	"github.com/rockpool/rootvm/guest"
)

// maxList bounds a list of networks, in bytes: the longest prefix has 43.
const maxList = guest.MaxHostNetworks * 48

// readList reads lines up to an empty one. That they are networks is not
// checked here.
func readList(r io.Reader) ([]string, error) {
	br := bufio.NewReader(io.LimitReader(r, maxList))
	var list []string
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return nil, errors.New("the list of networks has no end, or is too long")
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return list, nil
		}
		list = append(list, line)
	}
}

// Client tells the machine's root which networks are the host's.
type Client struct{ Socket string }

// Refuse has these networks refused to workspaces, and no longer those that it
// was called with before.
func (c Client) Refuse(ctx context.Context, networks []netip.Prefix) error {
	var list strings.Builder
	for _, p := range networks {
		fmt.Fprintln(&list, p)
	}
	list.WriteByte('\n') // the end
	if _, err := oneline.Ask(ctx, c.Socket, list.String()); err != nil {
		return fmt.Errorf("tell the host's networks: %w", err)
	}
	return nil
}

// Keep has the newest of the lists refused, and tries again until that is so:
// the agent hears of the networks before the root helper can be asked. It
// returns when ctx ends.
func (c Client) Keep(ctx context.Context, lists <-chan []netip.Prefix, retry time.Duration, log *slog.Logger) {
	var list []netip.Prefix
	again := time.NewTimer(retry)
	again.Stop()
	defer again.Stop()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return
		case list = <-lists:
		case <-again.C:
		}
		err := c.Refuse(ctx, list)
		switch {
		case err == nil:
			log.Info("workspaces are kept from the host's networks", "networks", list)
			told = ""
			continue
		case err.Error() != told && ctx.Err() == nil:
			told = err.Error()
			log.Warn("workspaces are not kept from the host's networks yet", "err", err)
		}
		again.Reset(retry)
	}
}
