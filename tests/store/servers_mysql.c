// SPDX-License-Identifier: Apache-2.0
// MariaDB, MySQL and Galera, for servers.c.
#include "servers_int.h"
#include "base/str.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { NOT_ALLOWED = 1130 };

// STORE_MYSQLD: another server than the distribution's MariaDB, maybe MySQL; it says which it is.
static void ask_mysqld(struct ts_server *s, const char *bin)
{
    const char *const argv[] = {s->bin, "--no-defaults", "--version", NULL};
    char text[512];
    int out[2], status;
    size_t have = 0;
    snprintf(s->bin, sizeof(s->bin), "%s", bin);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = ts_spawn(s, "init.log", -1, out[1], argv);
    close(out[1]);
    for (ssize_t n; (n = read(out[0], text + have, sizeof(text) - 1 - have)) > 0;)
        have += (size_t)n;
    text[have] = 0;
    close(out[0]);
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) || !have)
        fail_msg("STORE_MYSQLD: %s --version: status %d", bin, status);
    s->mysql = !strstr(text, "MariaDB");
}

void ts_mysql_find(struct ts_server *s)
{
    static const char *const places[] = {"/usr/sbin", "/usr/local/sbin", "/usr/bin",
                                         "/usr/libexec"};
    const char *mysqld = getenv("STORE_MYSQLD");
    if (mysqld && *mysqld) {
        ask_mysqld(s, mysqld);
        return;
    }
    for (size_t i = 0; i < KL_COUNT(places); i++) {
        snprintf(s->bin, sizeof(s->bin), "%s/mariadbd", places[i]);
        if (access(s->bin, X_OK) == 0)
            return;
    }
    fail_msg("mariadbd is not installed (deploy/packages-test.txt: mariadb-server)");
}

static void make_mariadb(struct ts_server *s)
{
    // Another one that starts would remove its temporary tables from a directory that both have.
    char data[160], tmpdir[160];
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmpdir, sizeof(tmpdir), "--tmpdir=%s", s->dir);
    const char *const argv[] = {"mariadb-install-db",
                                "--no-defaults",
                                data,
                                "--auth-root-authentication-method=normal",
                                "--skip-test-db",
                                "--skip-name-resolve",
                                "--innodb-log-file-size=48M",
                                "--innodb-flush-log-at-trx-commit=2",
                                tmpdir,
                                NULL};
    ts_run(s, "init.log", argv);
}

static void make_mysql(struct ts_server *s)
{
    char data[160], tmpdir[160];
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmpdir, sizeof(tmpdir), "--tmpdir=%s", s->dir);
    const char *const argv[] = {s->bin,
                                "--no-defaults",
                                "--initialize-insecure",
                                "--innodb-flush-log-at-trx-commit=2",
                                data,
                                tmpdir,
                                NULL};
    ts_run(s, "init.log", argv);
}

void ts_mysql_make(struct ts_server *s)
{
    if (s->mysql)
        make_mysql(s);
    else
        make_mariadb(s);
}

// Its greeting is the first packet; MySQL refuses hosts from which nobody may come, as long as
// there is no user for them.
bool ts_mysql_is_ready(const struct ts_server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)s->port)};
    unsigned char buf[7];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
              recv(fd, buf, sizeof(buf), MSG_WAITALL) == sizeof(buf) &&
              (buf[4] == 10 || (buf[4] == 0xff && (buf[5] | buf[6] << 8) == NOT_ALLOWED));
    close(fd);
    return ok;
}

// ---- Galera ----

struct galera_args {
    char provider[160], name[160], address[64], options[400], receive[64];
};

