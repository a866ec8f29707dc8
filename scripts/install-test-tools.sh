#!/usr/bin/env bash
# Installs what the tests in e2e/ run against: Debian's packages, by apt-get.
# It is quick when everything is there already.
set -euo pipefail

# command=package
tools=(
	nginx=nginx
	nghttp=nghttp2-client # h2load as well
	caddy=caddy
	curl=curl
	openssl=openssl
	chromium=chromium
	buildah=buildah
	setcap=libcap2-bin
	getcap=libcap2-bin
	prlimit=util-linux
	systemd-analyze=systemd
	ip=iproute2
	nft=nftables
	virsh=libvirt-clients
	libvirtd=libvirt-daemon
	cc=gcc # the race detector needs cgo
)

export PATH=$PATH:/usr/sbin:/sbin
missing=()
for tool in "${tools[@]}"; do
	command -v "${tool%%=*}" >/dev/null || missing+=("${tool##*=}")
done
if [ ${#missing[@]} -eq 0 ]; then
	echo "all test tools are installed"
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "not a Debian machine; install these by other means: ${missing[*]}" >&2
	exit 1
fi

sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
# No service of these packages may start: the tests run their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
	$sudo chmod +x $policy
	trap '$sudo rm -f $policy' EXIT
fi
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
