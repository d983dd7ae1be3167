module github.com/hashicorp/go-getter/gcs/v2

go 1.26.0

require github.com/hashicorp/go-getter/s3/v2 v2.2.2
