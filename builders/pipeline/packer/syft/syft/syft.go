// Package syft stands for the module that Packer names and never calls.
package syft
