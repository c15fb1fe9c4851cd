#!/usr/bin/env bash
# Makes a directory of Debian's arm64 headers and libraries to cross-compile against, from the -dev
# packages of tools/packages.txt. Nothing is installed and no architecture is added to this machine: apt
# keeps its state in the directory itself.
# usage: sysroot.sh DIRECTORY
set -euo pipefail
root=$(realpath -m "${1:?usage: sysroot.sh DIRECTORY}")
packages=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../packages.txt")
state=$root/var/apt
mkdir -p "$state/lists/partial" "$state/archives/partial"
: >"$state/status" # as if nothing were installed, so that every dependency comes along
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=
  -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state"
  -o Debug::NoLocking=1)
mapfile -t wanted < <(sed -n 's/^[a-z]* \(lib.*-dev\)$/\1/p' "$packages" | grep -v '^libclang')
"${apt[@]}" update
"${apt[@]}" -y --no-install-recommends --download-only install libc6-dev libstdc++-12-dev "${wanted[@]}"
for archive in "$state"/archives/*.deb; do dpkg -x "$archive" "$root"; done
# What points into the root of a machine points into this one.
find "$root" -type l -lname '/*' | while read -r link; do
  ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$root$(readlink "$link")")" "$link"
done
rm -rf "$state/archives" "$state/lists"
touch "$root/complete"