static size_t add_galera(const struct ts_server *s, struct galera_args *a, const char **argv,
                         size_t n)
{
    if (!s->provider)
        return n;
    snprintf(a->provider, sizeof(a->provider), "--wsrep-provider=%s", s->provider);
    snprintf(a->name, sizeof(a->name), "--wsrep-cluster-name=%s",
             s->first ? s->first->dir : s->dir);
    if (s->first)
        snprintf(a->address, sizeof(a->address), "--wsrep-cluster-address=gcomm://127.0.0.1:%d",
                 s->first->group_port);
    else
        snprintf(a->address, sizeof(a->address), "--wsrep-cluster-address=gcomm://");
    snprintf(a->options, sizeof(a->options),
             "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr="
             "127.0.0.1:%d;gcache.size=32M;pc.weight=%d;pc.recovery=FALSE;"
             "evs.suspect_timeout=PT3S;evs.inactive_timeout=PT6S",
             s->group_port, s->transfer_port, s->first ? 1 : 2);
    snprintf(a->receive, sizeof(a->receive), "--wsrep-sst-receive-address=127.0.0.1:%d",
             s->state_port);
    const char *const all[] = {"--wsrep-on=ON",
                               "--binlog-format=ROW",
                               "--innodb-autoinc-lock-mode=2",
                               "--wsrep-auto-increment-control=OFF", // kine counts by ones
                               "--wsrep-node-address=127.0.0.1",
                               "--wsrep-sst-method=rsync",
                               a->provider,
                               a->name,
                               a->address,
                               a->options,
                               a->receive};
    for (size_t i = 0; i < KL_COUNT(all) && n + 1 < TS_ARGS_MAX; i++)
        argv[n++] = all[i];
    return n;
}

// It answers before it takes part.
bool ts_mysql_is_member(struct ts_server *s)
{
    char out[64];
    if (!s->provider)
        return true;
    ts_sql(s, NULL, "SHOW STATUS LIKE 'wsrep_ready'", out, sizeof(out));
    return strstr(out, "ON");
}

// ---- up ----

// What only one of the two knows.
static const char *const mariadb_args[] = {"--innodb-log-file-size=48M", NULL};
static const char *const mysql_args[] = {"--innodb-redo-log-capacity=96M", "--loose-mysqlx=OFF",
                                         "--secure-file-priv=NULL", NULL};

static size_t add_args(const char **argv, size_t n, const char *const *more)
{
    while (more && *more && n + 1 < TS_ARGS_MAX)
        argv[n++] = *more++;
    return n;
}

void ts_mysql_spawn(struct ts_server *s)
{
    char data[160], tmp[160], sock[160], port[32], ca[160], cert[160], key[160];
    struct galera_args galera;
    const char *argv[TS_ARGS_MAX] = {s->bin,
                                     "--no-defaults",
                                     data,
                                     tmp,
                                     sock,
                                     port,
                                     "--bind-address=127.0.0.1",
                                     "--skip-name-resolve",
                                     "--innodb-buffer-pool-size=64M",
                                     "--performance-schema=off",
                                     "--max-connections=100"};
    size_t n = add_args(argv, 11, s->mysql ? mysql_args : mariadb_args);
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmp, sizeof(tmp), "--tmpdir=%s", s->dir);
    snprintf(sock, sizeof(sock), "--socket=%s/mysqld.sock", s->dir);
    snprintf(port, sizeof(port), "--port=%d", s->port);
    snprintf(ca, sizeof(ca), "--ssl-ca=%s/ca.crt", s->dir);
    snprintf(cert, sizeof(cert), "--ssl-cert=%s/server.crt", s->dir);
    snprintf(key, sizeof(key), "--ssl-key=%s/server.key", s->dir);
    if (s->tls) {
        argv[n++] = ca;
        argv[n++] = cert;
        argv[n++] = key;
    } else if (s->mysql) {
        argv[n++] = "--tls-version="; // it makes itself a certificate otherwise
    }
    if (!s->durable) {
        argv[n++] = "--innodb-flush-log-at-trx-commit=2";
        argv[n++] = "--sync-binlog=0";
    }
    n = add_galera(s, &galera, argv, n);
    add_args(argv, n, s->args);
    s->pid = ts_spawn(s, "server.log", -1, -1, argv);
}
