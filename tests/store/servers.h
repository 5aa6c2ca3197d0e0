// SPDX-License-Identifier: Apache-2.0
// Real database servers for tests: started from the distribution's packages under a user that is
// not root, in a temporary directory, on free ports of the loopback interface, and gone with it
// when the test ends or dies. A missing package fails the test (deploy/packages-test.txt).
// STORE_MYSQLD=/path/to/mysqld is used instead of the distribution's MariaDB; MySQL too.
// STORE_GALERA=/path/to/libgalera_smm.so makes every MariaDB a cluster of two nodes (rsync and ss
// are needed): kill, down, up, pause and resume are then the second one's, and the first goes on.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

enum ts_kind { TS_POSTGRES, TS_MARIADB };

enum ts_tls {
    TS_TLS_NONE,
    TS_TLS_OFFERED,     // the server has a certificate
    TS_TLS_CLIENT_CERT, // and asks for one
};

struct ts_options {
    enum ts_tls tls;
    bool durable;            // as the distribution sets it; otherwise commits reach the kernel only
    const char *const *args; // more of the server's command line, NULL-terminated
};

struct ts_server;

// Start and wait until it answers; fail the test otherwise. `o` may be NULL.
struct ts_server *ts_start(enum ts_kind kind, const struct ts_options *o);
struct ts_server *ts_shared(enum ts_kind kind); // one of each kind per program
void ts_stop(struct ts_server *s);              // and its files; the shared ones go at exit
void ts_kill(struct ts_server *s);              // kill -9, every process of it
void ts_down(struct ts_server *s);              // a clean shutdown; clients are cut
void ts_up(struct ts_server *s);                // after kill or down; waits until it answers
// SIGSTOP and SIGCONT to every process of it.
void ts_pause(struct ts_server *s);
void ts_resume(struct ts_server *s);

int ts_port(const struct ts_server *s);
const char *ts_dir(const struct ts_server *s); // ca.crt, client.crt and client.key are in it
pid_t ts_pid(const struct ts_server *s);
bool ts_is_mysql(const struct ts_server *s); // MySQL itself, not MariaDB
// A database's URL over TCP as user kine with a password, or over the server's socket as its
// administrator. `query` may be NULL ("sslmode=..."). Returns ret.
#define TS_PASSWORD "s3cr3t/w@rd"
const char *ts_url(const struct ts_server *s, const char *db, const char *query, char *ret,
                   size_t cap);
// Of one of the nodes, in turn; without Galera there is one.
const char *ts_url_node(const struct ts_server *s, int node, const char *db, char *ret, size_t cap);
const char *ts_url_socket(const struct ts_server *s, const char *db, char *ret, size_t cap);
// A database name that was not given out before.
const char *ts_fresh(struct ts_server *s, char ret[32]);
// Runs SQL with the server's own client as the administrator; fails the test when it fails. ret
// (may be NULL) gets what it printed: rows in lines, columns with tabs.
void ts_sql(struct ts_server *s, const char *db, const char *sql, char *ret, size_t cap);
int64_t ts_cpu_us(const struct ts_server *s); // user and system time of all its processes so far
