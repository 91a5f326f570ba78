#!/bin/sh
# Make the data directory, the users and the database; then be the server.
set -eu
[ "${1#-}" = "$1" ] || set -- mariadbd "$@"
[ "$1" = mariadbd ] || [ "$1" = mysqld ] || exec "$@"
shift
install -d -o mysql -g mysql /var/lib/mysql /run/mysqld
root=${MARIADB_ROOT_PASSWORD-$MYSQL_ROOT_PASSWORD}
user=${MARIADB_USER-$MYSQL_USER}
password=${MARIADB_PASSWORD-$MYSQL_PASSWORD}
database=${MARIADB_DATABASE-$MYSQL_DATABASE}
if [ ! -d /var/lib/mysql/mysql ]; then
  mariadb-install-db --user=mysql --skip-test-db --auth-root-authentication-method=normal
fi
umask 077
cat >/run/mysqld/users.sql <<SQL
CREATE DATABASE IF NOT EXISTS $database;
CREATE USER IF NOT EXISTS $user@'%' IDENTIFIED BY '$password';
GRANT ALL ON $database.* TO $user@'%';
CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '$root';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
SQL
chown mysql /run/mysqld/users.sql
exec mariadbd --no-defaults --user=mysql --datadir=/var/lib/mysql \
  --socket=/run/mysqld/mysqld.sock --bind-address=0.0.0.0 \
  --init-file=/run/mysqld/users.sql "$@"
