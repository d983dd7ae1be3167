// Package host is what a person's commands do on the host: start and stop an
// instance of the Root VM, look at it, reach into it, and say in words what
// happened. Each verb is a method of [App]; package cli gives them their command
// line.
//
// The same verbs serve two programs: rockpool, which stands alone, and mage in a
// checkout, which also builds what is missing. What differs is a [Program].
//
// The package owns the store of image files that were given by directory, below
// the state directory; instances belong to package vm.
package host
