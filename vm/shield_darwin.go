package vm

import "os/exec"

// StartShielded starts a process of a machine in a session of its own. macOS
// offers no way to block its signals without C; Tart's process is not a child of
// a login session, and launchd asks the supervisor first.
func StartShielded(cmd *exec.Cmd) error {
	cmd.SysProcAttr = detached()
	return cmd.Start()
}
