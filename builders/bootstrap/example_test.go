package bootstrap_test

import (
	"fmt"
	"strings"

	"github.com/rockpool/rootvm/builders/bootstrap"
)

func ExamplePackageLock() {
	lock, err := bootstrap.ParsePackageLock(strings.NewReader(`Format: 1
Suite: trixie
Architecture: amd64
Set: example
Date: 2026-01-02T03:04:05Z
Include: hello

Package: hello
Version: 2.10-3
Architecture: amd64
Filename: pool/main/h/hello/hello_2.10-3_amd64.deb
Size: 5
SHA256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range lock.Packages() {
		fmt.Println(lock.Suite, p.Name, p.Version, p.Size)
	}
	// Output: trixie hello 2.10-3 5
}
