package host

func thisServiceManager() serviceManager { return launchd() }
