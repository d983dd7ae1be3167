// Command workspace-image builds the workspace image with Buildah, in process,
// reads its layers and writes its bill of materials. It is a program of its own
// because Buildah starts helpers from it, and because all three are much to
// compile.
//
//	workspace-image build <request.json    builds what images.Request asks for
//	workspace-image rootfs LAYOUT ARCHITECTURE DIRECTORY FILE
//	                                       writes an image's root file system as an
//	                                       archive, with its members at DIRECTORY
//	workspace-image bill <bill.json        writes an images.Bill as SPDX
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/images/buildah"
)

func main() {
	// Nothing of the host's configuration shapes an image. Set before Buildah's
	// helpers start, which inherit it.
	for _, name := range []string{"CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"} {
		_ = os.Setenv(name, os.DevNull) // it fails for invalid names only
	}
	if buildah.Reexec() {
		return
	}
	unix.Umask(0o022)                 // the modes of files in an image are not those of the caller's umask
	logrus.SetLevel(logrus.WarnLevel) // the libraries' own log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
