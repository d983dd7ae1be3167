variable "suite" {
  type        = string
  description = "Debian suite: trixie or bookworm."
}

variable "architecture" {
  type        = string
  description = "Debian architecture: amd64 or arm64."
}

variable "formats" {
  type        = list(string)
  description = "Disk formats to leave in the output directory."
}

variable "disk_size" {
  type        = number
  description = "Virtual size of the disk, in bytes."
}

variable "root_uuid" {
  type        = string
  description = "UUID of the root file system."
}

variable "source_date_epoch" {
  type        = number
  description = "Latest time in the image, in seconds since 1970."
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

variable "overlay_archive" {
  type        = string
  description = "Tar archive to lay over the finished root file system: the workspace image."
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
