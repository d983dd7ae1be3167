package main

import (
	"fmt"
	"log/slog"
	nethttp "net/http"
	"os"
	"time"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/dashboard"
	"github.com/rockpool/rootvm/agent/http"
	"github.com/rockpool/rootvm/guest"
)

// openDashboard returns what answers below /app/: the dashboard, or what is
// configured instead of it. closing is closed when the agent ends.
func openDashboard(o serveOptions, plane agent.ControlPlane, ports guest.Ports, closing <-chan struct{}, log *slog.Logger) (nethttp.Handler, error) {
	application, _, err := openApplication(o, log) // open as long as the agent runs
	if application != nil || err != nil {
		return application, err
	}
	return (&dashboard.Dashboard{
		ControlPlane: plane, Ports: ports, Version: version, Now: time.Now, Closing: closing, Log: log,
	}).Handler(), nil
}

// openApplication returns what is configured instead of the dashboard, nil when
// nothing is, and what closes the files that it has open.
func openApplication(o serveOptions, log *slog.Logger) (application nethttp.Handler, shut func(), err error) {
	switch {
	case o.spaProxy != nil:
		h, err := http.SPAProxy(o.spaProxy, log)
		if err != nil {
			return nil, nil, configError{err}
		}
		return h, func() {}, nil
	case o.spaRoot != "":
		root, err := os.OpenRoot(o.spaRoot) // no link leads out of it
		if err != nil {
			return nil, nil, configError{fmt.Errorf("SPA_ROOT: %w", err)}
		}
		shut := func() { _ = root.Close() } // it was read only
		h, err := http.SPA(root.FS())
		if err != nil {
			shut()
			return nil, nil, configError{fmt.Errorf("SPA_ROOT %s: %w", o.spaRoot, err)}
		}
		return h, shut, nil
	}

	return nil, func() {}, nil
}
