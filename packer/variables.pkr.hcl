variable "root_uuid" {
  type        = string
  description = "UUID of the root file system."
}

variable "mirrors" {
  type        = list(string)
  description = "Debian archives, tried in order; empty means the host's own."
  default     = []
}

variable "cache_directory" {
  type        = string
  description = "Packages, tools and layers, kept between builds."
}

variable "work_directory" {
  type        = string
  description = "Emptied before and after the build."
}

variable "output_directory" {
  type        = string
  description = "Receives the finished files."
}

variable "stage_directory" {
  type        = string
  description = "Holds rockpool-agent, rockpool-queue and the rendered templates."
}

variable "node_directory" {
  type        = string
  description = "The node_modules directory of provision/npm."
}

variable "workspace_rootfs" {
  type        = string
  description = "Archive of the workspace's root file system, laid over the finished one."
}

variable "revision" {
  type        = string
  description = "Commit of the sources, for the manifest."
  default     = ""
}

variable "input_digest" {
  type        = string
  description = "Digest of everything the image is made from, for the manifest."
  default     = ""
}

locals {
  provision = "${path.root}/../provision"
}
