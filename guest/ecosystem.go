package guest

// An ecosystem is the processes of the shared project that PM2 runs in the VM,
// as a file of PM2's describes them (pm2.keymetrics.io, "Ecosystem File").
const (
	EcosystemDir  = DataDir + "/ecosystem" // of AdminUser: the request, and PM2's home
	EcosystemHome = EcosystemDir + "/pm2"  // state, dump and logs of PM2; AdminUser's ~/.pm2 leads there
	EcosystemFile = EcosystemDir + "/ecosystem.json"
	EcosystemUnit = "rockpool-ecosystem.service"
)

// Ecosystem says what to run. The guest keeps it in EcosystemFile from start to
// stop.
type Ecosystem struct {
	File      string `json:"file"`                // relative to ShareDir, as the next; empty: PM2's usual names are tried
	EnvFile   string `json:"envFile,omitempty"`   // variables for the processes, in the form of `node --env-file`
	TakePorts bool   `json:"takePorts,omitempty"` // the web ports are the ecosystem's until it stops
	Restore   bool   `json:"restore,omitempty"`   // what PM2 dumped runs again after a boot
	BootID    string `json:"bootID,omitempty"`    // of the boot in which it was started; the guest sets it
}

// EcosystemStatus is what runs of it.
type EcosystemStatus struct {
	Status    string             `json:"status"` // systemd's of EcosystemUnit: active, inactive, failed, …
	Ecosystem *Ecosystem         `json:"ecosystem,omitempty"`
	Processes []EcosystemProcess `json:"processes"`
}

// Running reports whether PM2 runs.
func (s EcosystemStatus) Running() bool { return s.Status == "active" }

// EcosystemProcess is one process that PM2 looks after.
type EcosystemProcess struct {
	Name     string  `json:"name"`
	Status   string  `json:"status"` // PM2's: online, stopped, errored, launching, …
	PID      int     `json:"pid,omitempty"`
	Restarts int     `json:"restarts"`
	Since    int64   `json:"since,omitempty"` // when it was started last, milliseconds since 1970
	CPU      float64 `json:"cpu"`             // percent of one processor
	Memory   int64   `json:"memory"`          // bytes
}
