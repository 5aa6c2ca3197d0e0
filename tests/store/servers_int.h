// SPDX-License-Identifier: Apache-2.0
// What the kinds of database servers need of servers.c, and it of them.
#pragma once
#include "servers.h"

enum { TS_ARGS_MAX = 64 };

struct ts_server {
    enum ts_kind kind;
    enum ts_tls tls;
    bool durable;
    bool mysql; // not MariaDB
    const char *const *args;
    int at; // in the janitor's table
    int port, nfresh;
    pid_t pid;
    char dir[96], bin[256];
    // Galera: two nodes. The first is its own server in everything, and outweighs the second, which
    // is the one that is killed, paused and started again.
    const char *provider;
    struct ts_server *second, *first;
    int group_port, transfer_port, state_port;
};

// Output goes to DIR/NAME.log, or to `out` (>= 0); input comes from `in` (>= 0).
pid_t ts_spawn(const struct ts_server *s, const char *log, int in, int out,
               const char *const *argv);
void ts_run(const struct ts_server *s, const char *log, const char *const *argv); // to its end
void ts_write_file(const struct ts_server *s, const char *name, int mode, const char *text);

// Finding its programs; making its directory; starting it; whether it takes connections.
void ts_postgres_find(struct ts_server *s);
void ts_postgres_make(struct ts_server *s);
void ts_postgres_spawn(struct ts_server *s);
bool ts_postgres_is_ready(const struct ts_server *s);
void ts_mysql_find(struct ts_server *s);
void ts_mysql_make(struct ts_server *s);
void ts_mysql_spawn(struct ts_server *s);
bool ts_mysql_is_ready(const struct ts_server *s);
bool ts_mysql_is_member(struct ts_server *s); // of its cluster, if it is to be
