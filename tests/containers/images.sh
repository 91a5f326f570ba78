#!/usr/bin/env bash
# The images of docker-compose.yml for an engine that can pull none: what the registry
# does not answer for is built here from Debian's packages and tagged with its name.
# docker-compose.yml itself is used as it is.
set -euo pipefail
cd "$(dirname "$0")"
image() { # the image of a service, as docker-compose.yml names it
  sed -n "/^  $1:\$/,/^    image: /s/^    image: //p" ../../docker-compose.yml
}

declare -A stand_in=([postgresql]=postgres [mysql]=mariadb [mariadb]=mariadb [redis]=redis)
for service in postgresql mysql mariadb redis; do
  name=$(image "$service")
  docker image inspect "$name" >/dev/null 2>&1 && continue
  timeout 300 docker pull --quiet "$name" 2>/dev/null && continue
  echo "$name cannot be pulled: a stand-in from Debian's packages"
  if ! docker image inspect cookbook/debian >/dev/null 2>&1; then
    root=$(mktemp -d)
    debootstrap --variant=minbase bookworm "$root" >/dev/null
    tar -C "$root" -c --numeric-owner . | docker import - cookbook/debian >/dev/null
    rm -rf "$root"
  fi
  docker build --quiet --tag "$name" "${stand_in[$service]}" >/dev/null
done
docker image ls
