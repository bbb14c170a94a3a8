# Sourced: how cmd/kube is compiled, as images/edge.yaml has it. Other flags would
# compile all of Kubernetes once more.
# shellcheck shell=bash disable=SC2034
kube_flags=(-trimpath -tags=no_btrfs,no_zfs,no_devmapper,no_openssl,grpcnotrace)
