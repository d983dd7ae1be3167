package host

func thisServiceManager() serviceManager { return systemd() }
