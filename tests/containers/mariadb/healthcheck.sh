#!/bin/sh
# What docker-compose.yml asks: a login over TCP.
MYSQL_PWD=${MARIADB_PASSWORD-$MYSQL_PASSWORD} exec mariadb --protocol=tcp -h127.0.0.1 \
  -u"${MARIADB_USER-$MYSQL_USER}" -e 'SELECT 1' "${MARIADB_DATABASE-$MYSQL_DATABASE}"
