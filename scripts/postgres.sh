#!/usr/bin/env bash
# Install PostgreSQL's programs from Debian's packages, for the tests of shared studies. They start a server of their own, in a
# folder of their own, and skip where there is none: nothing is left running.
set -euo pipefail
if compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "PostgreSQL is not installed, and only root can install it, with apt-get" >&2
    exit 1
fi
# Debian's package would otherwise make a cluster, and start it with the machine.
mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/thalweg.conf
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
