module github.com/anchore/syft

go 1.26.0
