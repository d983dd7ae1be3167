# The Root VM's image. `go tool mage rootvm:build` compiles and stages what the
# variables point at and runs this template; the plugin's builder makes the
# disk without booting it.

packer {
  required_version = ">= 1.11.0"
  required_plugins {
    rootvm = {
      source  = "github.com/rockpool/rootvm"
      version = ">= 0.1.0" # the development version is installed by path
    }
  }
}

# What is asked for: builders.Spec, which says what each setting means.
variable "spec" {
  type = object({
    suite             = string
    architecture      = string
    formats           = list(string)
    disk_size         = number
    source_date_epoch = number
  })
}

source "rootvm" "root" {
  suite             = var.spec.suite
  architecture      = var.spec.architecture
  formats           = var.spec.formats
  disk_size         = var.spec.disk_size
  source_date_epoch = var.spec.source_date_epoch

  mirrors          = var.mirrors
  cache_directory  = var.cache_directory
  work_directory   = var.work_directory
  output_directory = var.output_directory
  workspace_rootfs = var.workspace_rootfs
  revision         = var.revision
  input_digest     = var.input_digest
}

# Each step of provision/steps is one shell provisioner, behind the uploads it
# consumes. What changes most often comes last: the communicator caches every
# step together with all before it.
build {
  sources = ["source.rootvm.root"]

  provisioner "file" {
    source      = "${local.provision}/files/system"
    destination = "/tmp"
  }
  provisioner "shell" {
    script          = "${local.provision}/steps/10-system.sh"
    remote_path     = "/tmp/10-system.sh"
    execute_command = "bash {{ .Path }} /tmp/system ${var.spec.suite} ${var.root_uuid}"
  }
  provisioner "shell" {
    script          = "${local.provision}/steps/20-services.sh"
    remote_path     = "/tmp/20-services.sh"
    execute_command = "bash {{ .Path }}"
  }

  provisioner "file" {
    source      = var.node_directory
    destination = "/tmp"
  }
  provisioner "shell" {
    script          = "${local.provision}/steps/30-node.sh"
    remote_path     = "/tmp/30-node.sh"
    execute_command = "bash {{ .Path }} /tmp/node_modules ${var.spec.architecture}"
  }

  provisioner "file" {
    source      = "${var.stage_directory}/rockpool-queue"
    destination = "/tmp/rockpool-queue"
  }
  provisioner "shell" {
    script          = "${local.provision}/steps/40-queue.sh"
    remote_path     = "/tmp/40-queue.sh"
    execute_command = "bash {{ .Path }} /tmp/rockpool-queue"
  }

  provisioner "file" {
    source      = "${var.stage_directory}/rockpool-agent"
    destination = "/tmp/rockpool-agent"
  }
  provisioner "file" {
    source      = "${var.stage_directory}/templates"
    destination = "/tmp"
  }
  provisioner "shell" {
    script          = "${local.provision}/steps/50-rockpool.sh"
    remote_path     = "/tmp/50-rockpool.sh"
    execute_command = "bash {{ .Path }} /tmp/rockpool-agent /tmp/templates"
  }

  provisioner "shell" {
    script          = "${local.provision}/steps/90-seal.sh"
    remote_path     = "/tmp/90-seal.sh"
    execute_command = "bash {{ .Path }}"
  }

  post-processor "rootvm-qcow2" {
    name                = "qcow2"
    cache_directory     = var.cache_directory
    keep_input_artifact = contains(var.spec.formats, "raw")
  }

  # A block of its own: it too starts from the raw disk.
  post-processor "rootvm-tart" {
    name                = "tart"
    keep_input_artifact = contains(var.spec.formats, "raw")
  }
}
