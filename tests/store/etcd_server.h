// SPDX-License-Identifier: Apache-2.0
// A remote etcd of the test's own, for etcd://: the reference (tests/etcd/reference.sh builds it;
// ETCD_REFERENCE names another), or `kinglet etcd` (KINGLET, else beside the tests).
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct es_server {
    bool kinglet;
    char dir[96];
    int port, pid;
};

bool es_is_there(bool kinglet);
// False: the program is not there.
bool es_start(struct es_server *s, bool kinglet, const char *dir);
void es_kill(struct es_server *s);  // -9
void es_again(struct es_server *s); // the same data, the same port
void es_stop(struct es_server *s);
