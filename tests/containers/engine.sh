#!/usr/bin/env bash
# A Docker engine with compose for a Debian machine that has none, started for one
# command and removed after it:  engine.sh FOLDER COMMAND...   (root, Debian 12 or newer)
#
# The engine is Debian's docker.io on a socket of its own. Compose is the plugin that
# Debian sid has, unpacked: Debian 12 has version 1 only.
set -euo pipefail
folder=$(realpath -m "$1")
shift
mkdir -p "$folder"

missing=()
for pair in dockerd:docker.io iptables:iptables debootstrap:debootstrap; do
  PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -yq --no-install-recommends "${missing[@]}"
fi

export DOCKER_CONFIG="$folder/config"
plugins="$DOCKER_CONFIG/cli-plugins"
if ! docker compose version >/dev/null 2>&1; then
  echo "the plugins of Debian sid: compose, buildx"
  mkdir -p "$plugins" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
  mirror=$(apt-get indextargets --format '$(SITE)' | grep -v security | head -1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" \
    >"$folder/apt/sources.list"
  apt=(apt-get -q -o "Dir::Etc::SourceList=$folder/apt/sources.list"
    -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$folder/apt/lists"
    -o "Dir::Cache=$folder/apt/cache" -o APT::Sandbox::User=root
    -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none)
  "${apt[@]}" update
  (cd "$folder/apt" && "${apt[@]}" download docker-compose docker-buildx)
  for package in "$folder"/apt/*.deb; do
    dpkg-deb -x "$package" "$folder/apt/unpacked"
  done
  cp "$folder"/apt/unpacked/usr/libexec/docker/cli-plugins/docker-* "$plugins"
fi

# The engine changes the machine's firewall; what was there comes back.
before=$(mktemp)
iptables-save >"$before"
forward=$(cat /proc/sys/net/ipv4/ip_forward)
setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" \
  --pidfile "$folder/pid" --host "unix://$folder/socket" >"$folder/log" 2>&1 &
stop() {
  code=$?
  [ -e "$folder/pid" ] && kill "$(cat "$folder/pid")" && wait || true
  ip link delete docker0 2>/dev/null || true
  iptables-restore <"$before"
  echo "$forward" >/proc/sys/net/ipv4/ip_forward
  rm -f "$before"
  exit $code
}
trap stop EXIT
export DOCKER_HOST="unix://$folder/socket"
# This may be a container itself; its loopback is where the ports are.
export TESTCONTAINERS_CONNECTION_MODE=docker_host
for _ in $(seq 100); do
  docker info >/dev/null 2>&1 && break
  sleep 0.1
done
docker info >/dev/null || { tail -5 "$folder/log" >&2; exit 1; }
"$@"
