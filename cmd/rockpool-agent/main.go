// Command rockpool-agent is everything of Rockpool that runs inside the Root
// VM: the daemon, and the steps that prepare the machine for it.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
