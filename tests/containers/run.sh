#!/usr/bin/env bash
# The chapters whose images can be had, or stood in for, on a real Docker engine: this
# machine's, or one that is started for it (Debian, as root).
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! docker compose version >/dev/null 2>&1 || ! docker info >/dev/null 2>&1; then
  if [ -z "${DOCKER_HOST:-}" ] && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
    exec tests/containers/engine.sh "${COOKBOOK_ENGINES:-.engines}/docker" "$0" "$@"
  fi
  echo "No Docker engine with compose answers here, and none can be started." >&2
  exit 2
fi
tests/containers/images.sh
# Testcontainers' reaper has no stand-in.
timeout 120 docker pull --quiet testcontainers/ryuk:0.8.1 ||
  export TESTCONTAINERS_RYUK_DISABLED=true
chapters=(postgresql mysql redis testing)
export COOKBOOK_PROVIDER=container
export COOKBOOK_REQUIRE=postgresql,postgresql_tls,mysql,redis,docker
exec .venv/bin/pytest --numprocesses=auto --ledger=build/containers.json \
  tests/containers tests/cookbook/test_compose.py tests/recipes/test_output.py "${chapters[@]/#/tests/recipes/}" \
  "${chapters[@]/#/--recipe=}" "$@"
