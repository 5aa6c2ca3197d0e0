// SPDX-License-Identifier: Apache-2.0
// PostgreSQL, for servers.c.
#include "servers_int.h"
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

void ts_postgres_find(struct ts_server *s)
{
    glob_t g;
    int r = glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &g);
    if (!r)
        snprintf(s->bin, sizeof(s->bin), "%.*s",
                 (int)(strlen(g.gl_pathv[g.gl_pathc - 1]) - strlen("/postgres")),
                 g.gl_pathv[g.gl_pathc - 1]);
    globfree(&g);
    if (r)
        fail_msg("PostgreSQL is not installed (deploy/packages-test.txt: postgresql)");
}

void ts_postgres_make(struct ts_server *s)
{
    char initdb[320], text[1024];
    snprintf(initdb, sizeof(initdb), "%s/initdb", s->bin);
    // postgres, whose password kine takes by default, and kine, who may make databases.
    ts_write_file(s, "pw", 0600, "postgres\n");
    const char *const argv[] = {initdb,
                                "-D",
                                "data",
                                "--no-sync",
                                "-U",
                                "postgres",
                                "-E",
                                "UTF8",
                                "--locale=C",
                                "--pwfile=pw",
                                "--auth-local=trust",
                                "--auth-host=scram-sha-256",
                                NULL};
    ts_run(s, "init.log", argv);
    const char *host = s->tls == TS_TLS_CLIENT_CERT ? "hostssl all all 127.0.0.1/32 scram-sha-256 "
                                                      "clientcert=verify-ca"
                                                    : "host all all 127.0.0.1/32 scram-sha-256";
    snprintf(text, sizeof(text), "local all all trust\n%s\n", host);
    ts_write_file(s, "data/pg_hba.conf", 0600, text);
    snprintf(text, sizeof(text),
             "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\n"
             "max_connections = 100\nshared_buffers = 32MB\ndynamic_shared_memory_type = mmap\n"
             "fsync = %s\nlog_min_messages = warning\n",
             s->dir, s->durable ? "on" : "off");
    size_t n = strlen(text);
    if (s->tls)
        snprintf(text + n, sizeof(text) - n,
                 "ssl = on\nssl_cert_file = '%s/server.crt'\nssl_key_file = '%s/server.key'\n"
                 "ssl_ca_file = '%s/ca.crt'\n",
                 s->dir, s->dir, s->dir);
    ts_write_file(s, "data/postgresql.conf", 0600, text);
}

bool ts_postgres_is_ready(const struct ts_server *s)
{
    char path[160], buf[512];
    snprintf(path, sizeof(path), "%s/data/postmaster.pid", s->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = 0;
    return strtol(buf, NULL, 10) == s->pid && strstr(buf, "\nready");
}

void ts_postgres_spawn(struct ts_server *s)
{
    char bin[320], port[16];
    const char *argv[TS_ARGS_MAX] = {bin, "-D", "data", "-p", port};
    size_t n = 5;
    snprintf(bin, sizeof(bin), "%s/postgres", s->bin);
    snprintf(port, sizeof(port), "%d", s->port);
    for (const char *const *a = s->args; a && *a && n + 1 < TS_ARGS_MAX; a++)
        argv[n++] = *a;
    s->pid = ts_spawn(s, "server.log", -1, -1, argv);
}
