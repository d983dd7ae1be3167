// Package ecosystem runs the processes of the shared project by PM2, as a file
// of the project describes them, and tells what became of them.
//
// PM2 runs as a unit of systemd, so that nothing of it is left when it is
// stopped or the VM is. The package owns guest.EcosystemDir, on the data disk:
// what is to run, and PM2's home with its state, dump and logs. It imports agent
// and guest.
package ecosystem
