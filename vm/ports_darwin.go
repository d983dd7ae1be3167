package vm

import (
	"context"
	"os/exec"
	"strconv"
	"time"
)

// portOwner names the process that listens on a port, as lsof(8) knows it.
func portOwner(port int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	argv := []string{"-nP", "-iTCP:" + strconv.Itoa(port), "-sTCP:LISTEN", "-Fpc"}
	out, err := exec.CommandContext(ctx, "/usr/sbin/lsof", argv...).Output()
	if owner, ok := parseOwner(string(out)); ok && err == nil {
		return owner
	}
	return unseenOwner + " (`sudo lsof -nP -iTCP:" + strconv.Itoa(port) + " -sTCP:LISTEN` names it)"
}
