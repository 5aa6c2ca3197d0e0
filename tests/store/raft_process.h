// SPDX-License-Identifier: Apache-2.0
// Three raft:// servers as processes that a test stops, kills and starts again. A server reads
// lines from its standard input and answers each with one:
//
//   put KEY VALUE    revision or error code; tried again for as long as nobody leads
//   once KEY VALUE   the same, tried once
//   fill P N SIZE    N keys P000000..., many at a time; 0 or an error code
//   stream P         the same without end, and a line with the number of each that is acknowledged
//   list P           the numbers of P's keys that are there, in order (linearizable)
//   get KEY          code and value, or - (linearizable)
//   watch KEY END, events, status, add ID ADDRESS
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum { RP_SERVERS = 3, RP_WAIT_MS = 120000 };

struct rp_server {
    unsigned long long id;
    char dir[96];
    int port;
    pid_t pid;
    FILE *in, *out;
};

struct rp_options {
    int election_ms;
    int scrub_ms; // -1: never
    long snapshot_bytes;
    bool on_disk; // a file system in memory would hold too much
};

struct rp_cluster {
    char dir[64];
    struct rp_options o;
    struct rp_server s[RP_SERVERS];
};

int rp_serve(char **v); // what main does as a server: `PROGRAM serve ...`
void rp_begin(struct rp_cluster *c, struct rp_options o);
void rp_end(struct rp_cluster *c);
bool rp_launch(struct rp_cluster *c, int i, bool join); // false: it ended before it was ready
int rp_reap(struct rp_server *s);                       // its exit status, when it has ended

void rp_say(struct rp_server *s, const char *line);
bool rp_hear(struct rp_server *s, char *ret, size_t n); // false: it ended
const char *rp_ask(struct rp_server *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// All have three voters, one leader and the same state. Returns the leader.
int rp_settle(struct rp_cluster *c);
