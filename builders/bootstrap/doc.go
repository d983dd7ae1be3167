// Package bootstrap turns a lock into files: Debian packages into the root
// file system an image starts from, and into the tools tree whose programs
// shape an image's bytes on every host alike.
//
// A [PackageLock] pins packages by SHA-256. A [Fetcher] gets them into a
// [Cache], from any mirror, and makes [Tools] and root file systems of them. With
// a warm cache nothing here needs a network. [Resolve] makes a new lock.
//
// The package owns what is below Cache.Dir, nothing else. Whatever is there
// under its final name is complete: files are written aside, verified, synced
// and renamed. Deleting any of it costs time only. It imports builders,
// builders/store and builders/userns, and none of the other packages beside it.
package bootstrap
